//! What a pod's application consists of: what its status is measured by.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vk_provider::{PodRequest, image};

use super::memory;
use crate::marker;

/// The pod's restart policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Containers run for ever.
    Always,
    /// Until they succeed.
    OnFailure,
    /// Once.
    Never,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Runs to its end before those behind it.
    Init,
    /// An init container that keeps running.
    Sidecar,
    /// A regular container.
    App,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name in the pod.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its image in full, as Flight Control's messages spell it.
    pub image: String,
}

/// The containers that an application must have. It stands in the marker, so
/// that an application tells it also when its pod is not at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// The pod's restart policy.
    pub restart_policy: Policy,
    /// Whether there is a Podman pod, whose infra container Flight Control counts.
    pub pod: bool,
    /// Init containers and sidecars in their order, then regular containers.
    pub members: Vec<Member>,
}

impl Expected {
    /// From the pod.
    pub fn of(pod: &PodRequest) -> Self {
        let spec = pod.spec();
        let member = |role: fn(&Container) -> Role| {
            move |container: &Container| Member {
                name: container.name.clone(),
                role: role(container),
                // A name that is none never gets as far as an application.
                image: image::normalized(container.image.as_deref().unwrap_or_default())
                    .unwrap_or_default(),
            }
        };
        let init = spec
            .init_containers
            .iter()
            .flatten()
            .map(member(role_of_init));
        Self {
            restart_policy: policy(spec),
            pod: needs_pod(spec),
            members: init
                .chain(spec.containers.iter().map(member(|_| Role::App)))
                .collect(),
        }
    }

    /// From an application of ours as Flight Control stores it.
    pub fn of_application(app: &Value) -> Option<Self> {
        marker::expected(app)
    }

    /// How many containers there are of a role.
    pub(crate) fn count(&self, role: Role) -> usize {
        self.members.iter().filter(|m| m.role == role).count()
    }
}

pub(super) fn role_of_init(container: &Container) -> Role {
    match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

pub(super) fn policy(spec: &PodSpec) -> Policy {
    match spec.restart_policy.as_deref() {
        Some("Never") => Policy::Never,
        Some("OnFailure") => Policy::OnFailure,
        _ => Policy::Always,
    }
}

/// Containers that run at the same time share a network through a Podman pod,
/// unless it is the device's own. A single one goes without: its status is then
/// clearer, for Flight Control counts the pod's infra container too. What else
/// needs a Podman pod is one set of processes, whose first is no container's, and
/// a volume in memory, which it holds.
pub(super) fn needs_pod(spec: &PodSpec) -> bool {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| role_of_init(c) == Role::Sidecar);
    let together = spec.containers.len() + sidecars.count() > 1
        || spec.share_process_namespace == Some(true)
        || memory::any(spec);
    spec.host_network != Some(true) && together
}
