//! Calls to the backend, and what their answers mean.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vk_provider::{Admission, BackendError, Grace, PodChange, PodCx, PodKey, PodRequest};

use super::{Actor, QUICK, Say};
use crate::inputs::Seen;
use crate::plan::{Absence, View};
use crate::publish::PodJournal;
use crate::status::Waiting;
use crate::story;
use crate::table::{Failed, Record};

/// Deadline of `ensure`: a backend only has to hand the pod over.
const ENSURE_DEADLINE: Duration = Duration::from_secs(60);
/// Deadline of `stop` and `release`, for the same reason.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// One call of `ensure`.
struct Call {
    request: PodRequest,
    /// The fingerprint of the labels and annotations that the pod reads of itself.
    downward: Option<NonZeroU64>,
    /// The same of those that the backend reads.
    heeded: Option<NonZeroU64>,
    /// The backend has it, as far as is known.
    there: bool,
    cancel: CancellationToken,
}

impl Actor {
    pub(super) async fn admit(&self, key: &PodKey, view: &View) -> Say {
        let request = self
            .table
            .with(&key.uid, |record| request(record, PodChange::First));
        let Some(mut request) = request.flatten() else {
            return Say::Now;
        };
        request.inputs = self.inputs.before_gathering(key);
        let Some(desired) = &view.desired else {
            return Say::Now;
        };
        if desired.agent && !self.run_agents {
            self.leave(key);
            return Say::Now;
        }
        let decision = match self.inputs.excess(&request) {
            Some(message) => Admission::Reject {
                reason: "Unsupported".into(),
                message,
                event: None,
            },
            None => self.decide(&request).await,
        };
        match decision {
            Admission::Accept => return Say::Later,
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
                let event = event.as_deref().unwrap_or(&reason);
                self.events.for_pod(key).warning(event, &message);
                // The kubelet's words, which its event does not have.
                self.give_up(key, &reason, &format!("Pod was rejected: {message}"));
            }
            Admission::Wait { reason, message } => self.wait(key, &reason, &message, None),
        }
        Say::Now
    }

    pub(super) async fn ensure(&self, key: &PodKey, change: PodChange) -> Say {
        let Some(mut call) = self.begin(key, change) else {
            self.queue.mark(&key.uid);
            return Say::Now;
        };
        let cx = PodCx {
            events: self.events.for_pod(key),
            journal: Arc::new(PodJournal::new(self.publisher.clone(), key.clone())),
            cancel: call.cancel.clone(),
        };
        let answered = CancellationToken::new();
        let calling = async {
            let answer = tokio::select! {
                biased;
                () = cx.cancel.cancelled() => None,
                answer = self.call(&mut call, &cx) => Some(answer),
            };
            answered.cancel();
            answer
        };
        // Both are polled together: a call that holds one of the writer's
        // permits goes on while the status waits for one.
        let early_status = async {
            if timeout(QUICK, answered.cancelled()).await.is_err() {
                self.publish(key).await;
            }
        };
        let (answer, ()) = tokio::join!(calling, early_status);
        self.table.with(&key.uid, |record| record.in_flight = None);
        match answer {
            // Cancelled: the pod is wanted otherwise now, and is marked already.
            None => Say::Soon,
            Some((Ok(()), seen)) => {
                if !call.there
                    && let Some(created) = &call.request.pod.metadata.creation_timestamp
                {
                    self.metrics.pod_accepted(created.0, self.clock.now());
                }
                self.taken(&call, seen, &cx);
                // What has changed again meanwhile has marked the pod.
                Say::Soon
            }
            Some((Err(error), seen)) => {
                self.not_taken(key, change, &error, (call.downward, seen));
                Say::Now
            }
        }
    }

    /// What the backend is to be asked for, noted as under way; `None` if the pod is
    /// not wanted any more.
    fn begin(&self, key: &PodKey, change: PodChange) -> Option<Call> {
        let cancel = CancellationToken::new();
        let begun = self.table.with(&key.uid, |record| {
            // It may have been deleted since the plan; from here on that cancels.
            let wanted = record.desired.as_ref().filter(|d| d.deletion.is_none());
            let (downward, heeded) = (wanted?.downward, wanted?.heeded);
            let request = request(record, change)?;
            let there = record.accepted.is_some() || record.facts.is_some();
            record.in_flight = Some(cancel.clone());
            Some(Call {
                request,
                downward,
                heeded,
                there,
                cancel: cancel.clone(),
            })
        });
        begun.flatten()
    }

    /// Waits for what the pod refers to, and asks the backend; with what was seen
    /// of it.
    async fn call(
        &self,
        call: &mut Call,
        cx: &PodCx,
    ) -> (Result<(), BackendError>, Option<Box<Seen>>) {
        let gathered = self.inputs.gather(&call.request, call.downward).await;
        call.request.inputs = gathered.inputs.clone();
        let restarts = matches!(call.request.change, PodChange::Image | PodChange::Restart);
        if !call.there || restarts {
            self.tell_of_pull_secrets(&call.request, &gathered.unread_for_pulls);
        }
        let answer = match gathered.unread() {
            Some(error) if !call.there => Err(error.clone().into()),
            _ => timeout(ENSURE_DEADLINE, self.backend.ensure(&call.request, cx))
                .await
                .unwrap_or_else(|_| Err(late("ensure", ENSURE_DEADLINE))),
        };
        (answer, gathered.seen)
    }

    /// The backend has what was asked for.
    fn taken(&self, call: &Call, seen: Option<Box<Seen>>, cx: &PodCx) {
        let request = &call.request;
        let change = request.change;
        let news = self.table.with(&request.key.uid, |record| {
            record.waiting = None;
            record.reset_back_off();
            if change != PodChange::Metadata {
                record.given = seen;
            }
            if change == PodChange::Payload {
                return false;
            }
            record.heeded = call.heeded;
            if change == PodChange::Metadata {
                return false;
            }
            record.accepted = Some(request.spec_revision.clone());
            record.seen = Some(Instant::now());
            record.admitted = true;
            record.ensured = true;
            record.started(change == PodChange::Restart);
            record.stopping = None;
            record.stopped = false;
            let told = Some(request.spec_revision.clone());
            change == PodChange::Image && std::mem::replace(&mut record.told, told.clone()) != told
        });
        if news == Some(true) {
            for (reason, message) in story::replacing(&request.pod) {
                cx.events.normal(reason, &message);
            }
        }
    }

    /// The backend has not taken it, or could not be asked.
    fn not_taken(
        &self,
        key: &PodKey,
        change: PodChange,
        error: &BackendError,
        given: (Option<NonZeroU64>, Option<Box<Seen>>),
    ) {
        match error {
            BackendError::Rejected { reason, message } => self.refuse(key, reason, message),
            BackendError::Unsupported { .. } => {
                self.refuse(key, "Unsupported", &error.to_string());
            }
            BackendError::Waiting {
                reason,
                message,
                retry,
            } => self.wait(key, reason, message, *retry),
            BackendError::Inputs(error) => self.lacking(key, change, error, given),
            error => self.unavailable(key, "ensure", error),
        }
    }

    pub(super) async fn stop(&self, key: &PodKey, view: &View, grace: Duration) -> Say {
        if !self.is_gone(key, view, "stop").await {
            return Say::Now;
        }
        let first = view.stopping.is_none();
        let call = timeout(STOP_DEADLINE, self.backend.stop(key, grace)).await;
        match call.unwrap_or_else(|_| Err(late("stop", STOP_DEADLINE))) {
            Ok(()) => {
                self.table.with(&key.uid, |record| {
                    record.stop_taken(grace);
                });
                if first {
                    self.tell_killing(key, grace);
                }
                return Say::Soon;
            }
            Err(BackendError::NotFound) => {
                self.table.with(&key.uid, |record| {
                    record.stop_taken(grace);
                    record.stopped = true;
                });
            }
            Err(error) => {
                self.unavailable(key, "stop", &error);
                return Say::Now;
            }
        }
        self.queue.mark(&key.uid);
        Say::Now
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
                self.table.adopt(pod);
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
        let Some(Some(pod)) = self.table.with(&key.uid, |record| record.pod()) else {
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

    pub(super) async fn release(&self, key: &PodKey, view: &View) {
        if !self.is_gone(key, view, "release").await {
            return;
        }
        let call = timeout(STOP_DEADLINE, self.backend.release(key)).await;
        match call.unwrap_or_else(|_| Err(late("release", STOP_DEADLINE))) {
            Ok(()) | Err(BackendError::NotFound) => self.table.forget(&key.uid),
            Err(error) => self.unavailable(key, "release", &error),
        }
    }

    /// The backend will not have it. That is final, but for a pod of a DaemonSet:
    /// its controller would recreate it for ever.
    pub(super) fn refuse(&self, key: &PodKey, reason: &str, message: &str) {
        let daemon = |record: &mut Record| record.desired.as_ref().is_some_and(|d| d.daemon);
        if self.table.with(&key.uid, daemon) == Some(true) {
            self.wait(key, reason, message, None);
        } else {
            self.fail(key, reason, message);
        }
    }

    pub(super) fn fail(&self, key: &PodKey, reason: &str, message: &str) {
        self.events.for_pod(key).warning(reason, message);
        self.give_up(key, reason, message);
    }

    /// Failed, with this in its status.
    fn give_up(&self, key: &PodKey, reason: &str, message: &str) {
        warn!(pod = %key, reason, message, "pod failed");
        self.table.with(&key.uid, |record| {
            record.verdict = Some(Failed {
                reason: reason.into(),
                message: message.into(),
                ..Failed::default()
            });
            record.waiting = None;
            record.reset_back_off();
        });
        self.queue.mark(&key.uid);
    }

    /// It stays as it is, Pending and without a status of ours, until it is deleted.
    fn leave(&self, key: &PodKey) {
        info!(pod = %key, "an agent of the cluster's machines stays Pending");
        self.table.with(&key.uid, |record| record.left = true);
        self.events.for_pod(key).normal(
            "NotForThisNode",
            "This pod is made for machines with a kubelet (it mirrors a static pod, or its DaemonSet tolerates every taint), and this node is none: it stays Pending",
        );
    }

    fn wait(&self, key: &PodKey, reason: &str, message: &str, retry: Option<Duration>) {
        info!(pod = %key, reason, message, "pod waits");
        let news = self.table.with(&key.uid, |record| {
            let told = Some(Box::new(Waiting::for_all(reason, message)));
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
}

/// What Kubernetes wants of this pod now.
fn request(record: &Record, change: PodChange) -> Option<PodRequest> {
    let desired = record.desired.as_ref()?;
    Some(PodRequest {
        key: record.key.clone(),
        node: desired.node.clone(),
        pod: record.pod()?,
        spec_revision: desired.revision.clone(),
        change,
        journal: desired.journal.clone(),
        inputs: Default::default(),
    })
}

fn late(operation: &str, deadline: Duration) -> BackendError {
    BackendError::Unavailable {
        message: format!("{operation} got no answer within {} s", deadline.as_secs()),
        retry: None,
    }
}
