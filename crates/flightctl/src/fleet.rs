//! Which device belongs to which node, and what a node has: pure.
//!
//! A *fleet* is a named label selector over devices; each fleet is a node
//! `vk-flightctl-<fleet>`. Without configuration the values of one label are
//! the fleets. A device of no fleet belongs to the provider's own node, which
//! always exists. No device belongs to two nodes.

mod conditions;
mod node;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use kube::core::Selector;
use vk_provider::NodeSet;
use vk_provider::quantity::Resources;

pub(crate) use conditions::left;
pub use node::outage;
pub(crate) use node::rescheduling;
pub use policy::{Eviction, Nodes, OnLeave, Policy};

use crate::away::{outcome, silence};
use crate::device::DeviceView;
use crate::select::matches;

/// Prefix of the nodes' names.
const NODE_PREFIX: &str = "vk-flightctl-";
/// The same for nodes that are one device: names of real devices have 52 characters.
const SHORT_PREFIX: &str = "vk-";
/// Node names are DNS subdomains, but also label values (`kubernetes.io/hostname`).
const NODE_NAME_MAX: usize = 63;
/// The node label that holds the fleet's name.
pub const FLEET_LABEL: &str = "flightctl.io/fleet";
/// Architecture of a device that does not report one.
const DEFAULT_ARCHITECTURE: &str = "amd64";

/// How devices are grouped.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Node of the devices that belong to no fleet.
    pub node_name: String,
    /// Label whose values are fleets, where none is configured.
    pub fleet_label: String,
    /// Configured fleets; empty for zero configuration.
    pub fleets: Vec<FleetRule>,
    /// For devices of no configured fleet.
    pub defaults: Sizes,
    /// The same, for those that go away.
    pub absence: AbsenceRule,
    /// Taints of every node.
    pub taints: Vec<Taint>,
    /// For devices of no configured fleet.
    pub policy: Policy,
}

/// One configured fleet.
#[derive(Clone, Debug)]
pub struct FleetRule {
    /// Its name.
    pub name: String,
    /// Its devices.
    pub selector: Selector,
    /// Sizes of its devices.
    pub sizes: Sizes,
    /// What is done when its devices go away.
    pub absence: AbsenceRule,
    /// Taints of its node, instead of the common ones.
    pub taints: Option<Vec<Taint>>,
    /// How its devices are used.
    pub policy: Policy,
}

/// What is done when devices go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsenceRule {
    /// Without a sign of life for so long, a device is away.
    pub disconnect_after: Duration,
    /// For so long its pods wait for it.
    pub reconnect_timeout: Duration,
}

impl Default for AbsenceRule {
    fn default() -> Self {
        Self {
            disconnect_after: silence::WINDOW,
            reconnect_timeout: outcome::RECONNECT_TIMEOUT,
        }
    }
}

impl Rules {
    /// The rule for a device that goes away.
    pub(crate) fn absence_of(&self, device: &DeviceView) -> AbsenceRule {
        let mut fleets = self.fleets.iter();
        let fleet = fleets.find(|f| matches(&f.selector, &device.labels));
        fleet.map_or(self.absence, |f| f.absence)
    }
}

/// What one device counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Where the device does not report its own.
    pub assumed: Resources,
    /// Kept free on every device.
    pub reserve: Resources,
}

/// The result: nodes, and the node of each device.
#[derive(Clone, Debug, Default)]
pub struct Grouping {
    /// What the framework is told.
    pub nodes: NodeSet,
    /// Node by device name.
    pub node_of: BTreeMap<String, Arc<str>>,
    /// What each device can hold for pods.
    pub allocatable: BTreeMap<String, Resources>,
    /// What each node is of.
    pub rules: BTreeMap<Arc<str>, NodeRule>,
    /// Problems to tell people: devices that two fleets select, and names that
    /// make no node.
    pub problems: Vec<String>,
}

/// What a node is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRule {
    /// Its fleet, if it is of one.
    pub fleet: Option<String>,
    /// How its devices are used.
    pub policy: Policy,
}

