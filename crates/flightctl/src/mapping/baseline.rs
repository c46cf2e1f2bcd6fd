//! What goes beyond the Pod Security Standard *baseline* of Kubernetes
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>): ways to
//! the device itself, which a namespace has to be given.
//!
//! Host network and host ports are not among it: without them no pod on a device
//! could be reached.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SELinuxOptions, SeccompProfile};
use vk_provider::PodRequest;
use vk_provider::podspec::Refusals;

use super::network;

/// Capabilities that every pod may add.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Types of SELinux that every pod may have.
const TYPES: [&str; 4] = [
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];
const UNCONFINED: &str = "Unconfined";

/// All fields of a pod that its namespace would have to be given.
pub(super) fn check(pod: &PodRequest, namespaces: &BTreeSet<String>, refusals: &mut Refusals) {
    let namespace = &*pod.key.namespace;
    if namespaces.contains(namespace) {
        return;
    }
    let why = format!(
        "it is a way to the device itself, and namespace {namespace} is not among workloads.privileged of the provider's configuration"
    );
    for path in beyond(pod.spec()) {
        refusals.add(path, &why);
    }
}

fn beyond(spec: &PodSpec) -> Vec<String> {
    let mut paths = Vec::new();
    let mut unless = |fine: bool, path: String| {
        if !fine {
            paths.push(path);
        }
    };
    unless(spec.host_pid != Some(true), "spec.hostPID".into());
    unless(spec.host_ipc != Some(true), "spec.hostIPC".into());
    if let Some(own) = &spec.security_context {
        let path = "spec.securityContext";
        let profiles = (
            own.seccomp_profile.as_ref(),
            own.app_armor_profile.as_ref(),
            own.se_linux_options.as_ref(),
        );
        confined(path, profiles, &mut unless);
        for (index, sysctl) in own.sysctls.iter().flatten().enumerate() {
            unless(
                network::SAFE_SYSCTLS.contains(&&*sysctl.name),
                format!("{path}.sysctls[{index}].name"),
            );
        }
    }
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, c)| (format!("spec.initContainers[{index}]"), c));
    let apps = spec.containers.iter().enumerate();
    let apps = apps.map(|(index, c)| (format!("spec.containers[{index}]"), c));
    for (path, container) in init.chain(apps) {
        let Some(own) = &container.security_context else {
            continue;
        };
        let path = &format!("{path}.securityContext");
        unless(own.privileged != Some(true), format!("{path}.privileged"));
        let added = own.capabilities.as_ref().and_then(|c| c.add.as_ref());
        for (index, name) in added.into_iter().flatten().enumerate() {
            unless(
                CAPABILITIES.contains(&&*name.to_ascii_uppercase()),
                format!("{path}.capabilities.add[{index}]"),
            );
        }
        let profiles = (
            own.seccomp_profile.as_ref(),
            own.app_armor_profile.as_ref(),
            own.se_linux_options.as_ref(),
        );
        confined(path, profiles, &mut unless);
    }
    paths
}

type Profiles<'a> = (
    Option<&'a SeccompProfile>,
    Option<&'a AppArmorProfile>,
    Option<&'a SELinuxOptions>,
);

fn confined(path: &str, profiles: Profiles<'_>, unless: &mut impl FnMut(bool, String)) {
    let (seccomp, app_armor, selinux) = profiles;
    unless(
        seccomp.is_none_or(|profile| profile.type_ != UNCONFINED),
        format!("{path}.seccompProfile.type"),
    );
    unless(
        app_armor.is_none_or(|profile| profile.type_ != UNCONFINED),
        format!("{path}.appArmorProfile.type"),
    );
    let Some(options) = selinux else { return };
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let kind = options.type_.as_deref().filter(|kind| !kind.is_empty());
    let path = format!("{path}.seLinuxOptions");
    unless(
        kind.is_none_or(|kind| TYPES.contains(&kind)),
        format!("{path}.type"),
    );
    unless(!set(&options.user), format!("{path}.user"));
    unless(!set(&options.role), format!("{path}.role"));
}
