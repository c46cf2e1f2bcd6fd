//! Pods whose place is lost, and what the remote hears of people's wishes.

use std::collections::BTreeMap;

use vk_provider::{ContainerFact, ContainerState, PodChange, Reach};

use super::Remote;

impl Remote {
    /// It reads what people say in labels and annotations of pods. To be said
    /// before a process starts.
    pub fn read_metadata(&self) {
        self.lock().reads_metadata = true;
    }

    /// Why a pod was asked for, each time.
    pub fn asked(&self, name: &str) -> Vec<PodChange> {
        let state = self.lock();
        let of_pod = state.asked.iter().filter(|(of, _)| of == name);
        of_pod.map(|(_, change)| *change).collect()
    }

    /// What was annotated on a node, each time that it was told.
    pub fn heard(&self, node: &str) -> Vec<BTreeMap<String, String>> {
        let state = self.lock();
        let of_node = state.heard.iter().filter(|(of, _)| of == node);
        of_node
            .map(|(_, annotations)| annotations.clone())
            .collect()
    }

    /// The place of a pod answers no more: nothing ends there that can be seen.
    pub fn silence(&self, uid: &str) {
        let since = self.clock.now();
        self.edit(uid, |facts| {
            facts.reach = Reach::Unreachable {
                since,
                reason: "DeviceDisconnected".into(),
                message: "device d1 does not answer".into(),
            };
        });
    }

    /// The pod is to run elsewhere: nothing of it is where it was, and no other
    /// place was told of it.
    pub fn displace(&self, uid: &str) {
        self.edit(uid, |facts| {
            facts.reach = Reach::Reachable;
            (facts.accepted, facts.applied) = (None, None);
            for container in &mut facts.containers {
                *container = ContainerFact::new(
                    &container.name,
                    ContainerState::Waiting {
                        reason: String::new(),
                        message: String::new(),
                    },
                );
            }
        });
    }

    /// `stop` finds no remote.
    pub fn refuse_stops(&self, refuse: bool) {
        self.lock().refuse_stops = refuse;
    }

    /// What `ensure` was to answer next is forgotten: it takes what it is given.
    pub fn succeed(&self) {
        self.lock().fail_next.clear();
    }
}