impl Rules {
    fn fleet(&self, name: Option<&str>) -> Option<&FleetRule> {
        self.fleets.iter().find(|f| Some(f.name.as_str()) == name)
    }

    /// How the devices of this fleet, or of none, are used.
    pub fn policy(&self, fleet: Option<&str>) -> Policy {
        self.fleet(fleet).map_or(self.policy, |f| f.policy)
    }
}

/// Groups all devices. `reachable` is whether Flight Control answers.
pub fn group<'a>(
    rules: &Rules,
    devices: impl Iterator<Item = &'a DeviceView>,
    reachable: &Result<(), String>,
) -> Grouping {
    let mut result = Grouping::default();
    let mut members: BTreeMap<Option<String>, Vec<&DeviceView>> = BTreeMap::new();
    members.insert(None, Vec::new());
    for fleet in &rules.fleets {
        members.insert(Some(fleet.name.clone()), Vec::new());
    }
    for device in devices {
        match fleet_of(rules, device) {
            Ok(fleet) => members.entry(fleet).or_default().push(device),
            Err(problem) => result.problems.push(problem),
        }
    }
    let mut groups: Vec<Group<'_>> = members
        .into_iter()
        .flat_map(|(fleet, devices)| {
            let fleet = fleet.as_deref();
            match rules.policy(fleet).nodes {
                Nodes::PerFleet => by_architecture(rules, fleet, &devices),
                Nodes::PerDevice => by_device(rules, fleet, &devices),
            }
        })
        .collect();
    // A fleet's own name goes before one that an architecture was added to.
    groups.sort_by_key(|group| !group.is_plain(rules));
    for group in groups {
        group.add(rules, reachable, &mut result);
    }
    result
}

fn fleet_of(rules: &Rules, device: &DeviceView) -> Result<Option<String>, String> {
    if rules.fleets.is_empty() {
        let Some(value) = device
            .labels
            .get(&rules.fleet_label)
            .filter(|v| !v.is_empty())
        else {
            return Ok(None);
        };
        return match node_name(value) {
            Some(name) if name == rules.node_name => Err(format!(
                "device {} has the label {}={value}, whose node {name} is that of the devices without one; use another value or another nodeName",
                device.shown(),
                rules.fleet_label
            )),
            Some(_) => Ok(Some(value.clone())),
            None => Err(format!(
                "device {} has the label {}={value}, of which no node name can be made; use up to 49 lower-case letters, digits and '-'",
                device.shown(),
                rules.fleet_label
            )),
        };
    }
    let mut chosen = rules
        .fleets
        .iter()
        .filter(|f| matches(&f.selector, &device.labels));
    match (chosen.next(), chosen.next()) {
        (Some(one), None) => Ok(Some(one.name.clone())),
        (None, _) => Ok(None),
        (Some(one), Some(two)) => Err(format!(
            "device {} is selected by the fleets {} and {}; it is used by neither until their selectors are disjoint",
            device.shown(),
            one.name,
            two.name
        )),
    }
}

/// The node of a fleet; `None` where its name makes no valid node name.
pub fn node_name(fleet: &str) -> Option<String> {
    let name = format!("{NODE_PREFIX}{fleet}");
    let valid = name.len() <= NODE_NAME_MAX
        && fleet
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        && fleet.starts_with(|c: char| c.is_ascii_alphanumeric())
        && fleet.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !fleet.contains("..");
    valid.then_some(name)
}

/// Devices that are one node: of one fleet and of one architecture.
struct Group<'a> {
    name: String,
    fleet: Option<String>,
    architecture: String,
    devices: Vec<&'a DeviceView>,
}

