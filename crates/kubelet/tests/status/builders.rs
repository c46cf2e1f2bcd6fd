//! Pods and facts that tests are told with.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use vk_provider::{ContainerFact, ContainerState as Fact, PodFacts, PodKey, Revision, Terminated};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: Some(format!("{name}:1")),
        ..Default::default()
    }
}

pub fn sidecar(name: &str) -> Container {
    Container {
        restart_policy: Some("Always".into()),
        ..container(name)
    }
}

pub fn pod(policy: &str, init: Vec<Container>, containers: &[&str]) -> Pod {
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

pub fn facts(pod: &Pod, init: &[(&str, Fact)], containers: &[(&str, Fact)]) -> PodFacts {
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

pub fn running() -> Fact {
    Fact::Running {
        started_at: Some(at(10)),
    }
}

pub fn exited(code: i32) -> Fact {
    Fact::Terminated(Terminated {
        exit_code: Some(code),
        ..Default::default()
    })
}

pub fn vanished() -> Fact {
    Fact::Terminated(Terminated::default())
}

pub fn waits(reason: &str) -> Fact {
    Fact::Waiting {
        reason: reason.into(),
        message: String::new(),
    }
}
