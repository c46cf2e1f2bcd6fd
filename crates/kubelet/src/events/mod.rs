//! Kubernetes events, on a lane of their own: bounded, sent one after another,
//! so that a flood of them never stands in the way of a status.
//!
//! # Flow
//! [`Recorder`] → bounded channel → `run_events` → `events.k8s.io/v1`.
//!
//! An event that repeats (same object, type, reason and text) within
//! [`SERIES`] becomes a series on the first one, as kubectl shows with `x3 over
//! 2m`. kube's own recorder is not used: it leaves the text out of that
//! comparison, so that of two containers started only one would be told, and it
//! cannot follow a stepped clock.
//!
//! # Caveats
//! Events are dropped, and counted, when the lane is full or the API server does
//! not take one. They are for people; nothing may depend on them.

mod series;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams, Request};
use kube::{Api, Client, Resource};
use serde::de::IgnoredAny;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};
use vk_provider::{Clock, PodEvents, PodKey, Uid};

use crate::leadership::Gate;
use crate::metrics::Metrics;
use crate::pace::named_pause;
pub use series::SERIES;
use series::{Outgoing, Series};

/// Events that may wait: what a burst of 5,000 pods tells, with room for its
/// end. Each takes some 400 bytes; they go out at several hundred a second.
const LANE: usize = 16_384;
/// A waiting event goes out at least this often, however many statuses are
/// written meanwhile: slow news of a flood, but news.
const AT_LEAST_EVERY: Duration = Duration::from_millis(100);
/// Deadline of one event: one that hangs must not hold up all others for long.
const SEND_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after the API server asked for one without naming a time.
const THROTTLED: Duration = Duration::from_secs(1);
/// Longest pause that is obeyed; the lane would overflow meanwhile anyway.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Something took place.
    Normal,
    /// Something may be wrong.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What is to be told, about which object.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    regarding: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    /// The node it is about; while another process serves that, it is not sent.
    node: Option<Arc<str>>,
}

/// Writes under way that go before events: the API server has as much time as
/// it has, and statuses are what people and controllers wait for.
#[derive(Debug, Default)]
struct Ahead {
    writes: AtomicUsize,
    none: Notify,
}

impl Ahead {
    async fn passed(&self) {
        let none_left = async {
            while self.writes.load(Ordering::Relaxed) > 0 {
                self.none.notified().await;
            }
        };
        let _ = timeout(AT_LEAST_EVERY, none_left).await;
    }
}

/// Held while a write goes before events.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Ahead>);

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.writes.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
    }
}

/// The sending end of the lane; clones share it.
#[derive(Clone)]
pub struct Recorder {
    lane: mpsc::Sender<Told>,
    ahead: Arc<Ahead>,
    metrics: Metrics,
    gate: Arc<OnceLock<Gate>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("free", &self.lane.capacity())
            .finish()
    }
}

/// The receiving end, for [`run_events`].
#[derive(Debug)]
pub(crate) struct Lane {
    told: mpsc::Receiver<Told>,
    ahead: Arc<Ahead>,
    gate: Arc<OnceLock<Gate>>,
}

impl Recorder {
    /// A recorder and the lane that [`run_events`] drains.
    pub(crate) fn new(metrics: Metrics) -> (Self, Lane) {
        Self::with_room(LANE, metrics)
    }

    fn with_room(events: usize, metrics: Metrics) -> (Self, Lane) {
        let (lane, told) = mpsc::channel(events);
        let ahead = Arc::<Ahead>::default();
        let gate = Arc::new(OnceLock::new());
        let recorder = Self {
            lane,
            ahead: ahead.clone(),
            metrics,
            gate: gate.clone(),
        };
        (recorder, Lane { told, ahead, gate })
    }

    /// A write that matters more than events goes out while this is held.
    pub(crate) fn ahead(&self) -> Hold {
        self.ahead.writes.fetch_add(1, Ordering::Relaxed);
        Hold(self.ahead.clone())
    }

    /// From now on only what this process may write is sent. The first gate stays.
    pub(crate) fn gated(&self, gate: Gate) {
        let _ = self.gate.set(gate);
    }

    /// A recorder together with the task that drains it; `controller` is what
    /// kubectl shows as the source. The task ends when the last clone is gone.
    /// Call it inside a runtime.
    pub fn start(client: Client, controller: &str, metrics: &Metrics, clock: Clock) -> Self {
        let (recorder, lane) = Self::new(metrics.clone());
        tokio::spawn(run_events(
            lane,
            client,
            controller.into(),
            metrics.clone(),
            clock,
        ));
        recorder
    }

