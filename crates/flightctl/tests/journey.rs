//! From kubectl to an edge device and back, in the sandbox on the stepped
//! clock: the user's scenarios, and what goes wrong around them.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test or example"
)]

mod stage;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use stage::{Stage, condition, pod};
use tokio::time::Instant;
use vk_flightctl::config::Workloads;
use vk_flightctl::mapping::app_name;
use vk_provider::Uid;
use vk_sandbox::faults::{Effect, Rule};

const NODE: &str = "vk-flightctl-node";

#[tokio::test(start_paused = true)]
async fn s1_a_pod_reaches_a_device_and_tells_its_story() {
    let stage = Stage::new(2, 0, 2).await;
    let begun = Instant::now();
    let uid = stage.create(pod("nginx-edge", NODE, "nginx:alpine"));
    let running = stage.ready("nginx-edge").await;
    assert!(
        begun.elapsed() <= Duration::from_secs(15),
        "took {:?}",
        begun.elapsed()
    );
    let device = stage.device_of(&running);
    assert_eq!(stage.applications(device.name()), [format!("vk-{uid}")]);
    assert!(
        running["status"]["podIP"]
            .as_str()
            .unwrap()
            .starts_with("10.42.")
    );
    assert_eq!(
        running["status"]["containerStatuses"][0]["image"],
        "nginx:alpine"
    );
    for reason in ["DeviceSelected", "Created", "Started"] {
        stage.event("nginx-edge", reason).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s2_a_deployment_spreads_over_a_fleet() {
    let stage = Stage::new(4, 2, 0).await;
    let deployment: k8s_openapi::api::apps::v1::Deployment = serde_json::from_value(json!({
        "metadata": {"name": "hello-edge", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "hello-edge"}},
            "template": {
                "metadata": {"labels": {"app": "hello-edge"}},
                "spec": {
                    "nodeSelector": {"flightctl.io/fleet": "edge-fleet-1"},
                    "containers": [{
                        "name": "hello",
                        "image": "gcr.io/google-samples/hello-app:1.0",
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                    }],
                },
            },
        },
    }))
    .unwrap();
    stage.cluster.create(&deployment).unwrap();
    let pods = stage
        .until("three ready pods", |c| {
            let pods = c.list_values("pods", Some("default"));
            (pods.len() == 3 && pods.iter().all(|p| condition(p, "Ready") == "True"))
                .then_some(pods)
        })
        .await;
    let mut used: Vec<&str> = pods.iter().map(|p| stage.device_of(p).name()).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used, ["device-1", "device-3"], "both devices of the fleet");
    assert!(
        pods.iter()
            .all(|p| p["spec"]["nodeName"] == "vk-flightctl-edge-fleet-1")
    );
}

#[tokio::test(start_paused = true)]
async fn s3_what_is_too_big_fails_and_never_reaches_flight_control() {
    let stage = Stage::new(2, 0, 2).await;
    let mut big = pod("resource-hog", NODE, "nginx:alpine");
    big["spec"]["containers"][0]["resources"]["requests"] =
        json!({"cpu": "100", "memory": "1000Gi"});
    stage.create(big);
    let failed = stage.phase("resource-hog", "Failed").await;
    assert_eq!(failed["status"]["reason"], "OutOfcpu");
    let said = stage.event("resource-hog", "FailedScheduling").await;
    assert!(
        said.starts_with("Insufficient resources: requested cpu=100, memory=1000Gi; available cpu=3750m, memory=7680Mi"),
        "{said}"
    );
    assert!(
        stage
            .devices
            .iter()
            .all(|d| stage.applications(d.name()).is_empty())
    );
    delete(&stage, "resource-hog", None);
    stage.gone("resource-hog").await;
}

#[tokio::test(start_paused = true)]
async fn s4_an_image_update_ends_the_old_before_the_new_starts() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("update-test", NODE, "hello-app:1.0"));
    stage.ready("update-test").await;
    let mut pod: Pod = stage.cluster.get("default", "update-test").unwrap();
    pod.spec.as_mut().unwrap().containers[0].image = Some("hello-app:2.0".into());
    stage.cluster.update(&pod).unwrap();
    stage
        .patiently("the new image runs", async {
            loop {
                if starts(&stage, "hello-app:2.0") == 1 {
                    return;
                }
                stage.devices[0].changed().await;
            }
        })
        .await;
    let journal = stage.devices[0].journal();
    let stopped = journal
        .iter()
        .position(|e| e.image.contains("1.0") && is_stop(e));
    let started = journal
        .iter()
        .position(|e| e.image.contains("2.0") && is_start(e));
    assert!(stopped.is_some() && stopped < started, "{journal:#?}");
}

