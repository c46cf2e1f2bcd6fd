//! What holds for every pod, facts and verdict; and that a real API server
//! takes every status that is computed, and keeps it whole.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

mod builders;
#[path = "../../../../tests/real/harness/mod.rs"]
mod harness;
mod real;
mod stories;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use proptest::prelude::*;
use serde_json::{Value, json};
use virtual_kubelet::status::{PodVerdict, compute, is_terminal, patch};
use vk_provider::{ContainerState as Fact, Reach};

use builders::{facts, pod};
use stories::{DISRUPTION, GATE, any_story, look};

/// What the API server makes of our patch: `$patch: replace`, merge keys, nulls.
fn applied(have: &PodStatus, body: &Value) -> PodStatus {
    let mut status = serde_json::to_value(have).unwrap();
    for (field, change) in body["status"].as_object().unwrap() {
        match (field.as_str(), change) {
            (_, Value::Null) => drop(status.as_object_mut().unwrap().remove(field)),
            ("podIPs" | "hostIPs", Value::Array(list)) => {
                assert_eq!(list[0], json!({"$patch": "replace"}));
                status[field] = list[1..].to_vec().into();
            }
            ("conditions", Value::Array(list)) => {
                let mut all = status[field].as_array().cloned().unwrap_or_default();
                for new in list {
                    if new["$patch"] == "delete" {
                        all.retain(|old| old["type"] != new["type"]);
                        continue;
                    }
                    let at = all
                        .iter()
                        .position(|old| old["type"] == new["type"])
                        .unwrap_or_else(|| {
                            all.push(json!({}));
                            all.len() - 1
                        });
                    for (key, value) in new.as_object().unwrap() {
                        all[at][key] = value.clone();
                    }
                    all[at].as_object_mut().unwrap().retain(|_, v| !v.is_null());
                }
                status[field] = all.into();
            }
            _ => status[field] = change.clone(),
        }
    }
    serde_json::from_value(status).unwrap()
}

/// Empty lists and absent ones are the same to the API.
fn same(a: &PodStatus, b: &PodStatus) -> bool {
    let plain = |status: &PodStatus| {
        let mut status = status.clone();
        status.pod_ips = status.pod_ips.filter(|l| !l.is_empty());
        status.host_ips = status.host_ips.filter(|l| !l.is_empty());
        if let Some(conditions) = &mut status.conditions {
            conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        }
        status
    };
    plain(a) == plain(b)
}

fn all(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .chain(&status.ephemeral_container_statuses)
        .flatten()
}

