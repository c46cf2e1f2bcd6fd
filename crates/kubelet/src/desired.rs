//! What Kubernetes wants of one pod: a pure reading of the API object.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use vk_provider::quantity::{Resources, pod_requests};
use vk_provider::{Heeds, PodKey, Revision};

use crate::inputs;
use crate::status::resize;

/// The annotation that holds a backend's journal.
pub const JOURNAL_ANNOTATION: &str = "virtual-kubelet.io/journal";

/// Marks the image in the API of a pod that a kubelet runs from a file.
pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Kubernetes' own default, for a pod or a deletion that names no grace.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// One pod as Kubernetes wants it.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Identity.
    pub key: PodKey,
    /// `spec.nodeName`.
    pub node: Arc<str>,
    /// Fingerprint of the containers' spec.
    pub revision: Revision,
    /// The effective request, for the node's ledger.
    pub requests: Arc<Resources>,
    /// Set when the pod is being deleted: the grace it is given.
    pub deletion: Option<Duration>,
    /// The grace of its own, where nobody names another.
    pub grace: Duration,
    /// `status.startTime` plus `spec.activeDeadlineSeconds`.
    pub expires: Option<Timestamp>,
    /// `status.phase` is Succeeded or Failed.
    pub terminal: bool,
    /// Some container is known to have run.
    pub ran: bool,
    /// `spec.restartPolicy: Never`.
    pub at_most_once: bool,
    /// `spec.restartPolicy: Always`: no end of its containers ends it.
    pub always: bool,
    /// Belongs to a DaemonSet.
    pub daemon: bool,
    /// Mirrors a kubelet's static pod.
    pub mirror: bool,
    /// An agent of the cluster's machines (kube-proxy, a network plugin, a mirror pod).
    pub agent: bool,
    /// A fingerprint of its labels and annotations, where a volume shows them.
    pub downward: Option<NonZeroU64>,
    /// A fingerprint of what the backend reads of its metadata.
    pub heeded: Option<NonZeroU64>,
    /// `status.reason` of a pod that is Failed.
    pub failed_as: Option<Arc<str>>,
    /// That is a reason by which its controller is to replace it.
    pub replaced: bool,
    /// The journal.
    pub journal: Option<Arc<str>>,
}

impl Desired {
    /// Reads a pod; `None` for one without identity or node. What was wanted
    /// `before` with this very spec saves work where it is known: a fingerprint
    /// is expensive, and specs hardly ever change.
    pub fn after(pod: &Pod, before: Option<&Self>) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let meta = &pod.metadata;
        let deletion = meta.deletion_timestamp.as_ref().map(|_| {
            meta.deletion_grace_period_seconds
                .map_or(DEFAULT_GRACE, seconds)
        });
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        Some(Self {
            key: PodKey::of(pod)?,
            node: spec.node_name.as_deref()?.into(),
            revision: before.map_or_else(|| Revision::of(spec), |b| b.revision.clone()),
            requests: match before {
                Some(before) => before.requests.clone(),
                None => Arc::new(pod_requests(&*resize::as_started(pod)?)),
            },
            deletion,
            grace: spec
                .termination_grace_period_seconds
                .map_or(DEFAULT_GRACE, seconds),
            expires: expires(pod),
            terminal: matches!(phase, Some("Succeeded" | "Failed")),
            ran: ran(pod),
            at_most_once: spec.restart_policy.as_deref() == Some("Never"),
            always: spec.restart_policy.as_deref().unwrap_or("Always") == "Always",
            daemon: is_daemon(pod),
            mirror: is_mirror(pod),
            agent: is_agent(pod),
            downward: inputs::downward(pod),
            heeded: None,
            failed_as: failed_as(pod),
            replaced: false,
            journal: meta
                .annotations
                .as_ref()
                .and_then(|all| all.get(JOURNAL_ANNOTATION))
                .map(|text| text.as_str().into()),
        })
    }
}

