//! One call, as the framework makes it: from a Pod object, with a deadline, and
//! dropped at any moment.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::timeout;

use super::report::Halt;
use super::rule::Rule;
use crate::backend::{JOURNAL_LIMIT, Journal, PodEvents};
use crate::error::BackendError;
use crate::key::{PodKey, Uid};
use crate::request::{PodChange, PodRequest, Revision};

/// The framework's own deadline of a call.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// Journals outlive the process: they are on the Pod objects.
pub(super) type Journals = Arc<Mutex<HashMap<Uid, Arc<str>>>>;

/// A pod as the framework would ask for it.
pub(super) fn request(pod: &Pod, change: PodChange) -> Result<PodRequest, Halt> {
    let spec = pod.spec.as_ref();
    let (Some(key), Some(spec), Some(node)) = (
        PodKey::of(pod),
        spec,
        spec.and_then(|s| s.node_name.as_deref()),
    ) else {
        return Err(Halt::broken(
            Rule::FixtureKeepsItsWord,
            "pod() gives a pod with a namespace, a name, a spec and a node",
        ));
    };
    Ok(PodRequest {
        key,
        node: node.into(),
        spec_revision: Revision::of(spec),
        pod: Arc::new(pod.clone()),
        change,
        journal: None,
        inputs: Default::default(),
    })
}

/// The same pod, asked for again for another reason.
pub(super) fn again(pod: &PodRequest, change: PodChange) -> PodRequest {
    PodRequest {
        change,
        ..pod.clone()
    }
}

pub(super) async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> Result<T, Halt> {
    timeout(DEADLINE, call).await.map_err(|_| {
        Halt::broken(
            Rule::CallsReturn,
            format!("{what} did not return within {} s", DEADLINE.as_secs()),
        )
    })
}

/// Polls a call so many times and drops it; `Some` if it was done by then. The
/// framework's deadline drops it too.
pub(super) async fn cut<T>(call: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut call = std::pin::pin!(call);
    let mut left = polls;
    let polled = poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => {
            left = left.saturating_sub(1);
            match left {
                0 => Poll::Ready(None),
                _ => Poll::Pending,
            }
        }
    });
    timeout(DEADLINE, polled).await.ok().flatten()
}

/// Events that nobody reads.
pub(super) struct Unheard;

impl PodEvents for Unheard {
    fn normal(&self, _: &str, _: &str) {}
    fn warning(&self, _: &str, _: &str) {}
}

/// A journal that is handed to the next `ensure`.
pub(super) struct Remembered {
    pub(super) uid: Uid,
    pub(super) journals: Journals,
}

#[async_trait]
impl Journal for Remembered {
    async fn persist(&self, text: &str) -> Result<(), BackendError> {
        if text.len() > JOURNAL_LIMIT {
            return Err(BackendError::Rejected {
                reason: "JournalTooLarge".into(),
                message: format!("a journal has {JOURNAL_LIMIT} bytes at most"),
            });
        }
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        journals.insert(self.uid.clone(), text.into());
        Ok(())
    }
}
