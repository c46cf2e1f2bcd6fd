//! Devices that left the fleet of pods they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::World;
use crate::fleet::{self, NodeRule, OnLeave};
use crate::placed::Placed;

/// A pod's device is no longer of its node's fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// What becomes of the pod.
    pub(crate) then: OnLeave,
    /// For people.
    pub(crate) message: String,
}

impl World {
    /// Whether a pod's device has left it. Not where that is not sure: a device that
    /// no node has is there by mistake, and one of another architecture is of the
    /// same fleet.
    pub(crate) fn left(&self, placed: &Placed) -> Option<Left> {
        let device = self.devices.get(&placed.device)?;
        let now = self.grouping.node_of.get(&placed.device)?;
        if *now == placed.node || !placed.holds_room() || device.decommissioned() {
            return None;
        }
        let was = self.node_rules.get(&placed.node)?;
        if was.fleet == self.grouping.rules.get(now)?.fleet {
            return None;
        }
        let then = was.policy.on_leave;
        let shown = device.shown();
        Some(Left {
            message: match then {
                OnLeave::Keep => format!(
                    "Device {shown} is one of node {now} now; the pod runs on there (onLeave: keep)"
                ),
                OnLeave::Drain => {
                    format!("Device {shown} is one of node {now} now (onLeave: drain)")
                }
            },
            then,
        })
    }

    /// Remembers what nodes were of while they have pods, and says on each node which
    /// devices left it.
    pub(super) fn note_left(&mut self) {
        let used: BTreeSet<&Arc<str>> = self.pods.values().map(|p| &p.node).collect();
        let mut rules: BTreeMap<Arc<str>, NodeRule> = std::mem::take(&mut self.node_rules);
        rules.retain(|node, _| used.contains(node));
        rules.extend(self.grouping.rules.clone());
        self.node_rules = rules;
        let mut gone: BTreeMap<Arc<str>, BTreeSet<String>> = BTreeMap::new();
        for placed in self.pods.values().filter(|p| self.left(p).is_some()) {
            let device = self.devices.get(&placed.device);
            let shown = device.map_or_else(|| placed.device.clone(), |d| d.shown());
            gone.entry(placed.node.clone()).or_default().insert(shown);
        }
        let none = BTreeSet::new();
        for (name, facts) in &mut self.grouping.nodes {
            let left = gone.get(name.as_str()).unwrap_or(&none);
            facts.conditions.push(fleet::left(left));
        }
        self.left_of = gone
            .into_iter()
            .map(|(n, devices)| (n, devices.len()))
            .collect();
    }
}
