//! What a backend says about its nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAddress, Taint};

use crate::quantity::Resources;

/// All nodes of a backend, by name. Only a complete view is ever published: a
/// node that is missing from it is meant to go.
pub type NodeSet = BTreeMap<String, NodeFacts>;

/// One node.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NodeFacts {
    /// All resources behind the node.
    pub capacity: Resources,
    /// What pods may request. Does not shrink as pods run: the scheduler
    /// subtracts their requests itself.
    pub allocatable: Resources,
    /// Labels beside the framework's own (`kubernetes.io/hostname|os|arch`,
    /// `type`, role).
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints. Those of others are kept.
    pub taints: Vec<Taint>,
    /// Addresses; the hostname is added by the framework.
    pub addresses: Vec<NodeAddress>,
    /// Conditions beside the kubelet's own.
    pub conditions: Vec<ConditionFact>,
    /// What `kubectl get nodes -o wide` shows.
    pub info: NodeInfo,
}

/// One condition of the backend's own; the framework keeps transition times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFact {
    /// CamelCase type.
    pub kind: String,
    /// `Some(true)`, `Some(false)`, or unknown.
    pub status: Option<bool>,
    /// CamelCase reason.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// `status.nodeInfo`, as far as a backend knows it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `linux`.
    pub operating_system: String,
    /// For people.
    pub os_image: String,
    /// Kernel release.
    pub kernel_version: String,
    /// `<runtime>://<version>`.
    pub container_runtime: String,
}
