//! A process that is told to leave for good, in the sandbox.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "suite/sandboxed.rs"]
mod sandboxed;
mod suite;
// Beside the suite, which it needs.
#[path = "suite/process.rs"]
mod process;

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use process::Process;
use sandboxed::world;
use serde_json::json;
use suite::memory::Call;
use suite::world::{World, eventually, phase, uid};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use virtual_kubelet::{Drain, Shutdown};
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

const WITHIN: Duration = Duration::from_secs(120);

/// A world whose kubelet drains at its end, and the token that hastens it.
async fn draining() -> (World, Cluster, Process, CancellationToken) {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let at_once = CancellationToken::new();
    let shutdown = Shutdown::Drain(Drain {
        within: WITHIN,
        at_once: at_once.clone(),
    });
    let (remote, clock) = (&world.remote, &world.clock);
    let process = Process::start_ending(&cluster, remote, clock, true, shutdown, |_| {});
    (world, cluster, process, at_once)
}

fn node(world: &World, cluster: &Cluster) -> Option<Node> {
    cluster.get("", &world.node)
}

fn cordoned(world: &World, cluster: &Cluster) -> bool {
    let spec = node(world, cluster).unwrap().spec.unwrap();
    spec.unschedulable == Some(true)
}

fn lease(world: &World, cluster: &Cluster) -> Option<Lease> {
    cluster.get("kube-node-lease", &world.node)
}

fn evictions(rule: Effect) -> Rule {
    Rule::always("/eviction", rule).method("POST")
}

