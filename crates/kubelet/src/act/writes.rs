//! Writes to Kubernetes about one pod: its status, our labels and annotations, its
//! final delete.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use tracing::{error, info, warn};
use vk_provider::{PodEvents, PodKey, Revision};

use super::Actor;
use crate::lean::LeanPod;
use crate::publish::{Marks, Written};
use crate::restart;
use crate::status::{self, PodVerdict, Waiting};
use crate::story;
use crate::table::{Record, Writes};

/// The object should be gone at once after its final delete; a finalizer may
/// keep it. Asked again after this, in case the answer or the watch was lost.
const DELETE_AGAIN: Duration = Duration::from_secs(30);
/// A write that Kubernetes refuses would be refused again; what it objects to
/// (a webhook, our permissions) may be mended meanwhile.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);

impl Actor {
    pub(super) async fn delete(&self, key: &PodKey) {
        if self.paused(key, |writes| writes.not_before) {
            return;
        }
        let _ahead = self.events.ahead();
        match self.publisher.delete(key).await {
            Written::Stored(_) => {
                info!(operation = "delete", pod = %key, "pod deleted");
                self.table.with(&key.uid, |record| {
                    record.retry_at = Some(Instant::now() + DELETE_AGAIN);
                });
                self.queue.mark_after(&key.uid, DELETE_AGAIN);
            }
            other => self.not_written(key, "final delete", other),
        }
    }

    /// Whether writes about this pod wait; then it is looked at again.
    fn paused(&self, key: &PodKey, until: impl FnOnce(&Writes) -> Option<Instant>) -> bool {
        let until = self.table.with(&key.uid, |record| until(&record.writes));
        let wait = until
            .flatten()
            .map(|at| at.saturating_duration_since(Instant::now()))
            .filter(|wait| !wait.is_zero());
        if let Some(wait) = wait {
            self.queue.mark_after(&key.uid, wait);
        }
        wait.is_some()
    }

    /// Writes status, labels and annotations where they differ from what Kubernetes
    /// has.
    pub(super) async fn publish(&self, key: &PodKey) {
        let Some(news) = self.news(key) else {
            return;
        };
        if news.status.is_none() && news.marks.is_empty() {
            self.table
                .with(&key.uid, |record| record.writes.nothing_left());
            return;
        }
        if self.paused(key, |writes| writes.not_before.max(writes.unkept_until)) {
            return;
        }
        if let Some(status) = news.status {
            self.metrics.status_patch();
            let _ahead = self.events.ahead();
            match self.publisher.status(key, &status.body).await {
                Written::Stored(pod) => {
                    status.tell(&*self.events.for_pod(key));
                    if let Some(created) = status.starts {
                        self.metrics.pod_started(created, self.clock.now());
                    }
                    self.stored(key, *pod);
                }
                other => self.not_written(key, "status", other),
            }
        }
        if !news.marks.is_empty() {
            match self.publisher.marks(key, &news.marks).await {
                Written::Stored(pod) => self.stored(key, *pod),
                other => self.not_written(key, "labels and annotations", other),
            }
        }
    }

    /// What Kubernetes does not show yet; `None` when nothing can be said. A pod
    /// may wait long for its turn to be written: it is not open meanwhile.
    fn news(&self, key: &PodKey) -> Option<News> {
        let restarts = self.backend.capabilities().restarts;
        let draft = self
            .table
            .with(&key.uid, |record| Draft::of(record, restarts))??;
        if !self.table.is_listed() && draft.facts.is_none() && draft.verdict == PodVerdict::None {
            // Right after a start: what runs is not known yet, so nothing is said.
            return None;
        }
        let now = self.clock.now();
        let mut want = status::compute_at(
            &draft.pod,
            Some(&draft.revision),
            draft.facts.as_deref(),
            &draft.verdict,
            draft.waiting.as_deref(),
            now,
        );
        let none = PodStatus::default();
        let have = draft.pod.status.as_ref().unwrap_or(&none);
        // What was sent once may be stored, though no answer said so.
        self.table.with(&key.uid, |record| {
            let started = have.start_time.clone().or(want.start_time.take());
            want.start_time = record.started_at.clone().or(started);
            record.started_at.clone_from(&want.start_time);
        });
        let body = status::patch(have, &want, key.uid.as_str());
        let starts = !story::running(have) && story::running(&want);
        let created = draft.pod.metadata.creation_timestamp.as_ref();
        Some(News {
            status: body.map(|body| StatusNews {
                // A JSON value is JSON.
                body: to_raw_value(&body).unwrap_or_default(),
                normal: story::started(have, &want),
                warnings: story::warnings(have, &want),
                starts: created.filter(|_| starts).map(|at| at.0),
            }),
            marks: draft.missing_marks(),
        })
    }

