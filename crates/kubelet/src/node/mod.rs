//! One virtual node in Kubernetes: registered, kept as the backend's facts want
//! it, and registered again when someone deletes it.
//!
//! # Flow
//! A task per node follows its own Node object and the facts. Whatever wakes it,
//! it does the same: see whether the Node is ours to keep, and while this process
//! holds the lease (`lease`), create the Node if there is none, correct what is
//! ours in labels, annotations and taints, then correct the status, which is
//! written anyway every [`STATUS_EVERY`].
//!
//! # Guarantees
//! Labels, annotations, taints, conditions and resources of others are kept, and
//! `spec.unschedulable` is never written but by a drain. At the end the Node and
//! its Lease stay, unless a drain was asked for: Kubernetes must not evict what a
//! successor finds running. A Node of this name
//! that is a machine's is left alone.

mod difference;
mod object;
mod recorded;
mod register;
mod withheld;

#[cfg(test)]
mod declaring;
#[cfg(test)]
pub(crate) mod sandboxed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, Taint};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;
use vk_provider::node::ConditionFact;
use vk_provider::{Clock, NodeFacts};

use crate::events::Recorder;
use crate::leadership::Leadership;
use crate::lease::keep_lease;
use crate::metrics::Metrics;
pub use object::{INSTANCE, OWNED};
pub(crate) use recorded::{facts_of, instance};

/// The kubelet's `nodeStatusReportFrequency`: the lease is the heartbeat, the
/// status only carries news.
pub const STATUS_EVERY: Duration = Duration::from_secs(300);
/// Deadline of one call about a node. Several fit into the 40 s after which
/// Kubernetes removes pods of a node that does not exist.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// What all nodes of a provider share, and one node's name.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The Node's name.
    pub name: String,
    /// Short name of the provider: the value of the default taint.
    pub provider: String,
    /// Tells the nodes of this provider from those of others in the cluster, and
    /// is the same after a restart: recorded on each Node.
    pub instance: String,
    /// Tells this process from others that serve the same nodes; no two that are
    /// alive may have the same.
    pub identity: String,
    /// What a node shows that was found in Kubernetes while the backend does not
    /// say what nodes it has.
    pub outage: Option<Outage>,
    /// Appended to the API server's version: `vk-flightctl` makes
    /// `v1.36.3-vk-flightctl`. A whole version (`v1.0.0-orca`) stands as it is.
    pub version_suffix: String,
    /// What `kubectl get nodes` shows under ROLES; empty for none.
    pub role: String,
    /// The port of the kubelet API; without one `kubectl logs` is told that the
    /// node has none.
    pub listen_port: Option<i32>,
    /// Where the API server reaches that port: told as the first `InternalIP`, and
    /// no name with it that the API server would try before.
    pub address: Option<IpAddr>,
    /// Features of Kubernetes that the node declares (`status.declaredFeatures`),
    /// beside those that come with [`Settings::api`](crate::Settings::api). The
    /// list is the node's own: what else is in it is taken out. API servers before
    /// 1.35 know no such field and drop it.
    pub features: BTreeSet<String>,
    /// Taints beside the backend's.
    pub taints: Vec<Taint>,
    /// Run the agents of the cluster's machines too: mirrors of static pods, and
    /// pods of DaemonSets that tolerate every taint (kube-proxy, network
    /// plugins). Otherwise they stay Pending with one event: they are made for
    /// machines, and Failed ones would be made anew for ever.
    pub run_agents: bool,
    /// Where events about the node go, if anywhere.
    pub events: Option<Recorder>,
    /// Counters, if any.
    pub metrics: Option<Metrics>,
}

impl NodeSettings {
    /// Role `agent`, no port, and the taint that keeps ordinary pods away:
    /// `virtual-kubelet.io/provider=<provider>:NoSchedule`.
    pub fn new(provider: &str, version_suffix: &str) -> Self {
        Self {
            name: String::new(),
            provider: provider.into(),
            instance: provider.into(),
            identity: random_identity(),
            outage: None,
            version_suffix: version_suffix.into(),
            role: "agent".into(),
            listen_port: None,
            address: None,
            features: BTreeSet::new(),
            taints: vec![Taint {
                key: "virtual-kubelet.io/provider".into(),
                value: Some(provider.into()),
                effect: "NoSchedule".into(),
                time_added: None,
            }],
            run_agents: false,
            events: None,
            metrics: None,
        }
    }
}

