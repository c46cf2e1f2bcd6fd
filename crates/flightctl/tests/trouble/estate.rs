//! Devices that join, leave, and are in this or that state: what nodes and pods show.

use serde_json::{Value, json};
use tokio::time::Instant;
use vk_flightctl::fleet::{Nodes, OnLeave};
use vk_sandbox::flightctl::DeviceSpec;

use crate::stage::{Stage, condition, pod};
use crate::{FLEET, NODE, delete, pass, phase, see, waits_for};

const OTHER: &str = "vk-flightctl-edge-fleet-2";

fn node(stage: &Stage, name: &str) -> Value {
    stage
        .cluster
        .get_value("nodes", "", name)
        .unwrap_or_default()
}

async fn node_condition(stage: &Stage, name: &str, kind: &str, status: &str) -> Value {
    stage
        .until(&format!("{name} {kind} {status}"), |c| {
            c.get_value("nodes", "", name)
                .filter(|n| condition(n, kind) == status)
        })
        .await
}

fn twist(stage: &Stage, device: &str, with: Value) {
    stage.twists.lock().unwrap().insert(device.into(), with);
}

fn straighten(stage: &Stage) {
    stage.twists.lock().unwrap().clear();
}

fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_device_that_joins_adds_its_room_within_five_seconds() {
    let stage = Stage::new(1, 0, 1).await;
    stage
        .until("one device's room", |c| {
            c.get_value("nodes", "", NODE)
                .filter(|n| n["status"]["capacity"]["cpu"] == "4")
        })
        .await;
    // Neither just before nor just after anything that is done every so often.
    pass(17).await;
    let mut spec = DeviceSpec::new("device-2");
    spec.cpu_cores = Some(4);
    spec.memory_kb = Some(8 << 20);
    stage.flightctl.add_device(spec);
    let joined = Instant::now();
    stage
        .until("the room of two", |c| {
            c.get_value("nodes", "", NODE).filter(|n| {
                n["status"]["capacity"]["cpu"] == "8"
                    && n["status"]["allocatable"]["cpu"] == "7500m"
            })
        })
        .await;
    assert!(
        joined.elapsed().as_secs_f64() <= 5.5,
        "{:?}",
        joined.elapsed()
    );
    let said = stage.event(NODE, "DeviceJoined").await;
    assert!(said.contains("device-2"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn pods_on_a_device_that_leaves_its_fleet_run_on_by_default() {
    let stage = Stage::new(3, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    let device = stage.device_of(&stage.ready("p").await).name().to_owned();
    let other = labels(&[("fleet", "edge-fleet-2")]);
    stage.flightctl.set_labels(&device, other).unwrap();
    let said = stage.event("p", "DeviceLeftFleet").await;
    assert!(said.contains(OTHER) && said.contains("keep"), "{said}");
    let shown = node_condition(&stage, FLEET, "DevicesLeft", "True").await;
    assert!(shown.to_string().contains(&device));
    assert!(stage.event(FLEET, "DeviceLeft").await.contains(&device));
    pass(120).await;
    assert_eq!(phase(&stage, "p"), "Running");
    assert_eq!(stage.applications(&device).len(), 1);
    assert_eq!(node(&stage, FLEET)["status"]["capacity"]["cpu"], "8");
    delete(&stage, "p");
    stage.gone("p").await;
    see(&stage, "taken out", || {
        stage.applications(&device).is_empty()
    })
    .await;
    node_condition(&stage, FLEET, "DevicesLeft", "False").await;
}

#[tokio::test(start_paused = true)]
async fn pods_on_a_device_that_leaves_a_fleet_that_drains_are_evicted() {
    let mut stage = Stage::new(3, 1, 0).await;
    stage.stop_provider().await;
    stage.rules.policy.on_leave = OnLeave::Drain;
    stage.start_provider().await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    let device = stage.device_of(&stage.ready("p").await).name().to_owned();
    stage
        .flightctl
        .set_labels(&device, labels(&[("fleet", "edge-fleet-2")]))
        .unwrap();
    let failed = stage.phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "Evicted");
    assert_eq!(condition(&failed, "DisruptionTarget"), "True");
    let message = failed["status"]["message"].as_str().unwrap();
    assert!(message.contains("onLeave: drain"), "{message}");
    see(&stage, "taken out", || {
        stage.applications(&device).is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_device_of_a_fleet_takes_no_pods_with_it() {
    let stage = Stage::new(1, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    stage.ready("p").await;
    stage
        .flightctl
        .set_labels("device-1", labels(&[("fleet", "edge-fleet-2")]))
        .unwrap();
    stage
        .until("the other node", |c| c.get_value("nodes", "", OTHER))
        .await;
    pass(300).await;
    assert_eq!(phase(&stage, "p"), "Running");
    assert_eq!(stage.applications("device-1").len(), 1);
    delete(&stage, "p");
    stage.gone("p").await;
    see(&stage, "taken out", || {
        stage.applications("device-1").is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_a_fleet_resource_takes_is_told_on_its_node() {
    let stage = Stage::new(2, 0, 2).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let owned = labels(&[("site", "paris")]);
    stage
        .flightctl
        .set_labels("device-2", owned.clone())
        .unwrap();
    stage
        .flightctl
        .create_fleet("factory", &owned, &json!({}))
        .unwrap();
    let said = stage.event(NODE, "DeviceOwned").await;
    assert!(
        said.contains("device-2") && said.contains("Fleet/factory"),
        "{said}"
    );
    stage
        .until("half the room", |c| {
            c.get_value("nodes", "", NODE)
                .filter(|n| n["status"]["allocatable"]["cpu"] == "3750m")
        })
        .await;
    assert_eq!(node(&stage, NODE)["status"]["capacity"]["cpu"], "8");
    stage.flightctl.delete_fleet("factory");
    stage.event(NODE, "DeviceReleased").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_deleted_is_told_on_its_node() {
    let stage = Stage::new(2, 0, 2).await;
    pass(10).await;
    stage.flightctl.delete_device("device-2");
    let said = stage.event(NODE, "DeviceDeleted").await;
    assert!(said.contains("device-2"), "{said}");
}

/// Everything that may come over a device: condition, events, and where pods go.
#[tokio::test(start_paused = true)]
async fn what_comes_over_a_device_is_told_on_its_node_and_pods_go_elsewhere() {
    let stage = Stage::new(2, 0, 2).await;
    let summary = |status: &str| json!({"status": {"summary": {"status": status}}});
    let cases = [
        (
            summary("AwaitingReconnect"),
            ["DevicesPaused", "DevicePaused", "DeviceResumed"],
        ),
        (
            summary("ConflictPaused"),
            ["DevicesPaused", "DevicePaused", "DeviceResumed"],
        ),
        (
            summary("PoweredOff"),
            ["DevicesAway", "DeviceAway", "DeviceBack"],
        ),
        (
            summary("Rebooting"),
            ["DevicesAway", "DeviceAway", "DeviceBack"],
        ),
        (
            json!({"status": {"resources": {"memory": "Critical"}}}),
            ["DevicesAlerting", "DeviceAlert", "DeviceAlertOver"],
        ),
        (
            json!({"status": {"resources": {"disk": "Critical"}}}),
            ["DevicesAlerting", "DeviceAlert", "DeviceAlertOver"],
        ),
        (
            json!({
                "spec": {"os": {"image": "quay.io/os:2"}},
                "status": {"conditions": [
                    {"type": "Updating", "status": "True", "reason": "ApplyingUpdate"},
                ]},
            }),
            ["DevicesUpdatingOS", "DeviceUpdatingOS", "DeviceUpdatedOS"],
        ),
        (
            json!({"spec": {"updatePolicy": {"updateSchedule": {
                "at": "0 2 * * *", "startGraceDuration": "1h",
            }}}}),
            [
                "DevicesWithUpdateWindow",
                "DeviceUpdateWindow",
                "DeviceUpdateWindowOver",
            ],
        ),
    ];
    for (at, (as_if, [kind, begins, ends])) in cases.into_iter().enumerate() {
        twist(&stage, "device-1", as_if);
        node_condition(&stage, NODE, kind, "True").await;
        let said = stage.event(NODE, begins).await;
        assert!(said.contains("device-1"), "{said}");
        // Without it the first by name would be taken.
        let name = format!("p{at}");
        stage.create(pod(&name, NODE, "nginx:alpine"));
        let ready = stage.ready(&name).await;
        assert_eq!(stage.device_of(&ready).name(), "device-2", "{kind} {at}");
        delete(&stage, &name);
        stage.gone(&name).await;
        straighten(&stage);
        node_condition(&stage, NODE, kind, "False").await;
        stage.event(NODE, ends).await;
    }
    stage.create(pod("last", NODE, "nginx:alpine"));
    let ready = stage.ready("last").await;
    assert_eq!(stage.device_of(&ready).name(), "device-1");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_its_devices_window_says_so() {
    let stage = Stage::new(1, 0, 1).await;
    // As an agent that waits for its window it applies nothing.
    let window = json!({"at": "0 2 * * *", "startGraceDuration": "1h"});
    twist(
        &stage,
        "device-1",
        json!({
            "spec": {"updatePolicy": {"updateSchedule": window}},
            "status": {"config": {"renderedVersion": "0"}},
        }),
    );
    stage.create(pod("p", NODE, "nginx:alpine"));
    let said = stage.event("p", "DeviceUpdateWindow").await;
    assert!(
        said.contains("0 2 * * *") && said.contains("Local time"),
        "{said}"
    );
    assert_eq!(phase(&stage, "p"), "Pending");
    straighten(&stage);
    stage.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_for_which_there_is_no_room_is_refused_when_its_time_is_over() {
    let mut stage = Stage::new(1, 0, 1).await;
    stage.stop_provider().await;
    stage.rules.policy.reject_after = Some(std::time::Duration::from_secs(600));
    stage.start_provider().await;
    let sized = |name: &str, cpu: &str| {
        let mut made = pod(name, NODE, "nginx:alpine");
        made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu.into();
        made
    };
    stage.create(sized("large", "3"));
    stage.ready("large").await;
    stage.create(sized("second", "2"));
    let said = stage.event("second", "FailedScheduling").await;
    assert!(said.contains("largest free slot cpu=750m"), "{said}");
    let begun = Instant::now();
    pass(590).await;
    assert_eq!(phase(&stage, "second"), "Pending");
    let failed = stage.phase("second", "Failed").await;
    assert!(begun.elapsed().as_secs() <= 610, "{:?}", begun.elapsed());
    assert_eq!(failed["status"]["reason"], "Unplaceable");
    assert_eq!(phase(&stage, "large"), "Running");
}

#[tokio::test(start_paused = true)]
async fn pods_that_must_be_apart_are_on_devices_of_their_own() {
    let stage = Stage::new(2, 0, 2).await;
    let apart = |name: &str| {
        let mut made = pod(name, NODE, "nginx:alpine");
        made["metadata"]["labels"] = json!({"app": "web"});
        made["spec"]["affinity"] = json!({"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "flightctl.io/device",
                "labelSelector": {"matchLabels": {"app": "web"}},
            }],
        }});
        made
    };
    for name in ["a", "b"] {
        stage.create(apart(name));
        stage.ready(name).await;
    }
    assert_eq!(stage.applications("device-1").len(), 1);
    assert_eq!(stage.applications("device-2").len(), 1);
    stage.create(apart("c"));
    let said = stage.event("c", "FailedScheduling").await;
    assert!(said.contains("anti-affinity"), "{said}");
    delete(&stage, "a");
    stage.ready("c").await;
}

#[tokio::test(start_paused = true)]
async fn what_devices_of_one_node_cannot_keep_apart_is_refused() {
    let stage = Stage::new(1, 0, 1).await;
    let mut made = pod("p", NODE, "nginx:alpine");
    made["spec"]["topologySpreadConstraints"] = json!([{
        "topologyKey": "flightctl.io/device", "maxSkew": 1, "minDomains": 2,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {},
    }]);
    stage.create(made);
    let failed = stage.phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "Unsupported");
    let message = failed["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.topologySpreadConstraints[0].minDomains"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_a_node_runs_the_pods_that_are_bound_to_it() {
    let mut stage = Stage::new(2, 1, 0).await;
    stage.stop_provider().await;
    stage.rules.policy.nodes = Nodes::PerDevice;
    stage.start_provider().await;
    let own = "vk-flightctl-device-2";
    let shown = node_condition(&stage, own, "DeviceConnected", "True").await;
    assert_eq!(
        shown["metadata"]["labels"]["flightctl.io/device"],
        "device-2"
    );
    assert_eq!(shown["metadata"]["labels"]["kubernetes.io/hostname"], own);
    assert_eq!(shown["status"]["allocatable"]["cpu"], "3750m");
    stage.create(pod("p", own, "nginx:alpine"));
    let ready = stage.ready("p").await;
    assert_eq!(stage.device_of(&ready).name(), "device-2");
    stage.devices[1].disconnect();
    let shown = node_condition(&stage, own, "DeviceConnected", "False").await;
    assert_eq!(condition(&shown, "Ready"), "True");
    assert!(
        shown["spec"]["taints"]
            .to_string()
            .contains("flightctl.io/unavailable")
    );
    assert_eq!(waits_for(&stage, "p"), "");
}