    /// Events on one pod.
    pub fn for_pod(&self, key: &PodKey) -> Arc<dyn PodEvents> {
        Arc::new(On {
            recorder: self.clone(),
            node: About::Pod(key.uid.clone()),
            regarding: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                namespace: Some(key.namespace.to_string()),
                name: Some(key.name.to_string()),
                uid: Some(key.uid.to_string()),
                ..ObjectReference::default()
            },
        })
    }

    /// Events on one node. As the kubelet's they carry the node's name for its
    /// UID; kubectl looks for both.
    pub fn for_node(&self, name: &str) -> Arc<dyn PodEvents> {
        self.on_node(name, About::Node(name.into()))
    }

    /// Events on a node that this process does not serve, on why it does not.
    pub fn for_node_of_another(&self, name: &str) -> Arc<dyn PodEvents> {
        self.on_node(name, About::Another)
    }

    fn on_node(&self, name: &str, node: About) -> Arc<dyn PodEvents> {
        Arc::new(On {
            recorder: self.clone(),
            node,
            regarding: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(name.into()),
                uid: Some(name.into()),
                ..ObjectReference::default()
            },
        })
    }

    fn tell(&self, told: Told) {
        if self.lane.try_send(told).is_err() {
            self.metrics.event_dropped();
        }
    }
}

/// Whose events these are.
enum About {
    Pod(Uid),
    Node(Arc<str>),
    Another,
}

struct On {
    recorder: Recorder,
    node: About,
    regarding: ObjectReference,
}

impl On {
    fn tell(&self, severity: Severity, reason: &str, message: &str) {
        let node = match &self.node {
            About::Pod(uid) => self.recorder.gate.get().and_then(|g| g.node_of(uid)),
            About::Node(node) => Some(node.clone()),
            About::Another => None,
        };
        self.recorder.tell(Told {
            node,
            regarding: self.regarding.clone(),
            severity,
            reason: reason.into(),
            message: message.into(),
        });
    }
}

impl PodEvents for On {
    fn normal(&self, reason: &str, message: &str) {
        self.tell(Severity::Normal, reason, message);
    }

    fn warning(&self, reason: &str, message: &str) {
        self.tell(Severity::Warning, reason, message);
    }
}

