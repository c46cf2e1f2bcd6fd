//! Quality of service (`pkg/apis/core/v1/helper/qos/qos.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use vk_provider::quantity::{Amount, Resources};

/// Only these decide; others never make a pod Burstable.
const DECIDING: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let parts: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(of_pod) => vec![Some(of_pod)],
        None => containers.map(|c| c.resources.as_ref()).collect(),
    };
    let mut guaranteed = true;
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for part in parts {
        add(
            &mut requests,
            &Resources::from_quantities(part.and_then(|p| p.requests.as_ref())),
        );
        let limited = Resources::from_quantities(part.and_then(|p| p.limits.as_ref()));
        guaranteed &= DECIDING.iter().all(|name| limited.get(name) > Amount::ZERO);
        add(&mut limits, &limited);
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn add(sum: &mut BTreeMap<&'static str, Amount>, part: &Resources) {
    for name in DECIDING {
        if part.get(name) > Amount::ZERO {
            *sum.entry(name).or_default() += part.get(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Container;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    type Pairs = &'static [(&'static str, &'static str)];

    #[test]
    fn qos_is_the_kubelets() {
        let of = |list: &[(Pairs, Pairs)]| {
            let map = |pairs: Pairs| {
                Some(
                    pairs
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), Quantity((*v).into())))
                        .collect(),
                )
            };
            let containers = list.iter().map(|(requests, limits)| Container {
                resources: Some(ResourceRequirements {
                    requests: map(requests),
                    limits: map(limits),
                    ..Default::default()
                }),
                ..Container::default()
            });
            qos_class(&PodSpec {
                containers: containers.collect(),
                ..Default::default()
            })
        };
        let both: Pairs = &[("cpu", "1"), ("memory", "1Gi")];
        let other: Pairs = &[("cpu", "1000m"), ("memory", "1024Mi")];
        assert_eq!(of(&[(&[], &[])]), "BestEffort");
        assert_eq!(
            of(&[(&[("nvidia.com/gpu", "1")], &[("nvidia.com/gpu", "1")])]),
            "BestEffort"
        );
        assert_eq!(of(&[(&[("cpu", "0")], &[])]), "BestEffort");
        assert_eq!(of(&[(both, both)]), "Guaranteed");
        assert_eq!(of(&[(both, other), (both, both)]), "Guaranteed");
        assert_eq!(of(&[(both, both), (&[], &[])]), "Burstable");
        assert_eq!(of(&[(&[("cpu", "1")], both)]), "Burstable");
        assert_eq!(of(&[(&[("cpu", "100m")], &[])]), "Burstable");
    }
}
