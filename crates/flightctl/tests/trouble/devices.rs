//! Devices that fail, go, and come back as others.

use std::time::Duration;

use serde_json::json;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{DeviceSpec, Script};

use crate::stage::{Stage, condition, pod};
use crate::{NODE, delete, foreign, pass, pass_ms, phase, see};

#[tokio::test(start_paused = true)]
async fn one_device_whose_rendered_document_fails_holds_nobody_up() {
    let stage = Stage::new(2, 0, 2).await;
    let rule = Rule::always("/devices/device-1/rendered", Effect::Status(500)).method("GET");
    stage.flightctl.faults().add(rule);
    for name in ["p1", "p2"] {
        stage.create(pod(name, NODE, "nginx:alpine"));
        pass(5).await;
    }
    let other = stage.ready("p2").await;
    assert_eq!(stage.device_of(&other).name(), "device-2");
    pass(60).await;
    let node = stage.cluster.get_value("nodes", "", NODE).unwrap();
    assert_eq!(condition(&node, "FlightControlReachable"), "True");
    stage.flightctl.faults().clear();
    stage.ready("p1").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_just_enrolled_is_not_called_disconnected() {
    let stage = Stage::new(1, 0, 1).await;
    // The write makes it read as disconnected: no sign of life is saved yet.
    stage.create(pod("p", NODE, "nginx:alpine"));
    let mut read_so = false;
    for _ in 0..400 {
        pass_ms(100).await;
        let device = stage.flightctl.device_value("device-1").unwrap();
        read_so |= device["status"]["summary"]["status"] == "Unknown"
            && stage.applications("device-1").len() == 1;
        let pod = stage.pod("p").unwrap().to_string();
        assert!(!pod.contains("DeviceDisconnected"), "{pod}");
    }
    assert!(read_so);
    assert!(stage.events("p", "DeviceDisconnected").is_empty());
    stage.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_never_heard_of_takes_no_pod_and_says_so() {
    let stage = Stage::new(1, 0, 1).await;
    let body = json!({"apiVersion": "flightctl.io/v1beta1", "kind": "Device",
        "metadata": {"name": "device-2"}, "spec": {}});
    stage.request("POST", "/api/v1/devices", body).await;
    pass(600).await;
    let mut pinned = pod("p", NODE, "nginx:alpine");
    pinned["metadata"]["annotations"] = json!({"flightctl.io/device": "device-2"});
    stage.create(pinned);
    let said = stage.event("p", "FailedScheduling").await;
    let why = "device-2: not seen yet by Flight Control";
    assert!(said.contains(why), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_device_deleted_while_flight_control_stumbles_still_ends_its_pods() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.devices[0].disconnect();
    delete(&stage, "p");
    see(&stage, "removed", || {
        stage.applications("device-1").is_empty()
    })
    .await;
    let rule = Rule::always("/api/v1/devices/device-1", Effect::Status(503)).method("GET");
    // Its rendered document is asked for too.
    stage.flightctl.faults().add(rule.times(3));
    stage.flightctl.delete_device("device-1");
    stage.gone("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_made_anew_under_its_name_ends_what_was_leaving_it() {
    let stage = Stage::new(1, 0, 1).await;
    for name in ["leaving", "staying"] {
        stage.create(pod(name, NODE, "nginx:alpine"));
        stage.ready(name).await;
    }
    // The old device is far ahead of what the new one will be for long.
    for _ in 0..6 {
        let apps = stage.spec_applications("device-1");
        let mut more = apps.clone();
        more.as_array_mut().unwrap().push(foreign("theirs"));
        stage.edit_applications("device-1", &more).await;
        pass(20).await;
        stage.edit_applications("device-1", &apps).await;
        pass(20).await;
    }
    stage.devices[0].disconnect();
    delete(&stage, "leaving");
    see(&stage, "removed", || {
        stage.applications("device-1").len() == 1
    })
    .await;
    pass(5).await;
    stage.flightctl.delete_device("device-1");
    let mut spec = DeviceSpec::new("device-1");
    spec.cpu_cores = Some(4);
    spec.memory_kb = Some(8 << 20);
    spec.status_interval = Duration::from_secs(10);
    let anew = stage.flightctl.add_device(spec);
    stage.gone("leaving").await;
    see(&stage, "the other one runs there", || {
        anew.applications().len() == 1
    })
    .await;
    stage.ready("staying").await;
}

#[tokio::test(start_paused = true)]
async fn a_decommissioned_device_fails_its_pods_and_lets_them_go() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let body = json!({"target": "Unenroll"});
    stage
        .request("PUT", "/api/v1/devices/device-1/decommission", body)
        .await;
    let failed = stage.phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "DeviceDeleted");
    let message = failed["status"]["message"].as_str().unwrap();
    assert!(message.contains("decommissioned"), "{message}");
    delete(&stage, "p");
    stage.gone("p").await;
}

/// A pod that runs once, on a device whose first report shows nothing of it.
async fn once(stage: &mut Stage, interval: u64) {
    let mut spec = DeviceSpec::new("device-1");
    spec.status_interval = Duration::from_secs(interval);
    spec.monitor_lag = Duration::from_secs(2);
    stage.devices = vec![stage.flightctl.add_device(spec)];
    stage.start_provider().await;
    let mut once = pod("once", NODE, "nginx:alpine");
    once["spec"]["restartPolicy"] = "Never".into();
    stage.create(once);
    see(stage, "Unknown 0/0", || {
        stage.flightctl.device_value("device-1").unwrap()["status"]["applications"][0]["status"]
            == "Unknown"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_reports_every_five_minutes_fails_no_healthy_pod() {
    let mut stage = Stage::empty();
    once(&mut stage, 300).await;
    pass(280).await;
    assert_ne!(phase(&stage, "once"), "Failed");
    stage.phase("once", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_cut_off_fails_no_healthy_pod() {
    let mut stage = Stage::empty();
    once(&mut stage, 60).await;
    stage.devices[0].disconnect();
    pass(2000).await;
    assert_ne!(phase(&stage, "once"), "Failed");
    stage.devices[0].reconnect();
    stage.phase("once", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ran_once_and_never_came_to_be_fails_when_its_device_is_heard_of() {
    let mut stage = Stage::empty();
    stage.devices = vec![stage.flightctl.add_device(DeviceSpec::new("device-1"))];
    stage.devices[0].script(Script::any().never_created());
    stage.start_provider().await;
    let mut once = pod("once", NODE, "nginx:alpine");
    once["spec"]["restartPolicy"] = "Never".into();
    stage.create(once);
    pass(600).await;
    stage.phase("once", "Failed").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_device_is_deleted_before_the_write_goes_to_another() {
    let stage = Stage::new(2, 0, 2).await;
    // Only the refused write tells that the device, the first by name, is gone.
    for path in ["/api/v1/devices?", "/api/v1/events"] {
        let rule = Rule::always(path, Effect::Status(503)).method("GET");
        stage.flightctl.faults().add(rule);
    }
    stage.flightctl.delete_device("device-1");
    stage.create(pod("p", NODE, "nginx:alpine"));
    see(&stage, "written to the other one", || {
        stage.applications("device-2").len() == 1
    })
    .await;
    let chosen = stage.events("p", "DeviceSelected");
    assert!(chosen.iter().any(|e| e.contains("device-1")), "{chosen:?}");
    stage.flightctl.faults().clear();
    let ready = stage.ready("p").await;
    assert_eq!(stage.device_of(&ready).name(), "device-2");
}