/// A fingerprint of the labels and annotations of a pod that its backend reads;
/// `None` where it has none of them.
pub(crate) fn heeded(pod: &Pod, heeds: Heeds) -> Option<NonZeroU64> {
    let mut hash = DefaultHasher::new();
    let mut found = false;
    for (names, all) in [
        (heeds.labels, &pod.metadata.labels),
        (heeds.annotations, &pod.metadata.annotations),
    ] {
        for name in names {
            let value = all.as_ref().and_then(|all| all.get(*name));
            found |= value.is_some();
            value.hash(&mut hash);
        }
    }
    NonZeroU64::new(hash.finish() | 1).filter(|_| found)
}

fn failed_as(pod: &Pod) -> Option<Arc<str>> {
    let status = pod.status.as_ref()?;
    let failed = status.phase.as_deref() == Some("Failed");
    let reason = status.reason.as_deref().filter(|_| failed)?;
    Some(reason.into())
}

fn seconds(grace: i64) -> Duration {
    Duration::from_secs(grace.max(0).unsigned_abs())
}

/// Whether a DaemonSet would bring it back.
fn is_daemon(pod: &Pod) -> bool {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true))
}

/// Whether it only mirrors a pod that a kubelet runs from a file: deleting it
/// ends nothing.
fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(MIRROR_ANNOTATION))
}

/// An agent of the cluster's machines, such as kube-proxy or a network plugin: a
/// DaemonSet's pod that no `NoSchedule` taint keeps away, or the mirror of a
/// kubelet's static pod.
fn is_agent(pod: &Pod) -> bool {
    if is_mirror(pod) {
        return true;
    }
    let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    is_daemon(pod)
        && tolerations.into_iter().any(|t| {
            let all_keys = t.key.as_deref().unwrap_or_default().is_empty();
            let effect = t.effect.as_deref().unwrap_or_default();
            all_keys
                && t.operator.as_deref() == Some("Exists")
                && matches!(effect, "" | "NoSchedule")
        })
}

fn expires(pod: &Pod) -> Option<Timestamp> {
    let deadline = pod.spec.as_ref()?.active_deadline_seconds?;
    let started = pod.status.as_ref()?.start_time.as_ref()?.0;
    started
        .checked_add(SignedDuration::from_secs(deadline))
        .ok()
}

fn ran(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses)
        .flatten()
        .any(|c| {
            let now = c.state.as_ref();
            let last = c.last_state.as_ref();
            c.restart_count > 0
                || now.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
                || last.is_some_and(|s| s.terminated.is_some())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Toleration;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    fn daemon(key: Option<&str>, operator: &str, effect: Option<&str>) -> Pod {
        let mut pod = crate::table::tests::pod("a", "1");
        pod.metadata.owner_references = Some(vec![OwnerReference {
            kind: "DaemonSet".into(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        pod.spec.as_mut().unwrap().tolerations = Some(vec![Toleration {
            key: key.map(Into::into),
            operator: Some(operator.into()),
            effect: effect.map(Into::into),
            ..Toleration::default()
        }]);
        pod
    }

    #[test]
    fn an_agent_of_the_cluster_is_told_by_its_owner_and_its_tolerations() {
        assert!(is_agent(&daemon(None, "Exists", None)), "kube-proxy");
        assert!(is_agent(&daemon(None, "Exists", Some("NoSchedule"))), "CNI");
        assert!(!is_agent(&daemon(None, "Exists", Some("NoExecute"))));
        assert!(!is_agent(&daemon(Some("edge"), "Exists", None)));
        let mut alone = daemon(None, "Exists", None);
        alone.metadata.owner_references = None;
        assert!(!is_agent(&alone), "a user's own pod is what the user wants");
        let mirror = (MIRROR_ANNOTATION.to_owned(), "hash".to_owned());
        alone.metadata.annotations = Some([mirror].into());
        assert!(is_agent(&alone));
    }
}
