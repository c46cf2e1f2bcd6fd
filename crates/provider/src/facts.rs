//! What a backend sees of a pod at the remote.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::key::PodKey;
use crate::request::Revision;

/// Everything known about one pod at one moment. Facts only: phase, conditions,
/// readiness gates, QoS, `startTime` and `observedGeneration` are computed by
/// the framework.
///
/// A pod that is to run elsewhere at the remote (its place is lost) keeps its
/// object: its facts then have neither `applied` nor `accepted`, are
/// [`Reach::Reachable`] (no place is left to be silent), and their containers are
/// [`ContainerState::Waiting`] without a reason. The framework calls
/// [`crate::Backend::ensure`] again and shows the pod Pending meanwhile; new
/// container IDs tell it that what ran has been replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Whose facts.
    pub key: PodKey,
    /// The node the pod was placed for, as the remote's marker says.
    pub node: Arc<str>,
    /// Rises with every newer observation of this pod in this process; the
    /// newest wins.
    pub seq: u64,
    /// The revision that these facts describe, once the remote has reached it;
    /// `None` while it is on its way.
    pub applied: Option<Revision>,
    /// The revision the remote was durably told to run, applied or not. `None`
    /// where the remote was told of none: then it has to be asked again.
    pub accepted: Option<Revision>,
    /// Whether the place where the pod runs answers.
    pub reach: Reach,
    /// Regular containers, by name; missing ones are unknown.
    pub containers: Vec<ContainerFact>,
    /// Init containers, by name.
    pub init: Vec<ContainerFact>,
    /// Addresses of the pod. Must be valid for `status.podIPs`.
    pub pod_ips: Vec<IpAddr>,
    /// Addresses of the machine the pod runs on.
    pub host_ips: Vec<IpAddr>,
    /// Labels for the Pod object, of the backend's own prefix only.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the Pod object, of the backend's own prefix only; `None`
    /// takes one away that is there. What is not named is left alone, so that a
    /// name that is no longer wanted stays in the facts, as `None`.
    pub annotations: BTreeMap<String, Option<String>>,
    /// A verdict of the backend on the whole pod.
    pub verdict: Option<Verdict>,
    /// The remote has confirmed that nothing of the pod runs and that nothing
    /// there will start it again (it completed, or a stop has taken effect).
    pub ended: bool,
}

impl PodFacts {
    /// Facts that say nothing yet but that the pod exists at the remote.
    pub fn new(key: PodKey, node: Arc<str>, seq: u64) -> Self {
        Self {
            key,
            node,
            seq,
            applied: None,
            accepted: None,
            reach: Reach::Reachable,
            containers: Vec::new(),
            init: Vec::new(),
            pod_ips: Vec::new(),
            host_ips: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            verdict: None,
            ended: false,
        }
    }
}

/// Whether the place where a pod runs can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It answers.
    Reachable,
    /// It does not; container facts are the last known ones.
    Unreachable {
        /// Since when the backend knows that it does not: the time at which the
        /// pod's Ready condition turned `Unknown`.
        since: Timestamp,
        /// One CamelCase word for the pod's Ready condition (`DeviceDisconnected`).
        reason: String,
        /// One sentence.
        message: String,
    },
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerFact {
    /// `name` of the container in the spec.
    pub name: String,
    /// Its state.
    pub state: ContainerState,
    /// How often the remote restarted it, where it counts.
    pub restarts: Option<i32>,
    /// Whether it is ready, where the remote can tell; `None` means *ready when
    /// running*.
    pub ready: Option<bool>,
    /// The last end before the present state.
    pub last: Option<Terminated>,
    /// `<runtime>://<id>`.
    pub container_id: Option<String>,
    /// Digest or ID of the image that really runs.
    pub image_id: Option<String>,
}

impl ContainerFact {
    /// A container in a state, all else unknown.
    pub fn new(name: &str, state: ContainerState) -> Self {
        Self {
            name: name.into(),
            state,
            restarts: None,
            ready: None,
            last: None,
            container_id: None,
            image_id: None,
        }
    }
}

/// State of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    /// The remote cannot tell.
    Unknown,
    /// It does not run yet.
    Waiting {
        /// A kubelet word: `ContainerCreating`, `ErrImagePull`, `CrashLoopBackOff` …
        reason: String,
        /// One sentence, may be empty.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when, where known.
        started_at: Option<Timestamp>,
    },
    /// It ended.
    Terminated(Terminated),
}

/// The end of a container.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Terminated {
    /// The exit code, where known. An unknown one is shown as the kubelet does:
    /// 137 with reason `ContainerStatusUnknown`.
    pub exit_code: Option<i32>,
    /// A kubelet word (`Completed`, `Error`, `OOMKilled`); empty to derive it
    /// from the exit code.
    pub reason: String,
    /// One sentence, may be empty.
    pub message: String,
    /// Start, where known.
    pub started_at: Option<Timestamp>,
    /// End, where known.
    pub finished_at: Option<Timestamp>,
}

/// What a backend asks for a pod as a whole. The first one that is told counts and
/// is not taken back by later facts: a `stop` that follows from it may be under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod is Failed and stays so; its workload is stopped at once.
    Fail {
        /// `status.reason`.
        reason: String,
        /// `status.message`.
        message: String,
        /// Where it ended by no fault of its own: `reason` of the condition
        /// `DisruptionTarget`, by which a Job's `podFailurePolicy` lets it pass.
        disruption: Option<String>,
        /// Nobody is to look at it: its controller is to replace it. Once the
        /// status is written and [`crate::Backend::stop`] was accepted (the
        /// workload is no longer part of what the remote is to run), the object is
        /// deleted with grace 0, without waiting for the end to be observed, as
        /// Kubernetes' pod garbage collector does it. So only where the workload
        /// cannot be reached and may run no more, or beside its replacement.
        /// After a restart of the process the framework goes on by the reason
        /// ([`crate::Heeds::replaced`]).
        replace: bool,
    },
    /// The pod has to leave, as by a kubelet's eviction: its containers get
    /// their grace, then it is Failed, reason `Evicted`, with the condition
    /// `DisruptionTarget`; its object stays until someone deletes it.
    Evict {
        /// `reason` of that condition; empty for the kubelet's
        /// `TerminationByKubelet`.
        reason: String,
        /// `status.message`.
        message: String,
    },
}

/// A hint or a report from the backend; may be lost, repeated or reordered.
#[derive(Clone, Debug)]
pub enum Change {
    /// New facts of one pod.
    Facts(Box<PodFacts>),
    /// Something about this pod changed that is not facts (capacity came free,
    /// it is gone): plan it again.
    Look(PodKey),
    /// The backend lost track: list again.
    Resync,
}

/// All pods of a backend.
#[derive(Clone, Debug)]
pub struct Listing {
    /// One entry per pod that exists at the remote.
    pub pods: Vec<PodFacts>,
    /// Every place was asked and answered; only then does absence mean anything.
    pub complete: bool,
    /// The remote's state is not older than this. A cache that was filled
    /// before the call started must say so. On the clock that nobody sets: a
    /// wall clock that jumps would let an old listing deny what is there.
    pub as_of: Instant,
}
