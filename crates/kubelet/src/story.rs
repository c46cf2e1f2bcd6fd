//! The kubelet's events about containers, told from what changed between two
//! statuses. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::status::{EVICTED, resize};

/// `Evicted` when the pod has just been evicted, `ResizeInfeasible` when a resize
/// has just been answered so.
pub(crate) fn warnings(have: &PodStatus, want: &PodStatus) -> Vec<(&'static str, String)> {
    let all = [evicted(have, want), resize_refused(have, want)];
    all.into_iter().flatten().collect()
}

fn evicted(have: &PodStatus, want: &PodStatus) -> Option<(&'static str, String)> {
    let shown = |status: &PodStatus| status.reason.as_deref() == Some(EVICTED);
    let message = || want.message.clone().unwrap_or_default();
    (shown(want) && !shown(have)).then(|| (EVICTED, message()))
}

/// Whether the phase is `Running`.
pub(crate) fn running(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Running")
}

/// `Created` and `Started` for each container that runs in `want` and did not
/// in `have`.
pub(crate) fn started(have: &PodStatus, want: &PodStatus) -> Vec<(&'static str, String)> {
    let before: Vec<&ContainerStatus> = all(have).collect();
    all(want)
        .filter(|now| is_running(now))
        .filter(|now| {
            let was = before.iter().find(|c| c.name == now.name);
            !was.is_some_and(|c| is_running(c) && c.restart_count == now.restart_count)
        })
        .flat_map(|c| {
            [
                ("Created", format!("Created container {}", c.name)),
                ("Started", format!("Started container {}", c.name)),
            ]
        })
        .collect()
}

fn resize_refused(have: &PodStatus, want: &PodStatus) -> Option<(&'static str, String)> {
    let refused = |status: &PodStatus| {
        let mut all = status.conditions.iter().flatten();
        all.find(|c| c.reason.as_deref() == Some(resize::INFEASIBLE))
            .and_then(|c| c.message.clone())
    };
    let message = refused(want)?;
    (refused(have).as_ref() != Some(&message)).then_some(("ResizeInfeasible", message))
}

/// `Killing` for each container that runs.
pub(crate) fn killing(pod: &Pod) -> Vec<(&'static str, String)> {
    pod.status
        .iter()
        .flat_map(all)
        .filter(|c| is_running(c))
        .map(|c| ("Killing", format!("Stopping container {}", c.name)))
        .collect()
}

fn all(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten()
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning};

    fn status(running: bool, restarts: i32) -> PodStatus {
        PodStatus {
            container_statuses: Some(vec![ContainerStatus {
                name: "app".into(),
                restart_count: restarts,
                state: Some(ContainerState {
                    running: running.then(ContainerStateRunning::default),
                    ..Default::default()
                }),
                ..Default::default()
            }]),
            ..Default::default()
        }
    }

    #[test]
    fn a_start_is_told_once_and_a_restart_again() {
        let told = |have, want| started(&have, &want).len();
        assert_eq!(told(status(false, 0), status(true, 0)), 2);
        assert_eq!(told(status(true, 0), status(true, 0)), 0);
        assert_eq!(told(status(true, 0), status(true, 1)), 2);
    }
}
