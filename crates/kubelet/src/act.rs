//! Carries out the steps that [`crate::plan`] decides: one task per pod at
//! work, never two for one pod. Concurrency is bounded where it costs: by the
//! backend per remote place, by [`crate::publish`] towards Kubernetes.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use vk_provider::{
    Admission, Backend, BackendError, Clock, Grace, NodeFacts, NodeUse, PodChange, PodCx, PodKey,
    PodRequest, Uid,
};

use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::plan::{Absence, Step, View, plan};
use crate::publish::{PodJournal, Publisher, Written};
use crate::queue::Queue;
use crate::status::{self, PodVerdict};
use crate::story;
use crate::table::Table;

/// Deadline of `ensure`: a backend only has to hand the pod over.
const ENSURE_DEADLINE: Duration = Duration::from_secs(60);
/// Deadline of `stop` and `release`, for the same reason.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// An `ensure` that takes longer than this does not hold the first status back.
const QUICK: Duration = Duration::from_millis(500);
/// The object should be gone at once after its final delete; a finalizer may
/// keep it. Asked again after this, in case the answer or the watch was lost.
const DELETE_AGAIN: Duration = Duration::from_secs(30);
/// A pod came before its node's facts did.
const NODE_UNKNOWN: Duration = Duration::from_secs(1);
/// At shutdown, writes under way may finish within this; SIGTERM allows 5 s.
const DRAIN: Duration = Duration::from_secs(3);

/// The nodes that are served, with their present facts.
pub type Nodes = Arc<RwLock<HashMap<String, NodeFacts>>>;

/// Everything a step needs.
pub struct Actor {
    /// The state.
    pub table: Table,
    /// What to look at.
    pub queue: Queue,
    /// Writes to Kubernetes.
    pub publisher: Publisher,
    /// Events.
    pub events: Recorder,
    /// Counters.
    pub metrics: Metrics,
    /// Time.
    pub clock: Clock,
    /// Served nodes.
    pub nodes: Nodes,
    /// Admission is one at a time, so that two pods never share the last core.
    pub admission: Mutex<()>,
    /// The remote.
    pub backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actor")
            .field("pods", &self.table.len())
            .finish_non_exhaustive()
    }
}

/// Works the queue until `stop`; then lets writes under way finish, briefly.
pub async fn act(actor: Arc<Actor>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let uid = tokio::select! {
            () = stop.cancelled() => break,
            uid = actor.queue.next() => uid,
        };
        actor.metrics.set_queue_depth(actor.queue.len());
        let (actor, abort) = (actor.clone(), abort.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                pass = AssertUnwindSafe(actor.pass(&uid)).catch_unwind() => {
                    if pass.is_err() {
                        actor.panicked(&uid);
                    }
                }
            }
            actor.queue.done(&uid);
        });
    }
    tasks.close();
    if timeout(DRAIN, tasks.wait()).await.is_err() {
        abort.cancel();
    }
}

impl Actor {
    /// A fault in one call, ours or the backend's, must not end the pod's turn
    /// for ever: it is as if the backend had not answered.
    fn panicked(&self, uid: &Uid) {
        let key = self.table.with(uid, |record| {
            record.in_flight = None;
            record.key.clone()
        });
        let error = BackendError::Unavailable {
            message: "a call panicked".into(),
            retry: None,
        };
        if let Some(key) = key {
            self.unavailable(&key, "pass", &error);
        }
    }

    /// One look at one pod: the next step, then its status.
    async fn pass(&self, uid: &Uid) {
        let Some(view) = self.table.view(uid) else {
            return;
        };
        let Some(key) = self.table.with(uid, |record| record.key.clone()) else {
            return;
        };
        let started = Instant::now();
        let step = plan(&view);
        debug!(pod = %key, ?step, "planned");
        let name = step_name(&step);
        match step {
            Step::Idle => {}
            Step::Later(wait) => self.queue.mark_after(uid, wait),
            Step::Admit => self.admit(&key, &view),
            Step::Ensure(change) => self.ensure(&key, change).await,
            Step::Lost => self.fail(
                &key,
                "PodLost",
                "The remote no longer has this pod, and restartPolicy Never lets it run only once",
                None,
            ),
            Step::Stop(grace) => self.stop(&key, &view, grace).await,
            Step::Delete => self.delete(&key).await,
            Step::Release => self.release(&key, &view).await,
            Step::Forget => self.table.forget(uid),
        }
        if name != "idle" {
            self.metrics.observe_step(name, started.elapsed());
        }
        self.publish(&key).await;
    }

