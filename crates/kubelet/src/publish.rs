//! Writes about pods to Kubernetes: status, our own labels and annotations,
//! and the final delete. Each carries the pod's UID as precondition, so that
//! nothing ever lands on a successor of the same name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, Request};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vk_provider::{BackendError, Journal, PodKey};

use crate::cause::chain;
use crate::desired::JOURNAL_ANNOTATION;
use crate::leadership::Gate;
use crate::lean::LeanPod;
use crate::metrics::Metrics;
use crate::pace::named_pause;

/// Deadline of one write. The API server's own limit is a minute; a write that
/// takes longer than this is better repeated.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Wait after a write that failed, where the server names no time.
pub(crate) const WRITE_RETRY: Duration = Duration::from_secs(2);
/// Wait after a write that was not made, because the node's lease is not held:
/// about when it should have been renewed again.
pub(crate) const NOT_LEADING: Duration = Duration::from_secs(5);
/// Writes under way at once. Over HTTP/1.1 each holds a connection, and beyond
/// some dozens an API server answers no faster.
const WRITES_AT_ONCE: usize = 32;
/// Stands for the HTTP status where none came.
const NO_ANSWER: u16 = 0;

/// Longest pause the server may name for one write; beyond, asking is better.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Written {
    /// Stored; the object as it is now, or nothing where it is gone by that.
    Stored(Box<LeanPod>),
    /// The pod of this UID is not there any more.
    Gone,
    /// The API server will never take this; a fault of ours.
    Refused {
        /// What it objects to.
        message: String,
    },
    /// Not now.
    Failed {
        /// When to try again.
        retry: Duration,
        /// What happened.
        message: String,
    },
}

/// Labels and annotations of ours as they are to be; `None` takes one away.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Marks {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, Option<String>>,
}

impl Marks {
    /// Nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// What a request was for, as its failure is counted.
mod operation {
    /// Status, marks and the final delete.
    pub(super) const PUBLISH: &str = "publish";
    /// The journal of a backend.
    pub(super) const JOURNAL: &str = "journal";
    /// A pod, to be sure of it.
    pub(super) const READ: &str = "read";
    /// A node, for the labels that others gave it.
    pub(super) const NODE_LABELS: &str = "node_labels";
}

/// The writer; clones share its limit. It counts what fails.
#[derive(Clone)]
pub(crate) struct Publisher {
    client: Client,
    metrics: Metrics,
    permits: Arc<Semaphore>,
    gate: Option<Gate>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Publisher {
    /// A writer over this client. Give it one without automatic retries:
    /// repeating is decided here.
    pub(crate) fn new(client: Client, metrics: Metrics) -> Self {
        Self {
            client,
            metrics,
            permits: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
            gate: None,
        }
    }

    /// The same, writing only what this process may.
    #[must_use]
    pub(crate) fn gated(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// A strategic-merge patch of `pods/NAME/status`.
    pub(crate) async fn status(&self, key: &PodKey, body: &RawValue) -> Written {
        let (api, params) = (self.api(key), PatchParams::default());
        let patch = Patch::Strategic(body);
        self.bounded(operation::PUBLISH, key, || {
            api.patch_status(&key.name, &params, &patch)
        })
        .await
    }

    /// A merge patch of labels and annotations of ours.
    pub(crate) async fn marks(&self, key: &PodKey, marks: &Marks) -> Written {
        let mut metadata = json!(marks);
        metadata["uid"] = key.uid.as_str().into();
        let body = json!({"metadata": metadata});
        self.merge(operation::PUBLISH, key, &body).await
    }

    /// A merge patch of the journal's annotation.
    async fn journal(&self, key: &PodKey, text: &str) -> Written {
        let annotations = json!({JOURNAL_ANNOTATION: text});
        let body = json!({"metadata": {"uid": key.uid.as_str(), "annotations": annotations}});
        self.merge(operation::JOURNAL, key, &body).await
    }

    async fn merge(&self, operation: &str, key: &PodKey, body: &Value) -> Written {
        let (api, params) = (self.api(key), PatchParams::default());
        let patch = Patch::Merge(body);
        self.bounded(operation, key, || api.patch(&key.name, &params, &patch))
            .await
    }

    /// The kubelet's final delete: grace 0, this UID only.
    pub(crate) async fn delete(&self, key: &PodKey) -> Written {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(key.uid.to_string()),
                resource_version: None,
            }),
            ..Default::default()
        };
        let path = Pod::url_path(&(), Some(&key.namespace));
        self.bounded(operation::PUBLISH, key, || async move {
            let request = Request::new(path).delete(&key.name, &params);
            let request = request.map_err(kube::Error::BuildRequest)?;
            // The answer shows what is gone.
            self.client.request::<IgnoredAny>(request).await?;
            Ok(LeanPod::default())
        })
        .await
    }