    fn stored(&self, key: &PodKey, pod: LeanPod) {
        let unkept = self.table.with(&key.uid, |record| record.writes.taken());
        if unkept == Some(true) {
            warn!(operation = "publish", pod = %key, "Kubernetes takes our writes and does not keep them; is a webhook or an older API server in the way?");
        }
        if self.table.refresh(pod).is_some() {
            self.queue.mark(&key.uid);
        }
    }

    fn not_written(&self, key: &PodKey, what: &str, outcome: Written) {
        let wait = match outcome {
            Written::Stored(_) => return,
            Written::Gone => {
                self.table.gone(&key.uid);
                return self.queue.mark(&key.uid);
            }
            Written::Refused { message } => {
                error!(operation = "publish", pod = %key, what, message, "Kubernetes refuses our write");
                REFUSED_AGAIN
            }
            Written::Failed { retry, message } => {
                warn!(operation = "publish", pod = %key, what, message, "write failed, repeating");
                retry
            }
        };
        let wait = self
            .table
            .with(&key.uid, |record| record.writes.pause(wait));
        self.queue.mark_after(&key.uid, wait.unwrap_or_default());
    }
}

/// What is to be written about a pod.
struct News {
    status: Option<StatusNews>,
    marks: Marks,
}

/// A status, and what else is to be told once it is stored.
struct StatusNews {
    body: Box<RawValue>,
    normal: Vec<(&'static str, String)>,
    warnings: Vec<(&'static str, String)>,
    /// The pod that starts with it was created then.
    starts: Option<Timestamp>,
}

impl StatusNews {
    fn tell(&self, events: &dyn PodEvents) {
        for (reason, message) in &self.normal {
            events.normal(reason, message);
        }
        for (reason, message) in &self.warnings {
            events.warning(reason, message);
        }
    }
}

/// What a status is computed from, taken out of the table in one go.
struct Draft {
    pod: Arc<Pod>,
    revision: Revision,
    facts: Option<Arc<vk_provider::PodFacts>>,
    verdict: PodVerdict,
    waiting: Option<Box<Waiting>>,
}

impl Draft {
    fn of(record: &Record, remote_restarts: bool) -> Option<Self> {
        let pod = record.pod()?;
        let desired = record.desired.as_ref()?;
        let deleting = desired.deletion.is_some();
        if record.left && !deleting {
            return None;
        }
        let verdict = record.verdict.as_ref().filter(|_| !record.is_withheld());
        let verdict = match (verdict, deleting) {
            (Some(failed), _) => PodVerdict::Failed {
                reason: failed.reason.clone(),
                message: failed.message.clone(),
                disruption: failed.disruption.clone(),
            },
            (None, true) => PodVerdict::Terminating {
                stopped: record.stopped,
            },
            (None, false) => PodVerdict::None,
        };
        let now = Instant::now();
        let due = verdict == PodVerdict::None && record.restart_wait(now).is_some();
        let facts = record.facts.clone().map(|facts| {
            if remote_restarts {
                return facts;
            }
            Arc::new(restart::shown(&facts, &record.rounds, due, now))
        });
        Some(Self {
            pod,
            revision: desired.revision.clone(),
            facts,
            verdict,
            waiting: record.waiting.clone(),
        })
    }

    /// Labels and annotations of the backend's that Kubernetes does not show so.
    fn missing_marks(&self) -> Marks {
        let Some(facts) = &self.facts else {
            return Marks::default();
        };
        let meta = &self.pod.metadata;
        let label = |name: &String| meta.labels.as_ref()?.get(name);
        let annotation = |name: &String| meta.annotations.as_ref()?.get(name);
        let labels = facts.labels.iter();
        let annotations = facts.annotations.iter();
        Marks {
            labels: labels
                .filter(|(name, value)| label(name) != Some(*value))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            annotations: annotations
                .filter(|(name, value)| annotation(name) != value.as_ref())
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}
