//! The Node object as it should be. Pure. [`super::difference`] leads there from
//! the one that is.
//!
//! Labels, annotations, taints, conditions and resources of others are kept.
//! What is ours is recorded in the annotation [`OWNED`], so that what a backend
//! no longer says can be taken away again without touching anyone else's.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use vk_provider::NodeFacts;
use vk_provider::quantity::Resources;

use super::NodeSettings;

/// The annotation that names what is ours on a Node; a Node without it is not.
pub const OWNED: &str = "virtual-kubelet.io/owned";
/// The annotation that names the provider whose Node it is: see
/// [`NodeSettings::instance`].
pub const INSTANCE: &str = "virtual-kubelet.io/instance";
/// The label of every virtual node, whoever made it, and its value.
pub(super) const VIRTUAL: (&str, &str) = ("type", "virtual-kubelet");
/// The API's limit on a label's value.
const LABEL_LIMIT: usize = 63;

/// What is ours on a Node beside what only a kubelet writes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Owned {
    pub(super) labels: BTreeSet<String>,
    pub(super) annotations: BTreeSet<String>,
    /// `key:effect`, which is a taint's identity.
    pub(super) taints: BTreeSet<String>,
    pub(super) conditions: BTreeSet<String>,
    pub(super) resources: BTreeSet<String>,
}

impl Owned {
    /// What an earlier process or pass recorded.
    pub(super) fn of(node: &Node) -> Self {
        let text = node
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(OWNED));
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }
}

/// Annotations of a Node that are neither the framework's nor the backend's.
pub(super) fn annotated(node: &Node) -> BTreeMap<String, String> {
    let ours = Owned::of(node).annotations;
    let all = node.metadata.annotations.iter().flatten();
    all.filter(|(name, _)| *name != OWNED && !ours.contains(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The Node as settings and facts want it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) taints: Vec<Taint>,
    pub(super) conditions: Vec<NodeCondition>,
    pub(super) capacity: Resources,
    pub(super) allocatable: Resources,
    pub(super) addresses: Vec<NodeAddress>,
    pub(super) port: Option<i32>,
    /// Sorted, as the API wants them.
    pub(super) features: Vec<String>,
    pub(super) info: NodeSystemInfo,
}

impl Wanted {
    pub(super) fn new(settings: &NodeSettings, version: &str, facts: &NodeFacts) -> Self {
        let os = match &*facts.info.operating_system {
            // Every pod without a nodeSelector for it expects Linux.
            "" => "linux",
            os => os,
        };
        Self {
            name: settings.name.clone(),
            labels: labels(settings, facts, os),
            annotations: annotations(settings, facts),
            taints: taints(settings, facts),
            conditions: conditions(facts),
            capacity: facts.capacity.clone(),
            allocatable: facts.allocatable.clone(),
            addresses: addresses(settings, facts),
            port: settings.listen_port,
            features: settings.features.iter().cloned().collect(),
            info: NodeSystemInfo {
                architecture: facts.info.architecture.clone(),
                operating_system: os.into(),
                os_image: facts.info.os_image.clone(),
                kernel_version: facts.info.kernel_version.clone(),
                container_runtime_version: facts.info.container_runtime.clone(),
                kubelet_version: kubelet_version(version, &settings.version_suffix),
                ..NodeSystemInfo::default()
            },
        }
    }

    pub(super) fn owned(&self) -> Owned {
        Owned {
            labels: self.labels.keys().cloned().collect(),
            annotations: self.annotations.keys().cloned().collect(),
            taints: self.taints.iter().map(taint_id).collect(),
            conditions: self.conditions.iter().map(|c| c.type_.clone()).collect(),
            resources: self
                .capacity
                .iter()
                .chain(self.allocatable.iter())
                .map(|(n, _)| n.into())
                .collect(),
        }
    }

    /// The Node to register.
    pub(super) fn object(&self, now: Timestamp) -> Node {
        let mut annotations = self.annotations.clone();
        annotations.insert(OWNED.into(), record(&self.owned()));
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels.clone()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: Some(self.taints.clone()).filter(|taints| !taints.is_empty()),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                capacity: Some(self.capacity.to_quantities()),
                allocatable: Some(self.allocatable.to_quantities()),
                addresses: Some(self.addresses.clone()),
                conditions: Some(self.conditions_since(None, now)),
                daemon_endpoints: self.port.map(endpoints),
                node_info: Some(self.info.clone()),
                declared_features: Some(self.features.clone()).filter(|all| !all.is_empty()),
                ..NodeStatus::default()
            }),
        }
    }

    /// Our conditions with their times: the transition moves with the status only.
    pub(super) fn conditions_since(
        &self,
        have: Option<&NodeStatus>,
        now: Timestamp,
    ) -> Vec<NodeCondition> {
        let have: Vec<&NodeCondition> = have
            .and_then(|s| s.conditions.as_ref())
            .into_iter()
            .flatten()
            .collect();
        self.conditions
            .iter()
            .map(|want| {
                let since = have
                    .iter()
                    .find(|c| c.type_ == want.type_ && c.status == want.status)
                    .and_then(|c| c.last_transition_time.clone());
                NodeCondition {
                    last_heartbeat_time: Some(Time(now)),
                    last_transition_time: Some(since.unwrap_or(Time(now))),
                    ..want.clone()
                }
            })
            .collect()
    }

    /// `CPU=…, Memory=…`, for the log.
    pub(super) fn size(&self) -> String {
        let show = |name| self.capacity.get(name).show(name);
        format!("CPU={}, Memory={}", show("cpu"), show("memory"))
    }
}

