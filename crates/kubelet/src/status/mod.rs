//! The status of a pod: a pure function of the API object, the backend's facts
//! and the framework's own verdict. It says what the kubelet would say.
//!
//! # Guarantees
//! - A terminal phase stays; `startTime` never moves; restart counts never fall.
//! - No container leaves a terminated state that the API would not let it leave.
//! - What is not known is not invented: an unknown exit is `137` with reason
//!   `ContainerStatusUnknown`, an unknown start has no time.
//! - The function is idempotent: applied to a pod that already shows its result
//!   it gives the same result, so that nothing is written twice.
//! - A phase is terminal only when no container can still run.
//!
//! [`patch`] turns the difference to what Kubernetes shows into a request body.

mod conditions;
mod container;
mod patch;
mod phase;
mod qos;
pub mod resize;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vk_provider::{PodFacts, Reach, Revision};

pub use container::UNSUPPORTED;
pub use patch::patch;
pub use qos::qos_class;

use container::{Kind, Seen};

/// `status.reason` of a pod that had to leave, and the kubelet's event.
pub const EVICTED: &str = "Evicted";
/// The kubelet's reason for the condition `DisruptionTarget`.
pub const BY_KUBELET: &str = "TerminationByKubelet";

/// What the framework has decided about a pod as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum PodVerdict {
    /// Nothing: the facts speak.
    #[default]
    None,
    /// It has failed (rejected, lost, past its deadline). The phase becomes
    /// Failed as soon as nothing of it can run any more.
    Failed {
        /// `status.reason`.
        reason: String,
        /// `status.message`.
        message: String,
        /// `reason` of the condition `DisruptionTarget`, if it gets one.
        disruption: Option<String>,
    },
    /// Someone deleted it.
    Terminating {
        /// The remote has confirmed that nothing of it runs.
        stopped: bool,
    },
}

/// Why containers that have not started wait, where the facts have nothing
/// better to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// One CamelCase word.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// Who shows it.
    pub shown: Shown,
    /// It ends when what the pod refers to is there.
    pub for_inputs: bool,
}

/// Which containers show why they wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All, but for those behind init containers, which wait for these.
    ByAll,
    /// This one; the others wait for it.
    By(String),
    /// None: an event tells it.
    Nowhere,
}

impl Waiting {
    /// All containers wait for this.
    pub fn for_all(reason: &str, message: &str) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            shown: Shown::ByAll,
            for_inputs: false,
        }
    }
}

/// Whether a pod of this phase has ended for good.
pub fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Everything of `pod.status` that a kubelet owns, as it should read now.
///
/// `waiting` is the reason and message of containers that have not started,
/// where the facts have nothing better to say.
pub fn compute(
    pod: &Pod,
    facts: Option<&PodFacts>,
    verdict: &PodVerdict,
    waiting: Option<(&str, &str)>,
    now: Timestamp,
) -> PodStatus {
    let revision = pod.spec.as_ref().map(Revision::of);
    let waiting = waiting.map(|(reason, message)| Waiting::for_all(reason, message));
    let waiting = waiting.as_ref();
    compute_at(pod, revision.as_ref(), facts, verdict, waiting, now)
}

