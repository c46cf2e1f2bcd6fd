//! What the declaration cannot say of a field alone: names, ports, volumes and
//! policies that must fit each other or a device.

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};
use vk_provider::PodRequest;
use vk_provider::podspec::Refusals;

use super::declaration::{POD_SPEC, PROBES_ANNOTATION};
use super::expected::{Policy, Role, policy, role_of_init};
use super::{env, hooks, memory, network, payload, probes, resources, security, volumes};
use crate::quadlet::{TextError, is_name};

/// Everything that is set and not honoured.
pub(super) fn refusals(pod: &PodRequest) -> Refusals {
    let mut refusals = POD_SPEC.refusals(pod);
    let spec = pod.spec();
    refusals.unless(
        spec.hostname
            .as_deref()
            .is_none_or(|name| name.is_empty() || is_name(name)),
        "spec.hostname",
        "it is no DNS label",
    );
    sharing(spec, &mut refusals);
    network::check(spec, &mut refusals);
    security::check_pod(spec, &mut refusals);
    volumes::check(spec, &mut refusals);
    memory::check(spec, &mut refusals);
    payload::check(spec, &mut refusals);
    refusals.unless(
        !spec.containers.is_empty(),
        "spec.containers",
        "there is none",
    );
    for (index, init) in spec.init_containers.iter().flatten().enumerate() {
        let path = format!("spec.initContainers[{index}]");
        container(init, &path, spec, &mut refusals);
        refusals.unless(
            role_of_init(init) != Role::Sidecar || policy(spec) == Policy::Always,
            format!("{path}.restartPolicy"),
            "nothing would end it after the others; sidecars need spec.restartPolicy Always",
        );
    }
    for (index, app) in spec.containers.iter().enumerate() {
        container(
            app,
            &format!("spec.containers[{index}]"),
            spec,
            &mut refusals,
        );
    }
    refusals
}

/// Processes that containers see of each other.
fn sharing(spec: &PodSpec, refusals: &mut Refusals) {
    let problem = if spec.host_network == Some(true) {
        "with hostNetwork there is no Podman pod that could hold it; use one of them"
    } else if spec.host_pid == Some(true) {
        "with hostPID containers see all processes of the device; use one of them"
    } else {
        return;
    };
    let shared = spec.share_process_namespace == Some(true);
    refusals.unless(!shared, "spec.shareProcessNamespace", problem);
}

fn container(container: &Container, path: &str, spec: &PodSpec, refusals: &mut Refusals) {
    refusals.unless(
        is_name(&container.name),
        format!("{path}.name"),
        "it is no DNS label",
    );
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if let Err(why) = env::check_name(&variable.name) {
            refusals.add(format!("{path}.env[{index}].name"), why);
        }
        if variable.value.as_deref().is_some_and(holds_nul) {
            refusals.add(format!("{path}.env[{index}].value"), TextError::Nul);
        }
    }
    for (field, words) in [("command", &container.command), ("args", &container.args)] {
        let words = words.iter().flatten().enumerate();
        for (index, _) in words.filter(|(_, word)| holds_nul(word)) {
            refusals.add(format!("{path}.{field}[{index}]"), TextError::Nul);
        }
    }
    for (index, port) in container.ports.iter().flatten().enumerate() {
        check_port(port, &format!("{path}.ports[{index}]"), refusals);
    }
    if let Some(wanted) = &container.resources {
        resources::check(wanted, &format!("{path}.resources"), refusals);
    }
    security::check(spec, container, path, refusals);
    probes::check(container, path, refusals);
    hooks::check(container, path, refusals);
    volumes::check_mounts(
        container.volume_mounts.as_deref().unwrap_or_default(),
        spec,
        path,
        refusals,
    );
}

fn holds_nul(text: &str) -> bool {
    text.contains('\0')
}

fn check_port(port: &ContainerPort, path: &str, refusals: &mut Refusals) {
    // A name and a port without a host port are for the cluster's objects only.
    let ContainerPort {
        container_port,
        host_ip,
        host_port,
        name: _,
        protocol,
    } = port;
    let published = host_port.is_some_and(|p| p != 0);
    for (number, field) in [
        (Some(*container_port), "containerPort"),
        (*host_port, "hostPort"),
    ] {
        refusals.unless(
            !published || number.is_some_and(|n| u16::try_from(n).is_ok_and(|n| n > 0)),
            format!("{path}.{field}"),
            "it is no port",
        );
    }
    refusals.unless(
        host_ip
            .as_deref()
            .is_none_or(|ip| ip.is_empty() || ip.parse::<std::net::IpAddr>().is_ok()),
        format!("{path}.hostIP"),
        "it is no IP address",
    );
    refusals.unless(
        !published || matches!(protocol.as_deref(), None | Some("TCP" | "UDP")),
        format!("{path}.protocol"),
        "devices publish TCP and UDP ports",
    );
}

/// What has another meaning here.
pub(super) fn warnings(pod: &PodRequest) -> Vec<(&'static str, String)> {
    let spec = pod.spec();
    let all = || {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    };
    let mut warnings = Vec::new();
    let always: Vec<&str> = all()
        .filter(|c| c.image_pull_policy.as_deref() == Some("Always"))
        .map(|c| c.name.as_str())
        .collect();
    if !always.is_empty() {
        warnings.push((
            "ImagePullPolicyIgnored",
            format!(
                "imagePullPolicy Always of {}: a device pulls an image that it does not have and never again under the same name; use a tag that changes or a digest",
                always.join(", ")
            ),
        ));
    }
    if all().any(probes::any_ignored) {
        warnings.push((
            "ProbesIgnored",
            format!("{PROBES_ANNOTATION}: ignore: no probe is run but liveness by a command, Ready means that the application runs"),
        ));
    }
    if spec
        .ephemeral_containers
        .as_ref()
        .is_some_and(|e| !e.is_empty())
    {
        warnings.push((
            "EphemeralContainersUnsupported",
            "ephemeral containers cannot be started on a device".to_owned(),
        ));
    }
    warnings
}
