//! Which units a pod becomes, what they are called, and the files on the device
//! that say how far it is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use vk_provider::volumes::Volume;
use vk_provider::{BackendError, PodRequest, RenderedContainer, RenderedPod, image};

use super::expected::{Policy, Role, needs_pod, policy, role_of_init};
use super::{app_id, app_name};
use crate::quadlet::is_name;
use vk_provider::podspec::Refusal;

/// One container of the pod.
pub(super) struct Part<'a> {
    pub(super) container: &'a Container,
    /// What it is started with.
    pub(super) given: &'a RenderedContainer,
    pub(super) role: Role,
    /// `spec.containers[0]`.
    pub(super) path: String,
    /// Its image in full.
    pub(super) image: String,
}

impl Part<'_> {
    pub(super) fn name(&self) -> &str {
        &self.container.name
    }

    /// Its unit, as other units of the application name it.
    pub(super) fn service(&self) -> String {
        format!("{}.service", self.name())
    }
}

/// The pod, laid out.
pub(super) struct Shape<'a> {
    pub(super) spec: &'a PodSpec,
    /// Name of the application.
    pub(super) app: String,
    /// The agent's prefix of everything in it.
    pub(super) id: String,
    pub(super) policy: Policy,
    /// File stem and name of the Podman pod, if there is one.
    pub(super) pod: Option<String>,
    pub(super) host_network: bool,
    /// What `hostname` says inside; none with the device's network.
    pub(super) hostname: Option<String>,
    pub(super) grace: i64,
    revision: String,
    /// Init containers and sidecars in their order, then regular containers.
    pub(super) parts: Vec<Part<'a>>,
    /// Those that a container mounts.
    pub(super) volumes: &'a BTreeMap<String, Volume>,
}

/// Kubernetes' default.
const DEFAULT_GRACE: i64 = 30;
/// Linux allows 64 with the end mark.
const HOSTNAME_LIMIT: usize = 63;

impl<'a> Shape<'a> {
    /// Lays out a pod whose fields were looked at, and which was rendered.
    pub(super) fn of(pod: &'a PodRequest, rendered: &'a RenderedPod) -> Result<Self, BackendError> {
        let spec = pod.spec();
        let revision = pod.spec_revision.to_string();
        if !is_name(&revision) {
            return Err(
                Refusal::new("metadata", "its revision is no word of digits and letters").into(),
            );
        }
        let hostname = hostname(spec.hostname.as_deref(), &pod.key.name);
        if !hostname.split('.').all(is_name) {
            return Err(Refusal::new("metadata.name", "it is no host name").into());
        }
        let mut parts = Vec::new();
        // Each container was rendered, in its order.
        let init = spec.init_containers.iter().flatten().zip(&rendered.init);
        for (index, (container, given)) in init.enumerate() {
            let path = format!("spec.initContainers[{index}]");
            parts.push(part(container, given, role_of_init(container), path)?);
        }
        let apps = spec.containers.iter().zip(&rendered.containers);
        for (index, (container, given)) in apps.enumerate() {
            let path = format!("spec.containers[{index}]");
            parts.push(part(container, given, Role::App, path)?);
        }
        let host_network = spec.host_network == Some(true);
        let app = app_name(&pod.key.uid);
        Ok(Self {
            spec,
            id: app_id(&app),
            app,
            policy: policy(spec),
            pod: needs_pod(spec).then(|| stem(&parts)),
            host_network,
            hostname: (!host_network).then_some(hostname),
            grace: spec
                .termination_grace_period_seconds
                .unwrap_or(DEFAULT_GRACE),
            revision,
            parts,
            volumes: &rendered.payload.volumes,
        })
    }

