//! Tables after the kubelet's own, and what they are made with.

#[path = "../../../tests/status/builders.rs"]
#[allow(
    unreachable_pub,
    reason = "shared with the tests of statuses on a real API server"
)]
mod builders;
mod containers;
mod ends;
mod moved;
mod phases;

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodReadinessGate, PodStatus};
use serde_json::json;
use vk_provider::{ContainerState as Fact, PodFacts, Reach, Revision, Terminated};

use super::*;
pub(in crate::status) use builders::*;

fn now_of(pod: &Pod, facts: &PodFacts) -> PodStatus {
    compute(pod, Some(facts), &PodVerdict::None, None, at(100))
}

/// The pod as the API shows it after this status.
pub(in crate::status) fn showing(pod: &Pod, status: PodStatus) -> Pod {
    Pod {
        status: Some(status),
        ..pod.clone()
    }
}

fn phase_of(
    policy: &str,
    init: Vec<Container>,
    of_init: &[(&str, Fact)],
    containers: &[(&str, Fact)],
) -> String {
    let names: Vec<&str> = containers.iter().map(|(name, _)| *name).collect();
    let pod = pod(policy, init, &names);
    now_of(&pod, &facts(&pod, of_init, containers))
        .phase
        .unwrap()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status
        .conditions
        .as_ref()
        .unwrap()
        .iter()
        .find(|c| c.type_ == kind)
        .unwrap()
}

fn first(status: &PodStatus) -> &k8s_openapi::api::core::v1::ContainerStatus {
    &status.container_statuses.as_ref().unwrap()[0]
}

fn exit(status: &PodStatus, index: usize) -> Option<(i32, String)> {
    let state = status.container_statuses.as_ref()?[index].state.as_ref()?;
    let end = state.terminated.as_ref()?;
    Some((end.exit_code, end.reason.clone().unwrap_or_default()))
}
