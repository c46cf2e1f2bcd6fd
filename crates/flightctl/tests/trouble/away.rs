//! Devices, and Flight Control itself, that are away for a while.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::Instant;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{DeviceSpec, Script};

use crate::stage::{Stage, condition, pod};
use crate::{NODE, delete, foreign, pass, phase, see, waits_for};

fn reachable(stage: &Stage) -> String {
    let node = stage.cluster.get_value("nodes", "", NODE).unwrap();
    condition(&node, "FlightControlReachable").to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_long_retry_after_is_told_as_an_outage_and_ends_with_it() {
    let stage = Stage::new(1, 0, 1).await;
    let rule = Rule::always("/api/v1/", Effect::TooManyRequests(3600));
    stage.flightctl.faults().add(rule);
    // The next sweep, and what an outage may take before it is told.
    pass(60).await;
    assert_eq!(reachable(&stage), "False");
    pass(240).await;
    assert_eq!(reachable(&stage), "False");
    stage.flightctl.faults().clear();
    pass(90).await;
    assert_eq!(reachable(&stage), "True");
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn an_image_name_that_is_none_waits_until_it_is_mended() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "Nginx:Alpine"));
    see(&stage, "the reason", || {
        waits_for(&stage, "p") == "InvalidImageName"
    })
    .await;
    pass(60).await;
    assert_eq!(phase(&stage, "p"), "Pending");
    let mut mended: Pod = stage.cluster.get("default", "p").unwrap();
    mended.spec.as_mut().unwrap().containers[0].image = Some("nginx:alpine".into());
    stage.cluster.update(&mended).unwrap();
    stage.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_disconnected_device_is_unknown_and_leaves_only_when_it_is_back() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.devices[0].disconnect();
    let ready = |p: &Value| {
        let all = p["status"]["conditions"].as_array().cloned();
        all.into_iter()
            .flatten()
            .find(|c| c["type"] == "Ready")
            .unwrap_or_default()
    };
    let lost = stage
        .until("the device is known to be away", |c| {
            let pod = c.get_value("pods", "default", "p")?;
            (ready(&pod)["reason"] == "DeviceDisconnected").then(|| ready(&pod))
        })
        .await;
    assert_ne!(lost["status"], "True");
    stage.event("p", "DeviceDisconnected").await;
    delete(&stage, "p");
    see(&stage, "removed", || {
        stage.applications("device-1").is_empty()
    })
    .await;
    pass(900).await;
    assert!(stage.pod("p").is_some(), "it may well run");
    assert_eq!(stage.devices[0].applications().len(), 1);
    stage.devices[0].reconnect();
    stage.gone("p").await;
    assert!(stage.devices[0].applications().is_empty());
}

#[tokio::test(start_paused = true)]
async fn ready_turned_unknown_when_the_device_was_lost_not_when_that_could_be_written() {
    let begun = Instant::now();
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let rule = Rule::always("/pods/p/status", Effect::Status(503)).method("PATCH");
    stage.cluster.faults().add(rule);
    stage.devices[0].disconnect();
    let cut = begun.elapsed().as_secs();
    pass(900).await;
    stage.cluster.faults().clear();
    let turned = stage
        .until("Ready=Unknown", |c| {
            let pod = c.get_value("pods", "default", "p")?;
            let all = pod["status"]["conditions"].as_array().cloned();
            let ready = all.into_iter().flatten().find(|c| c["type"] == "Ready")?;
            (ready["status"] == "Unknown").then(|| ready["lastTransitionTime"].clone())
        })
        .await;
    let turned: Timestamp = turned.as_str().unwrap().parse().unwrap();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let turned = turned.duration_since(start).as_secs().unsigned_abs();
    // Last seen up to two minutes before.
    assert!((cut + 60..=cut + 200).contains(&turned), "{cut} {turned}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_completed_leaves_nothing_in_its_devices_spec() {
    let mut stage = Stage::empty();
    let mut spec = DeviceSpec::new("device-1");
    spec.status_interval = Duration::from_secs(10);
    stage.devices = vec![stage.flightctl.add_device(spec)];
    stage.devices[0].script(Script::any().exits(Duration::from_secs(20), 0));
    stage.start_provider().await;
    stage
        .edit_applications("device-1", &json!([foreign("theirs")]))
        .await;
    let mut job = pod("job", NODE, "nginx:alpine");
    job["spec"]["restartPolicy"] = "Never".into();
    stage.create(job);
    stage.phase("job", "Succeeded").await;
    delete(&stage, "job");
    stage.gone("job").await;
    see(&stage, "only theirs", || {
        stage.applications("device-1") == ["theirs"]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_before_the_devices_were_read_is_not_called_gone() {
    let mut stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.stop_provider().await;
    delete(&stage, "p");
    let rule = Rule::always("/api/v1/devices", Effect::Status(503)).method("GET");
    stage.flightctl.faults().add(rule);
    stage.start_provider().await;
    pass(120).await;
    assert!(stage.pod("p").is_some(), "it runs");
    assert!(!stage.devices[0].applications().is_empty());
    stage.flightctl.faults().clear();
    stage.gone("p").await;
    assert!(stage.applications("device-1").is_empty());
}
