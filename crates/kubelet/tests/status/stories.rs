//! Everything that can be seen of a pod, one look after another.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    EphemeralContainer, Pod, PodCondition, PodReadinessGate, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proptest::prelude::*;
use serde_json::{Value, json};
use virtual_kubelet::status::{PodVerdict, compute};
use vk_provider::{ContainerFact, ContainerState as Fact, PodFacts, Reach, Terminated};

use crate::builders::{at, container, exited, facts, pod, sidecar, vanished, waits};

fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        Just(Fact::Unknown),
        prop_oneof![
            Just(""),
            Just("ContainerCreating"),
            Just("CrashLoopBackOff")
        ]
        .prop_map(waits),
        proptest::option::of(0i64..50).prop_map(|second| Fact::Running {
            started_at: second.map(at)
        }),
        (0i32..3).prop_map(exited),
        Just(vanished()),
    ]
}

fn any_container_fact(name: &'static str) -> impl Strategy<Value = ContainerFact> {
    (
        any_fact(),
        proptest::option::of(0i32..4),
        proptest::option::of(any::<bool>()),
        proptest::option::of(0i32..2),
        proptest::option::of(0u8..3),
    )
        .prop_map(move |(state, restarts, ready, last, id)| ContainerFact {
            restarts,
            ready,
            last: last.map(|code| Terminated {
                exit_code: Some(code),
                ..Default::default()
            }),
            container_id: id.map(|id| format!("x://{id}")),
            ..ContainerFact::new(name, state)
        })
}

fn any_facts(pod: Pod) -> impl Strategy<Value = Option<PodFacts>> {
    let containers = (
        proptest::option::of(any_container_fact("a")),
        proptest::option::of(any_container_fact("b")),
        proptest::option::of(any_container_fact("i")),
        proptest::option::of(any_container_fact("s")),
    );
    let rest = (
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(0u8..3),
        any::<bool>(),
        (any::<bool>(), any::<bool>()),
    );
    let some = (containers, rest).prop_map(move |((a, b, i, s), rest)| {
        let (away, ended, ip, current, (two, host)) = rest;
        let mut facts = facts(&pod, &[], &[]);
        facts.containers = a.into_iter().chain(b).collect();
        facts.init = i.into_iter().chain(s).collect();
        facts.ended = ended;
        facts.pod_ips = ip
            .map(|ip| IpAddr::from([10, 0, 0, ip]))
            .into_iter()
            .chain(two.then(|| "fd00::1".parse().unwrap()))
            .collect();
        facts.host_ips = host
            .then(|| IpAddr::from([192, 0, 2, 1]))
            .into_iter()
            .collect();
        if !current {
            facts.applied = None;
        }
        if away {
            facts.reach = Reach::Unreachable {
                since: at(1),
                reason: "Away".into(),
                message: "m".into(),
            };
        }
        facts
    });
    proptest::option::weighted(0.9, some)
}

fn any_verdict() -> impl Strategy<Value = PodVerdict> {
    prop_oneof![
        6 => Just(PodVerdict::None),
        1 => any::<bool>().prop_map(|disrupted| PodVerdict::Failed {
            reason: "Lost".into(),
            message: "m".into(),
            disruption: disrupted.then(|| "TerminationByKubelet".into()),
        }),
        1 => any::<bool>().prop_map(|stopped| PodVerdict::Terminating { stopped }),
    ]
}

/// What others do to a pod between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    Nothing,
    /// The condition of its readiness gate is set, or none of any is.
    Gate(bool),
    /// It is marked as about to be disrupted, or no longer.
    Disrupted(bool),
    /// Its first container is asked to have as many CPUs.
    Resized(u8),
    /// `kubectl debug`.
    Debugged,
}

/// Conditions that others write.
pub const GATE: &str = "example.com/gate";
pub const DISRUPTION: &str = "DisruptionTarget";

impl Meanwhile {
    /// The condition it sets.
    pub fn condition(self) -> Option<(&'static str, &'static str)> {
        let words = |yes| if yes { "True" } else { "False" };
        match self {
            Self::Gate(open) => Some((GATE, words(open))),
            Self::Disrupted(is) => Some((DISRUPTION, words(is))),
            _ => None,
        }
    }

