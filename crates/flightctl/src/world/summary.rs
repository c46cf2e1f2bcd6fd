//! What there is, by fleet, for the metrics.

use std::collections::BTreeMap;

use vk_provider::quantity::Resources;

use super::World;
use crate::device::State;
use crate::fleet::FLEET_LABEL;

/// One fleet's devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FleetSummary {
    /// Devices by `status.summary.status`.
    pub(crate) statuses: BTreeMap<String, usize>,
    /// Devices by what they are in, under the name of the node's condition.
    pub(crate) states: BTreeMap<&'static str, usize>,
    /// Devices that take pods.
    pub(crate) usable: usize,
    /// What all of them have.
    pub(crate) capacity: Resources,
    /// What those that take pods can hold.
    pub(crate) allocatable: Resources,
    /// Devices that are away.
    pub(crate) away: usize,
    /// Devices that came and went too often.
    pub(crate) flapping: usize,
    /// Nothing is rescheduled: too many devices vanished together.
    pub(crate) paused: bool,
    /// What happened since the start.
    pub(crate) tally: Tally,
    /// Pods that have a place on them.
    pub(crate) pods: usize,
    /// Pods that wait for room on them.
    pub(crate) waiting: usize,
    /// How often a pod was given a place on them.
    pub(crate) placements: u64,
}

/// What happened to a fleet's devices and their pods since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Devices that went away.
    pub(crate) left: u64,
    /// Devices that came back.
    pub(crate) returned: u64,
    /// Pods whose device did not come back in time.
    pub(crate) rescheduled: u64,
}

/// All fleets by name; devices without one are those of `""`.
pub(crate) type Summary = BTreeMap<String, FleetSummary>;

impl World {
    /// The fleet of a device's node, or `""`.
    pub(crate) fn fleet_of(&self, device: &str) -> &str {
        self.grouping
            .node_of
            .get(device)
            .map_or("", |node| self.fleet_of_node(node))
    }

    pub(super) fn fleet_of_node(&self, node: &str) -> &str {
        let node = self.grouping.nodes.get(node);
        node.and_then(|n| n.labels.get(FLEET_LABEL))
            .map_or("", String::as_str)
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::new();
        // A fleet of two architectures has two nodes.
        for (name, node) in &self.grouping.nodes {
            let of = self.fleet_of_node(name);
            let fleet = summary.entry(of.into()).or_default();
            // Zero is told too, so that alerts have something to look at.
            for state in State::ALL {
                fleet.states.entry(state.names().condition).or_default();
            }
            let left = self.left_of.get(name.as_str()).copied();
            *fleet.states.entry("DevicesLeft").or_default() += left.unwrap_or_default();
            fleet.capacity.add(&node.capacity);
            fleet.allocatable.add(&node.allocatable);
            fleet.paused = self.storms.contains_key(of);
        }
        for (name, device) in &self.devices {
            let fleet = summary.entry(self.fleet_of(name).into()).or_default();
            let status = match device.summary.as_str() {
                "" => "Unknown",
                status => status,
            };
            *fleet.statuses.entry(status.into()).or_default() += 1;
            for state in device.states().into_keys() {
                *fleet.states.entry(state.names().condition).or_default() += 1;
            }
            fleet.usable += usize::from(device.closed().is_none());
            fleet.away += usize::from(device.away.is_some());
            fleet.flapping += usize::from(device.flapping);
        }
        for (fleet, tally) in &self.tallies {
            summary.entry(fleet.clone()).or_default().tally = *tally;
        }
        for placed in self.pods.values().filter(|p| p.holds_room()) {
            let fleet = summary.entry(self.fleet_of(&placed.device).into());
            fleet.or_default().pods += 1;
        }
        for waiting in self.waiting.values() {
            let fleet = summary.entry(self.fleet_of_node(&waiting.node).into());
            fleet.or_default().waiting += 1;
        }
        for (fleet, placements) in &self.placements {
            summary.entry(fleet.clone()).or_default().placements = *placements;
        }
        summary
    }
}