#[tokio::test(start_paused = true)]
async fn a_drain_evicts_the_pods_and_then_removes_node_lease_and_daemons() {
    let (world, cluster, process, _) = draining().await;
    let pod = world.create(&world.pod("bare", "Always")).await;
    world.running("bare").await;
    let mut daemon = json!({"metadata": {"name": "daemon", "namespace": "default"}, "spec": {
        "selector": {"matchLabels": {"app": "daemon"}},
        "template": suite::workloads::template(&world, "daemon")}});
    daemon["spec"]["template"]["spec"]["tolerations"] =
        json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
    let daemon: DaemonSet = serde_json::from_value(daemon).unwrap();
    cluster.create(&daemon).unwrap();
    let look = || async { world.labelled("app=daemon").await.pop() };
    let of_daemon = eventually("the daemon's pod is there", look).await;
    let name = of_daemon.metadata.name.clone().unwrap();
    world.running(&name).await;

    let line = process.line.clone();
    let before = line.writes().len();
    process.ended().await.unwrap();
    assert!(node(&world, &cluster).is_none());
    sleep(Duration::from_secs(60)).await;
    assert!(lease(&world, &cluster).is_none(), "it goes with its node");
    assert!(node(&world, &cluster).is_none(), "and both stay away");
    assert!(world.remote.is_empty(), "{:?}", world.remote);
    assert!(cluster.list::<Pod>(None).is_empty());
    let stopped = Call::Stop(pod.metadata.name.unwrap(), Duration::from_secs(30));
    assert!(world.remote.calls().contains(&stopped), "with its grace");

    let writes = line.writes().split_off(before);
    let at = |what: &str| {
        let found = writes.iter().position(|write| write == what);
        found.unwrap_or_else(|| panic!("no {what}: {writes:#?}"))
    };
    let (node, daemon) = (format!("/api/v1/nodes/{}", world.node), format!("/{name}"));
    let order = [
        at(&format!("PATCH {node}")),
        at("POST /api/v1/namespaces/default/pods/bare/eviction"),
        at("DELETE /api/v1/namespaces/default/pods/bare"),
        at(&format!("DELETE {node}")),
        at(&format!("DELETE /api/v1/namespaces/default/pods{daemon}")),
    ];
    assert!(order.is_sorted(), "{writes:#?}");
    let evicted = writes.iter().filter(|write| write.ends_with("/eviction"));
    assert_eq!(evicted.count(), 1, "daemons are not evicted: {writes:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_lets_go_later_is_waited_for() {
    let (world, cluster, process, _) = draining().await;
    world.create(&world.pod("guarded", "Always")).await;
    world.running("guarded").await;
    cluster
        .faults()
        .add(evictions(Effect::TooManyRequests(0)).times(4));
    let begun = Instant::now();
    process.ended().await.unwrap();
    let took = begun.elapsed().as_secs();
    assert!((20..30).contains(&took), "5 s between tries: {took} s");
    assert!(node(&world, &cluster).is_none());
    assert!(world.remote.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_never_lets_go_keeps_pod_and_node_and_is_told() {
    let (world, cluster, process, _) = draining().await;
    let pod = world.create(&world.pod("guarded", "Always")).await;
    world.running("guarded").await;
    let before = world.pods().get("guarded").await.unwrap();
    cluster.faults().add(evictions(Effect::TooManyRequests(0)));
    let begun = Instant::now();
    let undrained = process.ended().await.unwrap_err();
    let took = begun.elapsed();
    assert!(
        took >= WITHIN && took < WITHIN + Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!(undrained.nodes.len(), 1);
    let kept = &undrained.nodes[0];
    assert_eq!((&kept.node, kept.pods.len()), (&world.node, 1));
    let (key, why) = &kept.pods[0];
    assert_eq!(key.to_string(), "default/guarded");
    assert!(why.contains("(429)"), "{why}");
    assert!(
        undrained.to_string().contains("default/guarded"),
        "{undrained}"
    );
    assert!(cordoned(&world, &cluster));
    assert!(world.remote.runs(&uid(&pod)));
    let after = world.pods().get("guarded").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        before.metadata.resource_version
    );
    let holder = lease(&world, &cluster)
        .unwrap()
        .spec
        .unwrap()
        .holder_identity;
    assert_eq!(holder, None, "free for the next process");
}

#[tokio::test(start_paused = true)]
async fn a_node_is_kept_until_the_remote_has_let_its_last_pod_go() {
    let (world, cluster, process, _) = draining().await;
    let pod = world.create(&world.pod("slow", "Always")).await;
    world.running("slow").await;
    world.remote.hold_stops(true);
    let ending = tokio::spawn(process.ended());
    sleep(Duration::from_secs(60)).await;
    assert!(cordoned(&world, &cluster));
    let slow = world.pods().get("slow").await.unwrap();
    assert!(slow.metadata.deletion_timestamp.is_some());
    world.remote.exit(&uid(&pod), 0);
    ending.await.unwrap().unwrap();
    assert!(node(&world, &cluster).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_a_drain_at_once() {
    let (world, cluster, process, at_once) = draining().await;
    world.create(&world.pod("slow", "Always")).await;
    world.running("slow").await;
    world.remote.hold_stops(true);
    let ending = tokio::spawn(process.ended());
    sleep(Duration::from_secs(10)).await;
    assert!(!ending.is_finished());
    let begun = Instant::now();
    at_once.cancel();
    let undrained = ending.await.unwrap().unwrap_err();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(undrained.nodes[0].pods[0].1, "it is being deleted");
    assert!(node(&world, &cluster).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_cordoned_is_not_emptied() {
    let (world, cluster, process, _) = draining().await;
    let pod = world.create(&world.pod("here", "Always")).await;
    world.running("here").await;
    let refuse = Rule::always(
        &format!("/api/v1/nodes/{}", world.node),
        Effect::Status(403),
    );
    cluster.faults().add(refuse.method("PATCH"));
    let undrained = process.ended().await.unwrap_err();
    let why = undrained.nodes[0].why.as_deref().unwrap_or_default();
    assert!(why.contains("cordoned"), "{undrained}");
    assert!(world.remote.runs(&uid(&pod)));
    let here = world.pods().get("here").await.unwrap();
    assert_eq!(phase(&here), "Running");
    assert!(here.metadata.deletion_timestamp.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_standby_drains_nothing() {
    let (mut world, cluster) = world().await;
    let pod = world.create(&world.pod("others", "Always")).await;
    world.running("others").await;
    let shutdown = Shutdown::Drain(Drain {
        within: WITHIN,
        at_once: CancellationToken::new(),
    });
    let (remote, clock) = (&world.remote, &world.clock);
    let standby = Process::start_ending(&cluster, remote, clock, true, shutdown, |_| {});
    sleep(Duration::from_secs(30)).await;
    assert_eq!(standby.leadership.standby().len(), 1);
    let line = standby.line.clone();
    standby.ended().await.unwrap();
    let writes = line.writes();
    assert!(writes.iter().all(|w| w.contains("/events")), "{writes:?}");
    assert!(!cordoned(&world, &cluster));
    assert!(world.remote.runs(&uid(&pod)));
    world.stop().await;
}