/// The same for a pod whose spec's revision is known.
pub fn compute_at(
    pod: &Pod,
    revision: Option<&Revision>,
    facts: Option<&PodFacts>,
    verdict: &PodVerdict,
    waiting: Option<&Waiting>,
    now: Timestamp,
) -> PodStatus {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let have = pod.status.as_ref().unwrap_or(&no_status);
    let frozen = is_terminal(have.phase.as_deref());
    let reachable = facts.is_none_or(|f| f.reach == Reach::Reachable);
    // Nothing at the remote runs it or is to: it waits for a place, its first one
    // or another.
    let unplaced = match facts {
        None => waiting.is_some(),
        Some(f) => reachable && !f.ended && f.accepted.is_none() && f.applied.is_none(),
    };

    // Facts about an older revision do not tell about the image asked for now.
    let current = facts.is_some_and(|f| f.applied.is_some() && f.applied.as_ref() == revision);
    let lost = unplaced && waiting.is_some();
    let mut statuses = statuses(spec, have, facts, waiting, (current, frozen, lost));
    let over = if frozen && !matches!(verdict, PodVerdict::Terminating { .. }) {
        Over::No
    } else {
        end_of(spec, facts, verdict, &statuses)
    };
    match &over {
        Over::No => {}
        Over::Stopped => stop(&mut statuses, spec, frozen),
        Over::Failed {
            reason, message, ..
        } => fail(&mut statuses, have, reason, message),
    }

    let phase = if frozen {
        have.phase.clone().unwrap_or_default()
    } else {
        match &over {
            Over::Failed { .. } => "Failed".to_owned(),
            Over::No if !reachable => "Unknown".to_owned(),
            Over::No => {
                let phase = phase::phase(spec, &statuses.init, &statuses.regular);
                // What ran is gone, and nothing has started in its new place.
                let anew = unplaced || starts_anew(have, facts);
                let waits = phase == "Running" && !statuses.runs() && anew;
                if waits { "Pending" } else { phase }.to_owned()
            }
            Over::Stopped => phase::last(spec, &statuses.init, &statuses.regular).to_owned(),
        }
    };
    let (reason, message) = match &over {
        _ if frozen => (have.reason.clone(), have.message.clone()),
        Over::Failed {
            reason, message, ..
        } => (Some(reason.clone()), Some(message.clone())),
        // One that has not run yet says it in its containers alone.
        Over::No if unplaced && phase == "Pending" && statuses.ran() => {
            let told = waiting.filter(|why| why.shown == Shown::ByAll);
            told.map(|why| (why.reason.clone(), why.message.clone()))
                .unzip()
        }
        _ => (None, None),
    };

    let unreachable = facts.and_then(|f| match &f.reach {
        Reach::Unreachable {
            since,
            reason,
            message,
        } => Some((*since, reason.as_str(), message.as_str())),
        Reach::Reachable => None,
    });
    let conditions = conditions::conditions(&conditions::Input {
        pod,
        spec,
        have,
        phase: &phase,
        statuses: &statuses,
        unreachable: unreachable.filter(|_| phase == "Unknown"),
        disruption: match &over {
            Over::Failed {
                disruption: Some(reason),
                message,
                ..
            } if !frozen => Some((reason, message)),
            _ => None,
        },
        now,
    });

    let host_ips = ips_or(
        facts.map(|f| &*f.host_ips),
        have.host_ips.iter().flatten().map(|h| &h.ip),
    );
    let mut own_ips = facts.map(|f| f.pod_ips.clone()).unwrap_or_default();
    if own_ips.is_empty() && spec.host_network == Some(true) {
        own_ips = facts.map(|f| f.host_ips.clone()).unwrap_or_default();
    }
    let pod_ips = ips_or(Some(&own_ips), have.pod_ips.iter().flatten().map(|p| &p.ip));

    PodStatus {
        phase: Some(phase),
        reason,
        message,
        conditions: Some(conditions),
        start_time: have
            .start_time
            .clone()
            .or_else(|| Some(Time(whole_seconds(now)))),
        qos_class: have
            .qos_class
            .clone()
            .or_else(|| Some(qos_class(spec).to_owned())),
        observed_generation: pod.metadata.generation.max(have.observed_generation),
        host_ip: host_ips.first().cloned(),
        host_ips: listed(host_ips, |ip| HostIP { ip }),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: listed(pod_ips, |ip| PodIP { ip }),
        init_container_statuses: some(statuses.init),
        container_statuses: some(statuses.regular),
        ephemeral_container_statuses: some(statuses.ephemeral),
        ..PodStatus::default()
    }
}

/// Container statuses by the list they stand in.
pub(crate) struct Statuses {
    init: Vec<ContainerStatus>,
    regular: Vec<ContainerStatus>,
    ephemeral: Vec<ContainerStatus>,
}

impl Statuses {
    fn runs(&self) -> bool {
        let mut all = self.init.iter().chain(&self.regular).chain(&self.ephemeral);
        all.any(|c| {
            c.state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
        })
    }

    fn ran(&self) -> bool {
        self.init.iter().chain(&self.regular).any(phase::has_run)
    }
}

/// Whether a pod that is shown without a place is on its way to one.
fn starts_anew(have: &PodStatus, facts: Option<&PodFacts>) -> bool {
    let placeless = matches!(have.phase.as_deref(), Some("Pending" | "Unknown"));
    placeless && facts.is_none_or(|f| f.applied.is_none())
}