/// A fleet's devices by architecture. One that has not reported its own yet
/// goes with the others: its coming must not move them to another node.
fn by_architecture<'a>(
    rules: &Rules,
    fleet: Option<&str>,
    devices: &[&'a DeviceView],
) -> Vec<Group<'a>> {
    let base = match fleet {
        None => rules.node_name.clone(),
        Some(fleet) => format!("{NODE_PREFIX}{fleet}"),
    };
    let known: BTreeSet<&str> = devices
        .iter()
        .filter_map(|d| d.architecture.as_deref())
        .collect();
    let usual = match known.first() {
        Some(first) if !known.contains(DEFAULT_ARCHITECTURE) => first,
        _ => DEFAULT_ARCHITECTURE,
    };
    let mut by_arch: BTreeMap<&str, Vec<&DeviceView>> = BTreeMap::new();
    by_arch.insert(usual, Vec::new());
    for device in devices {
        let architecture = device.architecture.as_deref().unwrap_or(usual);
        by_arch.entry(architecture).or_default().push(device);
    }
    let several = by_arch.len() > 1;
    by_arch
        .into_iter()
        .map(|(architecture, devices)| Group {
            name: if several && architecture != DEFAULT_ARCHITECTURE {
                format!("{base}-{architecture}")
            } else {
                base.clone()
            },
            fleet: fleet.map(str::to_owned),
            architecture: architecture.to_owned(),
            devices,
        })
        .collect()
}

/// A fleet's devices, each a node; the node of those of no fleet exists anyway.
fn by_device<'a>(rules: &Rules, fleet: Option<&str>, devices: &[&'a DeviceView]) -> Vec<Group<'a>> {
    let own = match fleet {
        None => by_architecture(rules, None, &[]),
        Some(_) => Vec::new(),
    };
    let each = devices.iter().map(|device| {
        let long = format!("{NODE_PREFIX}{}", device.name);
        Group {
            name: match long.len() > NODE_NAME_MAX {
                true => format!("{SHORT_PREFIX}{}", device.name),
                false => long,
            },
            fleet: fleet.map(str::to_owned),
            architecture: device
                .architecture
                .clone()
                .unwrap_or_else(|| DEFAULT_ARCHITECTURE.to_owned()),
            devices: vec![*device],
        }
    });
    own.into_iter().chain(each).collect()
}

impl Group<'_> {
    /// Named by its fleet alone: such a name is the fleet's own.
    fn is_plain(&self, rules: &Rules) -> bool {
        match &self.fleet {
            None => self.name == rules.node_name,
            Some(fleet) => self.name.strip_prefix(NODE_PREFIX) == Some(fleet),
        }
    }

    /// Why this cannot be a node, if so.
    fn problem(&self, taken: &NodeSet) -> Option<String> {
        let whose = match &self.fleet {
            Some(fleet) => format!("of the fleet {fleet}"),
            None => "of no fleet".to_owned(),
        };
        let why = if self.name.len() > NODE_NAME_MAX {
            format!("the name is longer than {NODE_NAME_MAX} characters")
        } else if taken.contains_key(&self.name) {
            "another fleet's node has that name".to_owned()
        } else {
            return None;
        };
        Some(format!(
            "the {} devices {whose} with {} are used by no node: theirs would be {}, and {why}; use another name for the fleet",
            self.devices.len(),
            self.architecture,
            self.name,
        ))
    }

    fn add(self, rules: &Rules, reachable: &Result<(), String>, result: &mut Grouping) {
        if let Some(problem) = self.problem(&result.nodes) {
            result.problems.push(problem);
            return;
        }
        let fleet = self.fleet.as_deref();
        let (rule, policy) = (rules.fleet(fleet), rules.policy(fleet));
        let sizes = rule.map_or(&rules.defaults, |f| &f.sizes);
        let (mut facts, allocatable) = node::facts(fleet, &self.architecture, &self.devices, sizes);
        result.allocatable.extend(allocatable);
        facts.taints = rule
            .and_then(|f| f.taints.clone())
            .unwrap_or_else(|| rules.taints.clone());
        if let (Nodes::PerDevice, [device]) = (policy.nodes, &*self.devices) {
            node::of_one(&mut facts, device, policy.eviction);
        }
        node::reachability(&mut facts, reachable);
        let fleet = self.fleet.clone();
        result
            .rules
            .insert(self.name.as_str().into(), NodeRule { fleet, policy });
        for device in &self.devices {
            result
                .node_of
                .insert(device.name.clone(), self.name.as_str().into());
        }
        result.nodes.insert(self.name, facts);
    }
}

#[cfg(test)]
mod tests;
