//! May this pod run on its node?

use std::collections::BTreeMap;
use std::sync::PoisonError;

use vk_provider::{Admission, NODE_AFFINITY, NodeUse, PodRequest, admit};

use super::Actor;

impl Actor {
    /// The decision of the framework and the backend.
    pub(super) async fn decide(&self, request: &PodRequest) -> Admission {
        let decision = self.decide_by(request, None);
        if !matches!(&decision, Admission::Reject { reason, .. } if reason == NODE_AFFINITY) {
            return decision;
        }
        // Labels of others are known to the API server alone.
        match self.publisher.node_labels(&request.node).await {
            Ok(labels) => self.decide_by(request, Some(labels)),
            Err(why) => Admission::Wait {
                reason: "NodeUnreadable".into(),
                message: format!("the labels of node {} cannot be read: {why}", request.node),
            },
        }
    }

    /// One decision, and its entry in the node's ledger.
    fn decide_by(
        &self,
        request: &PodRequest,
        labels: Option<BTreeMap<String, String>>,
    ) -> Admission {
        let _one_at_a_time = self
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(node) = nodes.get(&*request.node) else {
            return Admission::Wait {
                reason: "NodeNotServed".into(),
                message: format!("the provider has nothing behind node {}", request.node),
            };
        };
        let bound = NodeUse {
            node: node.clone(),
            requested: self.table.requested(&request.node),
            labels,
        };
        let decision = admit(&*self.backend, request, &bound);
        if decision == Admission::Accept {
            self.table.with(&request.key.uid, |record| {
                record.admitted = true;
                record.waiting = None;
                record.reset_back_off();
            });
        }
        decision
    }
}
