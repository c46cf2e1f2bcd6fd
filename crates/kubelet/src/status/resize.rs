//! In-place resize (`pods/resize`). No backend does it yet, so it is answered
//! as the kubelet answers what it cannot do: condition `PodResizePending`,
//! reason `Infeasible`, the containers keep what they have. What they have is
//! what the status has shown since they were first shown.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};

/// The kubelet's condition.
pub(super) const PENDING: &str = "PodResizePending";
/// Its reason for what will never be done.
pub const INFEASIBLE: &str = "Infeasible";

/// What a container was started with: what is shown, else what is asked for now.
pub(super) fn started_with(
    container: &Container,
    have: Option<&ContainerStatus>,
) -> Option<ResourceRequirements> {
    let shown = have.and_then(|have| have.resources.as_ref());
    shown
        .or(container.resources.as_ref())
        .filter(|resources| resources.limits.is_some() || resources.requests.is_some())
        .cloned()
}

/// The names of containers that are asked to become another size.
pub(super) fn asked<'a>(spec: &'a PodSpec, shown: &[ContainerStatus]) -> Vec<&'a str> {
    containers(spec)
        .filter(|container| {
            let status = shown.iter().find(|s| s.name == container.name);
            let has = status.and_then(|s| s.resources.as_ref());
            let wants = container.resources.as_ref();
            has.zip(wants)
                .is_some_and(|(has, wants)| !same_size(has, wants))
        })
        .map(|container| container.name.as_str())
        .collect()
}

/// The spec with the sizes that its containers really have: what counts for
/// the node until a resize has been carried out.
pub fn as_started(pod: &Pod) -> Option<Cow<'_, PodSpec>> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_deref());
    let regular = status.and_then(|s| s.container_statuses.as_deref());
    let (init, regular) = (init.unwrap_or_default(), regular.unwrap_or_default());
    if asked(spec, init).is_empty() && asked(spec, regular).is_empty() {
        return Some(Cow::Borrowed(spec));
    }
    let mut started = spec.clone();
    let all = started.init_containers.iter_mut().flatten();
    for container in all.chain(&mut started.containers) {
        let mut shown = init.iter().chain(regular);
        let status = shown.find(|s| s.name == container.name);
        container.resources = started_with(container, status);
    }
    Some(Cow::Owned(started))
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers)
}

fn same_size(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    let empty = |list: &Option<_>| list.clone().unwrap_or_default();
    empty(&a.limits) == empty(&b.limits) && empty(&a.requests) == empty(&b.requests)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use vk_provider::PodFacts;

    use super::*;
    use crate::status::tests::{at, facts, pod, running, showing};
    use crate::status::{PodVerdict, compute, patch};

    fn sized(cpu: &str) -> Pod {
        let mut pod = pod("Always", vec![], &["a"]);
        pod.spec.as_mut().unwrap().containers[0].resources = Some(ResourceRequirements {
            requests: Some([("cpu".to_owned(), Quantity(cpu.into()))].into()),
            ..Default::default()
        });
        pod
    }

    fn pending(pod: &Pod, facts: &PodFacts) -> (k8s_openapi::api::core::v1::PodStatus, bool) {
        let status = compute(pod, Some(facts), &PodVerdict::None, None, at(5));
        let all = status.conditions.iter().flatten();
        let infeasible = all
            .filter(|c| c.type_ == PENDING && c.reason.as_deref() == Some(INFEASIBLE))
            .count();
        (status, infeasible == 1)
    }

    #[test]
    fn a_resize_is_infeasible_and_the_container_keeps_what_it_has() {
        let small = sized("1");
        let facts = facts(&small, &[], &[("a", running())]);
        let (status, asked) = pending(&small, &facts);
        assert!(!asked);
        let shown = status.clone();

        let big = showing(&sized("2"), status);
        let (status, asked) = pending(&big, &facts);
        assert!(asked);
        let list = |s: &k8s_openapi::api::core::v1::PodStatus| s.container_statuses.clone();
        assert_eq!(list(&status), list(&shown));
        let counted = as_started(&big).unwrap();
        assert_eq!(counted.containers, small.spec.clone().unwrap().containers);

        let back = showing(&small, status.clone());
        let (again, asked) = pending(&back, &facts);
        assert!(!asked);
        let body = patch(&status, &again, "u").unwrap();
        assert_eq!(
            body["status"]["conditions"],
            serde_json::json!([{"$patch": "delete", "type": "PodResizePending"}])
        );
    }
}
