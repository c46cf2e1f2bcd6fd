//! The kubelet's conditions (`pkg/kubelet/status/generate.go`). Those of others
//! are neither made nor touched here.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Statuses, is_terminal, phase, resize, whole_seconds};

pub(super) struct Input<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a PodSpec,
    pub(super) have: &'a PodStatus,
    pub(super) phase: &'a str,
    pub(super) statuses: &'a Statuses,
    /// Since when, reason and message, while nobody can tell how the pod is.
    pub(super) unreachable: Option<(Timestamp, &'a str, &'a str)>,
    /// Reason and message, when the pod ends by no fault of its own.
    pub(super) disruption: Option<(&'a str, &'a str)>,
    pub(super) now: Timestamp,
}

/// A pod that ends by no fault of its own; told with its terminal phase and not
/// before, as the kubelet does.
const DISRUPTION: &str = "DisruptionTarget";

/// Status, reason and message of one condition.
#[derive(Default)]
struct Say {
    status: &'static str,
    reason: String,
    message: String,
    /// Since when it is so, where that was not found only now.
    since: Option<Timestamp>,
}

fn yes() -> Say {
    Say {
        status: "True",
        ..Say::default()
    }
}

fn no(reason: &str, message: String) -> Say {
    Say {
        status: "False",
        reason: reason.into(),
        message,
        since: None,
    }
}

pub(super) fn conditions(input: &Input<'_>) -> Vec<PodCondition> {
    let containers = containers_ready(input);
    let ready = ready(input, &containers);
    let resize = resize_pending(input).map(|say| (resize::PENDING, say));
    [
        ("PodReadyToStartContainers", ready_to_start(input)),
        ("Initialized", initialized(input)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", yes()),
    ]
    .into_iter()
    .chain(resize)
    .map(|(kind, say)| condition(input, kind, say))
    .chain(disruption(input))
    .collect()
}

/// It is shared: whoever has said it first is left as it is.
fn disruption(input: &Input<'_>) -> Option<PodCondition> {
    let said = shown(input.have, DISRUPTION).filter(|have| have.status == "True");
    said.cloned().or_else(|| {
        let (reason, message) = input.disruption?;
        let say = Say {
            reason: reason.into(),
            message: message.into(),
            ..yes()
        };
        Some(condition(input, DISRUPTION, say))
    })
}

/// Absent when no resize is asked for, or none counts any more.
fn resize_pending(input: &Input<'_>) -> Option<Say> {
    let mut names = resize::asked(input.spec, &input.statuses.init);
    names.extend(resize::asked(input.spec, &input.statuses.regular));
    if names.is_empty() || is_terminal(Some(input.phase)) {
        return None;
    }
    Some(Say {
        reason: resize::INFEASIBLE.into(),
        message: format!(
            "containers [{}] keep the resources they were started with: this node cannot resize a running pod; delete and create it instead",
            names.join(" ")
        ),
        ..yes()
    })
}

fn condition(input: &Input<'_>, kind: &str, say: Say) -> PodCondition {
    let have = shown(input.have, kind);
    let since = have
        .filter(|have| have.status == say.status)
        .and_then(|have| have.last_transition_time.clone())
        .unwrap_or_else(|| Time(whole_seconds(turned(input, have, &say))));
    PodCondition {
        type_: kind.into(),
        status: say.status.into(),
        reason: Some(say.reason).filter(|r| !r.is_empty()),
        message: Some(say.message).filter(|m| !m.is_empty()),
        last_transition_time: Some(since),
        last_probe_time: None,
        observed_generation: input
            .pod
            .metadata
            .generation
            .max(have.and_then(|have| have.observed_generation)),
    }
}

/// When a condition became what it is: not before it became what it was.
fn turned(input: &Input<'_>, have: Option<&PodCondition>, say: &Say) -> Timestamp {
    let Some(since) = say.since else {
        return input.now;
    };
    let before = have.and_then(|have| have.last_transition_time.as_ref());
    let before = before.or(input.pod.metadata.creation_timestamp.as_ref());
    before.map_or(since, |at| since.max(at.0)).min(input.now)
}

fn shown<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// No backend reports a sandbox: that a container runs or ran proves one, and
/// after the end there is none.
fn ready_to_start(input: &Input<'_>) -> Say {
    let statuses = input.statuses;
    let ran = statuses
        .init
        .iter()
        .chain(&statuses.regular)
        .any(phase::has_run);
    if ran && !is_terminal(Some(input.phase)) {
        yes()
    } else {
        no("", String::new())
    }
}

fn initialized(input: &Input<'_>) -> Say {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in input.spec.init_containers.iter().flatten() {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        match find(&input.statuses.init, &container.name) {
            None => unknown.push(&*container.name),
            Some(s) if sidecar && s.started == Some(true) => {}
            Some(s) if !sidecar && s.ready => {}
            Some(_) => incomplete.push(&*container.name),
        }
    }
    if input.phase == "Succeeded" && unknown.is_empty() {
        return Say {
            reason: "PodCompleted".into(),
            ..yes()
        };
    }
    if phase::begun(&input.statuses.regular) {
        return yes();
    }
    match told(&[("unknown", unknown), ("incomplete", incomplete)]) {
        None => yes(),
        Some(message) => no("ContainersNotInitialized", message),
    }
}

fn containers_ready(input: &Input<'_>) -> Say {
    if let Some((since, reason, message)) = input.unreachable {
        return Say {
            status: "Unknown",
            reason: reason.into(),
            message: message.into(),
            since: Some(since),
        };
    }
    let sidecars = input.spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let all = sidecars.map(|c| (&c.name, &input.statuses.init)).chain(
        input
            .spec
            .containers
            .iter()
            .map(|c| (&c.name, &input.statuses.regular)),
    );
    for (name, list) in all {
        match find(list, name) {
            None => unknown.push(&**name),
            Some(status) if !status.ready => unready.push(&**name),
            Some(_) => {}
        }
    }
    match input.phase {
        "Succeeded" => return no("PodCompleted", String::new()),
        "Failed" => return no("PodFailed", String::new()),
        _ => {}
    }
    match told(&[("unknown", unknown), ("unready", unready)]) {
        None => yes(),
        Some(message) => no("ContainersNotReady", message),
    }
}

fn ready(input: &Input<'_>, containers: &Say) -> Say {
    if containers.status != "True" {
        return Say {
            status: containers.status,
            reason: containers.reason.clone(),
            message: containers.message.clone(),
            since: containers.since,
        };
    }
    let missing: Vec<String> = input
        .spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match shown(input.have, kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if missing.is_empty() {
        yes()
    } else {
        no("ReadinessGatesNotReady", missing.join(", "))
    }
}

/// `containers with unready status: [a b]`, as kubelet words it.
fn told(kinds: &[(&str, Vec<&str>)]) -> Option<String> {
    let parts: Vec<String> = kinds
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("containers with {kind} status: [{}]", names.join(" ")))
        .collect();
    Some(parts.join(", ")).filter(|text| !text.is_empty())
}

fn find<'a>(list: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    list.iter().find(|status| status.name == name)
}
