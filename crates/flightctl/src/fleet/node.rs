//! What a node of these devices has and shows: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeAddress, Taint};
use virtual_kubelet::node::Outage;
use vk_provider::node::ConditionFact;
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{NodeFacts, NodeInfo};

use super::{Eviction, FLEET_LABEL, Sizes, conditions};
use crate::away::storm::{RESUME_ANNOTATION, Storm};
use crate::device::DeviceView;
use crate::place::{ALIAS_LABEL, DEVICE_KEY};
use crate::select::{is_label_key, is_label_value};

/// Label keys that set one resource of one device. An extended resource's `/` is
/// written `_`, which no domain has: `flightctl.io/capacity-example.com_camera`.
const CAPACITY_LABEL_PREFIX: &str = "flightctl.io/capacity-";
/// On a node that is one device, while that takes no pods.
const CLOSED_TAINT: &str = "flightctl.io/unavailable";

/// A node's facts, and what each of its devices can hold for pods.
pub(super) fn facts(
    fleet: Option<&str>,
    arch: &str,
    devices: &[&DeviceView],
    sizes: &Sizes,
) -> (NodeFacts, BTreeMap<String, Resources>) {
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
    let mut each = BTreeMap::new();
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
        each.insert(device.name.clone(), allocatable);
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
    facts.conditions.extend(conditions::of(devices));
    (facts, each)
}

/// What a node has beside that when it is one device: its names as labels, its own
/// conditions, and a taint while it takes nothing.
pub(super) fn of_one(facts: &mut NodeFacts, device: &DeviceView, eviction: Eviction) {
    for (key, value) in [
        (DEVICE_KEY, Some(&device.name)),
        (ALIAS_LABEL, device.alias.as_ref()),
    ] {
        if let Some(value) = value.filter(|v| is_label_value(v)) {
            facts.labels.insert(key.into(), value.clone());
        }
    }
    facts.conditions.extend(conditions::of_one(device));
    if eviction == Eviction::Kubernetes && device.away.is_some() {
        facts.conditions.push(conditions::not_known_ready());
    }
    if device.closed().is_some() {
        facts.taints.push(Taint {
            key: CLOSED_TAINT.into(),
            effect: "NoSchedule".into(),
            ..Default::default()
        });
    }
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

/// Whether pods of devices that do not come back go elsewhere.
pub(crate) fn rescheduling(node: &str, storm: Option<&Storm>) -> ConditionFact {
    ConditionFact {
        kind: "ReschedulingPaused".into(),
        status: Some(storm.is_some()),
        reason: if storm.is_some() {
            "DevicesVanishedTogether"
        } else {
            "NoStorm"
        }
        .into(),
        message: match storm {
            None => "pods of devices that do not come back in time go elsewhere".into(),
            Some(storm) => format!(
                "{} of {} devices vanished together, so that it is their uplink that is taken for lost; their pods stay where they are. If they are lost: kubectl annotate node {node} --overwrite {RESUME_ANNOTATION}={}",
                storm.vanished, storm.devices, storm.until
            ),
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
pub(super) fn reachability(facts: &mut NodeFacts, reachable: &Result<(), String>) {
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

/// What one device has, and whether its cpu or memory had to be assumed: a label goes
/// before what it reports, and that before the configuration.
fn capacity(device: &DeviceView, assumed: &Resources) -> (Resources, bool) {
    let mut result = assumed.clone();
    let memory = |kb: i64| Some(Amount::units(kb.checked_mul(1024)?));
    let reported = [
        ("cpu", device.cpu_cores.map(Amount::units)),
        ("memory", device.memory_kb.and_then(memory)),
    ];
    let mut known = BTreeSet::new();
    let reported = reported
        .into_iter()
        .filter_map(|(n, amount)| Some((n.to_owned(), amount?)));
    for (name, amount) in reported.chain(labelled(device)) {
        result.set(&name, amount);
        known.insert(name);
    }
    let guessed = ["cpu", "memory"].iter().any(|name| !known.contains(*name));
    (result, guessed)
}

/// What a device's labels say that it has.
fn labelled(device: &DeviceView) -> impl Iterator<Item = (String, Amount)> + '_ {
    device.labels.iter().filter_map(|(key, text)| {
        let name = key
            .strip_prefix(CAPACITY_LABEL_PREFIX)?
            .replacen('_', "/", 1);
        let plain = ["cpu", "memory", "pods", "ephemeral-storage"].contains(&name.as_str());
        let amount = Amount::parse(text).ok().filter(|a| *a > Amount::ZERO)?;
        // The API server takes whole ones.
        let whole = amount.ceil_milli() == amount.ceil_units() * 1000;
        let fits = plain || (name.contains('/') && is_label_key(&name));
        (fits && (whole || name == "cpu")).then_some((name, amount))
    })
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
                && !key.starts_with(CAPACITY_LABEL_PREFIX)
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