    /// A strategic-merge patch of the pod, and the subresource that takes it.
    pub fn patch(self, pod: &Pod) -> Option<(&'static str, Value)> {
        let first = &pod.spec.as_ref().unwrap().containers[0].name;
        if let Some((kind, status)) = self.condition() {
            let condition = json!({"type": kind, "status": status, "reason": "Told",
                "lastTransitionTime": "1970-01-01T00:01:00Z"});
            return Some(("status", json!({"status": {"conditions": [condition]}})));
        }
        match self {
            Self::Resized(cpus) => {
                let resources = json!({"requests": {"cpu": cpus.to_string()}});
                let container = json!({"name": first, "resources": resources});
                Some(("resize", json!({"spec": {"containers": [container]}})))
            }
            Self::Debugged => {
                let debug = json!({"name": "debug", "image": "busybox"});
                let spec = json!({"ephemeralContainers": [debug]});
                Some(("ephemeralcontainers", json!({"spec": spec})))
            }
            _ => None,
        }
    }

    /// The same without an API server.
    pub fn happen(self, pod: &mut Pod) {
        if let Some((kind, status)) = self.condition() {
            let all = pod.status.get_or_insert_default();
            let all = all.conditions.get_or_insert_default();
            all.retain(|c| c.type_ != kind);
            all.push(PodCondition {
                type_: kind.into(),
                status: status.into(),
                ..Default::default()
            });
            return;
        }
        let spec = pod.spec.as_mut().unwrap();
        match self {
            Self::Resized(cpus) => spec.containers[0].resources = Some(cpu(cpus)),
            Self::Debugged => {
                spec.ephemeral_containers = Some(vec![EphemeralContainer {
                    name: "debug".into(),
                    image: Some("busybox".into()),
                    ..Default::default()
                }]);
            }
            _ => return,
        }
        pod.metadata.generation = pod.metadata.generation.map(|g| g + 1);
    }
}

fn cpu(cpus: u8) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some([("cpu".to_owned(), Quantity(cpus.to_string()))].into()),
        ..Default::default()
    }
}

fn anything_meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        6 => Just(Meanwhile::Nothing),
        1 => any::<bool>().prop_map(Meanwhile::Gate),
        1 => any::<bool>().prop_map(Meanwhile::Disrupted),
        1 => (1u8..4).prop_map(Meanwhile::Resized),
        1 => Just(Meanwhile::Debugged),
    ]
}

/// One look.
#[derive(Clone, Debug)]
pub struct Look {
    pub meanwhile: Meanwhile,
    pub facts: Option<PodFacts>,
    pub verdict: PodVerdict,
    /// It waits for room.
    pub waits: bool,
}

/// A pod and what is seen of it, one look after another.
pub fn any_story() -> impl Strategy<Value = (Pod, Vec<Look>)> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    let shape = (any::<bool>(), any::<bool>(), any::<bool>());
    let more = (any::<bool>(), any::<bool>());
    (policy, shape, more).prop_flat_map(|(policy, (init, side, two), (gated, host))| {
        let inits = side
            .then(|| sidecar("s"))
            .into_iter()
            .chain(init.then(|| container("i")));
        let names: &[&str] = if two { &["a", "b"] } else { &["a"] };
        let mut pod = pod(policy, inits.collect(), names);
        let spec = pod.spec.as_mut().unwrap();
        // So that a resize leaves its QoS class as it is.
        spec.containers[0].resources = Some(cpu(1));
        spec.host_network = host.then_some(true);
        spec.readiness_gates = gated.then(|| {
            vec![PodReadinessGate {
                condition_type: GATE.into(),
            }]
        });
        let look = (
            anything_meanwhile(),
            any_facts(pod.clone()),
            any_verdict(),
            any::<bool>(),
        )
            .prop_map(|(meanwhile, facts, verdict, waits)| Look {
                meanwhile,
                facts,
                verdict,
                waits,
            });
        (Just(pod), proptest::collection::vec(look, 1..8))
    })
}

pub fn look(pod: &Pod, seen: &Look, second: i64) -> PodStatus {
    let waiting = seen.waits.then_some(("Unplaceable", "no room"));
    let facts = seen.facts.as_ref();
    compute(pod, facts, &seen.verdict, waiting, at(second))
}
