//! Resources as arguments of `podman run`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use vk_provider::podspec::Refusals;
use vk_provider::quantity::Amount;

/// Shares of a whole core, as the kubelet counts them.
const SHARES_PER_CORE: i128 = 1024;
/// The kernel takes no fewer.
const MIN_SHARES: i128 = 2;
/// The kernel's smallest quota, 1 ms in 100 ms; the kubelet raises to it too.
const MIN_LIMIT_MILLI: i128 = 10;

/// Looks at resources of a container.
pub(super) fn check(resources: &ResourceRequirements, path: &str, refusals: &mut Refusals) {
    for (kind, map) in [
        ("limits", &resources.limits),
        ("requests", &resources.requests),
    ] {
        for (name, Quantity(text)) in map.iter().flatten() {
            let path = format!("{path}.{kind}.{name}");
            match Amount::parse(text) {
                Err(why) => refusals.add(path, why),
                // Requests of storage count for nobody but the scheduler.
                Ok(_) if name == "ephemeral-storage" && kind == "requests" => {}
                Ok(Amount::ZERO) => {}
                // Counted, as Kubernetes counts what nothing hands out: which device
                // has it, its label says.
                Ok(_) if is_extended(name) => {}
                Ok(amount) if matches!(name.as_str(), "cpu" | "memory") => refusals.unless(
                    amount > Amount::ZERO && amount.ceil_units() <= i128::from(i64::MAX),
                    path,
                    "it is out of range",
                ),
                Ok(_) => refusals.add(path, "only cpu and memory can be limited on a device"),
            }
        }
    }
}

/// A resource with a domain that is not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    let domain = name.split_once('/').map(|(domain, _)| domain);
    domain.is_some_and(|domain| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// `--memory=…` and so on; nothing where nothing is asked for. A device whose
/// cgroups lack a controller does not start a container with these.
pub(super) fn arguments(container: &Container) -> Vec<String> {
    let Some(resources) = &container.resources else {
        return Vec::new();
    };
    let amount = |map: &Option<BTreeMap<String, Quantity>>, name: &str| {
        let quantity = map.as_ref()?.get(name)?;
        Amount::parse(&quantity.0)
            .ok()
            .filter(|a| *a > Amount::ZERO)
    };
    let mut arguments = Vec::new();
    if let Some(memory) = amount(&resources.limits, "memory") {
        let bytes = memory.ceil_units();
        arguments.push(format!("--memory={bytes}b"));
        // No swap on top, as in Kubernetes.
        arguments.push(format!("--memory-swap={bytes}b"));
    }
    if let Some(cpu) = amount(&resources.limits, "cpu") {
        arguments.push(format!(
            "--cpus={}",
            cores(cpu.ceil_milli().max(MIN_LIMIT_MILLI))
        ));
    }
    if let Some(cpu) = amount(&resources.requests, "cpu") {
        let shares = cpu.ceil_milli() * SHARES_PER_CORE / 1000;
        arguments.push(format!("--cpu-shares={}", shares.max(MIN_SHARES)));
    }
    arguments
}

/// Thousandths as a decimal number without rounding.
fn cores(milli: i128) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(limits: &[(&str, &str)], requests: &[(&str, &str)]) -> Container {
        let map = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), Quantity((*v).into())))
                    .collect(),
            )
        };
        Container {
            resources: Some(ResourceRequirements {
                limits: map(limits),
                requests: map(requests),
                claims: None,
            }),
            ..Container::default()
        }
    }

    #[test]
    fn quantities_become_bytes_cores_and_shares_exactly() {
        for (limits, requests, expected) in [
            (
                &[("cpu", "500m"), ("memory", "256Mi")][..],
                &[("cpu", "500m")][..],
                "--memory=268435456b --memory-swap=268435456b --cpus=0.5 --cpu-shares=512",
            ),
            (
                &[("memory", "1.5Gi")],
                &[("memory", "1Gi")],
                "--memory=1610612736b --memory-swap=1610612736b",
            ),
            (
                &[("memory", "100M")],
                &[],
                "--memory=100000000b --memory-swap=100000000b",
            ),
            (
                &[("cpu", "2")],
                &[("cpu", "1250m")],
                "--cpus=2 --cpu-shares=1280",
            ),
            (
                &[("cpu", "1.25")],
                &[("cpu", "1m")],
                "--cpus=1.25 --cpu-shares=2",
            ),
            (&[("cpu", "1m")], &[], "--cpus=0.01"),
            (&[("cpu", "0")], &[("cpu", "0")], ""),
            (&[("cpu", "100")], &[], "--cpus=100"),
        ] {
            assert_eq!(arguments(&container(limits, requests)).join(" "), expected);
        }
    }

    #[test]
    fn what_a_device_cannot_hold_to_is_refused_by_path() {
        let mut refusals = Refusals::default();
        let odd = container(
            &[
                ("example.com/camera", "1"),
                ("ephemeral-storage", "1Gi"),
                ("cpu", "-1"),
            ],
            &[
                ("ephemeral-storage", "1Gi"),
                ("hugepages-2Mi", "4Mi"),
                ("memory", "many"),
            ],
        );
        check(odd.resources.as_ref().unwrap(), "r", &mut refusals);
        let paths: Vec<_> = refusals.0.iter().map(|r| r.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "r.limits.cpu",
                "r.limits.ephemeral-storage",
                "r.requests.hugepages-2Mi",
                "r.requests.memory"
            ]
        );
    }
}
