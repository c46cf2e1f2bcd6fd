//! What a node says of its devices in conditions: pure.

use std::collections::{BTreeMap, BTreeSet};

use vk_provider::node::ConditionFact;

use crate::device::{DeviceView, State};
use crate::report::DISCONNECTED;

/// How many devices a message names; a condition is read by people.
const NAMED: usize = 5;

/// One condition for each state but `Owned`, which has its own, in the order of
/// [`State::ALL`].
pub(super) fn of(devices: &[&DeviceView]) -> Vec<ConditionFact> {
    let mut among: BTreeMap<State, Vec<String>> = BTreeMap::new();
    for device in devices {
        for (state, why) in device.states() {
            let who = format!("{} {why}", device.shown());
            among.entry(state).or_default().push(who);
        }
    }
    let others = State::ALL.into_iter().filter(|s| *s != State::Owned);
    others
        .map(|state| {
            let names = state.names();
            let who = among.remove(&state).unwrap_or_default();
            condition(
                names.condition,
                [names.condition, names.none],
                devices.len(),
                &who,
            )
        })
        .collect()
}

fn condition(kind: &str, [some, none]: [&str; 2], all: usize, who: &[String]) -> ConditionFact {
    let named: Vec<&str> = who.iter().take(NAMED).map(String::as_str).collect();
    let more = if who.len() > NAMED { "; …" } else { "" };
    ConditionFact {
        kind: kind.into(),
        status: Some(!who.is_empty()),
        reason: if who.is_empty() { none } else { some }.into(),
        message: if who.is_empty() {
            format!("none of {all} devices")
        } else {
            format!("{} of {all} devices: {}{more}", who.len(), named.join("; "))
        },
    }
}

/// Devices that are no longer the node's and run pods of it.
pub(crate) fn left(devices: &BTreeSet<String>) -> ConditionFact {
    let who: Vec<&str> = devices.iter().take(NAMED).map(String::as_str).collect();
    let some = !devices.is_empty();
    ConditionFact {
        kind: "DevicesLeft".into(),
        status: Some(some),
        reason: if some { "DevicesLeft" } else { "NoneLeft" }.into(),
        message: if some {
            format!(
                "{} devices left the fleet and run pods of this node: {}",
                devices.len(),
                who.join(", ")
            )
        } else {
            "every pod is on a device of the node".into()
        },
    }
}

/// Of a node that is one device: whether Flight Control hears of it, and what its
/// agent says of its memory and disk, in the kubelet's own conditions.
pub(super) fn of_one(device: &DeviceView) -> Vec<ConditionFact> {
    let connected = !device.offline();
    let mut all = vec![ConditionFact {
        kind: "DeviceConnected".into(),
        status: Some(connected),
        reason: if connected {
            "Connected"
        } else {
            "Disconnected"
        }
        .into(),
        message: if connected {
            "Flight Control hears of the device".into()
        } else {
            "Flight Control does not hear of the device; states of its pods are the last known ones"
                .into()
        },
    }];
    for (kind, critical, what) in [
        ("MemoryPressure", device.critical.memory, "memory"),
        ("DiskPressure", device.critical.disk, "disk"),
    ] {
        if critical {
            all.push(ConditionFact {
                kind: kind.into(),
                status: Some(true),
                reason: "CriticalAlert".into(),
                message: format!("the device's agent has a critical alert of its {what}"),
            });
        }
    }
    all
}

/// In place of the kubelet's own: Kubernetes' controllers evict the pods of such a node.
pub(super) fn not_known_ready() -> ConditionFact {
    ConditionFact {
        kind: "Ready".into(),
        status: None,
        reason: DISCONNECTED.into(),
        message: "Flight Control does not hear of the device (eviction: kubernetes)".into(),
    }
}
