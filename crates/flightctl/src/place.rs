//! Which device a pod goes to: pure.

use std::collections::BTreeMap;

use vk_provider::PodRequest;
use vk_provider::quantity::{Amount, Resources, pod_requests};

use crate::ports::HostPorts;
use crate::select;

/// Annotation: a label selector over the device's labels.
pub const SELECTOR_ANNOTATION: &str = "flightctl.io/device-selector";
/// Annotation: a device's name or alias. Also the pod label that tells the
/// chosen device's name.
pub const DEVICE_KEY: &str = "flightctl.io/device";
/// The same, as the user types it in a `nodeSelector`.
const DEVICE_ID_KEY: &str = "flightctl.io/device-id";
/// Pod label that tells the chosen device's alias.
pub const ALIAS_LABEL: &str = "flightctl.io/device-alias";

/// Devices that a message names, of many: enough to see what is wrong.
const NAMED: usize = 5;

/// One device of the pod's node.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it can hold at all.
    pub allocatable: Resources,
    /// What is left now.
    pub free: Resources,
    /// Its size is not known yet: it has never reported.
    pub unheard: bool,
    /// Why it takes no pods now, if so.
    pub closed: Option<String>,
    /// Pods on it of the same controller as the one to place.
    pub siblings: usize,
    /// Pods on it.
    pub pods: usize,
    /// Host ports that are taken.
    pub ports: Vec<Taken>,
}

/// Ports of a device that a pod cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub ports: HostPorts,
    /// The application of someone else that publishes them; none of a pod's.
    pub by: Option<String>,
}

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// A selector that cannot be understood or matches more than it may.
    BadSelector(String),
    /// No device matches what the pod asks for.
    NoMatch(String),
    /// Larger than any device can ever hold: resource name and the user's text.
    TooBig {
        /// `cpu`, `memory`, `pods`.
        resource: String,
        /// S3's sentence.
        message: String,
    },
    /// Some device could hold it, none can now.
    NotNow(String),
}

/// The device for a pod among those of its node, `node_labels` being the
/// node's own: entries of `nodeSelector` that are not among them speak of devices.
///
/// Spreads: fewest pods of the same controller, then fewest pods, then most
/// free cpu, then the name.
///
/// # Errors
/// Why there is none.
pub fn place(
    pod: &PodRequest,
    node_labels: &BTreeMap<String, String>,
    candidates: &[Candidate],
) -> Result<String, NoPlace> {
    let matching = matching(pod, node_labels, candidates)?;
    let wanted = pod_requests(pod.spec());
    if let Some(too_big) = too_big(&wanted, &matching, candidates) {
        return Err(too_big);
    }
    let ports = host_ports(pod);
    let mut open: Vec<&&Candidate> = matching
        .iter()
        .filter(|c| c.closed.is_none() && wanted.exceeds(&c.free).is_none())
        .filter(|c| clash(&ports, c).is_none())
        .collect();
    open.sort_by(|a, b| {
        let key = |c: &Candidate| (c.siblings, c.pods);
        key(a)
            .cmp(&key(b))
            .then_with(|| b.free.get("cpu").cmp(&a.free.get("cpu")))
            .then_with(|| a.name.cmp(&b.name))
    });
    match open.first() {
        Some(best) => Ok(best.name.clone()),
        None => Err(not_now(&wanted, &ports, &matching)),
    }
}

fn matching<'a>(
    pod: &PodRequest,
    node_labels: &BTreeMap<String, String>,
    candidates: &'a [Candidate],
) -> Result<Vec<&'a Candidate>, NoPlace> {
    let mut asked = Vec::new();
    let mut left: Vec<&Candidate> = candidates.iter().collect();
    if let Some(text) = pod.annotation(SELECTOR_ANNOTATION) {
        let selector = select::parse(text)
            .map_err(|e| NoPlace::BadSelector(format!("annotation {SELECTOR_ANNOTATION}: {e}")))?;
        left.retain(|c| select::matches(&selector, &c.labels));
        asked.push(format!("{SELECTOR_ANNOTATION} {text:?}"));
    }
    let mut named = Vec::new();
    if let Some(text) = pod.annotation(DEVICE_KEY) {
        named.push((format!("annotation {DEVICE_KEY}"), text));
    }
    for (key, value) in pod.spec().node_selector.iter().flatten() {
        if node_labels.get(key) == Some(value) || key.contains("kubernetes.io/") {
            continue;
        }
        if key == DEVICE_KEY || key == DEVICE_ID_KEY {
            named.push((format!("nodeSelector {key}"), value.as_str()));
        } else {
            left.retain(|c| c.labels.get(key) == Some(value));
            asked.push(format!("nodeSelector {key}={value}"));
        }
    }
    for (place, text) in named {
        let by_name = left.iter().any(|c| c.name == text);
        left.retain(|c| {
            if by_name {
                c.name == text
            } else {
                c.alias.as_deref() == Some(text)
            }
        });
        if left.len() > 1 {
            let names: Vec<&str> = left.iter().map(|c| c.name.as_str()).collect();
            return Err(NoPlace::BadSelector(format!(
                "{place}: the alias {text:?} is not unique; name one of {}",
                names.join(", ")
            )));
        }
        asked.push(format!("{place} {text:?}"));
    }
    if !left.is_empty() {
        return Ok(left);
    }
    Err(NoPlace::NoMatch(if candidates.is_empty() {
        "The node has no devices".into()
    } else {
        format!(
            "None of the {} devices of the node matches {}",
            candidates.len(),
            asked.join(" and ")
        )
    }))
}

