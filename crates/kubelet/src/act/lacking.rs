//! Pods whose inputs are not there as they have to be, or have changed.

use std::num::NonZeroU64;

use tracing::info;
use vk_provider::{BackendError, PodChange, PodKey, PodRequest, PullCredentials, RenderError};

use super::Actor;
use crate::inputs::Seen;
use crate::plan::View;
use crate::status::{Shown, Waiting};

/// Event of a container that cannot be made (kubelet's `FailedToCreateContainer`).
const FAILED: &str = "Failed";

impl Actor {
    /// Lets go of what the pod needs no more; else whether it is out of date.
    pub(super) fn look_at_inputs(&self, key: &PodKey, view: &mut View) {
        if self.inputs.wants_nothing() {
            return;
        }
        let wanted = view.desired.as_ref();
        let needed = wanted.filter(|d| d.deletion.is_none() && !d.terminal && !view.failed);
        let Some(desired) = needed else {
            return self.inputs.let_go(&key.uid);
        };
        if !view.ensured {
            return;
        }
        let given = self.table.with(&key.uid, |record| record.given.clone());
        let now = self.inputs.seen(&key.uid, desired.downward);
        view.outdated = match (given.flatten(), now) {
            (Some(given), Some(now)) => given.is_outdated_by(&now),
            _ => false,
        };
    }

    /// Secrets for pulls that are not there, are none, or could not be read
    /// (`unread`): they stop nothing.
    pub(super) fn tell_of_pull_secrets(&self, request: &PodRequest, unread: &[String]) {
        if !self.backend.capabilities().inputs.objects {
            return;
        }
        let events = self.events.for_pod(&request.key);
        for warning in request.pull_credentials().warnings().iter().chain(unread) {
            events.warning(PullCredentials::REASON, warning);
        }
    }

    /// The pod cannot have what it refers to, as the kubelet tells it; `seen` is
    /// what was there, with these labels and annotations.
    pub(super) fn lacking(
        &self,
        key: &PodKey,
        change: PodChange,
        error: &RenderError,
        (downward, seen): (Option<NonZeroU64>, Option<Box<Seen>>),
    ) {
        let (reason, shown) = match error {
            RenderError::Volumes(_) => (RenderError::VOLUMES_REASON, Shown::Nowhere),
            RenderError::Container { name, .. } => {
                (RenderError::CONTAINER_REASON, Shown::By(name.clone()))
            }
            // A backend that does not use `From`.
            RenderError::Refused(refusal) => {
                let refusal = BackendError::from(refusal.clone());
                return self.refuse(key, "Unsupported", &refusal.to_string());
            }
        };
        let waiting = Waiting {
            reason: reason.into(),
            message: error.to_string(),
            shown,
            for_inputs: true,
        };
        info!(pod = %key, reason, why = waiting.message, "what the pod refers to is missing");
        if change == PodChange::Payload {
            // It runs on as it is. Only another change is worth another try.
            self.table.with(&key.uid, |record| record.given = seen);
            self.tell_lacking(key, error, &waiting.message);
            return self.queue.mark(&key.uid);
        }
        // An object may have come while the backend answered.
        let is_news = self.inputs.seen(&key.uid, downward) != seen.map(|seen| *seen);
        let untold = self.table.with(&key.uid, |record| {
            let untold = record.waiting.as_deref() != Some(&waiting);
            record.waiting = Some(Box::new(waiting.clone()));
            record.failed(None);
            if is_news {
                record.reset_back_off();
            }
            untold
        });
        if untold == Some(true) {
            self.tell_lacking(key, error, &waiting.message);
        }
        self.queue.mark(&key.uid);
    }

    fn tell_lacking(&self, key: &PodKey, error: &RenderError, message: &str) {
        let events = self.events.for_pod(key);
        match error {
            RenderError::Volumes(failed) => {
                for one in failed {
                    events.warning(RenderError::VOLUMES_REASON, &one.to_string());
                }
            }
            _ => events.warning(FAILED, &format!("Error: {message}")),
        }
    }
}
