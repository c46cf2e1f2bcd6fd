//! The phase, as kubelet's `getPhase` has it (`pkg/kubelet/kubelet_pods.go`).
//! It differs where a backend knows less than a container runtime: a regular
//! container that has run proves that the init containers are done, and a
//! container that the remote will start again does not end its pod.

use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec};

use super::pod_policy;

/// A container's state, as far as it counts for the phase.
enum At {
    Running,
    Ended {
        code: i32,
    },
    /// Waits to start again after an end.
    Again {
        code: i32,
    },
    Waiting,
    Missing,
}

fn at(list: &[ContainerStatus], name: &str) -> At {
    let Some(status) = list.iter().find(|s| s.name == name) else {
        return At::Missing;
    };
    let Some(state) = &status.state else {
        return At::Missing;
    };
    let last = status
        .last_state
        .as_ref()
        .and_then(|l| l.terminated.as_ref());
    match (&state.running, &state.terminated, &state.waiting, last) {
        (Some(_), ..) => At::Running,
        (_, Some(end), ..) => At::Ended {
            code: end.exit_code,
        },
        (_, _, Some(_), Some(end)) => At::Again {
            code: end.exit_code,
        },
        (_, _, Some(_), None) => At::Waiting,
        _ => At::Missing,
    }
}

#[derive(Default)]
struct Tally {
    running: usize,
    waiting: usize,
    unknown: usize,
    stopped: usize,
    succeeded: usize,
    again: usize,
    init_pending: usize,
    init_failed: usize,
    sidecars_pending: usize,
}

fn tally(spec: &PodSpec, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Tally {
    let mut sum = Tally::default();
    let begun = begun(regular);
    let never = pod_policy(spec) == "Never";
    for container in spec.init_containers.iter().flatten() {
        let at = at(init, &container.name);
        if container.restart_policy.as_deref() == Some("Always") {
            match at {
                At::Running => sum.running += 1,
                // Ended sidecars do not count.
                At::Ended { .. } | At::Again { .. } => {}
                At::Waiting => {
                    sum.sidecars_pending += 1;
                    sum.waiting += 1;
                }
                At::Missing => sum.unknown += 1,
            }
            continue;
        }
        match at {
            At::Running => sum.init_pending += 1,
            At::Again { .. } if never => sum.init_pending += 1,
            At::Ended { code } | At::Again { code } => sum.init_failed += usize::from(code != 0),
            At::Waiting | At::Missing => sum.init_pending += usize::from(!begun),
        }
    }
    for container in &spec.containers {
        match at(regular, &container.name) {
            At::Running => sum.running += 1,
            At::Ended { code } => {
                sum.stopped += 1;
                sum.succeeded += usize::from(code == 0);
            }
            At::Again { .. } => {
                sum.stopped += 1;
                sum.again += 1;
            }
            At::Waiting => sum.waiting += 1,
            At::Missing => sum.unknown += 1,
        }
    }
    sum
}

/// The phase of a pod whose containers may still start or start again.
pub(super) fn phase(
    spec: &PodSpec,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> &'static str {
    let sum = tally(spec, init, regular);
    let policy = pod_policy(spec);
    // A sidecar that still runs is to be stopped first.
    if sum.init_failed > 0 && policy == "Never" && sum.running == 0 {
        return "Failed";
    }
    let starting = sum.init_pending > 0 || (sum.sidecars_pending > 0 && !begun(regular));
    if starting || sum.waiting > 0 || sum.unknown > 0 {
        return "Pending";
    }
    if sum.running > 0 {
        return "Running";
    }
    if sum.stopped == 0 {
        return "Pending";
    }
    match policy {
        _ if sum.again > 0 => "Running",
        "Always" => "Running",
        _ if sum.stopped == sum.succeeded => "Succeeded",
        "Never" => "Failed",
        _ => "Running",
    }
}

/// The phase of a pod none of whose containers can start any more.
pub(super) fn last(
    spec: &PodSpec,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> &'static str {
    let sum = tally(spec, init, regular);
    let all = spec.containers.len();
    let init_failed = sum.init_failed > 0 && pod_policy(spec) == "Never";
    if all > 0 && sum.succeeded == all && !init_failed {
        "Succeeded"
    } else {
        "Failed"
    }
}

/// Whether any regular container has run.
pub(super) fn begun(regular: &[ContainerStatus]) -> bool {
    regular.iter().any(has_run)
}

/// Whether a container runs or has run.
pub(super) fn has_run(status: &ContainerStatus) -> bool {
    status
        .state
        .as_ref()
        .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        || status
            .last_state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some())
}

/// Whether the regular containers' turn had come (kubelet's `hasPodInitialized`).
pub(super) fn initialized(
    spec: &PodSpec,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> bool {
    let Some(last) = spec.init_containers.iter().flatten().next_back() else {
        return true;
    };
    let sidecar = last.restart_policy.as_deref() == Some("Always");
    begun(regular)
        || match at(init, &last.name) {
            At::Running => sidecar,
            At::Ended { code } | At::Again { code } => code == 0,
            At::Waiting | At::Missing => false,
        }
}