fn statuses(
    spec: &PodSpec,
    have: &PodStatus,
    facts: Option<&PodFacts>,
    waiting: Option<&Waiting>,
    (current, frozen, lost): (bool, bool, bool),
) -> Statuses {
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let seen = |kind, container: &Container, policy| {
        let name = container.name.as_str();
        let (of_kind, before) = match kind {
            Kind::Init | Kind::Sidecar => (facts.map(|f| &f.init), &have.init_container_statuses),
            Kind::Regular => (facts.map(|f| &f.containers), &have.container_statuses),
        };
        let fact = of_kind.into_iter().flatten().find(|fact| fact.name == name);
        let have = before.iter().flatten().find(|c| c.name == name);
        // A pod that ended before anything was shown keeps showing nothing.
        if frozen && have.is_none() {
            return None;
        }
        let mut status = container::status(&Seen {
            kind,
            name,
            image: container.image.as_deref().unwrap_or_default(),
            policy,
            current,
            frozen,
            lost,
            fact,
            have,
            waiting,
            after_init: !inits.is_empty(),
        });
        status.resources = resize::started_with(container, have);
        let requests = status.resources.as_ref();
        status.allocated_resources = requests.and_then(|r| r.requests.clone());
        Some(status)
    };
    let pod_policy = pod_policy(spec);
    let init = inits.iter().filter_map(|c| {
        let sidecar = c.restart_policy.as_deref() == Some("Always");
        let kind = if sidecar { Kind::Sidecar } else { Kind::Init };
        let policy = c.restart_policy.as_deref().unwrap_or(pod_policy);
        seen(kind, c, policy)
    });
    let regular = spec.containers.iter().filter_map(|c| {
        let policy = c.restart_policy.as_deref().unwrap_or(pod_policy);
        seen(Kind::Regular, c, policy)
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().filter_map(|c| {
        let mut before = have.ephemeral_container_statuses.iter().flatten();
        let known = before.find(|s| s.name == c.name).cloned();
        let refused = || container::unsupported(&c.name, c.image.as_deref());
        known.or_else(|| (!frozen).then(refused))
    });
    Statuses {
        init: init.collect(),
        regular: regular.collect(),
        ephemeral: ephemeral.collect(),
    }
}

/// Whether nothing of the pod can run any more, and why.
enum Over {
    No,
    Stopped,
    Failed {
        reason: String,
        message: String,
        disruption: Option<String>,
    },
}

fn end_of(
    spec: &PodSpec,
    facts: Option<&PodFacts>,
    verdict: &PodVerdict,
    statuses: &Statuses,
) -> Over {
    let ended = facts.is_some_and(|f| f.ended);
    match verdict {
        PodVerdict::Terminating { stopped: true } => Over::Stopped,
        PodVerdict::Failed {
            reason,
            message,
            disruption,
        } => {
            // While a container runs within reach, Failed would make a
            // controller start the replacement beside it.
            let within_reach = facts.is_some_and(|f| f.reach == Reach::Reachable && !f.ended);
            if within_reach && statuses.runs() {
                return Over::No;
            }
            Over::Failed {
                reason: reason.clone(),
                message: message.clone(),
                disruption: disruption.clone(),
            }
        }
        // With `Always` an ended pod is one that the backend is asked to start again.
        PodVerdict::None if ended && pod_policy(spec) != "Always" => Over::Stopped,
        _ => Over::No,
    }
}

/// The pod has stopped: regular containers whose turn had come and that cannot be
/// found have ended, nobody knows how (kubelet's `TerminatePod`). What was never
/// reached stays waiting.
fn stop(statuses: &mut Statuses, spec: &PodSpec, frozen: bool) {
    let reached = !frozen && phase::initialized(spec, &statuses.init, &statuses.regular);
    let others = statuses.init.iter_mut().chain(&mut statuses.ephemeral);
    others
        .filter(|s| phase::has_run(s))
        .for_each(container::end);
    let regular = statuses.regular.iter_mut();
    regular
        .filter(|s| reached || phase::has_run(s))
        .for_each(container::end);
}

/// The pod has failed as a whole. What has run has ended; what has not shows
/// the verdict, because kubectl prints a container's reason before the pod's;
/// what was never shown is not shown now, as with the kubelet's own rejections.
fn fail(statuses: &mut Statuses, have: &PodStatus, reason: &str, message: &str) {
    let judge = |list: &mut Vec<ContainerStatus>, shown: &Option<Vec<ContainerStatus>>| {
        list.retain_mut(|status| {
            if phase::has_run(status) {
                container::end(status);
                return true;
            }
            status.state = Some(container::waiting(reason, message));
            shown.iter().flatten().any(|s| s.name == status.name)
        });
    };
    judge(&mut statuses.init, &have.init_container_statuses);
    judge(&mut statuses.regular, &have.container_statuses);
    judge(&mut statuses.ephemeral, &have.ephemeral_container_statuses);
}

/// What the facts say, else what is shown already: a place that is silent about
/// addresses has not lost them.
fn ips_or<'a>(facts: Option<&[IpAddr]>, have: impl Iterator<Item = &'a String>) -> Vec<String> {
    let known = one_per_family(facts.unwrap_or_default());
    if known.is_empty() {
        have.cloned().collect()
    } else {
        known
    }
}

/// The API takes one address of each family and refuses the whole status otherwise.
fn one_per_family(ips: &[IpAddr]) -> Vec<String> {
    let mut taken: Vec<IpAddr> = Vec::new();
    for ip in ips.iter().map(IpAddr::to_canonical) {
        if !taken.iter().any(|t| t.is_ipv4() == ip.is_ipv4()) {
            taken.push(ip);
        }
    }
    taken.iter().map(ToString::to_string).collect()
}

fn listed<T>(ips: Vec<String>, wrap: impl Fn(String) -> T) -> Option<Vec<T>> {
    some(ips.into_iter().map(wrap).collect())
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn pod_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// The API keeps whole seconds; anything finer would differ at the next look.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
