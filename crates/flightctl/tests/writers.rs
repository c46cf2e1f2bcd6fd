//! Several writers on one device: what is of others survives, an edit of what is
//! ours is put right and told, and what happens in the middle of a write ends in a
//! true status.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

mod stage;

use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use stage::{Stage, condition, pod};
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::Occurrence;

const NODE: &str = "vk-flightctl-node";
const PATH: &str = "/api/v1/devices/device-1";
const NEW: &str = "hello-app:2.0";
/// How long a write is under way in which something happens.
const UNDER_WAY: u64 = 3000;

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Looks again and again: what devices and Flight Control hold wakes nobody.
async fn see(stage: &Stage, what: &str, done: impl Fn() -> bool) {
    let look = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    stage.patiently(what, look).await;
}

fn set_image(stage: &Stage, image: &str) {
    let mut pod: Pod = stage.cluster.get("default", "p").unwrap();
    pod.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    stage.cluster.update(&pod).unwrap();
}

fn delete(stage: &Stage) {
    stage.cluster.delete::<Pod>("default", "p", None).unwrap();
}

/// Writes take long from now on, and are counted.
fn slow_writes(stage: &Stage, milliseconds: u64) {
    let rule = Rule::always("/api/v1/devices/", Effect::Latency(milliseconds));
    let rule = rule.method("PATCH").times(COUNTED);
    stage.flightctl.faults().add(rule);
}

const COUNTED: u32 = 1000;

/// How many there were.
fn writes(stage: &Stage) -> u32 {
    COUNTED - stage.flightctl.faults().rules()[0].times.unwrap()
}

fn starts(stage: &Stage, image: &str) -> usize {
    let journals = stage.devices.iter().flat_map(|d| d.journal());
    let starts = journals.filter(|e| e.event == Occurrence::Start);
    starts.filter(|e| e.image.contains(image)).count()
}

/// What is of others: a device without what is named after pods of ours.
fn of_others(stage: &Stage) -> Value {
    let device = stage.flightctl.device_value("device-1").unwrap();
    let others = |list: &Value| -> Value {
        let all = list.as_array().into_iter().flatten();
        let named = |item: &&Value| item["name"].as_str().is_some_and(|n| !n.starts_with("vk-"));
        all.filter(named).cloned().collect()
    };
    json!({
        "applications": others(&device["spec"]["applications"]),
        "config": others(&device["spec"]["config"]),
        "os": device["spec"]["os"],
        "labels": device["metadata"]["labels"],
    })
}

#[tokio::test(start_paused = true)]
async fn applications_files_and_labels_of_others_survive_all_that_a_pod_goes_through() {
    let stage = Stage::new(1, 0, 1).await;
    let theirs = |version: &str| {
        let unit = format!(
            "[Container]\nImage=quay.io/other/app:{version}\n[Install]\nWantedBy=default.target\n"
        );
        let application = json!({"name": "theirs", "appType": "quadlet", "inline": [
            {"path": "app.container", "content": unit}]});
        let item = json!({"name": "their-files", "inline": [
            {"path": "/etc/theirs", "content": version}]});
        (application, item)
    };
    let (application, item) = theirs("1");
    let patch = json!([
        {"op": "add", "path": "/spec/applications", "value": [application]},
        {"op": "add", "path": "/spec/config", "value": [item]},
        {"op": "add", "path": "/metadata/labels", "value": {"theirs": "1"}},
    ]);
    stage.request("PATCH", PATH, patch).await;
    let first = of_others(&stage);
    assert_eq!(first["config"][0]["name"], "their-files");

    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "map", "namespace": "default"}, "data": {"key": "value"}}))
    .unwrap();
    stage.cluster.create(&map).unwrap();
    let mut with_files = pod("p", NODE, "nginx:alpine");
    with_files["spec"]["volumes"] = json!([{"name": "map", "configMap": {"name": "map"}}]);
    with_files["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "map", "mountPath": "/map"}]);
    stage.create(with_files);
    stage.ready("p").await;
    assert_eq!(of_others(&stage), first);

    // They go on, in front of what is ours, and so do we.
    let (application, item) = theirs("2");
    let patch = json!([
        {"op": "replace", "path": "/spec/applications/0", "value": application},
        {"op": "replace", "path": "/spec/config/0", "value": item},
        {"op": "replace", "path": "/metadata/labels/theirs", "value": "2"},
    ]);
    stage.request("PATCH", PATH, patch).await;
    let second = of_others(&stage);
    assert_ne!(second, first);
    set_image(&stage, NEW);
    see(&stage, "the new image", || starts(&stage, NEW) == 1).await;
    assert_eq!(of_others(&stage), second);
    delete(&stage);
    stage.gone("p").await;
    pass(60).await;
    assert_eq!(of_others(&stage), second);
    let spec = &stage.flightctl.device_value("device-1").unwrap()["spec"];
    assert!(!spec.to_string().contains("vk-"), "nothing is left: {spec}");
    let runs = stage.devices[0].applications();
    assert_eq!(runs.len(), 1, "theirs: {runs:?}");
}

