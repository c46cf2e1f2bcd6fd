//! The difference between two statuses as a strategic-merge patch.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

use super::resize;

/// Single values and lists that the API replaces whole (container statuses have
/// no merge key).
const WHOLE: [&str; 10] = [
    "phase",
    "reason",
    "message",
    "startTime",
    "qosClass",
    "hostIP",
    "podIP",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];
/// Lists whose merge key would make addresses add up.
const ADDRESSES: [&str; 2] = ["hostIPs", "podIPs"];

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
    let (old, new) = (object(have), object(want));
    let mut status = Map::new();
    for field in WHOLE {
        if old.get(field) != new.get(field) {
            status.insert(field.into(), new.get(field).cloned().unwrap_or(Value::Null));
        }
    }
    for field in ADDRESSES {
        if old.get(field) != new.get(field) {
            let mut list = vec![json!({"$patch": "replace"})];
            list.extend(
                new.get(field)
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default(),
            );
            status.insert(field.into(), list.into());
        }
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

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        // A status is a JSON object by its type.
        _ => Map::new(),
    }
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
