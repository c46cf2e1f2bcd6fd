//! Flight Control, or something in front of it, refuses a write.

use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use vk_sandbox::faults::{Effect, Rule};

use crate::stage::{Stage, pod};
use crate::{FLEET, NODE, delete, is_ready, pass, phase, see};

pub fn set_image(stage: &Stage, name: &str, image: &str) {
    let mut pod: Pod = stage.cluster.get("default", name).unwrap();
    pod.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    stage.cluster.update(&pod).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_proxys_413_at_an_image_update_ends_no_running_pod() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let rule = Rule::always("/api/v1/devices/", Effect::Status(413)).method("PATCH");
    stage.flightctl.faults().add(rule.times(1));
    set_image(&stage, "p", "hello-app:2.0");
    see(&stage, "the new image", || {
        stage.devices[0]
            .journal()
            .iter()
            .any(|e| e.image.contains("hello-app:2.0"))
    })
    .await;
    assert_eq!(phase(&stage, "p"), "Running");
    stage.ready("p").await;
    assert!(is_ready(&stage, "p"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_leaves_a_device_that_a_fleet_took_before_anything_was_written() {
    let stage = Stage::new(2, 1, 0).await;
    let labels = [
        ("fleet".to_owned(), "edge-fleet-1".to_owned()),
        ("own".to_owned(), "x".to_owned()),
    ];
    stage
        .flightctl
        .set_labels("device-1", labels.into())
        .unwrap();
    pass(60).await;
    let own = [("own".to_owned(), "x".to_owned())].into();
    stage
        .flightctl
        .create_fleet("fx", &own, &json!({"applications": []}))
        .unwrap();
    // Owned, and not yet seen to be.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    let ready = stage.ready("p").await;
    assert_eq!(stage.device_of(&ready).name(), "device-2");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_not_gone_while_a_late_write_may_still_start_it() {
    let stage = Stage::new(1, 0, 1).await;
    stage.late.store(true, Ordering::SeqCst);
    stage.create(pod("p", NODE, "nginx:alpine"));
    pass(5).await;
    delete(&stage, "p");
    stage.gone("p").await;
    assert!(stage.applications("device-1").is_empty());
    for _ in 0..300 {
        assert!(stage.devices[0].applications().is_empty());
        pass(1).await;
    }
}