#[tokio::test(start_paused = true)]
async fn an_application_of_ours_that_someone_keeps_taking_out_is_put_back_and_told() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.applications("device-1");
    for _ in 0..3 {
        stage.edit_applications("device-1", &json!([])).await;
        see(&stage, "ours again", || {
            stage.applications("device-1") == ours
        })
        .await;
    }
    pass(30).await;
    let told = stage.events("p", "ChangedByOthers");
    for words in ["it was taken out", "keeps changing"] {
        assert!(told.iter().any(|said| said.contains(words)), "{told:?}");
    }
    for said in told {
        let right = said.contains("device-1") && said.contains("put back");
        assert!(right, "{said}");
    }
    stage.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_second_process_writes_nothing_and_takes_over_without_a_change() {
    let mut stage = Stage::empty();
    let mut second = Stage::empty();
    stage.devices = stage.flightctl.spawn_devices(1, 0, 1);
    second.cluster = stage.cluster.clone();
    second.flightctl = stage.flightctl.clone();
    second.devices = stage.devices.clone();
    stage.start_provider().await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    slow_writes(&stage, 1);
    let spec = stage.spec_applications("device-1");
    second.start_provider().await;
    pass(600).await;
    stage.stop_provider().await;
    pass(600).await;
    assert_eq!(writes(&stage), 0);
    assert_eq!(stage.spec_applications("device-1"), spec);
    assert_eq!(starts(&stage, "nginx"), 1);
    assert_eq!(condition(&stage.pod("p").unwrap(), "Ready"), "True");
    // And it is the one that writes now.
    delete(&second);
    second.gone("p").await;
    assert_eq!(writes(&stage), 1);
    second.stop_provider().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_device_is_decommissioned_while_it_is_written_runs_on_another() {
    let stage = Stage::new(2, 0, 2).await;
    slow_writes(&stage, UNDER_WAY);
    stage.create(pod("p", NODE, "nginx:alpine"));
    pass(1).await;
    decommission(&stage).await;
    let ready = stage.ready("p").await;
    assert_eq!(stage.device_of(&ready).name(), "device-2");
    assert!(stage.applications("device-1").is_empty());
    assert_eq!(starts(&stage, "nginx"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_device_is_decommissioned_meanwhile_fails_the_pod() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    slow_writes(&stage, UNDER_WAY);
    set_image(&stage, NEW);
    pass(1).await;
    decommission(&stage).await;
    let failed = stage.phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "DeviceDeleted");
    assert_eq!(condition(&failed, "Ready"), "False");
    assert_eq!(starts(&stage, NEW), 0);
    delete(&stage);
    stage.gone("p").await;
}

async fn decommission(stage: &Stage) {
    let body = json!({"target": "Unenroll"});
    let path = format!("{PATH}/decommission");
    stage.request("PUT", &path, body).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_device_a_fleet_takes_meanwhile_says_so_and_comes_when_it_is_free() {
    let stage = Stage::new(1, 1, 0).await;
    stage.create(pod("p", "vk-flightctl-edge-fleet-1", "nginx:alpine"));
    stage.ready("p").await;
    slow_writes(&stage, UNDER_WAY);
    set_image(&stage, NEW);
    pass(1).await;
    let labels = [("fleet".to_owned(), "edge-fleet-1".to_owned())].into();
    stage
        .flightctl
        .create_fleet("fx", &labels, &json!({"applications": []}))
        .unwrap();
    let shown = stage
        .until("it is not Ready", |c| {
            let pod = c.get_value("pods", "default", "p")?;
            (condition(&pod, "Ready") == "False").then_some(pod)
        })
        .await;
    assert_eq!(shown["status"]["phase"], "Pending", "the Fleet took it out");
    stage.event("p", "FleetManaged").await;
    pass(120).await;
    assert_eq!(starts(&stage, NEW), 0);
    assert_eq!(condition(&stage.pod("p").unwrap(), "Ready"), "False");
    stage.flightctl.delete_fleet("fx");
    stage.ready("p").await;
    see(&stage, "the new image", || starts(&stage, NEW) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_paused_in_the_middle_of_a_write_claims_nothing_until_it_goes_on() {
    let stage = Stage::new(1, 0, 1).await;
    slow_writes(&stage, UNDER_WAY);
    stage.create(pod("p", NODE, "nginx:alpine"));
    pass(1).await;
    stage.paused.store(true, Ordering::SeqCst);
    stage.devices[0].disconnect();
    // Until it is read again.
    pass(40).await;
    stage.create(pod("next", NODE, "nginx:alpine"));
    let said = stage.event("next", "FailedScheduling").await;
    assert!(said.contains("paused (ConflictPaused)"), "{said}");
    pass(120).await;
    for name in ["p", "next"] {
        let pod = stage.pod(name).unwrap();
        assert_eq!(pod["status"]["phase"], "Pending", "{pod:#}");
        assert_ne!(condition(&pod, "Ready"), "True");
    }
    assert_eq!(stage.applications("device-1").len(), 1, "that of the write");
    stage.devices[0].reconnect();
    stage.paused.store(false, Ordering::SeqCst);
    stage.ready("p").await;
    stage.ready("next").await;
}
