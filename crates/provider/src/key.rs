//! Identity of a pod.

use std::fmt;
use std::sync::Arc;

/// The UID of a Kubernetes object: the only identity that is never reused.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Arc<str>);

impl Uid {
    /// Wraps the text of `metadata.uid`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text of `metadata.uid`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod: its UID for programs, its namespace and name for people and URLs.
///
/// Shown as `namespace/name`. Two keys are equal when everything is equal; look
/// things up by [`PodKey::uid`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl PodKey {
    /// A key from the three texts.
    pub fn new(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            uid: Uid::new(uid),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an API object; `None` while it lacks a name, namespace or UID
    /// (an object that never passed the API server).
    pub fn of(pod: &k8s_openapi::api::core::v1::Pod) -> Option<Self> {
        let meta = &pod.metadata;
        Some(Self::new(
            meta.namespace.as_deref()?,
            meta.name.as_deref()?,
            meta.uid.as_deref()?,
        ))
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.uid)
    }
}
