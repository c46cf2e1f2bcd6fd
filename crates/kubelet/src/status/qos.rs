//! Quality of service (`pkg/apis/core/v1/helper/qos/qos.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use vk_provider::quantity::{Amount, Resources};

/// Only these decide; others never make a pod Burstable.
const DECIDING: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let parts: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(of_pod) => vec![Some(of_pod)],
        None => containers.map(|c| c.resources.as_ref()).collect(),
    };
    let mut guaranteed = true;
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for part in parts {
        add(&mut requests, &Resources::from_quantities(part.and_then(|p| p.requests.as_ref())));
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
