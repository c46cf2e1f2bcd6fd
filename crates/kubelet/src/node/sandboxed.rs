//! A node and its lease against the sandbox's Kubernetes API, in paused time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::client::middleware::BaseUriLayer;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use vk_provider::node::ConditionFact;
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{Clock, NodeFacts};
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

use super::{NodeSettings, NodeTask, remove_node};
use crate::events::Recorder;
use crate::leadership::Leadership;
use crate::metrics::Metrics;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn client(cluster: &Cluster) -> Client {
    let http = HttpClient::builder(TokioExecutor::new())
        .build::<_, kube::client::Body>(cluster.endpoint().connector());
    let base = BaseUriLayer::new("http://sandbox".parse().unwrap());
    Client::new(base.layer(http), "default")
}

struct Bench {
    cluster: Cluster,
    clock: Clock,
    facts: watch::Sender<NodeFacts>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    metrics: Metrics,
    /// What was annotated, each time that it was told.
    heard: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
}

impl Bench {
    fn new() -> Self {
        let size = Resources::new().with("cpu", Amount::units(8));
        let facts = NodeFacts {
            capacity: size.clone(),
            allocatable: size,
            ..Default::default()
        };
        Self {
            cluster: Cluster::new(vk_sandbox::clock::Clock::stepped(start())),
            clock: Clock::stepped(start()),
            facts: watch::Sender::new(facts),
            stop: CancellationToken::new(),
            task: None,
            metrics: Metrics::default(),
            heard: Arc::default(),
        }
    }

    fn run(&mut self) {
        self.stop = CancellationToken::new();
        let events = Recorder::start(
            client(&self.cluster),
            "test",
            &self.metrics,
            self.clock.clone(),
        );
        let settings = NodeSettings {
            name: "vk-1".into(),
            events: Some(events),
            metrics: Some(self.metrics.clone()),
            ..NodeSettings::new("mock", "vk-mock")
        };
        let task = NodeTask {
            client: client(&self.cluster),
            lease_client: client(&self.cluster),
            settings,
            facts: self.facts.subscribe(),
            registration: watch::Sender::default(),
            doubt: Arc::default(),
            heed: {
                let heard = self.heard.clone();
                Arc::new(move |_, annotations| {
                    heard.lock().unwrap().push(annotations.clone());
                })
            },
            leadership: Leadership::default(),
            clock: self.clock.clone(),
        };
        let stop = self.stop.clone();
        self.task = Some(tokio::spawn(async move {
            tokio::join!(task.keep_registered(stop.clone()), task.keep_lease(stop));
        }));
    }

    async fn running() -> Self {
        let mut bench = Self::new();
        bench.run();
        bench.lease(|_| true).await;
        bench
    }

    async fn end(&mut self) {
        self.stop.cancel();
        let task = self.task.take().unwrap();
        timeout(Duration::from_secs(1), task)
            .await
            .expect("ends at once")
            .unwrap();
    }

    async fn node(&self, is: impl Fn(&Node) -> bool) -> Node {
        let look = |c: &Cluster| c.get::<Node>("", "vk-1").filter(&is);
        timeout(PATIENCE, self.cluster.until(look))
            .await
            .expect("the node becomes so")
    }

    /// The lease of the node, which then is registered.
    async fn lease(&self, is: impl Fn(&Lease) -> bool) -> Lease {
        let owned = |l: &Lease| l.metadata.owner_references.iter().flatten().count() == 1;
        let look = |c: &Cluster| {
            let lease = c.get::<Lease>("kube-node-lease", "vk-1")?;
            Some(lease).filter(owned).filter(&is)
        };
        timeout(PATIENCE, self.cluster.until(look))
            .await
            .expect("the lease becomes so")
    }

    fn fault(&self, rule: Rule) {
        self.cluster.faults().add(rule);
    }
}

fn uid(node: &Node) -> String {
    node.metadata.uid.clone().unwrap()
}

fn status_of(node: &Node, kind: &str) -> Option<String> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    Some(conditions.iter().find(|c| c.type_ == kind)?.status.clone())
}

