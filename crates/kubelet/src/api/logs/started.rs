//! Whether there is a log to be read, by what the pod's status says, and the
//! kubelet's words where there is none (pkg/kubelet/kubelet_pods.go,
//! `validateContainerLogStatus`). Pure.
//!
//! What the remote shows counts before it is in the status that we know: a client can
//! read a new status before its writer has the answer. The kubelet asks its own
//! status manager, too.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use vk_provider::{ContainerState, PodFacts};

/// Whether a container of this name is in the pod's spec.
pub(super) fn is_in_spec(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let init = spec.init_containers.iter().flatten().map(|c| &c.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| &c.name);
    let mut names = spec.containers.iter().map(|c| &c.name).chain(init);
    names.any(|name| name == container) || ephemeral.into_iter().any(|name| name == container)
}

/// Why there is no log, in words.
pub(super) fn missing(
    pod: &Pod,
    facts: Option<&PodFacts>,
    container: &str,
    previous: bool,
) -> Option<String> {
    if facts.is_some_and(|facts| shown(facts, container, previous)) {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let place = format!("container {container:?} in pod {name:?}");
    let Some(status) = status(pod, container) else {
        return Some(format!("{place} is not available"));
    };
    let ended_before = status
        .last_state
        .as_ref()
        .is_some_and(|last| last.terminated.is_some());
    if previous {
        let missing = format!("previous terminated {place} not found");
        return (!ended_before).then_some(missing);
    }
    let state = status.state.as_ref();
    let ran = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    if ran || ended_before {
        return None;
    }
    let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) else {
        return Some(format!("{place} is waiting to start - no logs yet"));
    };
    let reason = match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    };
    Some(format!("{place} is waiting to start: {reason}"))
}

/// Whether the remote shows that it ran, or has ended before.
fn shown(facts: &PodFacts, container: &str, previous: bool) -> bool {
    let mut all = facts.containers.iter().chain(&facts.init);
    all.find(|fact| fact.name == container).is_some_and(|fact| {
        let ran = matches!(
            fact.state,
            ContainerState::Running { .. } | ContainerState::Terminated(_)
        );
        fact.last.is_some() || (ran && !previous)
    })
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = all.into_iter().flatten().flatten();
    all.find(|status| status.name == container)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use vk_provider::{ContainerFact, PodKey, Terminated};

    fn pod(statuses: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {
                "containers": [{"name": "app"}],
                "initContainers": [{"name": "first"}],
                "ephemeralContainers": [{"name": "debug"}],
            },
            "status": {"containerStatuses": statuses},
        }))
        .unwrap()
    }

    fn status(state: &Value, last: &Value) -> Pod {
        pod(
            &json!([{"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state, "lastState": last}]),
        )
    }

    #[test]
    fn every_kind_of_container_is_one() {
        let pod = pod(&json!([]));
        for name in ["app", "first", "debug"] {
            assert!(is_in_spec(&pod, name), "{name}");
        }
        assert!(!is_in_spec(&pod, "other"));
    }

    #[test]
    fn what_has_not_started_is_said_as_the_kubelet_says_it() {
        let ended = || json!({"terminated": {"exitCode": 1}});
        let waits = |reason: &str| json!({"waiting": {"reason": reason}});
        let place = "container \"app\" in pod \"web\"";
        let table = [
            (json!({"running": {}}), json!({}), false, None),
            (ended(), json!({}), false, None),
            (waits("CrashLoopBackOff"), ended(), false, None),
            (json!({"running": {}}), ended(), true, None),
            (
                json!({"running": {}}),
                json!({}),
                true,
                Some(format!("previous terminated {place} not found")),
            ),
            (
                waits("ContainerCreating"),
                json!({}),
                false,
                Some(format!("{place} is waiting to start: ContainerCreating")),
            ),
            (
                waits("ErrImagePull"),
                json!({}),
                false,
                Some(format!(
                    "{place} is waiting to start: image can't be pulled"
                )),
            ),
            (
                json!({}),
                json!({}),
                false,
                Some(format!("{place} is waiting to start - no logs yet")),
            ),
        ];
        for (state, last, previous, wanted) in table {
            let pod = status(&state, &last);
            assert_eq!(missing(&pod, None, "app", previous), wanted, "{state}");
        }
        let none = missing(&pod(&json!([])), None, "app", false);
        assert_eq!(none, Some(format!("{place} is not available")));
    }

    #[test]
    fn what_the_remote_shows_counts_before_the_status_does() {
        let key = PodKey::new("default", "web", "u");
        let of = |state: ContainerState, last: Option<Terminated>| {
            let mut facts = PodFacts::new(key.clone(), "node".into(), 1);
            let mut fact = ContainerFact::new("app", state);
            fact.last = last;
            facts.containers = vec![fact];
            facts
        };
        let end = Terminated::default;
        let waits = || ContainerState::Waiting {
            reason: "ContainerCreating".into(),
            message: String::new(),
        };
        let runs = || ContainerState::Running { started_at: None };
        let untold = pod(&json!([]));
        for (facts, now, before) in [
            (of(runs(), None), true, false),
            (of(ContainerState::Terminated(end()), None), true, false),
            (of(runs(), Some(end())), true, true),
            (of(waits(), Some(end())), true, true),
            (of(waits(), None), false, false),
            (of(ContainerState::Unknown, None), false, false),
        ] {
            let there = |previous| missing(&untold, Some(&facts), "app", previous).is_none();
            assert_eq!((there(false), there(true)), (now, before), "{facts:?}");
        }
        let other = missing(&untold, Some(&of(runs(), None)), "first", false);
        assert!(other.is_some());
    }
}
