//! What devices there are for pods: pure.

use std::collections::BTreeMap;

use super::check::Check;
use crate::device::DeviceView;
use crate::fleet::{Grouping, Rules};

/// Names of devices that one line tells.
const NAMED: usize = 5;

/// Whether Fleets own devices, which then refuse pods.
pub(super) fn owned(devices: &[DeviceView]) -> Check {
    const NAME: &str = "owned by Fleets";
    let owned: Vec<_> = devices.iter().filter(|d| d.owner.is_some()).collect();
    if owned.is_empty() {
        return Check::ok(NAME, format!("none of {} devices", devices.len()));
    }
    let said = format!(
        "{} of {} devices, on which Flight Control refuses pods: {}",
        owned.len(),
        devices.len(),
        named(owned.iter().map(|d| {
            let owner = d.owner.as_deref().unwrap_or_default();
            format!("{} ({owner})", d.shown())
        }))
    );
    let remedy = "take the devices that pods are for out of the Fleet's selector (change their labels, or spec.selector of the Fleet)";
    if owned.len() == devices.len() {
        Check::problem(NAME, said, remedy)
    } else {
        Check::warning(NAME, said, remedy)
    }
}

/// Which nodes there will be, and of how many devices.
pub(super) fn fleets(rules: &Rules, grouping: &Grouping, devices: usize) -> Vec<Check> {
    const NAME: &str = "fleets";
    let mut checks: Vec<Check> = grouping
        .problems
        .iter()
        .map(|problem| {
            let (said, remedy) = problem.split_once("; ").unwrap_or((problem, ""));
            Check::problem(NAME, said, remedy)
        })
        .collect();
    let mut of: BTreeMap<&str, usize> = grouping
        .nodes
        .keys()
        .map(|node| (node.as_str(), 0))
        .collect();
    for node in grouping.node_of.values() {
        *of.entry(node).or_default() += 1;
    }
    if devices == 0 {
        checks.push(Check::warning(
            NAME,
            "this organization has no device, so the nodes are empty",
            "enrol devices in Flight Control; they are found within statusPollInterval",
        ));
        return checks;
    }
    let told = of.iter().map(|(node, n)| format!("{node} has {n}"));
    checks.push(Check::ok(NAME, told.collect::<Vec<_>>().join(", ")));
    for fleet in &rules.fleets {
        let none =
            crate::fleet::node_name(&fleet.name).is_some_and(|node| of.get(&*node) == Some(&0));
        if none {
            checks.push(Check::warning(
                NAME,
                format!("the fleet {} selects no device", fleet.name),
                "compare its selector with the labels of the devices (flightctl get devices -o wide)",
            ));
        }
    }
    let in_fleets = of
        .iter()
        .any(|(node, n)| *node != rules.node_name && *n > 0);
    if rules.fleets.is_empty() && !in_fleets {
        checks.push(Check::warning(
            NAME,
            format!(
                "no device has the label {}, so all are of the node {}",
                rules.fleet_label, rules.node_name
            ),
            format!(
                "label devices with {}=<fleet>, or list fleets in the configuration",
                rules.fleet_label
            ),
        ));
    }
    checks
}

/// Whether devices say how large they are.
pub(super) fn sizes(devices: &[DeviceView]) -> Check {
    const NAME: &str = "sizes";
    // One that has not reported at all says nothing yet.
    let reported = devices.iter().filter(|d| d.architecture.is_some());
    let silent: Vec<_> = reported
        .filter(|d| d.cpu_cores.is_none() || d.memory_kb.is_none())
        .collect();
    if silent.is_empty() {
        return Check::ok(
            NAME,
            "every device that has reported says its cores and memory",
        );
    }
    Check::warning(
        NAME,
        format!(
            "{} of {} devices do not say their cores or memory and count as the configuration has it (capacity): {}",
            silent.len(),
            devices.len(),
            named(silent.iter().map(|d| d.shown()))
        ),
        "add cpuCores and memoryTotalKb to system-info in the agent's /etc/flightctl/config.yaml, or write capacity for the fleet",
    )
}

/// The first of these, and how many more.
fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
