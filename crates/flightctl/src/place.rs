//! Which device a pod goes to: pure.
//!
//! [`weigh`] says of each device of the pod's node what stands against it; [`place`]
//! takes the best of those against which nothing does, and [`Weighed`] is what
//! `explain` shows: there is no second opinion.

mod apart;
mod selected;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use vk_provider::PodRequest;
use vk_provider::quantity::{Resources, pod_requests};

pub use apart::MAX_SKEW_ANNOTATION;

use crate::ports::HostPorts;

/// Annotation: a label selector over the device's labels.
pub const SELECTOR_ANNOTATION: &str = "flightctl.io/device-selector";
/// Annotation: a device's name or alias. Also the pod label that tells the
/// chosen device's name, and the topology key of devices.
pub const DEVICE_KEY: &str = "flightctl.io/device";
/// The same, as the user types it in a `nodeSelector`.
const DEVICE_ID_KEY: &str = "flightctl.io/device-id";
/// Pod label that tells the chosen device's alias.
pub const ALIAS_LABEL: &str = "flightctl.io/device-alias";

/// Which of the devices with room is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Fewest pods of the same controller, then fewest pods, then most free cpu.
    #[default]
    Spread,
    /// Least free cpu, then least free memory: large slots stay free.
    Pack,
}

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
    /// Why a pod would wait there, if so: another device is better.
    pub hindered: Option<String>,
    /// Pods on it of the same controller as the one to place.
    pub siblings: usize,
    /// Pods on it.
    pub pods: usize,
    /// Those of them that Kubernetes has named.
    pub residents: Vec<Resident>,
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

impl Candidate {
    /// What people call it.
    fn called(&self) -> &str {
        self.alias.as_ref().unwrap_or(&self.name)
    }
}

/// A pod on a device.
#[derive(Clone, Debug)]
pub struct Resident {
    /// The pod.
    pub pod: Arc<PodRequest>,
    /// It is being taken out.
    pub leaving: bool,
}

/// What stands against a device for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Against {
    /// The pod asks for others, by this.
    NotSelected(String),
    /// It takes no pods now.
    Closed(String),
    /// The pod is larger than it is.
    TooSmall(String),
    /// It has not enough left now.
    NoRoom(String),
    /// A host port is taken.
    PortTaken(String),
    /// A rule between pods keeps them apart.
    Apart(String),
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSelected(by) => write!(f, "not selected by {by}"),
            Self::TooSmall(what) => write!(f, "too small: {what}"),
            Self::NoRoom(what) => write!(f, "no room now: {what}"),
            Self::PortTaken(port) => write!(f, "host port taken: {port}"),
            Self::Closed(why) | Self::Apart(why) => f.write_str(why),
        }
    }
}

/// A device and all that stands against it for a pod.
#[derive(Clone, Debug)]
pub struct Weighed<'a> {
    /// The device.
    pub candidate: &'a Candidate,
    /// Nothing where it may have the pod.
    pub against: Vec<Against>,
}

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// A selector that cannot be understood or matches more than it may.
    BadSelector(String),
    /// A rule between pods that devices cannot keep: its path and the remedy.
    Unsupported {
        /// The field's path.
        field: String,
        /// Why, and what to use.
        message: String,
    },
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
    /// The same, of a pod that an earlier device may still run.
    Earlier(String),
    /// None could for as long as the configuration lets it wait.
    Overdue(String),
}

/// The device for a pod among those of its node, `node_labels` being the
/// node's own: entries of `nodeSelector` that are not among them speak of devices.
///
/// # Errors
/// Why there is none.
pub fn place(
    pod: &PodRequest,
    node_labels: &BTreeMap<String, String>,
    strategy: Strategy,
    candidates: &[Candidate],
) -> Result<String, NoPlace> {
    choose(pod, strategy, &weigh(pod, node_labels, candidates)?)
}

/// What stands against each device, in the order of `candidates`.
///
/// # Errors
/// What the pod says about devices cannot be understood.
pub fn weigh<'a>(
    pod: &PodRequest,
    node_labels: &BTreeMap<String, String>,
    candidates: &'a [Candidate],
) -> Result<Vec<Weighed<'a>>, NoPlace> {
    let unmet = selected::unmet(pod, node_labels, candidates)?;
    let rules = apart::Rules::of(pod, node_labels)?;
    let wanted = pod_requests(pod.spec());
    let ports = host_ports(pod);
    // What is spread is spread over the devices that may have it.
    let eligible: Vec<&Candidate> = candidates
        .iter()
        .zip(&unmet)
        .filter(|(c, unmet)| unmet.is_none() && c.closed.is_none())
        .map(|(c, _)| c)
        .collect();
    let apart = apart::Counted::new(&rules, &eligible);
    let weighed = candidates.iter().zip(unmet).map(|(candidate, unmet)| {
        let short = words::short(&wanted, &candidate.allocatable);
        let against = [
            unmet.map(Against::NotSelected),
            candidate.closed.clone().map(Against::Closed),
            match short {
                Some(short) if !candidate.unheard => Some(Against::TooSmall(short)),
                _ => words::short(&wanted, &candidate.free).map(Against::NoRoom),
            },
            clash(&ports, candidate).map(Against::PortTaken),
            apart.keeps_off(candidate).map(Against::Apart),
        ];
        Weighed {
            candidate,
            against: against.into_iter().flatten().collect(),
        }
    });
    Ok(weighed.collect())
}

/// The best of what was weighed.
///
/// # Errors
/// Why there is none.
pub fn choose(
    pod: &PodRequest,
    strategy: Strategy,
    weighed: &[Weighed<'_>],
) -> Result<String, NoPlace> {
    let open = weighed.iter().filter(|w| w.against.is_empty());
    let best = open.map(|w| w.candidate).min_by(|a, b| {
        let free = |c: &Candidate, name: &str| c.free.get(name);
        let hindered = |c: &Candidate| c.hindered.is_some();
        let by_strategy = match strategy {
            Strategy::Spread => (a.siblings, a.pods)
                .cmp(&(b.siblings, b.pods))
                .then_with(|| free(b, "cpu").cmp(&free(a, "cpu"))),
            Strategy::Pack => free(a, "cpu")
                .cmp(&free(b, "cpu"))
                .then_with(|| free(a, "memory").cmp(&free(b, "memory"))),
        };
        hindered(a)
            .cmp(&hindered(b))
            .then(by_strategy)
            .then_with(|| a.name.cmp(&b.name))
    });
    match best {
        Some(best) => Ok(best.name.clone()),
        None => Err(words::no_place(pod, weighed)),
    }
}

/// The first port that a pod wants and cannot have there, and who has it.
fn clash(wanted: &[HostPorts], device: &Candidate) -> Option<String> {
    wanted.iter().find_map(|port| {
        let mut taken = device.ports.iter();
        let taken = taken.find(|taken| taken.ports.clash(port))?;
        Some(match &taken.by {
            Some(by) => format!("{port}, by the application {by}"),
            None => format!("{port}, by another pod"),
        })
    })
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
