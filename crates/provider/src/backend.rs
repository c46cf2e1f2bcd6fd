//! The traits a backend implements, and what it is handed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, NodeUse, node_fit};
use crate::error::BackendError;
use crate::facts::{Change, Listing};
use crate::key::PodKey;
use crate::logs::Logs;
use crate::node::NodeSet;
use crate::podspec::Declaration;
use crate::request::PodRequest;
use crate::stats::Stats;
use crate::streams::{Attach, Exec, PortForward};

/// Runs pods somewhere else. One backend serves many nodes.
///
/// # Rules for every method
/// - Pods are keyed by UID; a name may come back with another UID at any time.
/// - Idempotent: the framework repeats any call, also after a restart.
/// - Never waits for a workload to run or end: accept, return, report later.
/// - Cancel-safe: the framework may drop the future (deadline, shutdown). What
///   was already sent may take effect; a repeat must find it and not do it twice.
/// - Bounds its own concurrency per remote place; thousands of calls may be
///   pending at once.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What this backend can do, for documentation, HTTP 501 and admission.
    fn capabilities(&self) -> &Capabilities;

    /// The nodes, now and whenever they change. A new set replaces the old one
    /// whole. Nothing is published before the backend has seen everything once.
    /// The stream ends only with the backend; one that ends before, or panics, is
    /// asked for again after a pause, and the last set holds meanwhile.
    fn nodes(&self) -> BoxStream<'static, NodeSet>;

    /// May this pod run? Pure: decides from its arguments and what the backend
    /// has cached, never asks the remote. Called again on every retry; not
    /// called for pods that the remote already has, nor for pods with fields that
    /// [`Capabilities::pod_spec`] refuses. Nothing that it refers to was read yet:
    /// [`PodRequest::inputs`] says whether tokens are withheld, and has none; what
    /// is missing there is no reason to refuse. The default is the kubelet's own
    /// rules.
    fn admit(&self, pod: &PodRequest, bound: &NodeUse) -> Admission {
        node_fit(pod, bound)
    }

    /// Brings the remote to this revision of the pod.
    ///
    /// `Ok` means *durably accepted there*: it will run even if this process
    /// dies now. Repeated for the same UID and revision it does nothing. With
    /// another revision the old containers end before the new ones start.
    ///
    /// # Errors
    /// See [`BackendError`]; all but `Rejected` and `Unsupported` are repeated
    /// by the framework. `NotFound` is not used here.
    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError>;

    /// Begins to end the pod's containers within `grace`. The end is observed:
    /// report facts that say [`crate::PodFacts::ended`], or answer `NotFound`
    /// from then on. Repeated with less grace it hurries, where the remote can.
    ///
    /// # Errors
    /// `NotFound`: it is certain that nothing of the pod runs at the remote and
    /// that no write of ours still under way can start it. `Unavailable`: repeated.
    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError>;

    /// The API object is gone and everything stopped: free what is left.
    ///
    /// # Errors
    /// `NotFound` counts as success. Others are repeated.
    async fn release(&self, pod: &PodKey) -> Result<(), BackendError>;

    /// Every pod of this backend at the remote, of all its nodes, those unknown
    /// to this process included.
    ///
    /// # Errors
    /// `Unavailable`; the framework asks again.
    async fn list(&self) -> Result<Listing, BackendError>;

    /// What is annotated on the Node object of one of its nodes: all annotations
    /// but those that the framework or the backend itself puts there. Told when the
    /// Node was first read after a start and whenever one changes; may be repeated,
    /// and is always all of it. Cheap, and no call to the remote: notes what it
    /// says. The default heeds nothing.
    fn heed(&self, _node: &str, _annotations: &BTreeMap<String, String>) {}

    /// Facts as they come. The stream ends only with the backend; one that ends
    /// before, or panics, is asked for again after a pause, and then all is listed.
    fn changes(&self) -> BoxStream<'static, Change>;

    /// Reads logs, where it can; without it `kubectl logs` is answered 501.
    fn logs(&self) -> Option<&dyn Logs> {
        None
    }

    /// Runs commands in containers, where it can; without it `kubectl exec` and
    /// `cp` are answered 501.
    fn exec(&self) -> Option<&dyn Exec> {
        None
    }

    /// Joins processes of containers, where it can; without it `kubectl attach`
    /// is answered 501.
    fn attach(&self) -> Option<&dyn Attach> {
        None
    }

    /// Connects to ports of pods, where it can; without it `kubectl port-forward`
    /// is answered 501.
    fn port_forward(&self) -> Option<&dyn PortForward> {
        None
    }

    /// Tells what pods use, where it can; without it `kubectl top` is answered
    /// 501.
    fn stats(&self) -> Option<&dyn Stats> {
        None
    }
}

