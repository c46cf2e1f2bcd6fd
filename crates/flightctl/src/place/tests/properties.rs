//! What holds of every choice.

use proptest::prelude::*;
use vk_provider::quantity::Amount;

use super::*;
use crate::place::Strategy;

prop_compose! {
    fn any_candidate()(
        name in "[a-f]{1,3}",
        cpu in 0_i64..4000,
        used in 0_i64..4000,
        memory in 0_i64..16,
        pods in 0_usize..4,
        siblings in 0_usize..3,
        closed in prop::option::weighted(0.3, Just("offline".to_owned())),
        hindered in prop::option::weighted(0.3, Just("waits for its window".to_owned())),
        zone in "[xy]",
        port in prop::option::of(8080_i32..8082),
    ) -> Candidate {
        let mut made = candidate(&name, cpu, cpu.saturating_sub(used).max(0));
        made.free.set("memory", Amount::units(memory << 26));
        made.labels = [("zone".to_owned(), zone)].into();
        let taken = |port: i32| Taken {
            ports: HostPorts::one(port.into(), "TCP", None).unwrap(),
            by: None,
        };
        made.ports = port.map(taken).into_iter().collect();
        Candidate { pods, siblings, closed, hindered, ..made }
    }
}

fn asking(cpu: i64, memory: i64, port: Option<i32>, zone: Option<String>) -> PodRequest {
    let mut made = match port {
        Some(port) => publishing(port),
        None => request("a", "1", "0", "0"),
    };
    let mut pod = (*made.pod).clone();
    let spec = pod.spec.as_mut().unwrap();
    let quantity = |text: String| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text);
    spec.containers[0].resources.as_mut().unwrap().requests = Some(
        [
            ("cpu".to_owned(), quantity(format!("{cpu}m"))),
            ("memory".to_owned(), quantity(format!("{memory}Mi"))),
        ]
        .into(),
    );
    spec.node_selector = zone.map(|zone| [("zone".to_owned(), zone)].into());
    made.pod = Arc::new(pod);
    made
}

proptest! {
    #[test]
    fn nothing_is_placed_beyond_room_on_an_excluded_device_or_beside_a_taken_port(
        mut candidates in prop::collection::vec(any_candidate(), 0..8),
        cpu in 0_i64..4500,
        memory in 0_i64..1200,
        port in prop::option::of(8080_i32..8082),
        zone in prop::option::of("[xyz]"),
        pack in any::<bool>(),
    ) {
        candidates.sort_by(|a, b| a.name.cmp(&b.name));
        candidates.dedup_by(|a, b| a.name == b.name);
        let pod = asking(cpu, memory, port, zone.clone());
        let strategy = if pack { Strategy::Pack } else { Strategy::Spread };
        let wanted = pod_requests(pod.spec());
        let of = |port: Option<i32>| HostPorts::one(port?.into(), "TCP", None);
        let may = |c: &Candidate| {
            c.closed.is_none()
                && wanted.exceeds(&c.free).is_none()
                && wanted.exceeds(&c.allocatable).is_none()
                && zone.as_ref().is_none_or(|zone| c.labels.get("zone") == Some(zone))
                && !c.ports.iter().any(|used| Some(&used.ports) == of(port).as_ref())
        };
        let chosen = place(&pod, &none(), strategy, &candidates);
        let weighed = weigh(&pod, &none(), &candidates).unwrap();
        match &chosen {
            Ok(name) => {
                let chosen = candidates.iter().find(|c| c.name == *name).unwrap();
                prop_assert!(may(chosen), "{chosen:?}");
                prop_assert!(
                    chosen.hindered.is_none()
                        || candidates.iter().filter(|c| may(c)).all(|c| c.hindered.is_some())
                );
                for other in candidates.iter().filter(|c| may(c)) {
                    if other.hindered.is_some() == chosen.hindered.is_some() {
                        let better = match strategy {
                            Strategy::Spread => {
                                (other.siblings, other.pods) < (chosen.siblings, chosen.pods)
                            }
                            Strategy::Pack => other.free.get("cpu") < chosen.free.get("cpu"),
                        };
                        prop_assert!(!better, "{other:?} is better than {chosen:?}");
                    }
                }
            }
            Err(_) => prop_assert!(!candidates.iter().any(may)),
        }
        // What is explained is what is done.
        for one in weighed {
            prop_assert_eq!(one.against.is_empty(), may(one.candidate), "{:?}", one);
        }
    }

    #[test]
    fn filling_devices_one_by_one_never_takes_more_than_there_is(
        sizes in prop::collection::vec(500_i64..4000, 1..5),
        pods in prop::collection::vec(50_i64..1500, 0..30),
        pack in any::<bool>(),
    ) {
        let strategy = if pack { Strategy::Pack } else { Strategy::Spread };
        let mut devices: Vec<Candidate> = sizes
            .iter()
            .enumerate()
            .map(|(at, cpu)| candidate(&format!("d{at}"), *cpu, *cpu))
            .collect();
        let mut used = vec![0; sizes.len()];
        for cpu in pods {
            let pod = asking(cpu, 1, None, None);
            let Ok(name) = place(&pod, &none(), strategy, &devices) else { continue };
            let at = devices.iter().position(|d| d.name == name).unwrap();
            used[at] += cpu;
            devices[at].pods += 1;
            devices[at].free = devices[at].free.minus(&pod_requests(pod.spec()));
        }
        for (used, size) in used.iter().zip(&sizes) {
            prop_assert!(used <= size);
        }
    }
}