#[tokio::test(start_paused = true)]
async fn s6_a_deleted_pod_leaves_the_device_and_then_kubernetes() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("nginx-edge", NODE, "nginx:alpine"));
    stage.ready("nginx-edge").await;
    let begun = Instant::now();
    delete(&stage, "nginx-edge", None);
    stage.gone("nginx-edge").await;
    assert!(stage.applications("device-1").is_empty());
    assert!(
        stage.devices[0].journal().iter().any(is_stop),
        "the container was stopped"
    );
    assert!(
        begun.elapsed() <= Duration::from_secs(15),
        "took {:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_refers_to_reaches_its_device_and_follows_changes() {
    let mut stage = Stage::new(1, 1, 0).await;
    stage.stop_provider().await;
    stage.workloads = Workloads {
        token_namespaces: ["default".to_owned()].into(),
        ..Workloads::default()
    };
    stage.start_provider().await;
    let map =
        json!({"metadata": {"name": "map", "namespace": "default"}, "data": {"level": "info"}});
    let map: ConfigMap = serde_json::from_value(map).unwrap();
    stage.cluster.create(&map).unwrap();
    let sources = json!([
        {"configMap": {"name": "map"}},
        {"serviceAccountToken": {"audience": "vault", "path": "token"}},
    ]);
    let mut web = pod("web", "vk-flightctl-edge-fleet-1", "nginx:alpine");
    web["spec"]["volumes"] = json!([{"name": "given", "projected": {"sources": sources}}]);
    let container = &mut web["spec"]["containers"][0];
    container["envFrom"] = json!([{"configMapRef": {"name": "map"}}]);
    container["volumeMounts"] = json!([{"name": "given", "mountPath": "/given"}]);
    let uid = stage.create(web);
    stage.ready("web").await;
    let app = app_name(&Uid::new(&uid));
    let device = &stage.devices[0];
    let seen = device.container(&app, "app").unwrap();
    assert_eq!(seen.environment["level"], "info");
    let file = |path: &str| {
        let files = device.container(&app, "app").unwrap().files;
        String::from_utf8_lossy(&files[path].content).into_owned()
    };
    assert_eq!(file("/given/level"), "info");
    assert_eq!(file("/given/token").matches('.').count(), 2, "a JWT");
    let change = json!({"data": {"level": "debug"}});
    stage
        .cluster
        .patch::<ConfigMap>("default", "map", &change)
        .unwrap();
    let begun = Instant::now();
    while file("/given/level") != "debug" {
        assert!(begun.elapsed() < Duration::from_secs(10), "within 10 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = device.container(&app, "app").unwrap();
    assert_eq!(seen.environment["level"], "info", "nothing restarted");
}

#[tokio::test(start_paused = true)]
async fn a_restart_writes_nothing_and_starts_nothing() {
    let mut stage = Stage::new(2, 0, 2).await;
    stage.create(pod("kept", NODE, "nginx:alpine"));
    let before = stage.ready("kept").await;
    let name = stage.device_of(&before).name().to_owned();
    let generation = |stage: &Stage| {
        stage.flightctl.device_value(&name).unwrap()["metadata"]["generation"].clone()
    };
    let written = generation(&stage);
    stage.stop_provider().await;
    stage.start_provider().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let after = stage.pod("kept").unwrap();
    assert_eq!(
        before["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    assert_eq!(generation(&stage), written);
    assert_eq!(starts(&stage, "nginx"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_force_while_we_were_away_leaves_its_device() {
    let mut stage = Stage::new(1, 0, 1).await;
    stage.create(pod("missed", NODE, "nginx:alpine"));
    stage.ready("missed").await;
    stage.stop_provider().await;
    delete(&stage, "missed", Some(0));
    assert_eq!(stage.applications("device-1").len(), 1);
    stage.start_provider().await;
    app_count(&stage, "device-1", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_run_a_pod_twice() {
    let stage = Stage::new(3, 0, 3).await;
    let rule = Rule::always("/api/v1/devices/", Effect::LoseAnswer)
        .method("PATCH")
        .times(2);
    stage.flightctl.faults().add(rule);
    stage.create(pod("once", NODE, "nginx:alpine"));
    stage.ready("once").await;
    assert_eq!(starts(&stage, "nginx"), 1);
    let copies: usize = stage
        .devices
        .iter()
        .map(|d| stage.applications(d.name()).len())
        .sum();
    assert_eq!(copies, 1);
}

#[tokio::test(start_paused = true)]
async fn others_are_left_alone_and_ours_are_restored() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("ours", NODE, "nginx:alpine"));
    stage.ready("ours").await;
    let foreign = json!({"name": "theirs", "appType": "quadlet", "inline": [
        {"path": "a.container", "content": "[Container]\nImage=quay.io/other/app:1\n[Install]\nWantedBy=default.target\n"}]});
    stage.edit_applications("device-1", &json!([foreign])).await;
    app_count(&stage, "device-1", 2).await;
    assert_eq!(
        stage.applications("device-1"),
        ["theirs".to_owned(), format!("vk-{uid}")]
    );
    delete(&stage, "ours", None);
    stage.gone("ours").await;
    assert_eq!(stage.applications("device-1"), ["theirs"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_cluster_on_the_same_flight_control_is_never_touched() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("ours", NODE, "nginx:alpine"));
    stage.ready("ours").await;
    let first = stage.spec_applications("device-1")[0].clone();
    let mut other = Stage::empty();
    other.flightctl = stage.flightctl.clone();
    other.devices = stage.devices.clone();
    other.start_provider().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(stage.spec_applications("device-1"), json!([first]));
    // Its pods come and go beside ours, of the same name and over a restart.
    other.create(pod("ours", NODE, "redis:7"));
    other.ready("ours").await;
    assert_eq!(stage.spec_applications("device-1")[0], first);
    other.stop_provider().await;
    other.start_provider().await;
    delete(&other, "ours", None);
    other.gone("ours").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(stage.spec_applications("device-1"), json!([first]));
    assert_eq!(condition(&stage.pod("ours").unwrap(), "Ready"), "True");
    assert_eq!(starts(&stage, "nginx"), 1);
    let journal = stage.devices[0].journal();
    let stopped = journal.iter().filter(|e| is_stop(e));
    assert!(stopped.into_iter().all(|e| e.image.contains("redis")));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_someone_deletes_fails_its_pods() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("stranded", NODE, "nginx:alpine"));
    stage.ready("stranded").await;
    stage
        .request("DELETE", "/api/v1/devices/device-1", Value::Null)
        .await;
    let failed = stage.phase("stranded", "Failed").await;
    assert_eq!(failed["status"]["reason"], "DeviceDeleted");
    delete(&stage, "stranded", None);
    stage.gone("stranded").await;
}

#[tokio::test(start_paused = true)]
async fn no_matching_device_waits_and_says_so() {
    let stage = Stage::new(1, 0, 1).await;
    let annotated = |name: &str, key: &str, value: &str| {
        let mut pod = pod(name, NODE, "nginx:alpine");
        pod["metadata"]["annotations"] = json!({key: value});
        pod
    };
    let mut selected = pod("by-node-selector", NODE, "nginx:alpine");
    selected["spec"]["nodeSelector"] = json!({"flightctl.io/device-id": "device-9"});
    for (pod, reason, text) in [
        (
            annotated("by-label", "flightctl.io/device-selector", "zone=moon"),
            "NoMatchingDevice",
            "zone=moon",
        ),
        (
            annotated("by-name", "flightctl.io/device", "device-9"),
            "NoMatchingDevice",
            "device-9",
        ),
        (
            annotated("no-name", "flightctl.io/device", "../device-1 %\n"),
            "NoMatchingDevice",
            "../device-1 %",
        ),
        (selected, "NoMatchingDevice", "device-9"),
        (
            annotated(
                "no-selector",
                "flightctl.io/device-selector",
                "zone in (moon",
            ),
            "InvalidDeviceSelector",
            "flightctl.io/device-selector",
        ),
    ] {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        stage.create(pod);
        let said = stage.event(&name, reason).await;
        assert!(said.contains(text), "{said}");
        let shown = stage.pod(&name).unwrap();
        assert_eq!(shown["status"]["phase"], "Pending", "{name}");
    }
    assert!(stage.applications("device-1").is_empty());
    // It waits for the device, and runs when there is one.
    let mut spec = vk_sandbox::flightctl::DeviceSpec::new("device-9");
    spec.status_interval = Duration::from_secs(10);
    stage.flightctl.add_device(spec);
    stage.ready("by-name").await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_now_runs_when_room_comes_free() {
    let stage = Stage::new(1, 0, 1).await;
    let mut first = pod("first", NODE, "nginx:alpine");
    first["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": "3"});
    let mut second = first.clone();
    second["metadata"]["name"] = "second".into();
    stage.create(first);
    stage.ready("first").await;
    stage.create(second);
    let said = stage.event("second", "FailedScheduling").await;
    assert!(said.contains("largest free slot cpu=750m"), "{said}");
    delete(&stage, "first", None);
    stage.ready("second").await;
}

#[tokio::test(start_paused = true)]
async fn an_unsupported_field_is_refused_by_its_path() {
    let stage = Stage::new(1, 0, 1).await;
    let mut probing = pod("probing", NODE, "nginx:alpine");
    probing["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 80}});
    stage.create(probing);
    let failed = stage.phase("probing", "Failed").await;
    assert_eq!(failed["status"]["reason"], "Unsupported");
    let message = failed["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.containers[0].readinessProbe"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_flight_control_keeps_ready_and_says_so_on_the_node() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("steady", NODE, "nginx:alpine"));
    stage.ready("steady").await;
    stage
        .flightctl
        .faults()
        .add(Rule::always("/api/v1/", Effect::Status(503)));
    let node = stage
        .until("FlightControlReachable=False", |c| {
            c.get_value("nodes", "", NODE)
                .filter(|n| condition(n, "FlightControlReachable") == "False")
        })
        .await;
    assert_eq!(condition(&node, "Ready"), "True");
    assert_eq!(condition(&stage.pod("steady").unwrap(), "Ready"), "True");
    stage.flightctl.faults().clear();
    stage
        .until("FlightControlReachable=True", |c| {
            c.get_value("nodes", "", NODE)
                .filter(|n| condition(n, "FlightControlReachable") == "True")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_replaced_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "secret").unwrap();
    let mut stage = Stage::empty();
    stage.token = vk_flightctl::client::TokenSource::file(file.clone());
    stage.devices = stage.flightctl.spawn_devices(1, 0, 1);
    stage.start_provider().await;
    stage.flightctl.expire_token("secret");
    stage
        .until("the nodes show the refusal", |c| {
            c.get_value("nodes", "", NODE)
                .filter(|n| condition(n, "FlightControlReachable") == "False")
        })
        .await;
    stage.flightctl.accept_token("fresh");
    std::fs::write(&file, "fresh").unwrap();
    stage
        .until("Flight Control is reached again", |c| {
            c.get_value("nodes", "", NODE)
                .filter(|n| condition(n, "FlightControlReachable") == "True")
        })
        .await;
    stage.create(pod("after", NODE, "nginx:alpine"));
    stage.ready("after").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_of_two_fleets_is_used_by_neither() {
    let mut stage = Stage::empty();
    let sizes = stage.rules.defaults.clone();
    stage.rules.fleets = ["one", "two"]
        .map(|name| vk_flightctl::fleet::FleetRule {
            name: name.into(),
            selector: vk_flightctl::select::parse("site=paris").unwrap(),
            sizes: sizes.clone(),
            absence: Default::default(),
            taints: None,
            policy: Default::default(),
        })
        .into();
    let spec = vk_sandbox::flightctl::DeviceSpec::new("device-1").label("site", "paris");
    stage.devices = vec![stage.flightctl.add_device(spec)];
    stage.start_provider().await;
    stage.create(pod("homeless", "vk-flightctl-one", "nginx:alpine"));
    let said = stage.event("homeless", "NoMatchingDevice").await;
    assert!(said.contains("no devices"), "{said}");
    assert!(stage.applications("device-1").is_empty());
}

fn delete(stage: &Stage, name: &str, grace: Option<i64>) {
    stage.cluster.delete::<Pod>("default", name, grace).unwrap();
}

fn is_start(entry: &vk_sandbox::flightctl::JournalEntry) -> bool {
    matches!(entry.event, vk_sandbox::flightctl::Occurrence::Start)
}

fn is_stop(entry: &vk_sandbox::flightctl::JournalEntry) -> bool {
    matches!(entry.event, vk_sandbox::flightctl::Occurrence::Stop)
}

fn starts(stage: &Stage, image: &str) -> usize {
    stage
        .devices
        .iter()
        .flat_map(|d| d.journal())
        .filter(|e| e.image.contains(image) && is_start(e))
        .count()
}

async fn app_count(stage: &Stage, device: &str, count: usize) {
    stage
        .patiently("the device's applications", async {
            while stage.applications(device).len() != count {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
}