/// What is handed to `ensure` beside the pod.
#[derive(Clone)]
pub struct PodCx {
    /// Events on the Pod object.
    pub events: Arc<dyn PodEvents>,
    /// The pod's journal.
    pub journal: Arc<dyn Journal>,
    /// Cancelled when the pod is no longer wanted or the process ends.
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for PodCx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodCx").finish_non_exhaustive()
    }
}

/// Kubernetes events on one pod. Never blocks; repeats are aggregated; under
/// load events are dropped before statuses are.
pub trait PodEvents: Send + Sync {
    /// `type: Normal`.
    fn normal(&self, reason: &str, message: &str);
    /// `type: Warning`.
    fn warning(&self, reason: &str, message: &str);
}

/// A few bytes that survive a restart: an annotation of ours on the Pod.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Replaces the journal, at most [`JOURNAL_LIMIT`] bytes. Returns when the
    /// API server has stored it; await it before the effect it describes.
    ///
    /// # Errors
    /// `Unavailable` when the API server did not take it, `NotFound` when the
    /// pod is gone.
    async fn persist(&self, text: &str) -> Result<(), BackendError>;
}

/// Largest journal in bytes: annotations of an object share 256 KiB, and a pod
/// is read by many.
pub const JOURNAL_LIMIT: usize = 4096;

/// What a backend can do, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Short name: the default taint's value and metric label (`flightctl`).
    pub name: &'static str,
    /// Whether `stop` can shorten a grace period that already runs.
    pub grace: Grace,
    /// The remote restarts containers by itself, by the pod's restart policy.
    /// Otherwise the framework asks for it ([`crate::PodChange::Restart`]) when
    /// everything of the pod has ended, in the kubelet's rhythm.
    pub restarts: bool,
    /// What is done with every field of a pod's spec.
    pub pod_spec: &'static Declaration,
    /// What is fetched for each pod.
    pub inputs: InputNeeds,
    /// What it reads of a pod's metadata.
    pub heeds: Heeds,
}

/// Names of labels and annotations by which people tell a backend something about
/// a pod. When one of them changes, `ensure` is called with
/// [`crate::PodChange::Metadata`]. A name that the backend itself writes does not
/// belong here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heeds {
    /// Labels.
    pub labels: &'static [&'static str],
    /// Annotations.
    pub annotations: &'static [&'static str],
    /// Every `reason` of a [`crate::Verdict::Fail`] with `replace`. A pod that is
    /// Failed with it is deleted, also by a process that did not see it fail.
    pub replaced: &'static [&'static str],
}

impl Heeds {
    /// Nothing beside the spec.
    pub const NOTHING: Self = Self {
        labels: &[],
        annotations: &[],
        replaced: &[],
    };
}

/// What a backend wants to find in [`PodRequest::inputs`]. What it does not want
/// is neither read nor watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputNeeds {
    /// ConfigMaps, Secrets and tokens that the pod names.
    pub objects: bool,
    /// The services it is linked to: where cluster addresses work.
    pub services: bool,
}

impl InputNeeds {
    /// Literal values alone: everything else is refused by the declaration.
    pub const NOTHING: Self = Self {
        objects: false,
        services: false,
    };
}

/// When a grace period is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Each `stop` is honoured with its own grace.
    Exact,
    /// The grace is fixed when the pod is started.
    AtStart,
}