/// Too big for every matching device, whatever runs on it.
fn too_big(wanted: &Resources, matching: &[&Candidate], all: &[Candidate]) -> Option<NoPlace> {
    if matching.iter().any(|c| c.unheard) {
        return None;
    }
    let mut resource = None;
    for candidate in matching {
        match wanted.exceeds(&candidate.allocatable) {
            None => return None,
            Some(name) => resource = resource.or(Some(name)),
        }
    }
    let resource = resource?.to_owned();
    let largest = |name: &str| {
        matching
            .iter()
            .map(|c| c.allocatable.get(name))
            .max()
            .unwrap_or(Amount::ZERO)
    };
    let sum = |name: &str| {
        all.iter()
            .fold(Amount::ZERO, |sum, c| sum + c.allocatable.get(name))
    };
    let names = shown_names(wanted);
    let list = |amount: &dyn Fn(&str) -> Amount| {
        let parts: Vec<String> = names
            .iter()
            .map(|n| format!("{n}={}", amount(n).show(n)))
            .collect();
        parts.join(", ")
    };
    Some(NoPlace::TooBig {
        message: format!(
            "Insufficient resources: requested {}; available {} (largest device; all {} devices together: {})",
            list(&|n| wanted.get(n)),
            list(&largest),
            all.len(),
            list(&sum),
        ),
        resource,
    })
}

/// cpu and memory always, others where asked for.
fn shown_names(wanted: &Resources) -> Vec<&str> {
    let mut names = vec!["cpu", "memory"];
    names.extend(
        wanted
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !["cpu", "memory", "pods"].contains(name)),
    );
    names
}

/// The first port that a pod wants and cannot have there, and who has it.
fn clash<'a>(wanted: &'a [HostPorts], device: &'a Candidate) -> Option<(&'a HostPorts, &'a Taken)> {
    wanted.iter().find_map(|port| {
        let mut taken = device.ports.iter();
        Some((port, taken.find(|taken| taken.ports.clash(port))?))
    })
}

/// `a: 8080/TCP of the application web`.
fn taken(wanted: &[HostPorts], device: &Candidate) -> Option<String> {
    let (port, taken) = clash(wanted, device)?;
    let name = device.alias.as_ref().unwrap_or(&device.name);
    Some(match &taken.by {
        Some(by) => format!("{name}: {port}, by the application {by}"),
        None => format!("{name}: {port}, by another pod"),
    })
}

fn not_now(wanted: &Resources, ports: &[HostPorts], matching: &[&Candidate]) -> NoPlace {
    let open: Vec<&&Candidate> = matching.iter().filter(|c| c.closed.is_none()).collect();
    if open.is_empty() {
        let why: Vec<String> = matching
            .iter()
            .filter_map(|c| {
                Some(format!(
                    "{}: {}",
                    c.alias.as_ref().unwrap_or(&c.name),
                    c.closed.as_ref()?
                ))
            })
            .take(NAMED)
            .collect();
        return NoPlace::NotNow(format!(
            "No matching device takes pods now ({})",
            why.join("; ")
        ));
    }
    let clashes: Vec<String> = open
        .iter()
        .filter(|c| wanted.exceeds(&c.free).is_none())
        .filter_map(|c| taken(ports, c))
        .take(NAMED)
        .collect();
    if !clashes.is_empty() {
        return NoPlace::NotNow(format!(
            "A host port of the pod is taken on every device with room ({})",
            clashes.join("; ")
        ));
    }
    let roomiest = open
        .iter()
        .max_by_key(|c| (c.free.get("cpu"), c.free.get("memory")));
    let names = shown_names(wanted);
    let list = |from: &Resources| {
        let parts: Vec<String> = names
            .iter()
            .map(|n| format!("{n}={}", from.get(n).show(n)))
            .collect();
        parts.join(", ")
    };
    NoPlace::NotNow(format!(
        "Insufficient resources now: requested {}; largest free slot {} on {}",
        list(wanted),
        roomiest.map_or_else(String::new, |c| list(&c.free)),
        roomiest.map_or("no device", |c| c.alias.as_ref().unwrap_or(&c.name)),
    ))
}

/// Host ports of a pod.
pub fn host_ports(pod: &PodRequest) -> Vec<HostPorts> {
    let spec = pod.spec();
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let protocol = p.protocol.as_deref().unwrap_or("TCP");
            HostPorts::one(p.host_port?.into(), protocol, p.host_ip.as_deref())
        })
        .collect()
}

#[cfg(test)]
mod tests;