fn terminated(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// The API's `ValidateContainerStateTransition`.
fn forbidden(pod: &Pod, old: &PodStatus, new: &PodStatus) -> Option<String> {
    let policy = pod.spec.as_ref()?.restart_policy.clone()?;
    if policy == "Always" {
        return None;
    }
    let bad = all(old)
        .filter(|was| was.name != "s")
        .find(|was| match terminated(was) {
            None => false,
            Some(code) if code != 0 && policy == "OnFailure" => false,
            Some(_) => all(new).any(|is| is.name == was.name && terminated(is).is_none()),
        });
    bad.map(|status| status.name.clone())
}

proptest! {
    #[test]
    fn every_story_keeps_the_promises((pod, looks) in any_story()) {
        let mut pod = pod;
        for (second, seen) in looks.iter().enumerate() {
            let second = i64::try_from(second).unwrap() + 100;
            seen.meanwhile.happen(&mut pod);
            let have = pod.status.clone().unwrap_or_default();
            let want = look(&pod, seen, second);

            if is_terminal(have.phase.as_deref()) {
                prop_assert_eq!(&want.phase, &have.phase);
                prop_assert_eq!(&want.reason, &have.reason);
            }
            if have.start_time.is_some() {
                prop_assert_eq!(&want.start_time, &have.start_time);
            }
            prop_assert!(want.start_time.is_some());
            prop_assert!(want.observed_generation >= have.observed_generation);
            prop_assert_eq!(want.pod_ip.clone(), want.pod_ips.iter().flatten().map(|p| p.ip.clone()).next());
            for status in all(&want) {
                let state = status.state.clone().unwrap_or_default();
                let states = [state.waiting.is_some(), state.running.is_some(), state.terminated.is_some()];
                prop_assert_eq!(states.iter().filter(|is| **is).count(), 1, "{:?}", status);
                let before = all(&have).find(|b| b.name == status.name).map_or(0, |b| b.restart_count);
                prop_assert!(status.restart_count >= before);
            }
            prop_assert_eq!(forbidden(&pod, &have, &want), None);
            if is_terminal(want.phase.as_deref()) && !is_terminal(have.phase.as_deref()) {
                let reachable = seen.facts.as_ref().is_none_or(|f| f.reach == Reach::Reachable);
                let runs = all(&want).any(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
                prop_assert!(!(runs && reachable), "terminal while it runs");
            }
            let of = |status: &PodStatus, kind: &str| {
                let mut all = status.conditions.iter().flatten();
                all.find(|c| c.type_ == kind).map(|c| c.status.clone())
            };
            let gated = pod.spec.as_ref().unwrap().readiness_gates.is_some();
            if gated && of(&want, "Ready").as_deref() == Some("True") {
                let open = of(&have, GATE);
                prop_assert_eq!(open.as_deref(), Some("True"), "ready behind a gate");
            }
            let debugged = pod.spec.as_ref().unwrap().ephemeral_containers.as_ref();
            let answered = want.ephemeral_container_statuses.as_ref();
            // The end of the pod is an answer, too.
            if !is_terminal(want.phase.as_deref()) {
                prop_assert_eq!(debugged.map(Vec::len), answered.map(Vec::len), "no silence");
            }
            if seen.verdict == (PodVerdict::Terminating { stopped: true }) {
                prop_assert!(is_terminal(want.phase.as_deref()));
            }

            // Conditions of others are kept by the server, and not by what we want.
            let mut want = want;
            let ours = want.conditions.clone();
            prop_assert_eq!(of(&want, GATE), None);
            let disrupted = |status: &PodStatus| {
                let mut all = status.conditions.iter().flatten();
                all.find(|c| c.type_ == DISRUPTION && c.status == "True").cloned()
            };
            if let Some(theirs) = disrupted(&have) {
                prop_assert_eq!(Some(theirs), disrupted(&want), "whoever says it first");
            }
            let theirs = have.conditions.iter().flatten();
            let theirs: Vec<PodCondition> = theirs
                .filter(|c| [GATE, DISRUPTION].contains(&&*c.type_) && of(&want, &c.type_).is_none())
                .cloned()
                .collect();
            want.conditions.get_or_insert_default().extend(theirs);

            // The patch leads from what is to what is wanted, and then there is none.
            let sent = PodStatus { conditions: ours, ..want.clone() };
            let shown = patch(&have, &sent, "u").map_or_else(|| have.clone(), |body| applied(&have, &body));
            prop_assert!(same(&shown, &want), "{:#?}\n{:#?}", shown, want);
            prop_assert_eq!(patch(&shown, &sent, "u"), None);

            // A second look at the same finds nothing to write.
            pod.status = Some(shown.clone());
            let again = look(&pod, seen, second + 1000);
            prop_assert_eq!(patch(&shown, &again, "u"), None);
        }
    }

    #[test]
    fn conditions_of_others_are_never_written((pod, looks) in any_story()) {
        let mut pod = pod;
        let theirs = PodCondition { type_: "DisruptionTarget".into(), status: "True".into(), ..Default::default() };
        pod.status = Some(PodStatus { conditions: Some(vec![theirs]), ..Default::default() });
        let want = look(&pod, &looks[0], 1);
        let body = patch(pod.status.as_ref().unwrap(), &want, "u").unwrap();
        let named = body["status"]["conditions"].as_array().unwrap();
        prop_assert!(!named.iter().any(|c| c["type"] == "DisruptionTarget"));
    }

    #[test]
    fn fractions_of_a_second_do_not_come_back_as_a_change(nanos in 0i32..1_000_000_000) {
        let pod = pod("Always", vec![], &["a"]);
        let start = Timestamp::new(77, nanos).unwrap();
        let facts = facts(&pod, &[], &[("a", Fact::Running { started_at: Some(start) })]);
        let want = compute(&pod, Some(&facts), &PodVerdict::None, None, start);
        let read: PodStatus = serde_json::from_value(serde_json::to_value(&want).unwrap()).unwrap();
        prop_assert_eq!(patch(&read, &want, "u"), None);
        prop_assert_eq!(read, want);
    }
}