    fn admit(&self, key: &PodKey, view: &View) {
        let Some(request) = self.request(key, PodChange::First) else {
            return;
        };
        let Some(desired) = &view.desired else { return };
        let decision = {
            let _one_at_a_time = self
                .admission
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let node = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
            let Some(node) = node.get(&*desired.node) else {
                return self.queue.mark_after(&key.uid, NODE_UNKNOWN);
            };
            let bound = NodeUse {
                node: node.clone(),
                requested: self.table.requested(&desired.node),
            };
            let decision = self.backend.admit(&request, &bound);
            if decision == Admission::Accept {
                self.table.with(&key.uid, |record| {
                    record.admitted = true;
                    record.waiting = None;
                    record.reset_back_off();
                });
            }
            decision
        };
        match decision {
            Admission::Accept => self.queue.mark(&key.uid),
            // The controller would recreate it for ever.
            Admission::Reject {
                reason, message, ..
            } if desired.daemon => {
                self.wait(key, &reason, &message, None);
            }
            Admission::Reject {
                reason,
                message,
                event,
            } => {
                self.fail(key, &reason, &message, event.as_deref());
            }
            Admission::Wait { reason, message } => self.wait(key, &reason, &message, None),
        }
    }

    async fn ensure(&self, key: &PodKey, change: PodChange) {
        let Some(request) = self.request(key, change) else {
            return;
        };
        let cancel = CancellationToken::new();
        let cx = PodCx {
            events: self.events.for_pod(key),
            journal: Arc::new(PodJournal::new(self.publisher.clone(), key.clone())),
            cancel: cancel.clone(),
        };
        self.table
            .with(&key.uid, |record| record.in_flight = Some(cancel.clone()));
        let mut call = std::pin::pin!(timeout(ENSURE_DEADLINE, self.backend.ensure(&request, &cx)));
        let answer = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            answer = &mut call => Some(answer),
            () = tokio::time::sleep(QUICK) => {
                self.publish(key).await;
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => None,
                    answer = &mut call => Some(answer),
                }
            }
        };
        self.table.with(&key.uid, |record| record.in_flight = None);
        // Cancelled: the pod is wanted otherwise now, and is marked already.
        let Some(answer) = answer else { return };
        match answer.unwrap_or_else(|_| Err(late("ensure", ENSURE_DEADLINE))) {
            Ok(()) => {
                let now = self.clock.now();
                self.table.with(&key.uid, |record| {
                    record.accepted = Some(request.spec_revision.clone());
                    record.seen = now;
                    record.admitted = true;
                    record.ensured = true;
                    record.waiting = None;
                    record.stopping = None;
                    record.stopped = false;
                    record.reset_back_off();
                });
                // The image may have changed again meanwhile.
                self.queue.mark(&key.uid);
            }
            Err(BackendError::Rejected { reason, message }) => {
                self.fail(key, &reason, &message, None)
            }
            Err(error @ BackendError::Unsupported { .. }) => {
                self.fail(key, "Unsupported", &error.to_string(), None);
            }
            Err(BackendError::Waiting {
                reason,
                message,
                retry,
            }) => {
                self.wait(key, &reason, &message, retry);
            }
            Err(error) => self.unavailable(key, "ensure", &error),
        }
    }

    async fn stop(&self, key: &PodKey, view: &View, grace: Duration) {
        if !self.is_gone(key, view, "stop").await {
            return;
        }
        let first = view.stopping.is_none();
        let now = self.clock.now();
        let call = timeout(STOP_DEADLINE, self.backend.stop(key, grace)).await;
        match call.unwrap_or_else(|_| Err(late("stop", STOP_DEADLINE))) {
            Ok(()) => {
                self.table.with(&key.uid, |record| {
                    record.stopping = Some(grace);
                    record.seen = record.seen.max(now);
                    record.reset_back_off();
                });
                if first {
                    self.tell_killing(key, grace);
                }
            }
            Err(BackendError::NotFound) => {
                self.table.with(&key.uid, |record| {
                    record.stopping = Some(grace);
                    record.stopped = true;
                    record.reset_back_off();
                });
            }
            Err(error) => return self.unavailable(key, "stop", &error),
        }
        self.queue.mark(&key.uid);
    }

    /// Whether an orphan's pod is gone, asked of Kubernetes itself; otherwise it
    /// is planned again.
    async fn is_gone(&self, key: &PodKey, view: &View, operation: &str) -> bool {
        if view.desired.is_some() || !matches!(view.absence, Absence::Orphan { .. }) {
            return true;
        }
        match self.publisher.read(key).await {
            Ok(None) => {
                info!(pod = %key, uid = %key.uid, operation, "removing a workload whose pod is gone");
                return true;
            }
            Ok(Some(pod)) => {
                self.table.apply(Arc::new(pod));
                self.queue.mark(&key.uid);
            }
            Err(message) => {
                let error = BackendError::Unavailable {
                    message,
                    retry: None,
                };
                self.unavailable(key, operation, &error);
            }
        }
        false
    }

    fn tell_killing(&self, key: &PodKey, grace: Duration) {
        let Some(Some(pod)) = self.table.with(&key.uid, |record| record.api.clone()) else {
            return;
        };
        let events = self.events.for_pod(key);
        for (reason, message) in story::killing(&pod) {
            events.normal(reason, &message);
        }
        let own = pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds);
        let asked = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        if self.backend.capabilities().grace == Grace::AtStart
            && let Some(own) = own
            && asked < own
        {
            events.warning(
                "GracePeriodFixed",
                &format!("Stopping with the {own} s grace period the pod was started with; {asked} s cannot be honoured"),
            );
        }
    }

    async fn delete(&self, key: &PodKey) {
        match self.publisher.delete(key).await {
            Written::Stored(_) => {
                info!(operation = "delete", pod = %key, "pod deleted");
                self.table.with(&key.uid, |record| {
                    record.retry_at = Some(Instant::now() + DELETE_AGAIN);
                });
                self.queue.mark_after(&key.uid, DELETE_AGAIN);
            }
            Written::Gone => {
                self.table.gone(&key.uid);
                self.queue.mark(&key.uid);
            }
            Written::Refused(message) => {
                error!(operation = "delete", pod = %key, message, "Kubernetes refuses the final delete");
                self.queue.mark_after(&key.uid, DELETE_AGAIN);
            }
            Written::Failed { retry, message } => {
                warn!(operation = "delete", pod = %key, message, "final delete failed");
                self.queue.mark_after(&key.uid, retry);
            }
        }
    }

    async fn release(&self, key: &PodKey, view: &View) {
        if !self.is_gone(key, view, "release").await {
            return;
        }
        let call = timeout(STOP_DEADLINE, self.backend.release(key)).await;
        match call.unwrap_or_else(|_| Err(late("release", STOP_DEADLINE))) {
            Ok(()) | Err(BackendError::NotFound) => self.table.forget(&key.uid),
            Err(error) => self.unavailable(key, "release", &error),
        }
    }

    /// Writes status and labels where they differ from what Kubernetes has.
    async fn publish(&self, key: &PodKey) {
        let Some(Some(draft)) = self.table.with(&key.uid, |record| Draft::of(record)) else {
            return;
        };
        let listed = self.table.view(&key.uid).is_some_and(|view| view.listed);
        if !listed && draft.facts.is_none() && draft.verdict == PodVerdict::None {
            // Right after a start: what runs is not known yet, so nothing is said.
            return;
        }
        let waiting = draft
            .waiting
            .as_ref()
            .map(|(reason, message)| (reason.as_str(), message.as_str()));
        let now = self.clock.now();
        let want = status::compute(
            &draft.pod,
            draft.facts.as_deref(),
            &draft.verdict,
            waiting,
            now,
        );
        let have = draft.pod.status.clone().unwrap_or_default();
        if let Some(body) = status::patch(&have, &want, key.uid.as_str()) {
            self.metrics.status_patch();
            match self.publisher.status(key, &body).await {
                Written::Stored(pod) => {
                    let events = self.events.for_pod(key);
                    for (reason, message) in story::started(&have, &want) {
                        events.normal(reason, &message);
                    }
                    if !story::running(&have) && story::running(&want) {
                        self.metrics.pod_started(&draft.pod, now);
                    }
                    self.stored(key, *pod);
                }
                other => self.not_written(key, "status", other),
            }
        }
        self.publish_labels(key, &draft).await;
    }

    async fn publish_labels(&self, key: &PodKey, draft: &Draft) {
        let Some(facts) = &draft.facts else { return };
        let have = draft.pod.metadata.labels.as_ref();
        let missing: std::collections::BTreeMap<_, _> = facts
            .labels
            .iter()
            .filter(|(name, value)| have.and_then(|all| all.get(*name)) != Some(*value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if missing.is_empty() {
            return;
        }
        match self
            .publisher
            .metadata(key, &missing, &std::collections::BTreeMap::new())
            .await
        {
            Written::Stored(pod) => self.stored(key, *pod),
            other => self.not_written(key, "labels", other),
        }
    }

    fn stored(&self, key: &PodKey, pod: Pod) {
        if self.table.apply(Arc::new(pod)).is_some() {
            self.queue.mark(&key.uid);
        }
    }

    fn not_written(&self, key: &PodKey, what: &str, outcome: Written) {
        match outcome {
            Written::Stored(_) => {}
            Written::Gone => {
                self.table.gone(&key.uid);
                self.queue.mark(&key.uid);
            }
            Written::Refused(message) => {
                error!(operation = "publish", pod = %key, what, message, "Kubernetes refuses our write");
                self.metrics.api_refused();
                self.queue.mark_after(&key.uid, DELETE_AGAIN);
            }
            Written::Failed { retry, message } => {
                warn!(operation = "publish", pod = %key, what, message, "write failed, repeating");
                self.queue.mark_after(&key.uid, retry);
            }
        }
    }

    fn fail(&self, key: &PodKey, reason: &str, message: &str, event: Option<&str>) {
        warn!(pod = %key, reason, message, "pod failed");
        self.table.with(&key.uid, |record| {
            record.verdict = Some((reason.into(), message.into()));
            record.waiting = None;
            record.reset_back_off();
        });
        self.events
            .for_pod(key)
            .warning(event.unwrap_or(reason), message);
        self.queue.mark(&key.uid);
    }

    fn wait(&self, key: &PodKey, reason: &str, message: &str, retry: Option<Duration>) {
        info!(pod = %key, reason, message, "pod waits");
        let news = self.table.with(&key.uid, |record| {
            let told = Some((reason.to_owned(), message.to_owned()));
            let news = record.waiting != told;
            record.waiting = told;
            record.failed(retry);
            news
        });
        if news == Some(true) {
            self.events.for_pod(key).warning(reason, message);
        }
        self.queue.mark(&key.uid);
    }

    /// The remote could not be asked: nothing shown changes, the call is repeated.
    fn unavailable(&self, key: &PodKey, operation: &str, error: &BackendError) {
        warn!(operation, pod = %key, %error, "backend unavailable, repeating");
        let retry = match error {
            BackendError::Unavailable { retry, .. } => *retry,
            _ => None,
        };
        self.table.with(&key.uid, |record| record.failed(retry));
        self.events
            .for_pod(key)
            .warning("BackendUnavailable", &format!("{operation}: {error}"));
        self.queue.mark(&key.uid);
    }

    fn request(&self, key: &PodKey, change: PodChange) -> Option<PodRequest> {
        self.table.with(&key.uid, |record| {
            let desired = record.desired.as_ref()?;
            Some(PodRequest {
                key: record.key.clone(),
                node: desired.node.clone(),
                pod: record.api.clone()?,
                spec_revision: desired.revision.clone(),
                change,
                journal: desired.journal.clone(),
            })
        })?
    }
}

/// What a status is computed from, taken out of the table in one go.
struct Draft {
    pod: Arc<Pod>,
    facts: Option<Arc<vk_provider::PodFacts>>,
    verdict: PodVerdict,
    waiting: Option<(String, String)>,
}

impl Draft {
    fn of(record: &crate::table::Record) -> Option<Self> {
        let pod = record.api.clone()?;
        let deleting = record.desired.as_ref()?.deletion.is_some();
        let verdict = match (&record.verdict, deleting) {
            (Some((reason, message)), _) => PodVerdict::Failed {
                reason: reason.clone(),
                message: message.clone(),
            },
            (None, true) => PodVerdict::Terminating {
                stopped: record.stopped,
            },
            (None, false) => PodVerdict::None,
        };
        Some(Self {
            pod,
            facts: record.facts.clone(),
            verdict,
            waiting: record.waiting.clone(),
        })
    }
}

fn late(operation: &str, deadline: Duration) -> BackendError {
    BackendError::Unavailable {
        message: format!("{operation} got no answer within {} s", deadline.as_secs()),
        retry: None,
    }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Idle | Step::Later(_) => "idle",
        Step::Admit => "admit",
        Step::Ensure(_) => "ensure",
        Step::Lost => "lost",
        Step::Stop(_) => "stop",
        Step::Delete => "delete",
        Step::Release => "release",
        Step::Forget => "forget",
    }
}
