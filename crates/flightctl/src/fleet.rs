//! Which device belongs to which node, and what a node has: pure.
//!
//! A *fleet* is a named label selector over devices; each fleet is a node
//! `vk-flightctl-<fleet>`. Without configuration the values of one label are
//! the fleets. A device of no fleet belongs to the provider's own node, which
//! always exists. No device belongs to two nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeAddress, Taint};
use kube::core::Selector;
use virtual_kubelet::node::Outage;
use vk_provider::node::ConditionFact;
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{NodeFacts, NodeInfo, NodeSet};

use crate::device::DeviceView;
use crate::select::{is_label_key, is_label_value, matches};

/// Prefix of the nodes' names.
const NODE_PREFIX: &str = "vk-flightctl-";
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
    /// Taints of every node.
    pub taints: Vec<Taint>,
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
    /// Taints of its node, instead of the common ones.
    pub taints: Option<Vec<Taint>>,
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
    /// Problems to tell people: devices that two fleets select, and names that
    /// make no node.
    pub problems: Vec<String>,
}

/// Label keys that set the size of one device that does not report it.
const CAPACITY_LABEL_PREFIX: &str = "flightctl.io/capacity-";

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
    for (fleet, devices) in members {
        add_fleet(rules, fleet.as_deref(), &devices, reachable, &mut result);
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

fn add_fleet(
    rules: &Rules,
    fleet: Option<&str>,
    devices: &[&DeviceView],
    reachable: &Result<(), String>,
    result: &mut Grouping,
) {
    let rule = fleet.and_then(|name| rules.fleets.iter().find(|f| f.name == name));
    let sizes = rule.map_or(&rules.defaults, |f| &f.sizes);
    let base = match fleet {
        None => rules.node_name.clone(),
        Some(fleet) => match node_name(fleet) {
            Some(name) => name,
            None => return,
        },
    };
    let mut by_arch: BTreeMap<&str, Vec<&DeviceView>> = BTreeMap::new();
    for device in devices {
        let arch = device
            .architecture
            .as_deref()
            .unwrap_or(DEFAULT_ARCHITECTURE);
        by_arch.entry(arch).or_default().push(device);
    }
    if by_arch.is_empty() {
        by_arch.insert(DEFAULT_ARCHITECTURE, Vec::new());
    }
    let several = by_arch.len() > 1;
    for (arch, devices) in by_arch {
        let name = if several && arch != DEFAULT_ARCHITECTURE {
            format!("{base}-{arch}")
        } else {
            base.clone()
        };
        let mut facts = node_facts(fleet, arch, &devices, sizes, result);
        facts.taints = rule
            .and_then(|f| f.taints.clone())
            .unwrap_or_else(|| rules.taints.clone());
        reachability(&mut facts, reachable);
        for device in &devices {
            result
                .node_of
                .insert(device.name.clone(), name.as_str().into());
        }
        result.nodes.insert(name, facts);
    }
}

fn node_facts(
    fleet: Option<&str>,
    arch: &str,
    devices: &[&DeviceView],
    sizes: &Sizes,
    result: &mut Grouping,
) -> NodeFacts {
    let mut facts = NodeFacts {
        labels: shared_labels(devices),
        info: NodeInfo {
            architecture: arch.into(),
            operating_system: "linux".into(),
            os_image: "Flight Control devices".into(),
            kernel_version: String::new(),
            container_runtime: "podman://flightctl".into(),
        },
        ..NodeFacts::default()
    };
    let mut assumed = BTreeSet::new();
    let mut owned = 0;
    for device in devices {
        let (capacity, guessed) = capacity(device, &sizes.assumed);
        if guessed {
            assumed.insert(device.shown());
        }
        let allocatable = capacity.minus(&sizes.reserve);
        facts.capacity.add(&capacity);
        if device.owner.is_some() {
            owned += 1;
        } else if device.usable() {
            facts.allocatable.add(&allocatable);
        }
        result.allocatable.insert(device.name.clone(), allocatable);
    }
    for name in ["cpu", "memory", "pods"] {
        facts.capacity.set(name, facts.capacity.get(name));
        facts.allocatable.set(name, facts.allocatable.get(name));
    }
    if let Some(fleet) = fleet {
        facts.labels.insert(FLEET_LABEL.into(), fleet.into());
    }
    if let [device] = devices
        && let Some(address) = device.address
    {
        facts.addresses.push(NodeAddress {
            type_: "InternalIP".into(),
            address: address.to_string(),
        });
    }
    facts.conditions.push(fleet_managed(devices.len(), owned));
    facts.conditions.push(capacity_assumed(&assumed));
    facts
}

fn fleet_managed(devices: usize, owned: usize) -> ConditionFact {
    let all = owned > 0 && owned == devices;
    ConditionFact {
        kind: "FleetManaged".into(),
        status: Some(all),
        reason: if all {
            "AllDevicesOwned"
        } else {
            "DevicesWritable"
        }
        .into(),
        message: if owned == 0 {
            "no device is owned by a Flight Control Fleet".into()
        } else {
            format!(
                "{owned} of {devices} devices are owned by a Flight Control Fleet, which refuses pods on them; take them out of the Fleet's selector"
            )
        },
    }
}

/// How many devices a message names; a condition is read by people.
const NAMED_IN_MESSAGE: usize = 5;

fn capacity_assumed(devices: &BTreeSet<String>) -> ConditionFact {
    let some = !devices.is_empty();
    let named: Vec<&str> = devices
        .iter()
        .take(NAMED_IN_MESSAGE)
        .map(String::as_str)
        .collect();
    ConditionFact {
        kind: "CapacityAssumed".into(),
        status: Some(some),
        reason: if some {
            "DevicesDoNotReport"
        } else {
            "DevicesReport"
        }
        .into(),
        message: if some {
            format!(
                "{} devices do not report their size, the configured one counts ({}{}); list cpuCores and memoryTotalKb under system-info in the agent's configuration",
                devices.len(),
                named.join(", "),
                if devices.len() > NAMED_IN_MESSAGE {
                    ", …"
                } else {
                    ""
                },
            )
        } else {
            "every device reports its size".into()
        },
    }
}

/// What nodes of before show after a start while Flight Control was not read once.
pub fn outage() -> Outage {
    let mut facts = NodeFacts::default();
    let why = "Flight Control has not answered since the provider started";
    reachability(&mut facts, &Err(why.into()));
    Outage {
        // `reachability` makes one of each.
        condition: facts.conditions.remove(0),
        taint: facts.taints.remove(0),
    }
}

/// An outage keeps Ready as it is, because Ready other than True evicts every
/// pod; it has a condition and keeps new pods away.
fn reachability(facts: &mut NodeFacts, reachable: &Result<(), String>) {
    facts.conditions.push(ConditionFact {
        kind: "FlightControlReachable".into(),
        status: Some(reachable.is_ok()),
        reason: if reachable.is_ok() {
            "Answers"
        } else {
            "NoAnswer"
        }
        .into(),
        message: match reachable {
            Ok(()) => "Flight Control answers".into(),
            Err(why) => why.clone(),
        },
    });
    if reachable.is_err() {
        facts.taints.push(Taint {
            key: "flightctl.io/unreachable".into(),
            effect: "NoSchedule".into(),
            ..Default::default()
        });
    }
}

/// What one device has, and whether that had to be assumed.
fn capacity(device: &DeviceView, assumed: &Resources) -> (Resources, bool) {
    let mut result = assumed.clone();
    let mut guessed = false;
    for (name, reported) in [
        ("cpu", device.cpu_cores.map(Amount::units)),
        (
            "memory",
            device
                .memory_kb
                .and_then(|kb| Some(Amount::units(kb.checked_mul(1024)?))),
        ),
    ] {
        let labelled = device
            .labels
            .get(&format!("{CAPACITY_LABEL_PREFIX}{name}"))
            .and_then(|text| Amount::parse(text).ok());
        match labelled.or(reported) {
            Some(amount) => result.set(name, amount),
            None => guessed = true,
        }
    }
    (result, guessed)
}

/// Labels that every device carries with the same value, where Kubernetes takes
/// them; keys of Kubernetes' own domains are left out.
fn shared_labels(devices: &[&DeviceView]) -> BTreeMap<String, String> {
    let Some((first, others)) = devices.split_first() else {
        return BTreeMap::new();
    };
    first
        .labels
        .iter()
        .filter(|(key, value)| others.iter().all(|d| d.labels.get(*key) == Some(*value)))
        .filter(|(key, value)| is_label_key(key) && is_label_value(value))
        .filter(|(key, _)| {
            let domain = key.split_once('/').map_or("", |(prefix, _)| prefix);
            !domain.ends_with("kubernetes.io")
                && !domain.ends_with("k8s.io")
                && *key != "alias"
                && !key.starts_with("vk.flightctl.io/")
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::device;

    pub(crate) fn rules() -> Rules {
        let cpu_memory = |cpu: i64, mib: i64| {
            Resources::new()
                .with("cpu", Amount::milli(cpu))
                .with("memory", Amount::units(mib << 20))
        };
        Rules {
            node_name: "vk-flightctl-node".into(),
            fleet_label: "fleet".into(),
            fleets: Vec::new(),
            defaults: Sizes {
                assumed: cpu_memory(4000, 8192).with("pods", Amount::units(110)),
                reserve: cpu_memory(250, 512),
            },
            taints: Vec::new(),
        }
    }

    fn rule(name: &str, selector: &str) -> FleetRule {
        FleetRule {
            name: name.into(),
            selector: crate::select::parse(selector).unwrap(),
            sizes: rules().defaults,
            taints: None,
        }
    }

    #[test]
    fn without_configuration_a_label_makes_the_nodes() {
        let devices = [
            device("a", &[("fleet", "one")]),
            device("b", &[("fleet", "one"), ("zone", "x")]),
            device("c", &[]),
        ];
        let grouping = group(&rules(), devices.iter(), &Ok(()));
        let names: Vec<&String> = grouping.nodes.keys().collect();
        assert_eq!(names, ["vk-flightctl-node", "vk-flightctl-one"]);
        let one = &grouping.nodes["vk-flightctl-one"];
        assert_eq!(one.capacity.get("cpu").show("cpu"), "8");
        assert_eq!(one.allocatable.get("cpu").show("cpu"), "7500m");
        assert_eq!(one.allocatable.get("memory").show("memory"), "15Gi");
        assert_eq!(one.labels[FLEET_LABEL], "one");
        assert!(!one.labels.contains_key("zone"), "not shared by all");
    }

    #[test]
    fn the_own_node_exists_without_devices() {
        let grouping = group(&rules(), [].iter(), &Ok(()));
        let node = &grouping.nodes["vk-flightctl-node"];
        assert_eq!(node.allocatable.get("cpu"), Amount::ZERO);
        assert!(
            node.allocatable.iter().any(|(name, _)| name == "cpu"),
            "named, as zero"
        );
    }

    #[test]
    fn a_device_that_two_fleets_select_is_used_by_neither() {
        let mut rules = rules();
        rules.fleets = vec![rule("one", "zone=x"), rule("two", "tier=y")];
        let devices = [device("a", &[("zone", "x"), ("tier", "y")])];
        let grouping = group(&rules, devices.iter(), &Ok(()));
        assert!(grouping.node_of.is_empty());
        assert!(
            grouping.problems[0].contains("fleets one and two"),
            "{:?}",
            grouping.problems
        );
    }

    #[test]
    fn a_fleet_of_two_architectures_is_two_nodes() {
        let mut arm = device("b", &[("fleet", "one")]);
        arm.architecture = Some("arm64".into());
        let devices = [device("a", &[("fleet", "one")]), arm];
        let grouping = group(&rules(), devices.iter(), &Ok(()));
        assert_eq!(&*grouping.node_of["a"], "vk-flightctl-one");
        assert_eq!(&*grouping.node_of["b"], "vk-flightctl-one-arm64");
    }

    #[test]
    fn owned_devices_give_nothing_and_say_why() {
        let mut owned = device("a", &[("fleet", "one")]);
        owned.owner = Some("Fleet/factory".into());
        let grouping = group(&rules(), [owned].iter(), &Ok(()));
        let node = &grouping.nodes["vk-flightctl-one"];
        assert_eq!(node.allocatable.get("cpu"), Amount::ZERO);
        let condition = node
            .conditions
            .iter()
            .find(|c| c.kind == "FleetManaged")
            .unwrap();
        assert_eq!(condition.status, Some(true));
    }

    #[test]
    fn an_outage_has_its_own_condition_and_taint() {
        let grouping = group(&rules(), [].iter(), &Err("connection refused".into()));
        let node = &grouping.nodes["vk-flightctl-node"];
        assert_eq!(node.taints[0].key, "flightctl.io/unreachable");
        assert!(
            node.conditions
                .iter()
                .any(|c| c.kind == "FlightControlReachable" && c.status == Some(false))
        );
    }

    #[test]
    fn reported_sizes_and_labels_win_over_the_assumed_one() {
        let mut reporting = device("a", &[("flightctl.io/capacity-memory", "2Gi")]);
        reporting.cpu_cores = Some(2);
        let grouping = group(&rules(), [reporting].iter(), &Ok(()));
        let node = &grouping.nodes["vk-flightctl-node"];
        assert_eq!(node.capacity.get("cpu").show("cpu"), "2");
        assert_eq!(node.capacity.get("memory").show("memory"), "2Gi");
        assert!(
            node.conditions
                .iter()
                .any(|c| c.kind == "CapacityAssumed" && c.status == Some(false))
        );
    }

    #[test]
    fn a_label_that_makes_the_own_node_is_told() {
        let devices = [device("a", &[("fleet", "node")])];
        let grouping = group(&rules(), devices.iter(), &Ok(()));
        assert!(grouping.problems[0].contains("fleet=node"));
        assert!(grouping.node_of.is_empty());
    }

    #[test]
    fn a_label_that_makes_no_node_name_is_told() {
        let devices = [device("a", &[("fleet", "Not_A_Name")])];
        let grouping = group(&rules(), devices.iter(), &Ok(()));
        assert!(grouping.problems[0].contains("Not_A_Name"));
    }
}
