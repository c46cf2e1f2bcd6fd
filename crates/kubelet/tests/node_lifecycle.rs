//! Nodes through everything that happens to them, in the sandbox.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "node_lifecycle/agents.rs"]
mod agents;
#[path = "node_lifecycle/clocks.rs"]
mod clocks;
#[path = "suite/sandboxed.rs"]
mod sandboxed;
mod suite;
#[path = "node_lifecycle/two.rs"]
mod two;
// Beside the suite, which it needs.
#[path = "suite/process.rs"]
mod process;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod, Taint};
use process::Process;
use sandboxed::world;
use serde_json::json;
use suite::memory::{Call, Remote};
use suite::world::{World, phase, uid};
use tokio::time::{sleep, timeout};
use virtual_kubelet::node::{NodeSettings, Outage};
use vk_provider::BackendError;
use vk_provider::node::ConditionFact;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

/// More than any well-behaved client asks for while a test looks.
const PLENTY: u32 = 5000;

/// How often a rule with [`PLENTY`] struck.
fn struck(cluster: &Cluster) -> u32 {
    PLENTY - cluster.faults().rules()[0].times.unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[tokio::test(start_paused = true)]
async fn watches_that_the_server_closes_cleanly_are_opened_again_ever_more_rarely() {
    for path in ["/pods", "/nodes"] {
        let (mut world, cluster) = world().await;
        sleep(minutes(1)).await;
        let rule = Rule::always(path, Effect::WatchClose).times(PLENTY);
        cluster.faults().add(rule);
        sleep(minutes(5)).await;
        // 0.8 s doubled up to 30 s: six, and two a minute.
        let opened = struck(&cluster);
        assert!((6..=20).contains(&opened), "{path}: {opened} watches");
        cluster.faults().clear();
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_wait_as_long_as_the_server_asks_in_either_form() {
    for effect in [
        Effect::TooManyRequests(30),
        Effect::PlainTooManyRequests(30),
    ] {
        let (mut world, cluster) = world().await;
        world.stop().await;
        let rule = Rule::always("/api/v1/pods?", effect).times(PLENTY);
        cluster.faults().add(rule);
        world.start().await;
        sleep(minutes(1)).await;
        let asked = struck(&cluster);
        assert!((2..=4).contains(&asked), "{asked} lists in a minute");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_fail_are_repeated_ever_more_rarely() {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let rule = Rule::always("/api/v1/pods?", Effect::Status(500)).times(PLENTY);
    cluster.faults().add(rule);
    world.start().await;
    sleep(minutes(5)).await;
    let asked = struck(&cluster);
    assert!((8..=20).contains(&asked), "{asked} lists in five minutes");
    world.stop().await;
}

fn lease(cluster: &Cluster, node: &str) -> Lease {
    cluster.get("kube-node-lease", node).unwrap()
}

fn holder(cluster: &Cluster, node: &str) -> Option<String> {
    lease(cluster, node).spec.unwrap().holder_identity
}

/// Seconds since the lease was renewed.
fn lease_age(world: &World, cluster: &Cluster) -> i64 {
    let renewed = lease(cluster, &world.node).spec.unwrap().renew_time;
    world
        .clock
        .now()
        .duration_since(renewed.unwrap().0)
        .as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_an_hour_loses_neither_lease_nor_node() {
    for effect in [
        Effect::TooManyRequests(3600),
        Effect::PlainTooManyRequests(3600),
    ] {
        let (mut world, cluster) = world().await;
        sleep(Duration::from_secs(15)).await;
        let lease = Rule::always("/leases", effect.clone()).times(1);
        cluster.faults().add(lease);
        let node = Rule::always("/api/v1/nodes", effect)
            .method("POST")
            .times(1);
        cluster.faults().add(node);
        cluster.delete::<Node>("", &world.node, None).unwrap();
        // The lease goes with its node, and comes back with the next renewal.
        let mut missing = 0;
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            match cluster.get::<Lease>("kube-node-lease", &world.node) {
                Some(_) => assert!(lease_age(&world, &cluster) < 40),
                None => missing += 1,
            }
        }
        assert!(missing < 25, "no lease for {missing} s");
        assert!(cluster.get::<Node>("", &world.node).is_some());
        assert!(cluster.faults().rules().is_empty(), "both faults struck");
        world.stop().await;
    }
}

fn condition(node: &Node, kind: &str) -> Option<String> {
    let mut all = node.status.as_ref()?.conditions.iter().flatten();
    Some(all.find(|c| c.type_ == kind)?.status.clone())
}

async fn until<T>(cluster: &Cluster, what: &str, look: impl FnMut(&Cluster) -> Option<T>) -> T {
    match timeout(minutes(5), cluster.until(look)).await {
        Ok(found) => found,
        Err(_) => panic!("never: {what}"),
    }
}

async fn node_gone(cluster: &Cluster, name: &str) {
    let look = |c: &Cluster| c.get::<Node>("", name).is_none().then_some(());
    until(cluster, "the node is gone", look).await;
}

fn told(cluster: &Cluster, reason: &str) -> usize {
    let events = cluster.list::<Event>(None);
    let told = events
        .iter()
        .filter(|e| e.reason.as_deref() == Some(reason));
    told.map(|e| e.series.as_ref().and_then(|s| s.count).unwrap_or(1))
        .map(|count| usize::try_from(count).unwrap())
        .sum()
}

fn on_node(world: &World, name: &str, node: &str) -> Pod {
    let mut pod = world.pod(name, "Always");
    pod.spec.as_mut().unwrap().node_name = Some(node.into());
    pod
}

fn nothing_stopped(world: &World) {
    let calls = world.remote.calls();
    let stopped = calls.iter().any(|c| matches!(c, Call::Stop(..)));
    assert!(!stopped, "{calls:?}");
}

/// The same node, and whatever `more` names.
fn set_nodes(world: &World, more: &[&str]) {
    let mut all = vec![world.node.as_str()];
    all.extend(more);
    world.remote.set_nodes(&all);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_pods_are_not_listed_yet_is_not_removed() {
    let (mut world, cluster) = world().await;
    set_nodes(&world, &["vk-second"]);
    world.create(&on_node(&world, "kept", "vk-second")).await;
    world.running("kept").await;
    world.stop().await;
    let slow = Rule::always("/api/v1/pods?", Effect::Latency(9000));
    cluster.faults().add(slow);
    world.start().await;
    sleep(Duration::from_millis(500)).await;
    set_nodes(&world, &[]);
    for _ in 0..120 {
        sleep(Duration::from_secs(1)).await;
        assert!(cluster.get::<Node>("", "vk-second").is_some());
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_the_set_goes_when_its_last_pod_does() {
    let (mut world, cluster) = world().await;
    set_nodes(&world, &["vk-second"]);
    let pod = world.create(&on_node(&world, "last", "vk-second")).await;
    world.running("last").await;
    set_nodes(&world, &[]);
    sleep(minutes(2)).await;
    let node = cluster.get::<Node>("", "vk-second").unwrap();
    assert!(
        node.status
            .unwrap()
            .allocatable
            .unwrap_or_default()
            .is_empty()
    );
    assert_eq!(phase(&world.pods().get("last").await.unwrap()), "Running");
    // The removal may fail at first.
    let refuse = Rule::always("/api/v1/nodes/vk-second", Effect::Status(500));
    cluster.faults().add(refuse.method("DELETE").times(3));
    world.delete("last", None).await;
    world.gone("last", &uid(&pod)).await;
    node_gone(&cluster, "vk-second").await;
    assert!(cluster.faults().rules().is_empty());
    sleep(minutes(2)).await;
    assert!(
        cluster.get::<Node>("", "vk-second").is_none(),
        "and stays away"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_node_left_the_set_while_we_were_away_is_still_served() {
    let (mut world, cluster) = world().await;
    let pod = world.create(&world.pod("stranded", "Always")).await;
    world.running("stranded").await;
    world.stop().await;
    world.remote.set_nodes(&["vk-other"]);
    let process = Process::start(&cluster, &world.remote, &world.clock, true, |_| {});
    sleep(minutes(5)).await;
    assert!(
        lease_age(&world, &cluster) <= 10,
        "its node has its heartbeat"
    );
    assert!(world.remote.runs(&uid(&pod)));
    world.delete("stranded", Some(30)).await;
    world.gone("stranded", &uid(&pod)).await;
    world.emptied().await;
    node_gone(&cluster, &world.node).await;
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_kept_node_is_told_once_and_waits() {
    let (mut world, cluster) = world().await;
    set_nodes(&world, &["vk-second"]);
    world.create(&on_node(&world, "first", "vk-second")).await;
    world.running("first").await;
    set_nodes(&world, &[]);
    world.create(&on_node(&world, "late", "vk-second")).await;
    sleep(minutes(10)).await;
    assert_eq!(told(&cluster, "NodeNotServed"), 1);
    set_nodes(&world, &["vk-second"]);
    let begun = tokio::time::Instant::now();
    world.running("late").await;
    assert!(begun.elapsed() < Duration::from_secs(2), "the node is back");
    world.stop().await;
}

fn outage() -> Outage {
    Outage {
        condition: ConditionFact {
            kind: "RemoteReachable".into(),
            status: Some(false),
            reason: "NoAnswer".into(),
            message: "not heard of since the start".into(),
        },
        taint: Taint {
            key: "remote/unreachable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        },
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_the_backend_is_away_keeps_nodes_and_pods() {
    let (mut world, cluster) = world().await;
    let pod = world.create(&world.pod("living", "Always")).await;
    world.running("living").await;
    sleep(Duration::from_secs(5)).await;
    world.stop().await;
    let before = world.pods().get("living").await.unwrap();
    let capacity = |c: &Cluster| {
        c.get::<Node>("", &world.node)
            .unwrap()
            .status
            .unwrap()
            .capacity
    };
    let size = capacity(&cluster);
    let process = Process::start(&cluster, &world.remote, &world.clock, false, |settings| {
        settings.outage = Some(outage());
    });
    let tainted = |c: &Cluster| {
        let taints = c.get::<Node>("", &world.node).unwrap().spec.unwrap().taints;
        taints
            .unwrap_or_default()
            .iter()
            .any(|t| t.key == "remote/unreachable")
    };
    sleep(Duration::from_secs(10)).await;
    assert!(!tainted(&cluster), "an ordinary start shows nothing");
    for _ in 0..600 {
        sleep(Duration::from_secs(1)).await;
        assert!(lease_age(&world, &cluster) <= 20);
        let node = cluster.get::<Node>("", &world.node).unwrap();
        assert_eq!(condition(&node, "Ready").as_deref(), Some("True"));
    }
    assert!(tainted(&cluster));
    let node = cluster.get::<Node>("", &world.node).unwrap();
    assert_eq!(
        condition(&node, "RemoteReachable").as_deref(),
        Some("False")
    );
    assert_eq!(capacity(&cluster), size);
    let touched = |writes: Vec<String>| -> Vec<String> {
        let pods = |write: &String| write.contains("/pods") || !write.contains('/');
        writes.into_iter().filter(pods).collect()
    };
    assert_eq!(touched(process.line.writes()), Vec::<String>::new());
    let after = world.pods().get("living").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        before.metadata.resource_version
    );

    process.backend.answers.send_replace(true);
    until(&cluster, "the taint goes", |c| (!tainted(c)).then_some(())).await;
    sleep(minutes(2)).await;
    assert!(world.remote.runs(&uid(&pod)));
    let after = world.pods().get("living").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        before.metadata.resource_version
    );
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_of_another_provider_are_not_served() {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let remote = Remote::new(world.clock.clone(), &["vk-mine"]);
    let other = |settings: &mut NodeSettings| settings.instance = "another".into();
    let process = Process::start(&cluster, &remote, &world.clock, true, other);
    sleep(minutes(2)).await;
    assert!(cluster.get::<Node>("", "vk-mine").is_some());
    assert!(lease_age(&world, &cluster) >= 120);
    assert!(
        cluster.get::<Node>("", &world.node).is_some(),
        "nor removed"
    );
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_the_same_name_is_left_alone() {
    let (mut world, cluster) = world().await;
    let machine: Node = serde_json::from_value(json!({"metadata": {"name": "worker-1",
        "labels": {"kubernetes.io/hostname": "worker-1"}}}))
    .unwrap();
    let machine = cluster.create(&machine).unwrap();
    world.create(&on_node(&world, "machines", "worker-1")).await;
    set_nodes(&world, &["worker-1"]);
    sleep(minutes(10)).await;
    let after = cluster.get::<Node>("", "worker-1").unwrap();
    assert_eq!(
        after.metadata.resource_version,
        machine.metadata.resource_version
    );
    assert!(
        cluster
            .get::<Lease>("kube-node-lease", "worker-1")
            .is_none()
    );
    assert_eq!(world.remote.ensures("machines"), 0);
    let said = told(&cluster, "NodeNameTaken");
    assert!(
        (5..=11).contains(&said),
        "said again, and not too often: {said}"
    );
    // Once it is gone, the name is free.
    cluster.delete::<Node>("", "worker-1", None).unwrap();
    world.running("machines").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn capacity_shows_within_two_seconds_and_a_deleted_node_is_back_with_its_pods() {
    let (mut world, cluster) = world().await;
    set_nodes(&world, &["vk-second"]);
    let pod = world.create(&on_node(&world, "stays", "vk-second")).await;
    world.running("stays").await;
    sleep(minutes(1)).await;
    set_nodes(&world, &[]);
    sleep(Duration::from_secs(2)).await;
    let allocatable = cluster
        .get::<Node>("", "vk-second")
        .unwrap()
        .status
        .unwrap()
        .allocatable;
    assert!(allocatable.unwrap_or_default().is_empty());
    set_nodes(&world, &["vk-second"]);
    sleep(Duration::from_secs(2)).await;
    let node = cluster.get::<Node>("", "vk-second").unwrap();
    assert!(
        !node
            .status
            .unwrap()
            .allocatable
            .unwrap_or_default()
            .is_empty()
    );

    cluster.delete::<Node>("", "vk-second", None).unwrap();
    sleep(Duration::from_secs(3)).await;
    let back = cluster.get::<Node>("", "vk-second").unwrap();
    assert_ne!(back.metadata.uid, node.metadata.uid);
    let owners = lease(&cluster, "vk-second")
        .metadata
        .owner_references
        .unwrap();
    assert_eq!(owners[0].uid, back.metadata.uid.unwrap());
    sleep(minutes(2)).await;
    assert!(world.remote.runs(&uid(&pod)));
    nothing_stopped(&world);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_api_server_does_not_cost_the_lease() {
    let (mut world, cluster) = world().await;
    sleep(Duration::from_secs(15)).await;
    cluster
        .faults()
        .add(Rule::always("", Effect::Latency(4000)));
    for i in 0..40 {
        world
            .create(&world.pod(&format!("load-{i}"), "Always"))
            .await;
        assert!(lease_age(&world, &cluster) < 30);
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_a_slow_api_server_does_not_cost_the_lease() {
    const BURST: usize = 500;
    let (mut world, cluster) = world().await;
    sleep(Duration::from_secs(15)).await;
    let slow = Rule::always("", Effect::Latency(2000));
    cluster.faults().add(slow);
    for number in 0..BURST {
        let mut pod = world.pod(&format!("burst-{number}"), "Always");
        pod.spec.as_mut().unwrap().containers[0].resources = None;
        cluster.create(&pod).unwrap();
    }
    let running = |cluster: &Cluster| {
        let pods = cluster.list::<Pod>(None);
        pods.iter().filter(|pod| phase(pod) == "Running").count()
    };
    let begun = tokio::time::Instant::now();
    while running(&cluster) < BURST {
        assert!(begun.elapsed() < minutes(5), "{} run", running(&cluster));
        sleep(Duration::from_secs(1)).await;
        assert!(lease_age(&world, &cluster) < 20);
    }
    world.stop().await;
}