/// What a node shows while its backend is not heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// Its condition; Ready stays as it is.
    pub condition: ConditionFact,
    /// Keeps new pods away.
    pub taint: Taint,
}

/// What is known of a node's registration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Registration {
    /// Not read yet.
    #[default]
    Unknown,
    /// There is no such Node.
    Absent,
    /// It is ours to keep, and has this UID.
    Ours(String),
    /// It is none of ours and is left alone.
    Foreign,
}

/// Hears all annotations of a node that are not ours.
pub(crate) type Heed = Arc<dyn Fn(&str, &BTreeMap<String, String>) + Send + Sync>;

/// One node to be kept; clones share what they tell.
#[derive(Clone)]
pub(crate) struct NodeTask {
    /// For the Node object.
    pub client: Client,
    /// For its lease: best a client of its own without automatic retries, so
    /// that nothing queues before a heartbeat.
    pub lease_client: Client,
    /// With the node's name.
    pub settings: NodeSettings,
    /// What the backend says of it.
    pub facts: watch::Receiver<NodeFacts>,
    /// Told how the Node stands.
    pub registration: watch::Sender<Registration>,
    /// Told when the Node may be gone, because its lease is: Kubernetes collects
    /// the one with the other, and the watch may have stalled.
    pub doubt: Arc<Notify>,
    /// Told what people annotate on the Node.
    pub heed: Heed,
    /// Told how the lease stands; asked before each write.
    pub leadership: Leadership,
    /// Time.
    pub clock: Clock,
}

impl std::fmt::Debug for NodeTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeTask")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl NodeTask {
    /// Keeps the Node registered until `stop`, while this process leads; it then
    /// stays as it is.
    pub(crate) async fn keep_registered(&self, stop: CancellationToken) {
        register::keep(self, stop).await;
    }

    /// Keeps its lease until `stop`; then gives it up.
    pub(crate) async fn keep_lease(&self, stop: CancellationToken) {
        keep_lease(self, stop).await;
    }
}

impl NodeSettings {
    /// What the Node tells as its addresses.
    pub(crate) fn addresses(&self, facts: &NodeFacts) -> Vec<NodeAddress> {
        object::addresses(self, facts)
    }

    /// The holder of this node's lease, when it is this process. It begins with
    /// the node's name, which is all that a kubelet writes.
    pub(crate) fn holder(&self) -> String {
        format!("{}_{}", self.name, self.identity)
    }
}

/// Another one in each process.
fn random_identity() -> String {
    use std::hash::{BuildHasher, Hasher};
    // Keyed from the system's random numbers.
    let hasher = std::hash::RandomState::new().build_hasher();
    format!("{:016x}", hasher.finish())
}

/// Why a node could not be removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    /// The API server refused or could not be reached.
    #[error("removing node {node}: {source}")]
    Api {
        /// The node.
        node: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("removing node {node}: no answer from the API server")]
    Late {
        /// The node.
        node: String,
    },
}

/// Deletes the Node, if it is one of ours; `false` if there is none or it is
/// someone else's. Its Lease goes with it, through its owner reference. End
/// [`NodeTask::keep_registered`] first: it would register the node again.
///
/// # Errors
/// The API server did not do it; may be repeated.
pub(crate) async fn remove_node(client: Client, name: &str) -> Result<bool, RemoveError> {
    match timeout(CALL_DEADLINE, remove(client, name)).await {
        Ok(Ok(removed)) => Ok(removed),
        Ok(Err(source)) => Err(RemoveError::Api {
            node: name.into(),
            source: Box::new(source),
        }),
        Err(_) => Err(RemoveError::Late { node: name.into() }),
    }
}

async fn remove(client: Client, name: &str) -> kube::Result<bool> {
    let api: Api<Node> = Api::all(client);
    let Some(node) = api.get_opt(name).await? else {
        return Ok(false);
    };
    let ours = node
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(OWNED));
    if !ours {
        info!(
            node = name,
            "the node was not registered by this program; left alone"
        );
        return Ok(false);
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: node.metadata.uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(true),
        // Gone, or already another one.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Status times have whole seconds in the API.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
