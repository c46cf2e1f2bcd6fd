//! The Node object as it should be, and the difference to the one that is. Pure.
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
use serde_json::{Map, Value, json};
use vk_provider::NodeFacts;
use vk_provider::quantity::Resources;

use super::NodeSettings;

/// The annotation that names what is ours on a Node; a Node without it is not.
pub const OWNED: &str = "virtual-kubelet.io/owned";
/// The API's limit on a label's value.
const LABEL_LIMIT: usize = 63;

/// What is ours on a Node beside what only a kubelet writes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Owned {
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
    /// `key:effect`, which is a taint's identity.
    taints: BTreeSet<String>,
    conditions: BTreeSet<String>,
    resources: BTreeSet<String>,
}

impl Owned {
    /// What an earlier process or pass recorded.
    fn of(node: &Node) -> Self {
        let text = node.metadata.annotations.as_ref().and_then(|all| all.get(OWNED));
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// The Node as settings and facts want it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    taints: Vec<Taint>,
    conditions: Vec<NodeCondition>,
    capacity: Resources,
    allocatable: Resources,
    addresses: Vec<NodeAddress>,
    port: Option<i32>,
    info: NodeSystemInfo,
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
            annotations: facts.annotations.clone(),
            taints: taints(settings, facts),
            conditions: conditions(facts),
            capacity: facts.capacity.clone(),
            allocatable: facts.allocatable.clone(),
            addresses: addresses(settings, facts),
            port: settings.listen_port,
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

    fn owned(&self) -> Owned {
        Owned {
            labels: self.labels.keys().cloned().collect(),
            annotations: self.annotations.keys().cloned().collect(),
            taints: self.taints.iter().map(taint_id).collect(),
            conditions: self.conditions.iter().map(|c| c.type_.clone()).collect(),
            resources: self.capacity.iter().chain(self.allocatable.iter()).map(|(n, _)| n.into()).collect(),
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
                ..NodeStatus::default()
            }),
        }
    }

    /// A merge patch of labels, annotations and taints; `None` if they are right.
    ///
    /// Taints are one list, so a change of them holds only for the version that
    /// was read: others write there too.
    pub(super) fn metadata_patch(&self, have: &Node) -> Option<Value> {
        let recorded = Owned::of(have);
        let mut owned = self.owned();
        // Ours until they are gone from the status: a stop in between must not
        // leave them to nobody.
        owned.conditions.extend(recorded.conditions.intersection(&condition_names(have)).cloned());
        owned.resources.extend(recorded.resources.intersection(&resource_names(have)).cloned());

        let mut annotations = self.annotations.clone();
        annotations.insert(OWNED.into(), record(&owned));
        let mut metadata = Map::new();
        for (field, have, want, recorded) in [
            ("labels", &have.metadata.labels, &self.labels, &recorded.labels),
            ("annotations", &have.metadata.annotations, &annotations, &recorded.annotations),
        ] {
            let changes = map_changes(have.as_ref(), want, recorded);
            if !changes.is_empty() {
                metadata.insert(field.into(), changes.into());
            }
        }
        let present = have.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let taints = self.merged_taints(&present, &recorded.taints);
        let mut body = Map::new();
        if let Some(taints) = taints {
            metadata.insert("resourceVersion".into(), json!(have.metadata.resource_version));
            body.insert("spec".into(), json!({"taints": taints}));
        }
        if metadata.is_empty() {
            return None;
        }
        metadata.insert("uid".into(), json!(have.metadata.uid));
        body.insert("metadata".into(), metadata.into());
        Some(body.into())
    }

    /// Ours as wanted and others as they are; `None` if that is what there is.
    fn merged_taints(&self, have: &[Taint], recorded: &BTreeSet<String>) -> Option<Vec<Taint>> {
        let wanted: BTreeSet<String> = self.taints.iter().map(taint_id).collect();
        let same = |a: &Taint, b: &Taint| taint_id(a) == taint_id(b) && a.value == b.value;
        let missing = self.taints.iter().any(|t| !have.iter().any(|h| same(t, h)));
        let stale = have.iter().map(taint_id).any(|id| recorded.contains(&id) && !wanted.contains(&id));
        if !missing && !stale {
            return None;
        }
        let others = have.iter().filter(|t| {
            let id = taint_id(t);
            !wanted.contains(&id) && !recorded.contains(&id)
        });
        let ours = self.taints.iter().map(|t| have.iter().find(|h| same(t, h)).unwrap_or(t));
        Some(others.chain(ours).cloned().collect())
    }

    /// A strategic-merge patch of the status; `None` if it is right and `refresh`
    /// is not asked for. A write always carries the heartbeats of our conditions.
    pub(super) fn status_patch(&self, have: &Node, refresh: bool, now: Timestamp) -> Option<Value> {
        let empty = NodeStatus::default();
        let status = have.status.as_ref().unwrap_or(&empty);
        let recorded = Owned::of(have);
        let mut body = Map::new();
        for (field, have, want) in [
            ("capacity", &status.capacity, &self.capacity),
            ("allocatable", &status.allocatable, &self.allocatable),
        ] {
            let known = Resources::from_quantities(have.as_ref());
            let mut changes = Map::new();
            for (name, quantity) in want.to_quantities() {
                let present = have.as_ref().is_some_and(|all| all.contains_key(&name));
                if !present || known.get(&name) != want.get(&name) {
                    changes.insert(name, json!(quantity));
                }
            }
            for name in have.iter().flat_map(|all| all.keys()) {
                let gone = !want.iter().any(|(wanted, _)| wanted == name);
                if gone && recorded.resources.contains(name) {
                    changes.insert(name.clone(), Value::Null);
                }
            }
            if !changes.is_empty() {
                body.insert(field.into(), changes.into());
            }
        }
        if status.addresses.as_deref().unwrap_or_default() != self.addresses {
            // Their merge key is the type, of which a node may have several.
            let mut list = vec![json!({"$patch": "replace"})];
            list.extend(self.addresses.iter().map(|address| json!(address)));
            body.insert("addresses".into(), list.into());
        }
        let port = status.daemon_endpoints.as_ref().and_then(|e| e.kubelet_endpoint.as_ref()).map(|e| e.port);
        if port.filter(|port| *port != 0) != self.port {
            let endpoints = self.port.map_or(json!({"kubeletEndpoint": {"Port": 0}}), |p| json!(endpoints(p)));
            body.insert("daemonEndpoints".into(), endpoints);
        }
        let info = NodeSystemInfo {
            swap: status.node_info.as_ref().and_then(|i| i.swap.clone()),
            ..self.info.clone()
        };
        if status.node_info.as_ref() != Some(&info) {
            body.insert("nodeInfo".into(), json!(info));
        }
        let gone = condition_names(have)
            .into_iter()
            .filter(|kind| recorded.conditions.contains(kind))
            .filter(|kind| !self.conditions.iter().any(|c| c.type_ == *kind))
            .map(|kind| json!({"$patch": "delete", "type": kind}));
        let mut conditions: Vec<Value> = gone.collect();
        let changed = self.conditions.iter().any(|want| {
            let have = status.conditions.iter().flatten().find(|c| c.type_ == want.type_);
            have.is_none_or(|have| {
                have.status != want.status || have.reason != want.reason || have.message != want.message
            })
        });
        if !refresh && !changed && conditions.is_empty() && body.is_empty() {
            return None;
        }
        conditions.extend(self.conditions_since(Some(status), now).iter().map(|c| json!(c)));
        body.insert("conditions".into(), conditions.into());
        Some(json!({"metadata": {"uid": have.metadata.uid}, "status": body}))
    }

    /// Our conditions with their times: the transition moves with the status only.
    fn conditions_since(&self, have: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
        let have: Vec<&NodeCondition> = have.and_then(|s| s.conditions.as_ref()).into_iter().flatten().collect();
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

    /// Conditions of the backend's whose status is another than Kubernetes shows;
    /// new ones only if they say that something is wrong.
    pub(super) fn turned(&self, have: &Node) -> Vec<&NodeCondition> {
        let shown = |kind: &str| {
            let conditions = have.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions.filter(|c| c.type_ == kind).map(|c| c.status.clone()).next()
        };
        let mine = self.conditions.iter().filter(|c| !KUBELETS.iter().any(|(kind, ..)| *kind == c.type_));
        mine.filter(|c| match shown(&c.type_) {
            Some(status) => status != c.status,
            None => c.status != "True",
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
const KUBELETS: [(&str, &str, &str, &str); 5] = [
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    // Else route controllers wait for a route to a machine that is none.
    ("NetworkUnavailable", "False", "VirtualNode", "the node's pods have the network of where they run"),
];

/// A backend's word on one of the kubelet's conditions goes before the default.
fn conditions(facts: &NodeFacts) -> Vec<NodeCondition> {
    let told: Vec<NodeCondition> = facts
        .conditions
        .iter()
        .map(|fact| NodeCondition {
            type_: fact.kind.clone(),
            status: fact.status.map_or("Unknown", |yes| if yes { "True" } else { "False" }).into(),
            reason: Some(fact.reason.clone()).filter(|r| !r.is_empty()),
            message: Some(fact.message.clone()).filter(|m| !m.is_empty()),
            ..NodeCondition::default()
        })
        .collect();
    let defaults = KUBELETS.iter().filter(|(kind, ..)| !told.iter().any(|c| c.type_ == *kind));
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

fn labels(settings: &NodeSettings, facts: &NodeFacts, os: &str) -> BTreeMap<String, String> {
    let mut labels = facts.labels.clone();
    let mut set = |name: &str, value: &str| labels.insert(name.into(), value.into());
    set("type", "virtual-kubelet");
    set("kubernetes.io/hostname", &label_value(&settings.name));
    set("kubernetes.io/os", os);
    if !facts.info.architecture.is_empty() {
        set("kubernetes.io/arch", &facts.info.architecture);
    }
    if !settings.role.is_empty() {
        set("kubernetes.io/role", &settings.role);
        set(&format!("node-role.kubernetes.io/{}", settings.role), "");
    }
    set("node.kubernetes.io/exclude-from-external-load-balancers", "true");
    set("alpha.service-controller.kubernetes.io/exclude-balancer", "true");
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

fn taint_id(taint: &Taint) -> String {
    format!("{}:{}", taint.key, taint.effect)
}

/// The API server connects to the address of the type it prefers, `Hostname`
/// first: where something listens, a name that does not resolve would be in the
/// way of a real address. Where nothing does, it is what people look for.
fn addresses(settings: &NodeSettings, facts: &NodeFacts) -> Vec<NodeAddress> {
    let mut all = facts.addresses.clone();
    let named = all.iter().any(|a| a.type_ == "Hostname");
    if !named && (settings.listen_port.is_none() || all.is_empty()) {
        all.push(NodeAddress { type_: "Hostname".into(), address: settings.name.clone() });
    }
    all
}

fn endpoints(port: i32) -> NodeDaemonEndpoints {
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
    if suffix.is_empty() { base.into() } else { format!("{base}-{suffix}") }
}

fn map_changes(
    have: Option<&BTreeMap<String, String>>,
    want: &BTreeMap<String, String>,
    recorded: &BTreeSet<String>,
) -> Map<String, Value> {
    let has = |name: &String| have.and_then(|all| all.get(name));
    let set = want
        .iter()
        .filter(|(name, value)| has(name) != Some(*value))
        .map(|(name, value)| (name.clone(), json!(value)));
    let unset = recorded
        .iter()
        .filter(|name| has(name).is_some() && !want.contains_key(*name))
        .map(|name| (name.clone(), Value::Null));
    set.chain(unset).collect()
}

fn record(owned: &Owned) -> String {
    // Sets of texts serialize without fail.
    serde_json::to_string(owned).unwrap_or_default()
}

fn condition_names(node: &Node) -> BTreeSet<String> {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.map(|c| c.type_.clone()).collect()
}

fn resource_names(node: &Node) -> BTreeSet<String> {
    let maps = node.status.iter().flat_map(|s| [&s.capacity, &s.allocatable]);
    maps.flatten().flat_map(|all| all.keys().cloned()).collect()
}
