//! Whether there is a log to be read, by what the pod's status says, and the
//! kubelet's words where there is none (pkg/kubelet/kubelet_pods.go,
//! `validateContainerLogStatus`). Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

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
pub(super) fn missing(pod: &Pod, container: &str, previous: bool) -> Option<String> {
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
            assert_eq!(missing(&pod, "app", previous), wanted, "{state}");
        }
        let none = missing(&pod(&json!([])), "app", false);
        assert_eq!(none, Some(format!("{place} is not available")));
    }
}
