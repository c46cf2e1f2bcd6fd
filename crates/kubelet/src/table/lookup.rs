//! What the node's API tells of pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use vk_provider::{ContainerState, PodFacts, Uid};

use super::{Record, Table};
use crate::lean::PodText;

/// A pod of which something runs at the remote.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) facts: Arc<PodFacts>,
    /// `None` where Kubernetes has it no longer.
    pub(crate) pod: Option<Arc<Pod>>,
}

impl Table {
    /// The pod of this name that Kubernetes has on this node.
    pub(crate) fn named(&self, node: &str, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let inner = self.lock();
        let mut of_node = inner.of_node(node);
        let is = |record: &&Record| {
            record.api.is_some() && &*record.key.namespace == namespace && &*record.key.name == name
        };
        of_node.find(is)?.pod()
    }

    /// What the remote last showed of a pod.
    pub(crate) fn facts(&self, uid: &Uid) -> Option<Arc<PodFacts>> {
        self.lock().records.get(uid)?.facts.clone()
    }

    /// The pods that Kubernetes has on this node, in order of their names.
    pub(crate) fn texts(&self, node: &str) -> Vec<PodText> {
        let inner = self.lock();
        let of_node = inner.of_node(node);
        let mut found: Vec<_> = of_node
            .filter_map(|record| Some((&record.key, record.api.as_ref()?)))
            .collect();
        let name = |key: &vk_provider::PodKey| (key.namespace.clone(), key.name.clone());
        found.sort_by_key(|(key, _)| name(key));
        found.into_iter().map(|(_, text)| text.clone()).collect()
    }

    /// The pods of this node of which something runs.
    pub(crate) fn running(&self, node: &str) -> Vec<Running> {
        let inner = self.lock();
        let of_node = inner.of_node(node);
        let running = of_node.filter_map(|record| {
            let facts = record.facts.as_ref().filter(|facts| runs(facts))?;
            Some(Running {
                facts: facts.clone(),
                pod: record.pod(),
            })
        });
        running.collect()
    }
}

fn runs(facts: &PodFacts) -> bool {
    let mut all = facts.containers.iter().chain(&facts.init);
    !facts.ended && all.any(|c| matches!(c.state, ContainerState::Running { .. }))
}
