//! Others edit what is ours in Flight Control.

use serde_json::json;

use crate::stage::{Stage, condition, pod};
use crate::{FLEET, NODE, delete, foreign, is_ready, pass, see};

#[tokio::test(start_paused = true)]
async fn an_edit_that_drops_our_marker_is_restored_and_ends_with_the_pod() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let edited = json!([foreign(&format!("vk-{uid}"))]);
    stage.edit_applications("device-1", &edited).await;
    see(&stage, "ours again", || {
        stage.spec_applications("device-1") == ours
    })
    .await;
    stage.edit_applications("device-1", &edited).await;
    delete(&stage, "p");
    stage.gone("p").await;
    assert_eq!(stage.spec_applications("device-1"), json!([]));
    see(&stage, "nothing runs", || {
        stage.devices[0].applications().is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_takes_the_device_ends_the_running_status() {
    let stage = Stage::new(1, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    stage.ready("p").await;
    let fleet = [("fleet".to_owned(), "edge-fleet-1".to_owned())].into();
    stage
        .flightctl
        .create_fleet("fx", &fleet, &json!({"applications": []}))
        .unwrap();
    let shown = stage
        .until("not Ready, and why", |c| {
            c.get_value("pods", "default", "p").filter(|p| {
                condition(p, "Ready") == "False"
                    && p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
                        == "FleetManaged"
            })
        })
        .await;
    assert!(stage.devices[0].applications().is_empty());
    assert_eq!(shown["status"]["containerStatuses"][0]["ready"], false);
    stage.flightctl.delete_fleet("fx");
    stage.ready("p").await;
    assert_eq!(stage.devices[0].applications().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_restarts_takes_no_pod_out_of_ready() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.devices[0].restart_agent();
    for _ in 0..60 {
        pass(1).await;
        assert!(is_ready(&stage, "p"));
    }
}
