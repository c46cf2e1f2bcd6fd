//! Writes about pods to Kubernetes: status, our own labels and annotations,
//! and the final delete. Each carries the pod's UID as precondition, so that
//! nothing ever lands on a successor of the same name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vk_provider::{BackendError, Journal, PodKey};

use crate::desired::JOURNAL_ANNOTATION;

/// Deadline of one write. The API server's own limit is a minute; a write that
/// takes longer than this is better repeated.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Wait after a write that failed, where the server names no time.
pub const WRITE_RETRY: Duration = Duration::from_secs(2);
/// Writes under way at once. Each holds a connection (HTTP/1.1), and beyond
/// some dozens an API server answers no faster.
const WRITES_AT_ONCE: usize = 32;

/// How a write ended.
#[derive(Debug)]
pub enum Written {
    /// Stored; the object as it is now.
    Stored(Box<Pod>),
    /// The pod of this UID is not there any more.
    Gone,
    /// The API server will never take this; a fault of ours.
    Refused(String),
    /// Not now.
    Failed {
        /// When to try again.
        retry: Duration,
        /// What happened.
        message: String,
    },
}

/// The writer; clones share its limit.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    permits: Arc<Semaphore>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Publisher {
    /// A writer over this client. Give it one without automatic retries:
    /// repeating is decided here.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            permits: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
        }
    }

    /// A strategic-merge patch of `pods/NAME/status`.
    pub async fn status(&self, key: &PodKey, body: &Value) -> Written {
        let (api, params) = (self.api(key), PatchParams::default());
        let patch = Patch::Strategic(body);
        self.bounded(api.patch_status(&key.name, &params, &patch))
            .await
    }

    /// A merge patch of labels and annotations of ours.
    pub async fn metadata(
        &self,
        key: &PodKey,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Written {
        let body = json!({"metadata": {
            "uid": key.uid.as_str(), "labels": labels, "annotations": annotations,
        }});
        let (api, params) = (self.api(key), PatchParams::default());
        self.bounded(api.patch(&key.name, &params, &Patch::Merge(&body)))
            .await
    }

    /// The kubelet's final delete: grace 0, this UID only.
    pub async fn delete(&self, key: &PodKey) -> Written {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(key.uid.to_string()),
                resource_version: None,
            }),
            ..Default::default()
        };
        let api = self.api(key);
        let call = async {
            let answer = api.delete(&key.name, &params).await?;
            Ok(answer.left().unwrap_or_default())
        };
        self.bounded(call).await
    }

    /// The pod of this name, if it still is the one of this UID.
    ///
    /// # Errors
    /// The API server did not answer; the text says why.
    pub async fn read(&self, key: &PodKey) -> Result<Option<Pod>, String> {
        match timeout(WRITE_DEADLINE, self.api(key).get_opt(&key.name)).await {
            Err(_) => Err("no answer from the API server".into()),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(pod)) => Ok(pod.filter(|p| p.metadata.uid.as_deref() == Some(key.uid.as_str()))),
        }
    }

    async fn bounded(&self, call: impl Future<Output = kube::Result<Pod>>) -> Written {
        let Ok(_permit) = self.permits.acquire().await else {
            return Written::Failed {
                retry: WRITE_RETRY,
                message: "shutting down".into(),
            };
        };
        match timeout(WRITE_DEADLINE, call).await {
            Ok(Ok(pod)) => Written::Stored(Box::new(pod)),
            Ok(Err(error)) => classify(&error),
            Err(_) => Written::Failed {
                retry: WRITE_RETRY,
                message: format!("no answer within {} s", WRITE_DEADLINE.as_secs()),
            },
        }
    }

    fn api(&self, key: &PodKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

fn classify(error: &kube::Error) -> Written {
    if let kube::Error::Api(status) = error {
        let details = status.details.as_ref();
        match status.code {
            404 => return Written::Gone,
            // The UID precondition: a successor has taken the name. A delete
            // answers it 409, a patch 422 about the immutable field. Any other
            // conflict is a race that the API server gave up on: repeated.
            409 if status.message.contains("UID in") => return Written::Gone,
            422 if status.message.contains("metadata.uid") => return Written::Gone,
            400 | 403 | 405 | 415 | 422 => return Written::Refused(status.message.clone()),
            _ => {
                let named = details.map_or(0, |d| u64::from(d.retry_after_seconds));
                let retry = if named > 0 {
                    Duration::from_secs(named)
                } else {
                    WRITE_RETRY
                };
                return Written::Failed {
                    retry,
                    message: status.message.clone(),
                };
            }
        }
    }
    Written::Failed {
        retry: WRITE_RETRY,
        message: error.to_string(),
    }
}

/// The journal of one pod, in an annotation.
#[derive(Debug)]
pub struct PodJournal {
    publisher: Publisher,
    key: PodKey,
}

impl PodJournal {
    /// The journal of this pod.
    pub fn new(publisher: Publisher, key: PodKey) -> Self {
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
        let annotations = BTreeMap::from([(JOURNAL_ANNOTATION.to_owned(), text.to_owned())]);
        match self
            .publisher
            .metadata(&self.key, &BTreeMap::new(), &annotations)
            .await
        {
            Written::Stored(_) => Ok(()),
            Written::Gone => Err(BackendError::NotFound),
            Written::Refused(message) => Err(BackendError::Unavailable {
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
