//! Devices that go away (S5): waited for, given up, and what becomes of their pods.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use vk_flightctl::fleet::{Eviction, Nodes};
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{DeviceSpec, Occurrence};
use vk_sandbox::kubernetes::Cluster;

use crate::stage::{Stage, condition, pod};
use crate::{FLEET, delete, pass, phase, see};

const AWAY: &str = "flightctl.io/may-still-run-on";

fn device(stage: &Stage, name: &str) -> String {
    let pod = stage.pod(name).unwrap_or_default();
    pod["metadata"]["labels"]["flightctl.io/device"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"][key].as_str()
}

fn of<'a>(stage: &'a Stage, name: &str) -> &'a vk_sandbox::flightctl::Device {
    stage.devices.iter().find(|d| d.name() == name).unwrap()
}

/// A pod that runs, and its device, which is then cut off.
async fn cut_off(stage: &Stage, name: &str) -> String {
    stage.ready(name).await;
    let device = device(stage, name);
    of(stage, &device).disconnect();
    device
}

async fn unknown(stage: &Stage, name: &str) -> Value {
    stage.phase(name, "Unknown").await
}

fn annotate(stage: &Stage, name: &str, key: &str, value: &str) {
    let mut pod: Pod = stage.cluster.get("default", name).unwrap();
    let all = pod.metadata.annotations.get_or_insert_default();
    all.insert(key.into(), value.into());
    stage.cluster.update(&pod).unwrap();
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_i64()
        .unwrap()
}

/// Times that containers of a device started.
fn starts(stage: &Stage, device: &str) -> usize {
    let journal = of(stage, device).journal();
    let starts = journal
        .iter()
        .filter(|entry| entry.event == Occurrence::Start);
    starts.count()
}

