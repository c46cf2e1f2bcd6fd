//! Every field of a pod: honoured, without meaning here, or refused by path.
//!
//! The structs are taken apart without `..`, so that a field of a newer
//! Kubernetes is a compile error and not forgotten.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, Lifecycle, PodSpec};
use vk_provider::PodRequest;

use super::expected::{Policy, Role, policy, role_of_init};
use super::refusal::Refusals;
use super::volumes::{self, Kind};
use super::{resources, security};
use crate::quadlet::is_name;

/// `ignore` accepts probes that nobody runs: Ready then means *application running*.
pub const PROBES_ANNOTATION: &str = "flightctl.io/probes";

const NO_SHARING: &str = "containers of a device share the network of their pod and nothing else";

/// Everything that is set and not honoured.
pub(super) fn refusals(pod: &PodRequest) -> Refusals {
    let mut refusals = Refusals::default();
    let PodSpec {
        // The framework ends the pod.
        active_deadline_seconds: _,
        // For the scheduler, which has decided; devices have their own annotations.
        affinity: _,
        node_name: _,
        node_selector: _,
        preemption_policy: _,
        priority: _,
        priority_class_name: _,
        scheduler_name: _,
        scheduling_gates: _,
        scheduling_group: _,
        tolerations: _,
        topology_spread_constraints: _,
        // No token reaches a device, whatever is asked; the volume is left out.
        automount_service_account_token: _,
        service_account: _,
        service_account_name: _,
        // No cluster address works on a device, so none is put into the environment.
        enable_service_links: _,
        // Can only be added to a pod that runs: a warning then, not its end.
        ephemeral_containers: _,
        // The framework's.
        readiness_gates: _,
        // For the cluster's DNS (StatefulSets set it); nothing resolves it on a device.
        subdomain: _,
        // Written by `units`.
        hostname,
        host_network: _,
        restart_policy,
        termination_grace_period_seconds,
        containers,
        dns_config,
        dns_policy,
        host_aliases,
        host_ipc,
        host_pid,
        host_users,
        hostname_override,
        image_pull_secrets,
        init_containers,
        os,
        overhead,
        resource_claims,
        resources: pod_resources,
        runtime_class_name,
        security_context,
        set_hostname_as_fqdn,
        share_process_namespace,
        volumes: _,
    } = pod.spec();

    refusals.unless(
        dns_config
            .as_ref()
            .is_none_or(|config| *config == Default::default()),
        "spec.dnsConfig",
        "containers use the device's resolver",
    );
    refusals.unless(
        dns_policy.as_deref() != Some("None"),
        "spec.dnsPolicy",
        "containers use the device's resolver; leave the policy out",
    );
    refusals.unless(
        host_aliases.as_ref().is_none_or(Vec::is_empty),
        "spec.hostAliases",
        "not passed to devices yet",
    );
    refusals.unless(*host_ipc != Some(true), "spec.hostIPC", NO_SHARING);
    refusals.unless(*host_pid != Some(true), "spec.hostPID", NO_SHARING);
    refusals.unless(
        *host_users != Some(false),
        "spec.hostUsers",
        "devices run pods without user namespaces",
    );
    refusals.unless(
        hostname
            .as_deref()
            .is_none_or(|name| name.is_empty() || is_name(name)),
        "spec.hostname",
        "it is no DNS label",
    );
    refusals.unless(
        hostname_override.is_none(),
        "spec.hostnameOverride",
        "use spec.hostname",
    );
    refusals.unless(
        image_pull_secrets.as_ref().is_none_or(Vec::is_empty),
        "spec.imagePullSecrets",
        "put the registry's credentials on the device (/root/.config/containers/auth.json) and leave them out here and in the ServiceAccount",
    );
    refusals.unless(
        os.as_ref().is_none_or(|os| os.name == "linux"),
        "spec.os.name",
        "devices run Linux",
    );
    refusals.unless(
        overhead.as_ref().is_none_or(BTreeMap::is_empty),
        "spec.overhead",
        "devices have one runtime, without overhead",
    );
    refusals.unless(
        resource_claims.as_ref().is_none_or(Vec::is_empty),
        "spec.resourceClaims",
        "devices know no resource claims",
    );
    refusals.unless(
        pod_resources
            .as_ref()
            .is_none_or(|r| *r == Default::default()),
        "spec.resources",
        "set the resources of each container",
    );
    refusals.unless(
        runtime_class_name.as_deref().unwrap_or_default().is_empty(),
        "spec.runtimeClassName",
        "devices have one runtime; leave it out",
    );
    if let Some(context) = security_context {
        security::pod(context, "spec.securityContext", &mut refusals);
    }
    refusals.unless(
        *set_hostname_as_fqdn != Some(true),
        "spec.setHostnameAsFQDN",
        "a device does not know the cluster's domain; use spec.hostname",
    );
    refusals.unless(
        *share_process_namespace != Some(true),
        "spec.shareProcessNamespace",
        NO_SHARING,
    );
    refusals.unless(
        matches!(
            restart_policy.as_deref(),
            None | Some("Always" | "OnFailure" | "Never")
        ),
        "spec.restartPolicy",
        "use Always, OnFailure or Never",
    );
    refusals.unless(
        termination_grace_period_seconds.is_none_or(|s| (0..=MAX_GRACE).contains(&s)),
        "spec.terminationGracePeriodSeconds",
        format!("use 0 to {MAX_GRACE} seconds: the device applies no other change while it waits"),
    );
    volumes::check(pod.spec(), &mut refusals);

    let view = View {
        probes: pod.annotation(PROBES_ANNOTATION) == Some("ignore"),
        policy: policy(pod.spec()),
        kinds: volumes::kinds(pod.spec()),
    };
    refusals.unless(!containers.is_empty(), "spec.containers", "there is none");
    for (index, init) in init_containers.iter().flatten().enumerate() {
        container(
            init,
            role_of_init(init),
            &format!("spec.initContainers[{index}]"),
            &view,
            &mut refusals,
        );
    }
    for (index, app) in containers.iter().enumerate() {
        container(
            app,
            Role::App,
            &format!("spec.containers[{index}]"),
            &view,
            &mut refusals,
        );
    }
    refusals
}

