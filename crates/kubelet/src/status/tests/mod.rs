//! Tables after the kubelet's own, and what they are made with.

mod containers;
mod ends;
mod phases;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, Pod, PodCondition, PodReadinessGate, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use vk_provider::{
    ContainerFact, ContainerState as Fact, PodFacts, PodKey, Reach, Revision, Terminated,
};

use super::*;

pub(in crate::status) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(in crate::status) fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: Some(format!("{name}:1")),
        ..Default::default()
    }
}

pub(in crate::status) fn sidecar(name: &str) -> Container {
    Container {
        restart_policy: Some("Always".into()),
        ..container(name)
    }
}

pub(in crate::status) fn pod(policy: &str, init: Vec<Container>, containers: &[&str]) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("p".into()),
            namespace: Some("default".into()),
            uid: Some("u".into()),
            generation: Some(1),
            ..Default::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some(policy.into()),
            init_containers: Some(init).filter(|i| !i.is_empty()),
            containers: containers.iter().map(|name| container(name)).collect(),
            ..Default::default()
        }),
        status: None,
    }
}

pub(in crate::status) fn facts(
    pod: &Pod,
    init: &[(&str, Fact)],
    containers: &[(&str, Fact)],
) -> PodFacts {
    let mut facts = PodFacts::new(PodKey::of(pod).unwrap(), "n".into(), 1);
    facts.applied = Some(Revision::of(pod.spec.as_ref().unwrap()));
    let of = |list: &[(&str, Fact)]| {
        list.iter()
            .map(|(n, s)| ContainerFact::new(n, s.clone()))
            .collect()
    };
    facts.init = of(init);
    facts.containers = of(containers);
    facts
}

pub(in crate::status) fn running() -> Fact {
    Fact::Running {
        started_at: Some(at(10)),
    }
}

pub(in crate::status) fn exited(code: i32) -> Fact {
    Fact::Terminated(Terminated {
        exit_code: Some(code),
        ..Default::default()
    })
}

pub(in crate::status) fn vanished() -> Fact {
    Fact::Terminated(Terminated::default())
}

pub(in crate::status) fn waits(reason: &str) -> Fact {
    Fact::Waiting {
        reason: reason.into(),
        message: String::new(),
    }
}

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
