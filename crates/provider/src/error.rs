//! What a backend answers when it could not do what was asked.

use std::time::Duration;

use crate::rendered::RenderError;

/// One variant per decision the framework takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The remote does not have this pod. From `stop` and `release` that is the
    /// confirmed end: nothing of the pod runs there.
    #[error("not found at the remote")]
    NotFound,
    /// Final: this pod can never run here. The pod becomes Failed with this
    /// reason and message.
    #[error("{reason}: {message}")]
    Rejected {
        /// `status.reason`, one CamelCase word.
        reason: String,
        /// One sentence for people, naming the remedy.
        message: String,
    },
    /// Not now: the pod stays Pending and shows reason and message; the
    /// framework asks again after `retry`, or by its back-off (10 s to 5 min).
    #[error("{reason}: {message}")]
    Waiting {
        /// Waiting reason of the containers, one CamelCase word.
        reason: String,
        /// One sentence for people.
        message: String,
        /// When to ask again, if the backend knows better than the back-off.
        retry: Option<Duration>,
    },
    /// What the pod refers to is not there as it has to be: the pod stays Pending
    /// in the kubelet's words. Asked again at once when one of its objects
    /// changes, and by the back-off. After [`crate::PodChange::Payload`] it means
    /// that the files stay as they were, and only a change is told again.
    #[error("{0}")]
    Inputs(RenderError),
    /// The remote could not be asked, or its answer was lost: nothing is known
    /// to have happened or not happened. The pod's shown state does not change;
    /// the framework repeats the call.
    #[error("{message}")]
    Unavailable {
        /// What failed, for logs and events.
        message: String,
        /// When to ask again (a Retry-After), if known.
        retry: Option<Duration>,
    },
    /// A field of the pod that this backend cannot honour. The pod becomes
    /// Failed with reason `Unsupported`, the message names the field's path.
    #[error("{field} is not supported: {message}")]
    Unsupported {
        /// Path of the field, as `kubectl explain` spells it, with indices:
        /// `spec.containers[0].readinessProbe`.
        field: String,
        /// Why, and what to use instead.
        message: String,
    },
}
