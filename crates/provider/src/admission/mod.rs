//! May this pod run on this node?

mod selector;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::backend::Backend;
use crate::error::BackendError;
use crate::node::NodeFacts;
use crate::quantity::{Amount, Resources, pod_requests};
use crate::request::PodRequest;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Run it.
    Accept,
    /// Never: the pod becomes Failed with this reason.
    Reject {
        /// `status.reason` (`OutOfcpu`, `Unsupported`).
        reason: String,
        /// The event's text; in `status.message` behind `Pod was rejected: `.
        message: String,
        /// The event's reason, where users expect another word than `reason`.
        event: Option<String>,
    },
    /// Not now: the pod stays Pending with an event, and is asked again when
    /// the backend says [`crate::Change::Look`] or by back-off.
    Wait {
        /// Reason of the event and of the containers' waiting state.
        reason: String,
        /// One sentence.
        message: String,
    },
}

/// A node and what is bound to it already.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct NodeUse {
    /// The node as last published.
    pub node: NodeFacts,
    /// Sum of the requests of the other admitted pods that have not ended.
    pub requested: Resources,
    /// All labels of the Node object, those of others included, where it was
    /// just read. Otherwise a pod is held against the labels that are known.
    pub labels: Option<BTreeMap<String, String>>,
}

impl NodeUse {
    /// The labels to hold a pod against: those of the Node, or those that the
    /// framework and the backend put there.
    fn labels(&self, name: &str) -> BTreeMap<String, String> {
        if let Some(labels) = &self.labels {
            return labels.clone();
        }
        let mut labels = self.node.labels.clone();
        for (key, value) in [
            (OS_LABEL, self.os()),
            ("kubernetes.io/arch", &*self.node.info.architecture),
            ("kubernetes.io/hostname", name),
        ] {
            labels.insert(key.into(), value.into());
        }
        labels
    }

    fn os(&self) -> &str {
        match &*self.node.info.operating_system {
            "" => "linux",
            os => os,
        }
    }
}

/// The label of an operating system, on nodes and, for the kubelet, on pods.
const OS_LABEL: &str = "kubernetes.io/os";

/// Reason of a pod that asks for another node by its labels. The framework reads
/// the Node and asks once more before it believes this, as the kubelet does.
pub const NODE_AFFINITY: &str = "NodeAffinity";

/// What the framework asks: the backend's declaration first
/// ([`crate::Capabilities::pod_spec`]), then the backend itself.
pub fn admit(backend: &dyn Backend, pod: &PodRequest, bound: &NodeUse) -> Admission {
    let refusals = backend.capabilities().pod_spec.refusals(pod);
    match refusals.into_result() {
        Ok(()) => backend.admit(pod, bound),
        Err(refusal) => rejected("Unsupported", BackendError::from(refusal).to_string()),
    }
}

/// The kubelet's own rules (`pkg/kubelet/lifecycle/predicate.go`), in its order
/// and its words, of which the first that is broken counts: operating system,
/// resources, node selector and required affinity, taints that end pods. They
/// matter to pods that skipped the scheduler by naming their node.
///
/// One difference: an extended resource that the node does not have is missing
/// here (`OutOf…`), where the kubelet overlooks it.
pub fn node_fit(pod: &PodRequest, bound: &NodeUse) -> Admission {
    let spec = pod.spec();
    let by_label = pod
        .pod
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(OS_LABEL));
    if by_label.is_some_and(|os| os != bound.os()) {
        return rejected(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    if spec.os.as_ref().is_some_and(|os| os.name != bound.os()) {
        return rejected(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        );
    }
    if let Some(rejection) = resources_fit(pod, bound) {
        return rejection;
    }
    if selector::asks(spec) && !selector::matches(spec, &bound.labels(&pod.node), &pod.node) {
        return rejected(
            NODE_AFFINITY,
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
    if selector::untolerated(spec, &bound.node.taints).is_some() {
        return rejected(
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        );
    }
    Admission::Accept
}

/// The request must fit into what the others leave.
fn resources_fit(pod: &PodRequest, bound: &NodeUse) -> Option<Admission> {
    let wanted = pod_requests(pod.spec());
    let free = bound.node.allocatable.minus(&bound.requested);
    let mut short: Vec<&str> = wanted
        .iter()
        .filter(|(name, amount)| *amount > Amount::ZERO && *amount > free.get(name))
        .map(|(name, _)| name)
        .collect();
    // The kubelet looks at these first, in this order.
    let first = ["pods", "cpu", "memory", "ephemeral-storage"];
    short.sort_by_key(|name| first.iter().position(|f| f == name).unwrap_or(first.len()));
    let name = *short.first()?;
    // It counts processors in thousandths and all else in units.
    let number = |amount: Amount| match name {
        "cpu" => amount.ceil_milli(),
        _ => amount.ceil_units(),
    };
    Some(rejected(
        format!("OutOf{name}"),
        format!(
            "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
            number(wanted.get(name)),
            number(bound.requested.get(name)),
            number(bound.node.allocatable.get(name)),
        ),
    ))
}

fn rejected(reason: impl Into<String>, message: impl Into<String>) -> Admission {
    Admission::Reject {
        reason: reason.into(),
        message: message.into(),
        event: None,
    }
}
