//! `resourceFieldRef`: what a container asked for, as a number.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::EnvironmentError;
use crate::downward::{List, Wanted};
use crate::quantity::{Amount, Resources};

/// The amount in units of the divisor, rounded up; `0` where nothing is set.
pub(super) fn value(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    container: &Container,
    allocatable: &Resources,
) -> Result<String, EnvironmentError> {
    let unsupported = || EnvironmentError::Resource(selector.resource.clone());
    let wanted = Wanted::of(selector).ok_or_else(unsupported)?;
    let source = Source::of(selector, pod, container)?;
    let amount = match wanted.declared(source.container.resources.as_ref()) {
        Amount::ZERO
            if wanted.list == List::Limits && wanted.may_lack_limit() && source.defaulted =>
        {
            default_limit(wanted.resource, pod, allocatable)
        }
        amount => amount,
    };
    let (amount, divisor) = wanted.numbers(amount, selector)?;
    let number = |exact: i128| exact.clamp(i64::MIN.into(), i64::MAX.into()) as f64;
    // In floating point, as the kubelet: beyond 2^53 it shows.
    Ok(((number(amount) / number(divisor)).ceil() as i64).to_string())
}

/// A limit that neither the container nor its pod sets is what the node has.
fn default_limit(resource: &str, pod: &Pod, allocatable: &Resources) -> Amount {
    let pod_level = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref())
        .filter(|_| matches!(resource, "cpu" | "memory"))
        .filter(|_| allocatable.iter().any(|(name, _)| name == resource))
        .map(|level| Resources::from_quantities(level.limits.as_ref()).get(resource))
        .unwrap_or_default();
    if pod_level == Amount::ZERO {
        allocatable.get(resource)
    } else {
        pod_level
    }
}

/// The container that is asked about.
struct Source<'a> {
    container: &'a Container,
    /// Whether limits that are not set are the node's. The kubelet does so for
    /// the container itself and for regular ones, not for another's init one.
    defaulted: bool,
}

impl<'a> Source<'a> {
    fn of(
        selector: &ResourceFieldSelector,
        pod: &'a Pod,
        itself: &'a Container,
    ) -> Result<Self, EnvironmentError> {
        let name = match selector.container_name.as_deref() {
            None | Some("") => {
                return Ok(Self {
                    container: itself,
                    defaulted: true,
                });
            }
            Some(name) => name,
        };
        let spec = pod.spec.as_ref();
        let regular = spec.into_iter().flat_map(|s| &s.containers);
        let init = spec.into_iter().flat_map(|s| s.init_containers.iter());
        regular
            .map(|container| (container, true))
            .chain(init.flatten().map(|container| (container, false)))
            .find(|(container, _)| container.name == name)
            .map(|(container, defaulted)| Self {
                container,
                defaulted,
            })
            .ok_or_else(|| EnvironmentError::Container(name.into()))
    }
}
