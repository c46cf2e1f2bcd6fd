//! The difference between two statuses as a strategic-merge patch.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

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
/// touched. `observedGeneration` follows where the API server keeps it: one that
/// drops it is not written to again and again.
pub fn patch(have: &PodStatus, want: &PodStatus, uid: &str) -> Option<Value> {
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
            list.extend(new.get(field).and_then(Value::as_array).cloned().unwrap_or_default());
            status.insert(field.into(), list.into());
        }
    }
    let conditions: Vec<Value> = want
        .conditions
        .iter()
        .flatten()
        .filter_map(|new| condition(have.conditions.iter().flatten().find(|c| c.type_ == new.type_), new))
        .collect();
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
        ("message", have.and_then(|h| h.message.as_ref()), &want.message),
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