    pub(super) fn of_role(&self, role: Role) -> impl DoubleEndedIterator<Item = &Part<'a>> {
        self.parts.iter().filter(move |part| part.role == role)
    }

    /// Whether a container is put into the Podman pod. Init containers of a pod
    /// that ends are not: the first one's end would end it.
    pub(super) fn joins(&self, part: &Part<'_>) -> Option<&str> {
        let outside = part.role == Role::Init && self.policy != Policy::Always;
        self.pod.as_deref().filter(|_| !outside)
    }

    /// The application's folder on the device.
    pub(super) fn folder(&self) -> String {
        format!("%E/containers/systemd/{}", self.app)
    }

    /// Exists once an init container has succeeded.
    ///
    /// In `/run`, as init containers run again after a reboot, and of one
    /// revision, as they run again after an update. A pod that never runs twice
    /// keeps it with its other marks.
    ///
    /// The ending matters: the agent takes a value of `[Unit]` that ends like a
    /// quadlet file for a reference to one and rewrites it.
    pub(super) fn succeeded(&self, init: &Part<'_>) -> String {
        match self.policy {
            Policy::Never => self.mark(init.name(), "done"),
            _ => format!("%t/{}.{}.{}.done", self.id, self.revision, init.name()),
        }
    }

    /// Exists once a container of a pod that never runs twice was started.
    pub(super) fn ran(&self, part: &Part<'_>) -> String {
        self.mark(part.name(), "ran")
    }

    /// Exists once a container of an `OnFailure` pod has succeeded.
    pub(super) fn done(&self, part: &Part<'_>) -> String {
        self.mark(part.name(), "done")
    }

    /// Exists once all of them have.
    pub(super) fn all_done(&self) -> String {
        let mut apps = self.of_role(Role::App);
        match (apps.next(), apps.next()) {
            (Some(only), None) => self.done(only),
            _ => self.mark("all", "all-done"),
        }
    }

    /// Exists once the Podman pod of a pod that never runs twice was started.
    pub(super) fn pod_ran(&self) -> String {
        self.mark("pod", "pod-ran")
    }

    /// A mark in the application's folder, of one revision: in an update the agent
    /// writes that folder anew before it ends the old containers, whose end may still
    /// leave one.
    fn mark(&self, name: &str, what: &str) -> String {
        format!("{}/.{name}.{}.{what}", self.folder(), self.revision)
    }
}

fn part<'a>(
    container: &'a Container,
    given: &'a RenderedContainer,
    role: Role,
    path: String,
) -> Result<Part<'a>, BackendError> {
    let image = image::normalized(container.image.as_deref().unwrap_or_default());
    let image = image.and_then(no_unit).map_err(|message| {
        // An image can be changed in a pod that exists: the kubelet waits too.
        BackendError::Waiting {
            reason: "InvalidImageName".to_owned(),
            message: format!("{path}.image: {message}"),
            retry: None,
        }
    })?;
    Ok(Part {
        container,
        given,
        role,
        path,
        image,
    })
}

/// An image that Podman does not take for the unit of one: a tag may end so.
fn no_unit(image: String) -> Result<String, String> {
    match UNITS.iter().find(|end| image.ends_with(**end)) {
        Some(end) => Err(format!(
            "image {image:?} ends with {end:?}, which Podman takes for the name of a unit; name it by another tag or by its digest"
        )),
        None => Ok(image),
    }
}

/// Pods, infra containers and containers share names, and so do units.
fn stem(parts: &[Part<'_>]) -> String {
    let taken = |stem: &str| {
        parts.iter().any(|part| {
            let name = part.name();
            name == stem || name == format!("{stem}-pod") || name == format!("{stem}-infra")
        })
    };
    let mut stem = "p".to_owned();
    // Ends: there are finitely many containers.
    let mut number = 0u32;
    while taken(&stem) {
        number += 1;
        stem = format!("p{number}");
    }
    stem
}

/// What `Image=` of a quadlet ends with where it names a unit (`podman-systemd.unit(5)`).
const UNITS: [&str; 2] = [".image", ".build"];

/// The kubelet's rule: the pod's name, cut to what a host name can be.
fn hostname(own: Option<&str>, pod: &str) -> String {
    let name = own.filter(|name| !name.is_empty()).unwrap_or(pod);
    let cut = name.get(..HOSTNAME_LIMIT).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}
