//! Single calls, between which the table changes.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vk_provider::podspec::Declaration;
use vk_provider::{
    BackendError, Capabilities, Change, Grace, Heeds, InputNeeds, Listing, NodeSet, PodChange,
    PodCx, PodKey, PodRequest,
};
use vk_sandbox::kubernetes::Cluster;

use super::*;
use crate::inputs::{InputSettings, Parts, Store};
use crate::leadership::Leadership;
use crate::lean::LeanPod;
use crate::node::sandboxed::{client, start};
use crate::status::Waiting;
use crate::table::tests::pod;

static POD_SPEC: Declaration = Declaration::new(&[]);
static CAPABILITIES: Capabilities = Capabilities {
    name: "counting",
    grace: Grace::Exact,
    restarts: true,
    heeds: Heeds::NOTHING,
    pod_spec: &POD_SPEC,
    inputs: InputNeeds::NOTHING,
};

/// Takes everything and counts.
#[derive(Debug, Default)]
struct Counting(AtomicU32);

#[async_trait]
impl Backend for Counting {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        stream::pending().boxed()
    }

    async fn ensure(&self, _: &PodRequest, _: &PodCx) -> Result<(), BackendError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn stop(&self, _: &PodKey, _: Duration) -> Result<(), BackendError> {
        Ok(())
    }

    async fn release(&self, _: &PodKey) -> Result<(), BackendError> {
        Ok(())
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        std::future::pending().await
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        stream::pending().boxed()
    }
}

struct Bench {
    actor: Actor,
    backend: Arc<Counting>,
    leadership: Leadership,
    key: PodKey,
}

impl Bench {
    /// One pod that Kubernetes wants.
    fn new() -> Self {
        let client = client(&Cluster::new(vk_sandbox::clock::Clock::stepped(start())));
        let (clock, metrics) = (Clock::stepped(start()), Metrics::default());
        let table = Table::default();
        let leadership = Leadership::default();
        let gate = Gate::new(leadership.clone(), table.clone());
        let backend = Arc::new(Counting::default());
        let queue = Queue::default();
        let events = Recorder::start(client.clone(), "test", &metrics, clock.clone());
        let actor = Actor {
            inputs: Store::new(Parts {
                client: client.clone(),
                settings: InputSettings::default(),
                needs: InputNeeds::NOTHING,
                table: table.clone(),
                queue: queue.clone(),
                events: events.clone(),
                metrics: metrics.clone(),
            }),
            queue,
            publisher: Publisher::new(client, metrics.clone()),
            events,
            metrics,
            clock,
            nodes: Nodes::default(),
            gate,
            admission: Mutex::new(()),
            run_agents: false,
            backend: backend.clone(),
            table,
        };
        let pod = pod("a", "1");
        let key = PodKey::of(&pod).unwrap();
        actor.table.apply(LeanPod::of(&pod));
        Self {
            actor,
            backend,
            leadership,
            key,
        }
    }

    async fn ensure(&self) -> u32 {
        self.actor.ensure(&self.key, PodChange::First).await;
        self.backend.0.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_between_plan_and_call_is_not_begun() {
    let bench = Bench::new();
    let mut deleted = pod("a", "1");
    deleted.metadata.resource_version = Some("2".into());
    deleted.metadata.deletion_timestamp = Some(Time(start()));
    bench.actor.table.apply(LeanPod::of(&deleted));
    assert_eq!(bench.ensure().await, 0);
    assert_eq!(
        bench.actor.queue.next().await,
        bench.key.uid,
        "planned anew"
    );

    let bench = Bench::new();
    bench.actor.table.gone(&bench.key.uid);
    assert_eq!(bench.ensure().await, 0, "gone");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_begun_no_longer_waits_or_ends() {
    let bench = Bench::new();
    let record = |change: fn(&mut crate::table::Record) -> bool| {
        bench.actor.table.with(&bench.key.uid, change).unwrap()
    };
    record(|r| {
        r.waiting = Some(Box::new(Waiting::for_all("Full", "no room")));
        r.stop_taken(Duration::ZERO);
        r.stopped = true;
        true
    });
    assert_eq!(bench.ensure().await, 1);
    assert!(record(|r| r.waiting.is_none()));
    assert!(record(|r| r.stopping.is_none()));
    assert!(record(|r| !r.stopped));
}

/// A deleted pod that the remote no longer has is in no listing: only the queue
/// remembers that it is to be released.
#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_looked_at_again_when_its_node_may_be_written_for() {
    let bench = Bench::new();
    let _role = bench.leadership.contend("node");
    bench.actor.table.gone(&bench.key.uid);
    bench.actor.pass(&bench.key.uid).await;
    let again = timeout(2 * NOT_LEADING, bench.actor.queue.next()).await;
    assert_eq!(again.ok().as_ref(), Some(&bench.key.uid));
}

/// The answer to a write says that it is gone, before the watch does.
#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_not_begun_again_by_an_older_version_of_it() {
    for told in [crate::table::Table::gone, crate::table::Table::deleted] {
        let bench = Bench::new();
        told(&bench.actor.table, &bench.key.uid);
        let mut old = pod("a", "1");
        old.metadata.resource_version = Some("2".into());
        assert_eq!(bench.actor.table.apply(LeanPod::of(&old)), None);
        assert_eq!(bench.ensure().await, 0);
    }
}