fn ready_since(pod: &Value) -> Value {
    let all = pod["status"]["conditions"].as_array().unwrap();
    let ready = all.iter().find(|c| c["type"] == "Ready").unwrap();
    ready["lastTransitionTime"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_back_in_time_has_its_pods_as_before() {
    let stage = Stage::new(2, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    let away = cut_off(&stage, "p").await;
    let begun = tokio::time::Instant::now();
    let lost = unknown(&stage, "p").await;
    let took = begun.elapsed().as_secs();
    assert!((150..=330).contains(&took), "{took} s");
    assert_eq!(condition(&lost, "Ready"), "Unknown");
    assert_eq!(lost["status"]["reason"], Value::Null);
    assert!(lost["status"]["containerStatuses"][0]["state"]["running"].is_object());
    stage.event("p", "DeviceDisconnected").await;
    pass(120).await;
    of(&stage, &away).reconnect();
    let back = stage.ready("p").await;
    stage.event("p", "DeviceReconnected").await;
    assert_eq!(device(&stage, "p"), away);
    assert_eq!(restarts(&back), 0);
    pass(900).await;
    assert_eq!(device(&stage, "p"), away, "nothing is rescheduled");
    assert!(stage.events("p", "DeviceTimeout").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bare_pod_goes_to_another_device_and_keeps_its_object() {
    let stage = Stage::new(2, 1, 0).await;
    let uid = stage.create(pod("p", FLEET, "nginx:alpine"));
    let away = cut_off(&stage, "p").await;
    unknown(&stage, "p").await;
    let begun = tokio::time::Instant::now();
    let moved = stage.ready("p").await;
    let took = begun.elapsed().as_secs();
    assert!((300..=345).contains(&took), "{took} s");
    let other = device(&stage, "p");
    assert_ne!(other, away);
    assert_eq!(moved["metadata"]["uid"], uid.as_str());
    assert_eq!(restarts(&moved), 1);
    let id = moved["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    assert!(id.contains(&other), "{id}");
    let told = stage.event("p", "Rescheduled").await;
    assert!(told.contains(&away) && told.contains(&other), "{told}");
    assert!(stage.applications(&away).is_empty());
    assert_eq!(annotation(&moved, AWAY), Some(away.as_str()));
    let told = stage.event("p", "DeviceTimeout").await;
    assert!(told.contains(&away), "{told}");

    // It is back: its copy ends, and it does not get the pod again.
    of(&stage, &away).reconnect();
    see(&stage, "its copy has ended", || {
        of(&stage, &away).applications().is_empty()
    })
    .await;
    stage
        .until("no copy is feared", |c| {
            let pod = c.get_value("pods", "default", "p")?;
            annotation(&pod, AWAY).is_none().then_some(())
        })
        .await;
    see(&stage, "no label is left", || {
        let labels = stage.flightctl.device_value(&away).unwrap()["metadata"]["labels"].clone();
        labels
            .as_object()
            .unwrap()
            .keys()
            .all(|key| !key.contains("gone-"))
    })
    .await;
    pass(900).await;
    assert_eq!(device(&stage, "p"), other);
    assert_eq!(restarts(&stage.pod("p").unwrap()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_neither_forgets_the_timer_nor_begins_it_anew() {
    let mut stage = Stage::new(2, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    let away = cut_off(&stage, "p").await;
    let since = ready_since(&unknown(&stage, "p").await);
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        pass(70).await;
        stage.stop_provider().await;
        pass(5).await;
        stage.start_provider().await;
    }
    pass(10).await;
    let still = stage.pod("p").unwrap();
    assert_eq!(phase(&stage, "p"), "Unknown");
    assert_eq!(ready_since(&still), since);
    stage.ready("p").await;
    let took = begun.elapsed().as_secs();
    assert!((300..=360).contains(&took), "{took} s");
    assert_ne!(device(&stage, "p"), away);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_flight_control_makes_no_device_disconnected() {
    let stage = Stage::new(2, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    stage.ready("p").await;
    stage
        .flightctl
        .faults()
        .add(Rule::always("/api/v1/", Effect::Status(503)));
    pass(1200).await;
    stage.flightctl.faults().clear();
    pass(600).await;
    assert_eq!(phase(&stage, "p"), "Running");
    assert!(stage.events("p", "DeviceDisconnected").is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_timer_does_not_fire_while_flight_control_is_away() {
    let stage = Stage::new(2, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    let away = cut_off(&stage, "p").await;
    unknown(&stage, "p").await;
    stage
        .flightctl
        .faults()
        .add(Rule::always("/api/v1/", Effect::Status(503)));
    pass(60).await;
    of(&stage, &away).reconnect();
    pass(600).await;
    stage.flightctl.faults().clear();
    stage.ready("p").await;
    pass(300).await;
    assert_eq!(device(&stage, "p"), away);
    assert!(stage.events("p", "DeviceTimeout").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_says_for_itself_how_long_it_waits() {
    let stage = Stage::new(2, 1, 0).await;
    for (name, value) in [("ever", "never"), ("long", "20m")] {
        let mut it = pod(name, FLEET, "nginx:alpine");
        it["metadata"]["annotations"] = json!({
            "flightctl.io/reconnect-timeout": value,
            "flightctl.io/device": "device-1",
        });
        stage.create(it);
        stage.ready(name).await;
    }
    annotate(&stage, "long", "flightctl.io/device", "");
    stage.devices[0].disconnect();
    unknown(&stage, "long").await;
    pass(1100).await;
    assert_eq!(device(&stage, "long"), "device-1");
    pass(200).await;
    assert!(!stage.events("long", "DeviceTimeout").is_empty());
    pass(7200).await;
    assert_eq!(phase(&stage, "ever"), "Unknown");
    assert!(stage.events("ever", "DeviceTimeout").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bare_pod_that_may_run_once_is_failed() {
    let stage = Stage::new(2, 1, 0).await;
    let mut once = pod("once", FLEET, "nginx:alpine");
    once["spec"]["restartPolicy"] = "Never".into();
    stage.create(once);
    let away = cut_off(&stage, "once").await;
    let failed = stage.phase("once", "Failed").await;
    assert_eq!(failed["status"]["reason"], "DeviceLost");
    assert!(stage.applications(&away).is_empty());
    pass(600).await;
    assert!(stage.pod("once").is_some(), "nobody replaces it");
    let other = stage.devices.iter().find(|d| d.name() != away).unwrap();
    assert!(other.journal().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pinned_pod_waits_for_its_device_and_runs_when_it_is_back() {
    let stage = Stage::new(2, 1, 0).await;
    let mut pinned = pod("p", FLEET, "nginx:alpine");
    pinned["spec"]["nodeSelector"] = json!({"flightctl.io/device-id": "device-1"});
    stage.create(pinned);
    cut_off(&stage, "p").await;
    let waits = stage
        .until("it waits for its device", |c| {
            let pod = c.get_value("pods", "default", "p")?;
            (pod["status"]["phase"] == "Pending").then_some(pod)
        })
        .await;
    let waits = serde_json::to_string(&waits["status"]).unwrap();
    assert!(waits.contains("DeviceTimeout"), "{waits}");
    assert!(waits.contains("device-1"), "{waits}");
    pass(600).await;
    assert!(stage.devices[1].journal().is_empty());
    stage.devices[0].reconnect();
    stage.ready("p").await;
    assert_eq!(device(&stage, "p"), "device-1");
}

fn owner(kind: &str, name: &str, replicas: i32) -> Value {
    let template = pod("any", FLEET, "nginx:alpine");
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas, "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
        },
    })
}

fn pods_of(cluster: &Cluster, app: &str) -> Vec<Value> {
    let pods = cluster.list_values("pods", Some("default"));
    pods.into_iter()
        .filter(|p| p["metadata"]["labels"]["app"] == app)
        .collect()
}

async fn one_ready(stage: &Stage, app: &str, not: &str) -> Value {
    stage
        .until("another one is ready", |c| {
            let mut pods = pods_of(c, app).into_iter();
            pods.find(|p| condition(p, "Ready") == "True" && p["metadata"]["uid"] != not)
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_replica_set_makes_another_and_the_lost_one_is_gone() {
    let stage = Stage::new(2, 1, 0).await;
    let it: Deployment = serde_json::from_value(owner("Deployment", "web", 1)).unwrap();
    stage.cluster.create(&it).unwrap();
    let first = one_ready(&stage, "web", "").await;
    let name = first["metadata"]["name"].as_str().unwrap().to_owned();
    let away = cut_off(&stage, &name).await;
    let uid = first["metadata"]["uid"].as_str().unwrap();
    let second = one_ready(&stage, "web", uid).await;
    assert_ne!(
        second["metadata"]["labels"]["flightctl.io/device"],
        away.as_str()
    );
    stage.gone(&name).await;
    assert!(stage.applications(&away).is_empty());
    let labels = stage.flightctl.device_value(&away).unwrap()["metadata"]["labels"].to_string();
    assert!(labels.contains(uid), "it is remembered: {labels}");
    of(&stage, &away).reconnect();
    see(&stage, "its copy has ended", || {
        of(&stage, &away).applications().is_empty()
    })
    .await;
    see(&stage, "nothing is left of it", || {
        let device = stage.flightctl.device_value(&away).unwrap();
        !device["metadata"]["labels"].to_string().contains("gone-")
    })
    .await;
    assert_eq!(pods_of(&stage.cluster, "web").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_before_the_delete_leaves_it_to_the_next() {
    let mut stage = Stage::new(2, 1, 0).await;
    let it: Deployment = serde_json::from_value(owner("Deployment", "web", 1)).unwrap();
    stage.cluster.create(&it).unwrap();
    let first = one_ready(&stage, "web", "").await;
    let name = first["metadata"]["name"].as_str().unwrap().to_owned();
    let rule = Rule::always("/pods/", Effect::Status(503)).method("DELETE");
    stage.cluster.faults().add(rule);
    cut_off(&stage, &name).await;
    stage.phase(&name, "Failed").await;
    stage.stop_provider().await;
    stage.cluster.faults().clear();
    stage.start_provider().await;
    stage.gone(&name).await;
    one_ready(&stage, "web", first["metadata"]["uid"].as_str().unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_elsewhere() {
    let stage = Stage::new(2, 1, 0).await;
    let template = pod("any", FLEET, "nginx:alpine");
    let mut spec = template["spec"].clone();
    spec["restartPolicy"] = "Never".into();
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "batch", "namespace": "default"},
        "spec": {"template": {"metadata": {"labels": {"app": "batch"}}, "spec": spec}},
    }))
    .unwrap();
    stage.cluster.create(&job).unwrap();
    let first = one_ready(&stage, "batch", "").await;
    cut_off(&stage, first["metadata"]["name"].as_str().unwrap()).await;
    let uid = first["metadata"]["uid"].as_str().unwrap();
    let second = one_ready(&stage, "batch", uid).await;
    assert_ne!(
        second["metadata"]["labels"]["flightctl.io/device"],
        first["metadata"]["labels"]["flightctl.io/device"]
    );
}

/// A StatefulSet's pod, whose device is away and whose time is over.
async fn held(stage: &Stage) -> (Value, String) {
    let it: StatefulSet = serde_json::from_value(owner("StatefulSet", "db", 1)).unwrap();
    stage.cluster.create(&it).unwrap();
    let first = one_ready(stage, "db", "").await;
    let away = cut_off(stage, "db-0").await;
    stage.phase("db-0", "Pending").await;
    (first, away)
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_a_stateful_set_never_has_a_second_copy() {
    let mut stage = Stage::new(2, 1, 0).await;
    let (first, away) = held(&stage).await;
    pass(600).await;
    stage.stop_provider().await;
    stage.start_provider().await;
    pass(600).await;
    let waits = stage.pod("db-0").unwrap();
    assert_eq!(waits["metadata"]["uid"], first["metadata"]["uid"]);
    assert!(
        waits["status"].to_string().contains("confirm-lost"),
        "{waits:#}"
    );
    let other = stage.devices.iter().find(|d| d.name() != away).unwrap();
    assert!(other.journal().is_empty());
    of(&stage, &away).reconnect();
    stage.ready("db-0").await;
    let runs: usize = stage.devices.iter().map(|d| d.applications().len()).sum();
    assert_eq!(runs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_humans_word_lets_it_run_elsewhere() {
    let stage = Stage::new(2, 1, 0).await;
    let (first, away) = held(&stage).await;
    annotate(&stage, "db-0", "flightctl.io/confirm-lost", &away);
    let runs = stage.ready("db-0").await;
    assert_ne!(device(&stage, "db-0"), away);
    assert_eq!(runs["metadata"]["uid"], first["metadata"]["uid"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_force_deleted_is_stopped_when_its_device_is_back() {
    let mut stage = Stage::new(2, 1, 0).await;
    let uid = stage.create(pod("p", FLEET, "nginx:alpine"));
    let away = cut_off(&stage, "p").await;
    unknown(&stage, "p").await;
    stage
        .cluster
        .delete::<Pod>("default", "p", Some(0))
        .unwrap();
    stage.gone("p").await;
    see(&stage, "it is remembered", || {
        let device = stage.flightctl.device_value(&away).unwrap();
        device["metadata"]["labels"].to_string().contains(&uid)
    })
    .await;
    assert!(stage.applications(&away).is_empty());
    stage.stop_provider().await;
    stage.start_provider().await;
    // Nothing of that name starts there before.
    let mut again = pod("p", FLEET, "nginx:alpine");
    again["metadata"]["annotations"] = json!({"flightctl.io/device": away});
    stage.create(again);
    pass(120).await;
    assert_eq!(phase(&stage, "p"), "Pending");
    assert!(stage.applications(&away).is_empty());
    of(&stage, &away).reconnect();
    stage.ready("p").await;
    let device = stage.flightctl.device_value(&away).unwrap();
    assert!(!device["metadata"]["labels"].to_string().contains("gone-"));
    assert_eq!(starts(&stage, &away), 2);
}

#[tokio::test(start_paused = true)]
async fn devices_that_vanish_together_keep_their_pods() {
    let mut stage = Stage::new(10, 1, 0).await;
    for index in 0..10 {
        stage.create(pod(&format!("p{index}"), FLEET, "nginx:alpine"));
    }
    for index in 0..10 {
        stage.ready(&format!("p{index}")).await;
    }
    for device in &stage.devices[..4] {
        device.disconnect();
    }
    let paused = |c: &Cluster| {
        let node = c.get_value("nodes", "", FLEET)?;
        (condition(&node, "ReschedulingPaused") == "True").then_some(())
    };
    stage.until("rescheduling pauses", paused).await;
    stage
        .until("its event", |c| {
            let all = c.list_values("events", None);
            all.into_iter()
                .find(|e| e["reason"] == "ReschedulingPaused")
        })
        .await;
    pass(900).await;
    stage.stop_provider().await;
    stage.start_provider().await;
    pass(900).await;
    let all: Vec<Vec<String>> = (0..10)
        .map(|index| stage.events(&format!("p{index}"), "DeviceTimeout"))
        .collect();
    assert!(all.iter().all(Vec::is_empty), "{all:?}");
    // A human knows better.
    let mut node: Node = stage.cluster.get("", FLEET).unwrap();
    let now = "2027-01-01T00:00:00Z".to_owned();
    let annotations = node.metadata.annotations.get_or_insert_default();
    annotations.insert("flightctl.io/resume-rescheduling".into(), now);
    stage.cluster.update(&node).unwrap();
    see(&stage, "all of them run elsewhere", || {
        let four = ["device-1", "device-2", "device-3", "device-4"];
        (0..10).all(|index| {
            let name = format!("p{index}");
            phase(&stage, &name) == "Running" && !four.contains(&device(&stage, &name).as_str())
        })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_ends_when_the_devices_are_back() {
    let stage = Stage::new(4, 1, 0).await;
    for index in 0..4 {
        stage.create(pod(&format!("p{index}"), FLEET, "nginx:alpine"));
        stage.ready(&format!("p{index}")).await;
    }
    let before: Vec<String> = (0..4).map(|i| device(&stage, &format!("p{i}"))).collect();
    stage.devices.iter().for_each(|d| d.disconnect());
    pass(1200).await;
    let node = stage.cluster.get_value("nodes", "", FLEET).unwrap();
    assert_eq!(condition(&node, "ReschedulingPaused"), "True");
    stage.devices.iter().for_each(|d| d.reconnect());
    for index in 0..4 {
        stage.ready(&format!("p{index}")).await;
    }
    stage
        .until("rescheduling goes on", |c| {
            let node = c.get_value("nodes", "", FLEET)?;
            (condition(&node, "ReschedulingPaused") == "False").then_some(())
        })
        .await;
    let after: Vec<String> = (0..4).map(|i| device(&stage, &format!("p{i}"))).collect();
    assert_eq!(after, before);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_of_a_device_that_is_away_says_why_it_is_still_there() {
    let stage = Stage::new(1, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    let away = cut_off(&stage, "p").await;
    unknown(&stage, "p").await;
    delete(&stage, "p");
    let told = stage.event("p", "WaitingForDevice").await;
    assert!(told.contains(&away) && told.contains("--force"), "{told}");
    pass(900).await;
    assert!(stage.pod("p").is_some());
    of(&stage, &away).reconnect();
    stage.gone("p").await;
}

#[tokio::test(start_paused = true)]
async fn sixty_silent_devices_are_never_taken_for_away_in_an_hour() {
    let stage = Stage::new(60, 1, 0).await;
    for index in 0..60 {
        stage.create(pod(&format!("p{index}"), FLEET, "nginx:alpine"));
    }
    for index in 0..60 {
        stage.ready(&format!("p{index}")).await;
    }
    pass(3600).await;
    let events = stage.cluster.list_values("events", Some("default"));
    let away = events
        .iter()
        .filter(|e| e["reason"] == "DeviceDisconnected");
    assert_eq!(away.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_a_time_that_is_none_is_told_so() {
    let stage = Stage::new(1, 1, 0).await;
    let mut it = pod("p", FLEET, "nginx:alpine");
    it["metadata"]["annotations"] = json!({"flightctl.io/reconnect-timeout": "soon"});
    stage.create(it);
    let told = stage.event("p", "InvalidReconnectTimeout").await;
    assert!(told.contains("\"soon\""), "{told}");
    stage.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_comes_and_goes_takes_no_new_pods_for_a_while() {
    let stage = Stage::new(2, 1, 0).await;
    let pinned = |name: &str| {
        let mut it = pod(name, FLEET, "nginx:alpine");
        it["metadata"]["annotations"] = json!({
            "flightctl.io/device": "device-1",
            "flightctl.io/reconnect-timeout": "never",
        });
        it
    };
    stage.create(pinned("p"));
    stage.ready("p").await;
    for _ in 0..3 {
        stage.devices[0].disconnect();
        unknown(&stage, "p").await;
        stage.devices[0].reconnect();
        stage.ready("p").await;
    }
    stage.create(pinned("new"));
    pass(60).await;
    assert_eq!(phase(&stage, "new"), "Pending");
    let told = stage.event("new", "FailedScheduling").await;
    assert!(told.contains("came and went too often"), "{told}");
    stage.ready("new").await;
}

/// A device that is a node of its own, cut off with a pod on it.
async fn one_node(eviction: Eviction) -> Stage {
    let mut stage = Stage::empty();
    let device = |name: &str| {
        let mut spec = DeviceSpec::new(name);
        (spec.cpu_cores, spec.memory_kb) = (Some(4), Some(8 << 20));
        spec.status_interval = std::time::Duration::from_secs(10);
        stage.flightctl.add_device(spec)
    };
    stage.devices = vec![device("device-1"), device("device-2")];
    stage.rules.policy.nodes = Nodes::PerDevice;
    stage.rules.policy.eviction = eviction;
    stage.start_provider().await;
    stage.create(pod("p", "vk-flightctl-device-1", "nginx:alpine"));
    cut_off(&stage, "p").await;
    unknown(&stage, "p").await;
    stage
}

fn node_is(stage: &Stage, kind: &str) -> String {
    let node = stage
        .cluster
        .get_value("nodes", "", "vk-flightctl-device-1")
        .unwrap();
    condition(&node, kind).to_owned()
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_is_one_device_we_give_up_the_pods_and_it_stays_ready() {
    let stage = one_node(Eviction::Provider).await;
    see(&stage, "the device is shown to be away", || {
        node_is(&stage, "DeviceConnected") == "False"
    })
    .await;
    stage.event("p", "DeviceTimeout").await;
    assert_eq!(node_is(&stage, "Ready"), "True");
}

#[tokio::test(start_paused = true)]
async fn or_kubernetes_does_and_our_timer_is_off() {
    let stage = one_node(Eviction::Kubernetes).await;
    see(&stage, "the node is not known to be ready", || {
        node_is(&stage, "Ready") == "Unknown"
    })
    .await;
    pass(1200).await;
    assert!(stage.events("p", "DeviceTimeout").is_empty());
    assert_eq!(
        stage.applications("device-1").len(),
        1,
        "it is Kubernetes' to end it"
    );
    stage.devices[0].reconnect();
    see(&stage, "the node is ready again", || {
        node_is(&stage, "Ready") == "True"
    })
    .await;
}