/// A day: a device's agent does nothing else while it stops containers.
const MAX_GRACE: i64 = 24 * 60 * 60;

struct View<'a> {
    probes: bool,
    policy: Policy,
    kinds: BTreeMap<&'a str, Kind>,
}

fn container(
    container: &Container,
    role: Role,
    path: &str,
    view: &View<'_>,
    refusals: &mut Refusals,
) {
    let Container {
        // Written by `container`, which refuses what a unit cannot carry.
        args: _,
        command: _,
        working_dir: _,
        image: _,
        env,
        env_from,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        // Nothing is resized in place, so nothing restarts for it.
        resize_policy: _,
        resources: wanted,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
    } = container;
    refusals.unless(is_name(name), format!("{path}.name"), "it is no DNS label");
    for (
        index,
        EnvVar {
            name: _,
            value: _,
            value_from,
        },
    ) in env.iter().flatten().enumerate()
    {
        refusals.unless(
            value_from.is_none(),
            format!("{path}.env[{index}].valueFrom"),
            "only literal values reach devices; write the value",
        );
    }
    refusals.unless(
        env_from.as_ref().is_none_or(Vec::is_empty),
        format!("{path}.envFrom"),
        "only literal values reach devices; write them as env",
    );
    refusals.unless(
        matches!(
            image_pull_policy.as_deref(),
            None | Some("Always" | "IfNotPresent" | "Never")
        ),
        format!("{path}.imagePullPolicy"),
        "use Always, IfNotPresent or Never",
    );
    refusals.unless(
        lifecycle
            .as_ref()
            .is_none_or(|l| *l == Lifecycle::default()),
        format!("{path}.lifecycle"),
        "devices run no hooks; do it in the container's own command",
    );
    for (probe, field) in [
        (liveness_probe, "livenessProbe"),
        (readiness_probe, "readinessProbe"),
        (startup_probe, "startupProbe"),
    ] {
        refusals.unless(
            probe.is_none() || view.probes,
            format!("{path}.{field}"),
            format!("nobody runs probes on a device; the annotation {PROBES_ANNOTATION}: ignore accepts that Ready means running"),
        );
    }
    for (index, port) in ports.iter().flatten().enumerate() {
        check_port(port, &format!("{path}.ports[{index}]"), refusals);
    }
    if let Some(wanted) = wanted {
        resources::check(wanted, &format!("{path}.resources"), refusals);
    }
    check_restart(restart_policy.as_deref(), role, path, view, refusals);
    refusals.unless(
        restart_policy_rules.as_ref().is_none_or(Vec::is_empty),
        format!("{path}.restartPolicyRules"),
        "a device restarts by spec.restartPolicy alone",
    );
    if let Some(context) = security_context {
        security::container(context, &format!("{path}.securityContext"), refusals);
    }
    for (set, field) in [(stdin, "stdin"), (tty, "tty")] {
        refusals.unless(
            *set != Some(true),
            format!("{path}.{field}"),
            "containers on a device have no terminal and no input",
        );
    }
    refusals.unless(
        matches!(
            termination_message_path.as_deref(),
            None | Some("" | "/dev/termination-log")
        ),
        format!("{path}.terminationMessagePath"),
        "messages of ended containers do not come back from devices; leave it out",
    );
    refusals.unless(
        matches!(
            termination_message_policy.as_deref(),
            None | Some("" | "File")
        ),
        format!("{path}.terminationMessagePolicy"),
        "messages of ended containers do not come back from devices; leave it out",
    );
    refusals.unless(
        volume_devices.as_ref().is_none_or(Vec::is_empty),
        format!("{path}.volumeDevices"),
        "only emptyDir volumes reach devices",
    );
    volumes::check_mounts(
        volume_mounts.as_deref().unwrap_or_default(),
        &view.kinds,
        path,
        refusals,
    );
}

fn check_restart(
    own: Option<&str>,
    role: Role,
    path: &str,
    view: &View<'_>,
    refusals: &mut Refusals,
) {
    let path = format!("{path}.restartPolicy");
    match (role, own) {
        (_, None) => {}
        (Role::Sidecar, _) => refusals.unless(
            view.policy == Policy::Always,
            path,
            "nothing would end it after the others; sidecars need spec.restartPolicy Always",
        ),
        _ => refusals.add(path, "a device restarts by spec.restartPolicy alone"),
    }
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
    if all().any(|c| {
        c.liveness_probe.is_some() || c.readiness_probe.is_some() || c.startup_probe.is_some()
    }) {
        warnings.push((
            "ProbesIgnored",
            format!("{PROBES_ANNOTATION}: ignore: no probe is run, Ready means that the application runs"),
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