fn renewed(lease: &Lease) -> Timestamp {
    lease.spec.as_ref().unwrap().renew_time.as_ref().unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_node_registers_with_its_lease() {
    let bench = Bench::running().await;
    let node = bench
        .node(|n| status_of(n, "Ready").as_deref() == Some("True"))
        .await;
    assert_eq!(
        node.status
            .as_ref()
            .unwrap()
            .node_info
            .as_ref()
            .unwrap()
            .kubelet_version,
        "v1.36.3-vk-mock"
    );
    let lease = bench.lease(|_| true).await;
    assert_eq!(
        lease.metadata.owner_references.as_ref().unwrap()[0].uid,
        uid(&node)
    );
    assert_eq!(
        lease.spec.as_ref().unwrap().lease_duration_seconds,
        Some(40)
    );
    assert!(
        bench
            .metrics
            .text()
            .contains("virtual_kubelet_registered_nodes 1")
    );
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_every_ten_seconds_and_nothing_else_is_written() {
    let bench = Bench::running().await;
    let first = renewed(&bench.lease(|_| true).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let version = bench.node(|_| true).await.metadata.resource_version;
    for tick in 1..=6 {
        let due = first + SignedDuration::from_secs(10 * tick);
        bench.lease(|l| renewed(l) == due).await;
    }
    assert_eq!(
        bench.node(|_| true).await.metadata.resource_version,
        version
    );
}

#[tokio::test(start_paused = true)]
async fn the_status_beats_every_five_minutes_without_moving_transitions() {
    let bench = Bench::running().await;
    let ready = |node: &Node| {
        let conditions = node.status.as_ref().unwrap().conditions.clone().unwrap();
        conditions.into_iter().find(|c| c.type_ == "Ready").unwrap()
    };
    let first = ready(&bench.node(|_| true).await);
    let later = bench
        .node(|n| ready(n).last_heartbeat_time != first.last_heartbeat_time)
        .await;
    let passed = ready(&later)
        .last_heartbeat_time
        .unwrap()
        .0
        .duration_since(first.last_heartbeat_time.unwrap().0);
    assert_eq!(passed.as_secs(), 300);
    assert_eq!(
        ready(&later).last_transition_time,
        first.last_transition_time
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_someone_deletes_is_back_at_once_and_its_lease_follows() {
    let bench = Bench::running().await;
    let old = bench.node(|_| true).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begun = tokio::time::Instant::now();
    bench.cluster.delete::<Node>("", "vk-1", None).unwrap();
    let new = bench.node(|n| n.metadata.uid != old.metadata.uid).await;
    bench
        .lease(|l| {
            l.metadata
                .owner_references
                .iter()
                .flatten()
                .any(|o| o.uid == uid(&new))
        })
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "took {:?}",
        begun.elapsed()
    );
    assert_eq!(status_of(&new, "Ready").as_deref(), Some("True"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_the_watch_missed_is_found_when_it_opens_again() {
    let bench = Bench::running().await;
    let old = bench.node(|_| true).await;
    bench.fault(Rule::always("/api/v1/nodes", Effect::WatchStall));
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.cluster.delete::<Node>("", "vk-1", None).unwrap();
    bench.cluster.compact();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        bench.cluster.get::<Node>("", "vk-1").is_none(),
        "the watch has stalled"
    );
    bench.cluster.faults().clear();
    bench.fault(Rule::always("/api/v1/nodes", Effect::WatchClose).times(1));
    bench.node(|n| n.metadata.uid != old.metadata.uid).await;
}

/// Kubernetes removes the pods of a missing node after 40 s.
#[tokio::test(start_paused = true)]
async fn a_deletion_behind_a_stalled_watch_is_found_when_the_lease_is_collected() {
    let bench = Bench::running().await;
    let old = bench.node(|_| true).await;
    bench.fault(Rule::always("/api/v1/nodes", Effect::WatchStall));
    let _collects = bench.cluster.start_controllers();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begun = tokio::time::Instant::now();
    bench.cluster.delete::<Node>("", "vk-1", None).unwrap();
    let new = bench.node(|n| n.metadata.uid != old.metadata.uid).await;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "took {:?}",
        begun.elapsed()
    );
    let owner = |l: &Lease| l.metadata.owner_references.as_ref().unwrap()[0].uid.clone();
    bench.lease(|l| owner(l) == uid(&new)).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_says_is_shown_and_what_others_wrote_stays() {
    let bench = Bench::running().await;
    let taint = json!({"key": "theirs", "effect": "NoExecute"});
    let ours =
        json!({"key": "virtual-kubelet.io/provider", "value": "mock", "effect": "NoSchedule"});
    bench
        .cluster
        .patch::<Node>(
            "",
            "vk-1",
            &json!({
                "metadata": {"labels": {"theirs": "1"}},
                "spec": {"unschedulable": true, "taints": [ours, taint]},
            }),
        )
        .unwrap();
    bench.facts.send_modify(|facts| {
        facts.labels.insert("fleet".into(), "a".into());
        facts.allocatable.set("cpu", Amount::units(6));
        facts.conditions.push(ConditionFact {
            kind: "RemoteReachable".into(),
            status: Some(false),
            reason: "RemoteTimeout".into(),
            message: "no answer".into(),
        });
    });
    let node = bench
        .node(|n| status_of(n, "RemoteReachable").is_some())
        .await;
    let labels = node.metadata.labels.as_ref().unwrap();
    assert_eq!((&*labels["fleet"], &*labels["theirs"]), ("a", "1"));
    let spec = node.spec.as_ref().unwrap();
    assert_eq!(spec.unschedulable, Some(true));
    assert!(
        spec.taints
            .as_ref()
            .unwrap()
            .iter()
            .any(|t| t.key == "theirs")
    );
    assert_eq!(
        node.status.as_ref().unwrap().allocatable.as_ref().unwrap()["cpu"].0,
        "6"
    );
    assert_eq!(
        status_of(&node, "Ready").as_deref(),
        Some("True"),
        "an outage is no reason to evict"
    );

    let told = |c: &Cluster| {
        let events = c.list::<k8s_openapi::api::core::v1::Event>(Some("default"));
        events
            .into_iter()
            .find(|e| e.reason.as_deref() == Some("RemoteTimeout"))
    };
    let event = timeout(PATIENCE, bench.cluster.until(told))
        .await
        .expect("the outage is told");
    assert_eq!(event.type_.as_deref(), Some("Warning"));

    bench.facts.send_modify(|facts| {
        facts.labels.clear();
        facts.conditions.clear();
    });
    let node = bench
        .node(|n| {
            status_of(n, "RemoteReachable").is_none()
                && !n.metadata.labels.as_ref().unwrap().contains_key("fleet")
        })
        .await;
    assert_eq!(node.metadata.labels.as_ref().unwrap()["theirs"], "1");
    // The record follows what is left.
    bench
        .node(|n| {
            !n.metadata.annotations.as_ref().unwrap()[super::OWNED].contains("RemoteReachable")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn not_ready_written_by_others_is_repaired() {
    let bench = Bench::running().await;
    let mut node = bench.node(|_| true).await;
    for condition in node.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.status = "Unknown".into();
    }
    bench.cluster.update_status(&node).unwrap();
    bench
        .node(|n| status_of(n, "Ready").as_deref() == Some("True"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_whose_answer_was_lost_is_found() {
    let mut bench = Bench::new();
    bench.fault(
        Rule::always("/api/v1/nodes", Effect::LoseAnswer)
            .method("POST")
            .times(1),
    );
    bench.run();
    bench.lease(|_| true).await;
    assert_eq!(bench.cluster.list::<Node>(None).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn registration_outlasts_an_api_server_that_cannot_answer_yet() {
    let mut bench = Bench::new();
    bench.fault(Rule::always("", Effect::Status(503)).times(20));
    bench.run();
    bench.lease(|_| true).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_hangs_or_conflicts_is_renewed_well_within_its_duration() {
    let bench = Bench::running().await;
    let first = renewed(&bench.lease(|_| true).await);
    let hang = Effect::Latency(600_000);
    bench.fault(Rule::always("/leases", hang).times(2));
    bench.lease(|l| renewed(l) > first).await;
    let passed = bench.clock.now().duration_since(first).as_secs();
    assert!(passed < 30, "took {passed} s");

    let theirs = bench
        .cluster
        .patch::<Lease>(
            "kube-node-lease",
            "vk-1",
            &json!({"metadata": {"annotations": {"theirs": "1"}}}),
        )
        .unwrap();
    let lease = bench.lease(|l| renewed(l) > renewed(&theirs)).await;
    assert!(
        renewed(&lease).duration_since(renewed(&theirs)).as_secs() <= 10,
        "a conflict costs no interval"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_someone_deletes_comes_back() {
    let bench = Bench::running().await;
    let old = bench.lease(|_| true).await;
    bench
        .cluster
        .delete::<Lease>("kube-node-lease", "vk-1", None)
        .unwrap();
    bench.lease(|l| l.metadata.uid != old.metadata.uid).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_leaves_node_and_lease_and_a_new_start_finds_them() {
    let mut bench = Bench::running().await;
    let before = bench.node(|_| true).await;
    bench.end().await;
    assert!(
        bench
            .metrics
            .text()
            .contains("virtual_kubelet_registered_nodes 0")
    );
    assert_eq!(uid(&bench.node(|_| true).await), uid(&before));
    let old = renewed(&bench.lease(|_| true).await);
    tokio::time::sleep(Duration::from_secs(30)).await;
    bench.run();
    bench.lease(|l| renewed(l) > old).await;
    let after = bench.node(|_| true).await;
    assert_eq!(uid(&after), uid(&before));
    assert_eq!(after.metadata.annotations, before.metadata.annotations);
}

#[tokio::test(start_paused = true)]
async fn only_nodes_of_ours_are_removed() {
    let mut bench = Bench::running().await;
    bench.end().await;
    let theirs: Node = serde_json::from_value(json!({"metadata": {"name": "real"}})).unwrap();
    bench.cluster.create(&theirs).unwrap();
    let client = client(&bench.cluster);
    assert!(!remove_node(client.clone(), "real").await.unwrap());
    assert!(remove_node(client.clone(), "vk-1").await.unwrap());
    assert!(!remove_node(client, "vk-1").await.unwrap());
    let left: Vec<_> = bench
        .cluster
        .list::<Node>(None)
        .into_iter()
        .map(|n| n.metadata.name.unwrap())
        .collect();
    assert_eq!(left, ["real"]);
}

/// Level-triggered: all of it at the start, and again when any of it changes.
#[tokio::test(start_paused = true)]
async fn what_people_annotate_on_the_node_is_told_and_what_is_ours_is_not() {
    let mut bench = Bench::new();
    bench.facts.send_modify(|facts| {
        facts.annotations.insert("fleet".into(), "a".into());
    });
    bench.run();
    let heard = |bench: &Bench| bench.heard.lock().unwrap().clone();
    bench.node(|_| true).await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(heard(&bench), [BTreeMap::new()], "once, through all writes");
    let of = |value: &str| BTreeMap::from([("resume".to_owned(), value.to_owned())]);
    for value in ["1", "2"] {
        let annotation = json!({"metadata": {"annotations": {"resume": value}}});
        bench
            .cluster
            .patch::<Node>("", "vk-1", &annotation)
            .unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(heard(&bench), [BTreeMap::new(), of("1"), of("2")]);
    bench.end().await;
    bench.run();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(heard(&bench)[3..], [of("2")], "the next process is told");
    // Someone deletes the Node: what was annotated went with it.
    bench.cluster.delete::<Node>("", "vk-1", None).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(heard(&bench)[4..], [BTreeMap::new()]);
    bench.end().await;
}