    /// The pod of this name, if it still is the one of this UID. `None` only
    /// when the API server itself says so: a proxy's 404 is an error.
    ///
    /// # Errors
    /// The API server did not answer; the text says why.
    pub(crate) async fn read(&self, key: &PodKey) -> Result<Option<LeanPod>, String> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err("shutting down".into());
        };
        self.read_now(key).await
    }

    /// All labels of a Node, as they are now.
    ///
    /// # Errors
    /// The API server did not answer, or has no such node; the text says why.
    pub(crate) async fn node_labels(&self, node: &str) -> Result<BTreeMap<String, String>, String> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err("shutting down".into());
        };
        let api: Api<Node> = Api::all(self.client.clone());
        let answer = timeout(WRITE_DEADLINE, Box::pin(api.get(node))).await;
        let node = answer.map_or_else(|_| Err(None), |read| read.map_err(Some));
        match node {
            Ok(node) => Ok(node.metadata.labels.unwrap_or_default()),
            Err(error) => Err(self.unread(operation::NODE_LABELS, error)),
        }
    }

    /// Boxed like all requests of kube's: see [`Self::bounded`].
    async fn read_now(&self, key: &PodKey) -> Result<Option<LeanPod>, String> {
        let api = self.api(key);
        let answer = timeout(WRITE_DEADLINE, Box::pin(api.get(&key.name))).await;
        match answer.map_or_else(|_| Err(None), |read| read.map_err(Some)) {
            Ok(pod) => Ok(Some(pod).filter(|pod| pod.key().is_some_and(|k| k.uid == key.uid))),
            Err(Some(kube::Error::Api(status)))
                if status.code == 404 && status.reason == "NotFound" =>
            {
                Ok(None)
            }
            Err(error) => Err(self.unread(operation::READ, error)),
        }
    }

    /// Counts a read that failed, with no error where no answer came in time,
    /// and says why.
    fn unread(&self, operation: &str, error: Option<kube::Error>) -> String {
        if let Some(error) = error {
            self.metrics.api_error(operation, &error);
            return error.to_string();
        }
        self.metrics.count_error(operation, NO_ANSWER);
        "no answer from the API server".into()
    }

    /// A call is made, and takes memory, when its turn has come: thousands may
    /// wait, and a request of kube's has several kilobytes.
    async fn bounded<F>(&self, operation: &str, key: &PodKey, call: impl FnOnce() -> F) -> Written
    where
        F: Future<Output = kube::Result<LeanPod>>,
    {
        let Ok(_permit) = self.permits.acquire().await else {
            return failed("shutting down".into());
        };
        if self.gate.as_ref().is_some_and(|gate| !gate.pod(&key.uid)) {
            return Written::Failed {
                retry: NOT_LEADING,
                message: "the lease of the pod's node is not held".into(),
            };
        }
        let (code, written) = match timeout(WRITE_DEADLINE, Box::pin(call())).await {
            Ok(Ok(pod)) => return Written::Stored(Box::new(pod)),
            Ok(Err(error)) => match classify(&error) {
                Ok(classified) => classified,
                Err(Doubt { code, message }) => match self.read_now(key).await {
                    Ok(None) => return Written::Gone,
                    Ok(Some(_)) => (code, failed(message)),
                    Err(then) => (code, failed(format!("{message}; then: {then}"))),
                },
            },
            Err(_) => {
                let message = format!("no answer within {} s", WRITE_DEADLINE.as_secs());
                (NO_ANSWER, failed(message))
            }
        };
        self.metrics.count_error(operation, code);
        written
    }

    fn api(&self, key: &PodKey) -> Api<LeanPod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

fn failed(message: String) -> Written {
    Written::Failed {
        retry: WRITE_RETRY,
        message,
    }
}

/// The pod may be gone. Believing that ends its workload, and a webhook's 409 or
/// a proxy's 404 says nothing of the kind, so it is asked for.
struct Doubt {
    code: u16,
    message: String,
}

/// What an error says of a write, and its code: the HTTP status or [`NO_ANSWER`].
fn classify(error: &kube::Error) -> Result<(u16, Written), Doubt> {
    let kube::Error::Api(status) = error else {
        return Ok((NO_ANSWER, failed(chain(error))));
    };
    let (code, message) = (status.code, status.message.clone());
    let written = match code {
        // The UID precondition: a successor has taken the name. A delete
        // answers it 409, a patch 422 about the immutable field.
        404 | 409 => return Err(Doubt { code, message }),
        422 if message.contains("metadata.uid") => return Err(Doubt { code, message }),
        400 | 403 | 405 | 415 | 422 => Written::Refused { message },
        _ => Written::Failed {
            retry: named_pause(error).map_or(WRITE_RETRY, |named| named.min(RETRY_AFTER_MAX)),
            message,
        },
    };
    Ok((code, written))
}

/// The journal of one pod, in an annotation.
#[derive(Debug)]
pub(crate) struct PodJournal {
    publisher: Publisher,
    key: PodKey,
}

impl PodJournal {
    /// The journal of this pod.
    pub(crate) fn new(publisher: Publisher, key: PodKey) -> Self {
        Self { publisher, key }
    }
}

#[async_trait]
impl Journal for PodJournal {
    async fn persist(&self, text: &str) -> Result<(), BackendError> {
        if text.len() > vk_provider::backend::JOURNAL_LIMIT {
            return Err(BackendError::Rejected {
                reason: "JournalTooLarge".into(),
                message: format!("the journal of {} has {} bytes", self.key, text.len()),
            });
        }
        match self.publisher.journal(&self.key, text).await {
            Written::Stored(_) => Ok(()),
            Written::Gone => Err(BackendError::NotFound),
            Written::Refused { message } => Err(BackendError::Unavailable {
                message,
                retry: None,
            }),
            Written::Failed { retry, message } => Err(BackendError::Unavailable {
                message,
                retry: Some(retry),
            }),
        }
    }
}