/// The kubelet's own conditions: type, status, reason, message.
pub(super) const KUBELETS: [(&str, &str, &str, &str); 5] = [
    (
        "Ready",
        "True",
        "KubeletReady",
        "kubelet is posting ready status",
    ),
    (
        "MemoryPressure",
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ),
    (
        "DiskPressure",
        "False",
        "KubeletHasNoDiskPressure",
        "kubelet has no disk pressure",
    ),
    (
        "PIDPressure",
        "False",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ),
    // Else route controllers wait for a route to a machine that is none.
    (
        "NetworkUnavailable",
        "False",
        "VirtualNode",
        "the node's pods have the network of where they run",
    ),
];

/// A backend's word on one of the kubelet's conditions goes before the default.
fn conditions(facts: &NodeFacts) -> Vec<NodeCondition> {
    let told: Vec<NodeCondition> = facts
        .conditions
        .iter()
        .map(|fact| NodeCondition {
            type_: fact.kind.clone(),
            status: fact
                .status
                .map_or("Unknown", |yes| if yes { "True" } else { "False" })
                .into(),
            reason: Some(fact.reason.clone()).filter(|r| !r.is_empty()),
            message: Some(fact.message.clone()).filter(|m| !m.is_empty()),
            ..NodeCondition::default()
        })
        .collect();
    let defaults = KUBELETS
        .iter()
        .filter(|(kind, ..)| !told.iter().any(|c| c.type_ == *kind));
    let mut all: Vec<NodeCondition> = defaults
        .map(|(kind, status, reason, message)| NodeCondition {
            type_: (*kind).into(),
            status: (*status).into(),
            reason: Some((*reason).into()),
            message: Some((*message).into()),
            ..NodeCondition::default()
        })
        .collect();
    all.extend(told);
    all
}

fn annotations(settings: &NodeSettings, facts: &NodeFacts) -> BTreeMap<String, String> {
    let mut all = facts.annotations.clone();
    all.insert(INSTANCE.into(), settings.instance.clone());
    all
}

fn labels(settings: &NodeSettings, facts: &NodeFacts, os: &str) -> BTreeMap<String, String> {
    let mut labels = facts.labels.clone();
    let mut set = |name: &str, value: &str| labels.insert(name.into(), value.into());
    set(VIRTUAL.0, VIRTUAL.1);
    set("kubernetes.io/hostname", &label_value(&settings.name));
    set("kubernetes.io/os", os);
    if !facts.info.architecture.is_empty() {
        set("kubernetes.io/arch", &facts.info.architecture);
    }
    if !settings.role.is_empty() {
        set("kubernetes.io/role", &settings.role);
        set(&format!("node-role.kubernetes.io/{}", settings.role), "");
    }
    set(
        "node.kubernetes.io/exclude-from-external-load-balancers",
        "true",
    );
    set(
        "alpha.service-controller.kubernetes.io/exclude-balancer",
        "true",
    );
    labels
}

/// A node's name may be longer than a label's value.
fn label_value(name: &str) -> String {
    let mut value: String = name.chars().take(LABEL_LIMIT).collect();
    while value.ends_with(['-', '.']) {
        value.pop();
    }
    value
}

fn taints(settings: &NodeSettings, facts: &NodeFacts) -> Vec<Taint> {
    let mut all: BTreeMap<String, Taint> = BTreeMap::new();
    for taint in settings.taints.iter().chain(&facts.taints) {
        all.insert(taint_id(taint), taint.clone());
    }
    all.into_values().collect()
}

pub(super) fn taint_id(taint: &Taint) -> String {
    format!("{}:{}", taint.key, taint.effect)
}

/// The API server connects to the address of the type it prefers, `Hostname`
/// first: where something listens, a name that does not resolve would be in the
/// way of a real address. Where nothing does, it is what people look for.
pub(super) fn addresses(settings: &NodeSettings, facts: &NodeFacts) -> Vec<NodeAddress> {
    let mut all = facts.addresses.clone();
    if let Some(own) = settings.address {
        // What is tried before an InternalIP.
        all.retain(|a| !matches!(a.type_.as_str(), "Hostname" | "InternalDNS"));
        let address = own.to_string();
        all.retain(|a| a.address != address);
        let type_ = "InternalIP".into();
        all.insert(0, NodeAddress { address, type_ });
        return all;
    }
    let named = all.iter().any(|a| a.type_ == "Hostname");
    if !named && (settings.listen_port.is_none() || all.is_empty()) {
        all.push(NodeAddress {
            type_: "Hostname".into(),
            address: settings.name.clone(),
        });
    }
    all
}

/// What a Node declares.
pub(super) fn features(node: &Node) -> &[String] {
    let declared = node
        .status
        .as_ref()
        .and_then(|s| s.declared_features.as_deref());
    declared.unwrap_or_default()
}

pub(super) fn endpoints(port: i32) -> NodeDaemonEndpoints {
    NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint { port }),
    }
}

/// `v1.36.3+k3s1` and `vk-mock` are `v1.36.3-vk-mock`: clients parse it as the
/// version of Kubernetes that the node follows. A whole version stands as it is.
fn kubelet_version(api_server: &str, suffix: &str) -> String {
    let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if suffix.strip_prefix('v').is_some_and(digit) {
        return suffix.into();
    }
    let base = api_server.split(['-', '+']).next().unwrap_or_default();
    if suffix.is_empty() {
        base.into()
    } else {
        format!("{base}-{suffix}")
    }
}

pub(super) fn record(owned: &Owned) -> String {
    // Sets of texts serialize without fail.
    serde_json::to_string(owned).unwrap_or_default()
}
