//! `resourceFieldRef`: what a container asked for, as a number.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::EnvironmentError;
use crate::quantity::{Amount, Resources};

/// The amount in units of the divisor, rounded up; `0` where nothing is set.
pub(super) fn value(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    container: &Container,
    allocatable: &Resources,
) -> Result<String, EnvironmentError> {
    let wanted = selector.resource.as_str();
    let unsupported = || EnvironmentError::Resource(wanted.into());
    let (list, resource) = wanted.split_once('.').ok_or_else(unsupported)?;
    let fixed = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
    if !fixed && !resource.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let source = Source::of(selector, pod, container)?;
    let amount = match list {
        "limits" => match source.limits().get(resource) {
            // Huge pages are never overcommitted: a limit is always there.
            Amount::ZERO if fixed && source.defaulted => default_limit(resource, pod, allocatable),
            limit => limit,
        },
        "requests" => source.requests().get(resource),
        _ => return Err(unsupported()),
    };
    let divisor = match &selector.divisor {
        Some(text) => Amount::parse(&text.0)?,
        None => Amount::ZERO,
    };
    let divisor = if divisor == Amount::ZERO {
        Amount::units(1)
    } else {
        divisor
    };
    let number = |amount: Amount| {
        let exact = if resource == "cpu" {
            amount.ceil_milli()
        } else {
            amount.ceil_units()
        };
        exact.clamp(i64::MIN.into(), i64::MAX.into()) as f64
    };
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

    fn limits(&self) -> Resources {
        let resources = self.container.resources.as_ref();
        Resources::from_quantities(resources.and_then(|r| r.limits.as_ref()))
    }

    fn requests(&self) -> Resources {
        let resources = self.container.resources.as_ref();
        Resources::from_quantities(resources.and_then(|r| r.requests.as_ref()))
    }
}
