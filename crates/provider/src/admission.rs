//! May this pod run on this node?

use crate::node::NodeFacts;
use crate::quantity::{Resources, pod_requests};
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
        /// `status.message` and the event's text.
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
}

/// The kubelet's own rule: the request must fit into what the others leave.
/// Reason `OutOf<resource>`, as kubelet's `predicate_admit_handler.go`.
pub fn node_fit(pod: &PodRequest, bound: &NodeUse) -> Admission {
    let wanted = pod_requests(pod.spec());
    let free = bound.node.allocatable.minus(&bound.requested);
    match wanted.exceeds(&free) {
        None => Admission::Accept,
        Some(name) => Admission::Reject {
            reason: format!("OutOf{name}"),
            message: format!(
                "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                wanted.get(name).show(name),
                bound.requested.get(name).show(name),
                bound.node.allocatable.get(name).show(name),
            ),
            event: None,
        },
    }
}
