//! What a Node object tells of who keeps it and of what its backend said last.
//! Pure.

use k8s_openapi::api::core::v1::{Node, Taint};
use vk_provider::NodeFacts;
use vk_provider::node::{ConditionFact, NodeInfo};
use vk_provider::quantity::Resources;

use super::Outage;
use super::object::{INSTANCE, KUBELETS, OWNED, Owned, VIRTUAL, taint_id};

/// Whether a Node is a machine's: neither we nor another virtual kubelet made it.
pub(super) fn is_foreign(node: &Node) -> bool {
    let label = node.metadata.labels.as_ref().and_then(|l| l.get(VIRTUAL.0));
    annotation(node, OWNED).is_none() && label.map(String::as_str) != Some(VIRTUAL.1)
}

/// The instance that registered a Node of ours, if it is told; `None` for a Node
/// that is not ours.
pub(crate) fn instance(node: &Node) -> Option<Option<&str>> {
    annotation(node, OWNED).map(|_| annotation(node, INSTANCE))
}

fn annotation<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

/// What the backend said last, so that a Node is kept as it is until the backend
/// is heard again.
pub(crate) fn facts_of(node: &Node) -> NodeFacts {
    let owned = Owned::of(node);
    let chosen = |all: &Option<std::collections::BTreeMap<String, String>>,
                  names: &std::collections::BTreeSet<String>| {
        all.iter()
            .flatten()
            .filter(|(name, _)| names.contains(*name) && *name != INSTANCE)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let status = node.status.clone().unwrap_or_default();
    let resources = |all| {
        let mut kept = Resources::new();
        for (name, amount) in Resources::from_quantities(all).iter() {
            if owned.resources.contains(name) {
                kept.set(name, amount);
            }
        }
        kept
    };
    let taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    let info = status.node_info.unwrap_or_default();
    NodeFacts {
        capacity: resources(status.capacity.as_ref()),
        allocatable: resources(status.allocatable.as_ref()),
        labels: chosen(&node.metadata.labels, &owned.labels),
        annotations: chosen(&node.metadata.annotations, &owned.annotations),
        taints: taints
            .filter(|taint| owned.taints.contains(&taint_id(taint)))
            .cloned()
            .collect(),
        addresses: status.addresses.unwrap_or_default(),
        conditions: status
            .conditions
            .iter()
            .flatten()
            .filter(|c| owned.conditions.contains(&c.type_))
            .filter(|c| !KUBELETS.iter().any(|(kind, ..)| *kind == c.type_))
            .map(|c| ConditionFact {
                kind: c.type_.clone(),
                status: match &*c.status {
                    "True" => Some(true),
                    "False" => Some(false),
                    _ => None,
                },
                reason: c.reason.clone().unwrap_or_default(),
                message: c.message.clone().unwrap_or_default(),
            })
            .collect(),
        info: NodeInfo {
            architecture: info.architecture,
            operating_system: info.operating_system,
            os_image: info.os_image,
            kernel_version: info.kernel_version,
            container_runtime: info.container_runtime_version,
        },
    }
}

impl Outage {
    /// Shows on a node that its backend is not heard of.
    pub fn show(&self, facts: &mut NodeFacts) {
        facts.conditions.retain(|c| c.kind != self.condition.kind);
        facts.conditions.push(self.condition.clone());
        let same = |taint: &Taint| taint_id(taint) == taint_id(&self.taint);
        if !facts.taints.iter().any(same) {
            facts.taints.push(self.taint.clone());
        }
    }
}
