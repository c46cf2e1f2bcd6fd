//! Empty directories.

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, PodSpec};

use super::owner::Owner;
use super::{EmptyDir, Medium};
use crate::podspec::Refusal;
use crate::quantity::{Amount, Resources};

/// `path` is the field of the medium.
///
/// # Errors
/// The medium is refused.
pub(super) fn lay_out(
    source: Option<&EmptyDirVolumeSource>,
    spec: &PodSpec,
    path: &str,
    allocatable: &Resources,
    owner: &Owner,
) -> Result<EmptyDir, Refusal> {
    let medium = match source.and_then(|s| s.medium.as_deref()).unwrap_or_default() {
        "" => Medium::Disk,
        "Memory" => Medium::Memory,
        other => {
            return Err(Refusal::new(
                path,
                format!("unknown storage medium {other:?}; leave it out, or write Memory"),
            ));
        }
    };
    let own = source
        .and_then(|s| s.size_limit.as_ref())
        .and_then(|q| Amount::parse(&q.0).ok());
    let in_memory = [Some(allocatable.get("memory")), memory_limit(spec)];
    let bounds = in_memory.into_iter().filter(|_| medium == Medium::Memory);
    Ok(EmptyDir {
        size_limit: bounds
            .chain([own])
            .flatten()
            // A limit of nothing is none.
            .filter(|amount| *amount > Amount::ZERO)
            .min(),
        root: owner.root(&medium),
        medium,
    })
}

/// What the pod as a whole may use of memory: nothing is said if one of its
/// containers has no limit, unless the pod itself has one.
fn memory_limit(spec: &PodSpec) -> Option<Amount> {
    let of_pod = spec.resources.as_ref().and_then(|r| r.limits.as_ref());
    let of_pod = Resources::from_quantities(of_pod).get("memory");
    let limit = if of_pod > Amount::ZERO {
        of_pod
    } else {
        let mut running = Amount::ZERO;
        for container in &spec.containers {
            running += limit_of(container)?;
        }
        let (mut sidecars, mut peak) = (Amount::ZERO, Amount::ZERO);
        for init in spec.init_containers.iter().flatten() {
            let own = limit_of(init)?;
            peak = peak.max(sidecars + own);
            if init.restart_policy.as_deref() == Some("Always") {
                sidecars += own;
            }
        }
        (running + sidecars).max(peak)
    };
    let overhead = Resources::from_quantities(spec.overhead.as_ref()).get("memory");
    Some(limit + overhead)
}

fn limit_of(container: &Container) -> Option<Amount> {
    let limits = container.resources.as_ref()?.limits.as_ref();
    let limit = Resources::from_quantities(limits).get("memory");
    (limit > Amount::ZERO).then_some(limit)
}
