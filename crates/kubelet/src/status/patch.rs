//! The difference between two statuses as a strategic-merge patch.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::resize;

/// Takes over the fields that differ; null clears what is no longer said.
macro_rules! whole {
    ($status:ident, $have:ident, $want:ident, { $($field:ident: $name:literal,)* }) => {$(
        if $have.$field != $want.$field {
            $status.insert($name.into(), json!($want.$field));
        }
    )*};
}

/// The body of a PATCH of `pods/NAME/status` that turns `have` into `want`, with
/// the pod's UID as precondition; `None` if there is nothing to write.
///
/// Only what changed is in it; conditions that `want` does not name are not
/// touched, but for a resize that is no longer asked for. `observedGeneration` follows where the API server keeps it: one that
/// drops it is not written to again and again.
pub fn patch(have: &PodStatus, want: &PodStatus, uid: &str) -> Option<Value> {
    if have == want {
        return None;
    }
    let mut status = Map::new();
    // Single values, and lists that the API replaces whole (container statuses
    // have no merge key).
    whole!(status, have, want, {
        phase: "phase",
        reason: "reason",
        message: "message",
        start_time: "startTime",
        qos_class: "qosClass",
        host_ip: "hostIP",
        pod_ip: "podIP",
        init_container_statuses: "initContainerStatuses",
        container_statuses: "containerStatuses",
        ephemeral_container_statuses: "ephemeralContainerStatuses",
    });
    // Lists whose merge key would make addresses add up.
    if have.host_ips != want.host_ips {
        status.insert("hostIPs".into(), replaced(want.host_ips.as_ref()));
    }
    if have.pod_ips != want.pod_ips {
        status.insert("podIPs".into(), replaced(want.pod_ips.as_ref()));
    }
    let mut conditions: Vec<Value> = want
        .conditions
        .iter()
        .flatten()
        .filter_map(|new| {
            condition(
                have.conditions
                    .iter()
                    .flatten()
                    .find(|c| c.type_ == new.type_),
                new,
            )
        })
        .collect();
    let had = |status: &PodStatus| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == resize::PENDING)
    };
    if had(have) && !had(want) {
        // The only condition of ours that comes and goes.
        conditions.push(json!({"$patch": "delete", "type": resize::PENDING}));
    }
    if !conditions.is_empty() {
        status.insert("conditions".into(), conditions.into());
    }
    let grown = rises(have.observed_generation, want.observed_generation);
    if (grown || !status.is_empty())
        && let Some(generation) = want.observed_generation
        && want.observed_generation != have.observed_generation
    {
        status.insert("observedGeneration".into(), generation.into());
    }
    if status.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": uid}, "status": status}))
}

/// One condition, if it differs; what it no longer says is cleared by null.
fn condition(have: Option<&PodCondition>, want: &PodCondition) -> Option<Value> {
    if let Some(have) = have {
        let same = have.status == want.status
            && filled(&have.reason) == filled(&want.reason)
            && filled(&have.message) == filled(&want.message);
        if same && !rises(have.observed_generation, want.observed_generation) {
            return None;
        }
    }
    let mut body = json!({
        "type": want.type_,
        "status": want.status,
        "lastTransitionTime": want.last_transition_time,
    });
    for (field, have, want) in [
        ("reason", have.and_then(|h| h.reason.as_ref()), &want.reason),
        (
            "message",
            have.and_then(|h| h.message.as_ref()),
            &want.message,
        ),
    ] {
        if want.is_some() || have.is_some() {
            body[field] = json!(want);
        }
    }
    if let Some(generation) = want.observed_generation {
        body["observedGeneration"] = generation.into();
    }
    Some(body)
}

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn rises(have: Option<i64>, want: Option<i64>) -> bool {
    matches!((have, want), (Some(have), Some(want)) if want > have)
}

fn replaced<T: Serialize>(list: Option<&Vec<T>>) -> Value {
    let items = list.into_iter().flatten().map(|item| json!(item));
    std::iter::once(json!({"$patch": "replace"}))
        .chain(items)
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodIP;

    use super::*;
    use crate::status::tests::{at, facts, pod, running, showing};
    use crate::status::{PodVerdict, compute};

    #[test]
    fn a_patch_holds_only_what_changed_and_guards_the_uid() {
        let pod = pod("Always", vec![], &["a"]);
        let have = compute(
            &pod,
            Some(&facts(&pod, &[], &[("a", running())])),
            &PodVerdict::None,
            None,
            at(100),
        );
        let mut want = have.clone();
        want.pod_ip = Some("10.0.0.2".into());
        want.pod_ips = Some(vec![PodIP {
            ip: "10.0.0.2".into(),
        }]);
        assert_eq!(
            patch(&have, &want, "u1").unwrap(),
            json!({"metadata": {"uid": "u1"}, "status": {
                "podIP": "10.0.0.2", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}]}})
        );
        let back = patch(&want, &have, "u1").unwrap();
        assert_eq!(
            back["status"],
            json!({"podIP": null, "podIPs": [{"$patch": "replace"}]})
        );
    }

    #[test]
    fn a_condition_that_no_longer_has_a_reason_clears_it() {
        let pod = pod("Always", vec![], &["a"]);
        let have = compute(&pod, None, &PodVerdict::None, None, at(1));
        let want = compute(
            &showing(&pod, have.clone()),
            Some(&facts(&pod, &[], &[("a", running())])),
            &PodVerdict::None,
            None,
            at(2),
        );
        let body = patch(&have, &want, "u").unwrap();
        let conditions = body["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(
            *ready,
            json!({
                "type": "Ready", "status": "True", "reason": null, "message": null,
                "lastTransitionTime": "1970-01-01T00:00:02Z", "observedGeneration": 1,
            })
        );
        assert!(
            !conditions.iter().any(|c| c["type"] == "PodScheduled"),
            "it did not change"
        );
    }

    #[test]
    fn an_api_server_that_drops_observed_generations_is_not_written_to_for_ever() {
        let pod = pod("Always", vec![], &["a"]);
        let want = compute(&pod, None, &PodVerdict::None, None, at(1));
        let mut have = want.clone();
        have.observed_generation = None;
        for condition in have.conditions.as_mut().unwrap() {
            condition.observed_generation = None;
        }
        assert_eq!(patch(&have, &want, "u"), None);
        have.observed_generation = Some(0);
        let body = patch(&have, &want, "u").unwrap();
        assert_eq!(body["status"], json!({"observedGeneration": 1}));
    }
}