/// Sends what comes on the lane, one after another, until the last recorder is
/// gone. `controller` is what kubectl shows as the source.
pub(crate) async fn run_events(
    mut lane: Lane,
    client: Client,
    controller: String,
    metrics: Metrics,
    clock: Clock,
) {
    let mut series = Series::new(&controller);
    while let Some(told) = lane.told.recv().await {
        if let (Some(gate), Some(node)) = (lane.gate.get(), &told.node)
            && !gate.node(node)
        {
            metrics.event_dropped();
            continue;
        }
        lane.ahead.passed().await;
        if let Some(pause) = send(&client, &mut series, &told, &metrics, &clock).await {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Sends one event, a second time if the first of its series is gone; returns
/// how long to leave the server alone.
async fn send(
    client: &Client,
    series: &mut Series,
    told: &Told,
    metrics: &Metrics,
    clock: &Clock,
) -> Option<Duration> {
    let namespace = told.regarding.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    for _attempt in 0..2 {
        let next = series.next(told, clock.now());
        let call = async {
            match &next {
                Outgoing::First(event) => create(client, namespace, event).await,
                Outgoing::Again { name, body } => api
                    .patch(name, &PatchParams::default(), &Patch::Merge(body))
                    .await
                    .map(drop),
            }
        };
        match timeout(SEND_DEADLINE, call).await {
            Ok(Ok(_)) => {
                series.sent(told, &next, clock.now());
                metrics.event_sent();
                return None;
            }
            // The API server has forgotten the first of the series.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 404 && matches!(next, Outgoing::Again { .. }) =>
            {
                series.forget(told);
            }
            Ok(Err(error)) => {
                metrics.api_error("event", &error);
                if let kube::Error::Api(status) = &error
                    && matches!(status.code, 429 | 503)
                {
                    metrics.event_dropped();
                    let pause = named_pause(&error).unwrap_or(THROTTLED);
                    return Some(pause.min(LONGEST_PAUSE));
                }
                // The namespace is on its way out; its events matter to nobody.
                debug!(reason = told.reason, %error, "event not stored");
                break;
            }
            Err(_) => {
                metrics.count_error("event", 0);
                warn!(reason = told.reason, "no answer to an event");
                break;
            }
        }
    }
    metrics.event_dropped();
    None
}

/// Creates an event without reading back what was stored.
async fn create(client: &Client, namespace: &str, event: &Event) -> kube::Result<()> {
    let body = serde_json::to_vec(event).map_err(kube::Error::SerdeError)?;
    let request = Request::new(Event::url_path(&(), Some(namespace)))
        .create(&PostParams::default(), body)
        .map_err(kube::Error::BuildRequest)?;
    client.request::<IgnoredAny>(request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::sandboxed::{client, start};
    use k8s_openapi::api::core::v1::Event as CoreEvent;
    use vk_sandbox::faults::{Effect, Rule};
    use vk_sandbox::kubernetes::Cluster;

    fn cluster() -> Cluster {
        Cluster::new(vk_sandbox::clock::Clock::stepped(start()))
    }

    fn recorder(cluster: &Cluster, metrics: &Metrics) -> Recorder {
        Recorder::start(client(cluster), "vk-test", metrics, Clock::stepped(start()))
    }

    async fn events(cluster: &Cluster, is: impl Fn(&[CoreEvent]) -> bool) -> Vec<CoreEvent> {
        let look = |c: &Cluster| Some(c.list::<CoreEvent>(Some("default"))).filter(|all| is(all));
        timeout(Duration::from_secs(600), cluster.until(look))
            .await
            .expect("the events come")
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_what_kubectl_describe_looks_for() {
        let (cluster, metrics) = (cluster(), Metrics::default());
        let pod = recorder(&cluster, &metrics).for_pod(&PodKey::new("default", "nginx", "u1"));
        pod.normal("Pulling", "Pulling image \"nginx\"");
        let event = events(&cluster, |all| !all.is_empty()).await.remove(0);
        assert_eq!(event.involved_object.kind.as_deref(), Some("Pod"));
        assert_eq!(event.involved_object.uid.as_deref(), Some("u1"));
        assert_eq!(event.reason.as_deref(), Some("Pulling"));
        assert_eq!(event.message.as_deref(), Some("Pulling image \"nginx\""));
        assert_eq!(event.type_.as_deref(), Some("Normal"));
        assert_eq!(event.reporting_component.as_deref(), Some("vk-test"));
        assert_eq!(event.event_time.unwrap().0, start());
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_count_up_on_one_event_until_it_is_gone() {
        let (cluster, metrics) = (cluster(), Metrics::default());
        let recorder = recorder(&cluster, &metrics);
        let pod = recorder.for_pod(&PodKey::new("default", "nginx", "u1"));
        for _ in 0..3 {
            pod.warning("BackOff", "waiting");
        }
        let count = |all: &[CoreEvent]| all.iter().filter_map(|e| e.series.as_ref()?.count).max();
        let all = events(&cluster, |all| count(all) == Some(3)).await;
        assert_eq!(all.len(), 1);
        let name = all[0].metadata.name.clone().unwrap();
        cluster.delete::<CoreEvent>("default", &name, None).unwrap();
        pod.warning("BackOff", "waiting");
        let all = events(&cluster, |all| !all.is_empty()).await;
        assert_ne!(all[0].metadata.name, Some(name));
    }

    #[tokio::test(start_paused = true)]
    async fn an_overflow_and_an_api_server_that_refuses_are_counted_and_hold_nobody_up() {
        const ROOM: usize = 64;
        let (cluster, metrics) = (cluster(), Metrics::default());
        let (recorder, lane) = Recorder::with_room(ROOM, metrics.clone());
        let (client, clock) = (client(&cluster), Clock::stepped(start()));
        tokio::spawn(run_events(
            lane,
            client,
            "vk-test".into(),
            metrics.clone(),
            clock,
        ));
        cluster
            .faults()
            .add(Rule::always("/events", Effect::TooManyRequests(5)).times(1));
        let pod = recorder.for_pod(&PodKey::new("default", "nginx", "u1"));
        for number in 0..ROOM + 10 {
            pod.normal("Flood", &number.to_string());
        }
        assert_eq!(metrics.events_dropped(), 10);
        let begun = tokio::time::Instant::now();
        events(&cluster, |all| all.len() == ROOM - 1).await;
        assert!(
            begun.elapsed() >= Duration::from_secs(5),
            "Retry-After is obeyed"
        );
        assert_eq!(metrics.events_dropped(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn events_let_writes_pass_but_not_for_ever() {
        let (cluster, metrics) = (cluster(), Metrics::default());
        let recorder = recorder(&cluster, &metrics);
        let pod = recorder.for_pod(&PodKey::new("default", "nginx", "u1"));
        let begun = tokio::time::Instant::now();
        let hold = recorder.ahead();
        pod.normal("First", "waits");
        pod.normal("Second", "waits");
        events(&cluster, |all| all.len() == 1).await;
        assert!(begun.elapsed() >= AT_LEAST_EVERY, "a write was under way");
        drop(hold);
        let freed = tokio::time::Instant::now();
        events(&cluster, |all| all.len() == 2).await;
        assert!(freed.elapsed() < AT_LEAST_EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_hangs_holds_the_next_up_for_its_deadline_only() {
        let (cluster, metrics) = (cluster(), Metrics::default());
        let recorder = recorder(&cluster, &metrics);
        cluster
            .faults()
            .add(Rule::always("/events", Effect::Latency(3_600_000)).times(1));
        let pod = recorder.for_pod(&PodKey::new("default", "nginx", "u1"));
        let begun = tokio::time::Instant::now();
        pod.normal("First", "hangs");
        pod.normal("Second", "comes");
        let all = events(&cluster, |all| !all.is_empty()).await;
        assert_eq!(all[0].reason.as_deref(), Some("Second"));
        assert!(begun.elapsed() < SEND_DEADLINE * 2);
    }
}
