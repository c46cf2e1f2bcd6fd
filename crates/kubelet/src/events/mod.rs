//! Kubernetes events, on a lane of their own: bounded, sent one after another,
//! so that a flood of them never stands in the way of a status.
//!
//! # Flow
//! [`Recorder`] → bounded channel → [`run_events`] → `events.k8s.io/v1`.
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
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};
use vk_provider::{Clock, PodEvents, PodKey};

use crate::metrics::Metrics;
use series::{Outgoing, Series};
pub use series::SERIES;

/// Events that may wait. A start of 500 pods tells about 2000; at 20 to 100 a
/// second the last of these is then half a minute late, later ones are noise.
const LANE: usize = 2048;
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
}

/// The sending end of the lane; clones share it.
#[derive(Clone)]
pub struct Recorder {
    lane: mpsc::Sender<Told>,
    metrics: Metrics,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("free", &self.lane.capacity()).finish()
    }
}

/// The receiving end, for [`run_events`].
#[derive(Debug)]
pub struct Lane(mpsc::Receiver<Told>);

impl Recorder {
    /// A recorder and the lane that [`run_events`] drains.
    pub fn new(metrics: Metrics) -> (Self, Lane) {
        let (lane, receiver) = mpsc::channel(LANE);
        (Self { lane, metrics }, Lane(receiver))
    }

    /// A recorder together with the task that drains it; `controller` is what
    /// kubectl shows as the source. The task ends when the last clone is gone.
    /// Call it inside a runtime.
    pub fn start(client: Client, controller: &str, metrics: &Metrics, clock: Clock) -> Self {
        let (recorder, lane) = Self::new(metrics.clone());
        tokio::spawn(run_events(lane, client, controller.into(), metrics.clone(), clock));
        recorder
    }

    /// Events on one pod.
    pub fn for_pod(&self, key: &PodKey) -> Arc<dyn PodEvents> {
        Arc::new(On {
            recorder: self.clone(),
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
        Arc::new(On {
            recorder: self.clone(),
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

struct On {
    recorder: Recorder,
    regarding: ObjectReference,
}

impl On {
    fn tell(&self, severity: Severity, reason: &str, message: &str) {
        self.recorder.tell(Told {
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
pub async fn run_events(mut lane: Lane, client: Client, controller: String, metrics: Metrics, clock: Clock) {
    let mut series = Series::new(&controller);
    while let Some(told) = lane.0.recv().await {
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
                Outgoing::First(event) => api.create(&PostParams::default(), event).await,
                Outgoing::Again { name, body } => {
                    api.patch(name, &PatchParams::default(), &Patch::Merge(body)).await
                }
            }
        };
        match timeout(SEND_DEADLINE, call).await {
            Ok(Ok(_)) => {
                series.sent(told, &next, clock.now());
                metrics.event_sent();
                return None;
            }
            // The API server has forgotten the first of the series.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && matches!(next, Outgoing::Again { .. }) => {
                series.forget(told);
            }
            Ok(Err(error)) => {
                metrics.api_error("event", &error);
                if let kube::Error::Api(status) = &error
                    && matches!(status.code, 429 | 503)
                {
                    metrics.event_dropped();
                    let named = status.details.as_ref().map_or(0, |d| u64::from(d.retry_after_seconds));
                    let pause = if named > 0 { Duration::from_secs(named) } else { THROTTLED };
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
