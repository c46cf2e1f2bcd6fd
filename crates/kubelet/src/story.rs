//! The kubelet's events about containers, told from what changed between two
//! statuses. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::status::{self, EVICTED, resize};

/// What has just been refused or ended against the user's wish.
pub(crate) fn warnings(have: &PodStatus, want: &PodStatus) -> Vec<(&'static str, String)> {
    let all = [
        evicted(have, want),
        resize_refused(have, want),
        debug_refused(have, want),
    ];
    all.into_iter().flatten().collect()
}

/// `Evicted` when the pod has just been evicted.
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

/// `ResizeInfeasible` when a resize has just been answered so.
fn resize_refused(have: &PodStatus, want: &PodStatus) -> Option<(&'static str, String)> {
    let refused = |status: &PodStatus| {
        let mut all = status.conditions.iter().flatten();
        all.find(|c| c.reason.as_deref() == Some(resize::INFEASIBLE))
            .and_then(|c| c.message.clone())
    };
    let message = refused(want)?;
    (refused(have).as_ref() != Some(&message)).then_some(("ResizeInfeasible", message))
}

/// `EphemeralContainersUnsupported` when ephemeral containers have just been
/// answered so.
fn debug_refused(have: &PodStatus, want: &PodStatus) -> Option<(&'static str, String)> {
    let refused = |status: &PodStatus| -> Vec<String> {
        let all = status.ephemeral_container_statuses.iter().flatten();
        let waiting = |c: &ContainerStatus| {
            let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref());
            waiting.and_then(|w| w.reason.as_deref()) == Some(status::UNSUPPORTED)
        };
        all.filter(|c| waiting(c)).map(|c| c.name.clone()).collect()
    };
    let (told, mut names) = (refused(have), refused(want));
    names.retain(|name| !told.contains(name));
    let message = format!(
        "Ephemeral containers [{}] cannot be started: this node has no such thing",
        names.join(" ")
    );
    (!names.is_empty()).then_some(("EphemeralContainersUnsupported", message))
}

/// `Killing` for each container that runs and is to have another image.
pub(crate) fn replacing(pod: &Pod) -> Vec<(&'static str, String)> {
    let spec = pod.spec.iter();
    let wanted: Vec<_> = spec
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
        .collect();
    let runs_another = |c: &&ContainerStatus| {
        let asked = wanted.iter().find(|w| w.name == c.name);
        let image = asked.and_then(|w| w.image.as_deref());
        is_running(c) && image.is_some_and(|image| image != c.image)
    };
    let told = |c: &ContainerStatus| {
        let message = format!("Container {} definition changed, will be restarted", c.name);
        ("Killing", message)
    };
    let shown = pod.status.iter().flat_map(all);
    shown.filter(runs_another).map(told).collect()
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
    use k8s_openapi::api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateWaiting,
    };

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

    #[test]
    fn an_ephemeral_container_is_told_of_once() {
        let debugged = |names: &[&str]| PodStatus {
            ephemeral_container_statuses: Some(
                names
                    .iter()
                    .map(|name| ContainerStatus {
                        name: (*name).into(),
                        state: Some(ContainerState {
                            waiting: Some(ContainerStateWaiting {
                                reason: Some(status::UNSUPPORTED.into()),
                                message: None,
                            }),
                            ..Default::default()
                        }),
                        ..Default::default()
                    })
                    .collect(),
            ),
            ..Default::default()
        };
        let told = |have: &[&str], want: &[&str]| {
            let told = debug_refused(&debugged(have), &debugged(want));
            told.map(|(_, message)| message)
        };
        assert!(told(&[], &["a"]).unwrap().contains("[a]"));
        assert!(told(&["a"], &["a", "b"]).unwrap().contains("[b]"));
        assert_eq!(told(&["a"], &["a"]), None);
        assert_eq!(told(&[], &[]), None);
    }

    #[test]
    fn only_what_runs_another_image_is_told_to_be_replaced() {
        let of = |image: &str, running: bool| {
            let mut pod = crate::table::tests::pod("p", "u");
            pod.spec.as_mut().unwrap().containers[0].name = "app".into();
            pod.spec.as_mut().unwrap().containers[0].image = Some("app:2".into());
            let mut status = status(running, 0);
            status.container_statuses.as_mut().unwrap()[0].image = image.into();
            pod.status = Some(status);
            replacing(&pod).len()
        };
        assert_eq!(of("app:1", true), 1);
        assert_eq!(of("app:2", true), 0);
        assert_eq!(of("app:1", false), 0);
    }
}
