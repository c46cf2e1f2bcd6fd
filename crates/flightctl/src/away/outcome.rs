//! What becomes of a pod whose device did not come back in time.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::config::duration;

/// How long a pod waits for its device, where nothing else is said: the user's five
/// minutes.
pub const RECONNECT_TIMEOUT: Duration = Duration::from_secs(300);
/// On a pod: a duration, or `never`.
pub const TIMEOUT_ANNOTATION: &str = "flightctl.io/reconnect-timeout";
/// On a pod, `true`: never a second copy of it, as for a StatefulSet's.
pub const ONCE_ANNOTATION: &str = "flightctl.io/at-most-once";
/// On a pod, by a human: what runs on this device does not run any more.
pub const LOST_ANNOTATION: &str = "flightctl.io/confirm-lost";
/// On a pod, by us: a device that may still run an earlier copy of it.
pub const COPY_ANNOTATION: &str = "flightctl.io/may-still-run-on";

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its controller makes another: it is Failed and deleted.
    Replace,
    /// It may run only once, and did: it is Failed.
    Lose,
    /// It is placed anew, the object kept.
    Place,
}

/// What becomes of a pod whose time is over.
pub fn outcome(pod: &Pod) -> Outcome {
    if is_at_most_once(pod) {
        return Outcome::Place;
    }
    match controller(pod) {
        // The node is the fleet: a DaemonSet's next pod would come to the same one.
        Some("DaemonSet") => Outcome::Place,
        Some(_) => Outcome::Replace,
        None if policy(pod) == Some("Never") => Outcome::Lose,
        None => Outcome::Place,
    }
}

/// Whether two copies of it must never run, whatever that takes.
pub fn is_at_most_once(pod: &Pod) -> bool {
    controller(pod) == Some("StatefulSet") || annotation(pod, ONCE_ANNOTATION) == Some("true")
}

/// How long it waits for its device; `None` for ever.
///
/// # Errors
/// What is wrong with its annotation; then `default` counts.
pub fn timeout(pod: &Pod, default: Duration) -> Result<Option<Duration>, String> {
    match annotation(pod, TIMEOUT_ANNOTATION) {
        None => Ok(Some(default)),
        Some("never") => Ok(None),
        Some(text) => duration::parse(text).map(Some).ok_or_else(|| {
            format!(
                "metadata.annotations[{TIMEOUT_ANNOTATION}]: {text:?} is no duration; write for example 10m, or never; until then the fleet's reconnectTimeout counts"
            )
        }),
    }
}

/// The device whose copy of it a human has called lost, by name or alias.
pub fn confirmed_lost(pod: &Pod) -> Option<&str> {
    annotation(pod, LOST_ANNOTATION).filter(|device| !device.is_empty())
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let all = pod.metadata.annotations.as_ref()?;
    all.get(key).map(String::as_str)
}

fn controller(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|o| o.controller == Some(true))?;
    Some(&owner.kind)
}

fn policy(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.restart_policy.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(kind: Option<&str>, policy: &str, annotations: &[(&str, &str)]) -> Pod {
        let owners: Vec<_> = kind
            .map(|kind| json!({"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}))
            .into_iter()
            .collect();
        let annotations: std::collections::BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(json!({
            "metadata": {"ownerReferences": owners, "annotations": annotations},
            "spec": {"containers": [], "restartPolicy": policy},
        }))
        .unwrap()
    }

    #[test]
    fn what_becomes_of_a_pod_depends_on_who_would_replace_it() {
        for (kind, policy, expected) in [
            (Some("ReplicaSet"), "Always", Outcome::Replace),
            (Some("Job"), "Never", Outcome::Replace),
            (Some("Job"), "OnFailure", Outcome::Replace),
            (Some("Rollout"), "Always", Outcome::Replace),
            (Some("StatefulSet"), "Always", Outcome::Place),
            (Some("DaemonSet"), "Always", Outcome::Place),
            (None, "Always", Outcome::Place),
            (None, "OnFailure", Outcome::Place),
            (None, "Never", Outcome::Lose),
        ] {
            assert_eq!(
                outcome(&pod(kind, policy, &[])),
                expected,
                "{kind:?} {policy}"
            );
        }
        let once = pod(Some("ReplicaSet"), "Always", &[(ONCE_ANNOTATION, "true")]);
        assert_eq!(
            outcome(&once),
            Outcome::Place,
            "another would be a second copy"
        );
    }

    #[test]
    fn statefulsets_and_those_that_say_so_never_run_twice() {
        assert!(is_at_most_once(&pod(Some("StatefulSet"), "Always", &[])));
        assert!(is_at_most_once(&pod(
            None,
            "Always",
            &[(ONCE_ANNOTATION, "true")]
        )));
        assert!(!is_at_most_once(&pod(Some("ReplicaSet"), "Always", &[])));
    }

    #[test]
    fn a_pod_says_how_long_it_waits_and_a_bad_word_is_named() {
        let default = RECONNECT_TIMEOUT;
        let of = |text| timeout(&pod(None, "Always", &[(TIMEOUT_ANNOTATION, text)]), default);
        assert_eq!(
            timeout(&pod(None, "Always", &[]), default),
            Ok(Some(default))
        );
        assert_eq!(of("90s"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(of("never"), Ok(None));
        let wrong = of("soon").unwrap_err();
        assert!(
            wrong.contains(TIMEOUT_ANNOTATION) && wrong.contains("soon"),
            "{wrong}"
        );
    }
}
