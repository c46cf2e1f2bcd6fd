//! Everything that can be seen of a pod, one look after another.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proptest::prelude::*;
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
    );
    let some = (containers, rest).prop_map(move |((a, b, i, s), (away, ended, ip, current))| {
        let mut facts = facts(&pod, &[], &[]);
        facts.containers = a.into_iter().chain(b).collect();
        facts.init = i.into_iter().chain(s).collect();
        facts.ended = ended;
        facts.pod_ips = ip
            .map(|ip| IpAddr::from([10, 0, 0, ip]))
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

/// Facts, verdict, and whether it waits for room.
pub type Look = (Option<PodFacts>, PodVerdict, bool);

/// A pod and what is seen of it, one look after another.
pub fn any_story() -> impl Strategy<Value = (Pod, Vec<Look>)> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, any::<bool>(), any::<bool>(), any::<bool>()).prop_flat_map(
        |(policy, init, side, two)| {
            let inits = side
                .then(|| sidecar("s"))
                .into_iter()
                .chain(init.then(|| container("i")));
            let names: &[&str] = if two { &["a", "b"] } else { &["a"] };
            let pod = pod(policy, inits.collect(), names);
            let look = (any_facts(pod.clone()), any_verdict(), any::<bool>());
            (Just(pod), proptest::collection::vec(look, 1..8))
        },
    )
}

pub fn look(pod: &Pod, (facts, verdict, waits): &Look, second: i64) -> PodStatus {
    let waiting = waits.then_some(("Unplaceable", "no room"));
    compute(pod, facts.as_ref(), verdict, waiting, at(second))
}
