//! Security contexts: what says what Podman does anyway passes, the rest is refused.

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, SeccompProfile, SecurityContext,
};

use super::refusal::Refusals;

const WHY: &str = "security settings are not passed to devices yet; set them in the image";

/// The pod's.
pub(super) fn pod(context: &PodSecurityContext, path: &str, refusals: &mut Refusals) {
    let PodSecurityContext {
        app_armor_profile,
        fs_group,
        fs_group_change_policy,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_change_policy,
        se_linux_options,
        seccomp_profile,
        supplemental_groups,
        supplemental_groups_policy,
        sysctls,
        windows_options,
    } = context;
    for (fine, field) in [
        (app_armor_profile.is_none(), "appArmorProfile"),
        (fs_group.is_none(), "fsGroup"),
        // Says nothing without a group.
        (
            fs_group_change_policy.is_none() || fs_group.is_none(),
            "fsGroupChangePolicy",
        ),
        (run_as_group.is_none(), "runAsGroup"),
        (*run_as_non_root != Some(true), "runAsNonRoot"),
        (run_as_user.is_none(), "runAsUser"),
        (se_linux_change_policy.is_none(), "seLinuxChangePolicy"),
        (se_linux_options.is_none(), "seLinuxOptions"),
        (
            is_default_seccomp(seccomp_profile.as_ref()),
            "seccompProfile",
        ),
        (
            supplemental_groups.as_ref().is_none_or(Vec::is_empty),
            "supplementalGroups",
        ),
        (
            matches!(supplemental_groups_policy.as_deref(), None | Some("Merge")),
            "supplementalGroupsPolicy",
        ),
        (sysctls.as_ref().is_none_or(Vec::is_empty), "sysctls"),
        (windows_options.is_none(), "windowsOptions"),
    ] {
        refusals.unless(fine, format!("{path}.{field}"), WHY);
    }
}

/// A container's.
pub(super) fn container(context: &SecurityContext, path: &str, refusals: &mut Refusals) {
    let SecurityContext {
        allow_privilege_escalation,
        app_armor_profile,
        capabilities,
        privileged,
        proc_mount,
        read_only_root_filesystem,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_options,
        seccomp_profile,
        windows_options,
    } = context;
    let no_capabilities = capabilities
        .as_ref()
        .is_none_or(|Capabilities { add, drop }| {
            add.as_ref().is_none_or(Vec::is_empty) && drop.as_ref().is_none_or(Vec::is_empty)
        });
    for (fine, field) in [
        (
            *allow_privilege_escalation != Some(false),
            "allowPrivilegeEscalation",
        ),
        (app_armor_profile.is_none(), "appArmorProfile"),
        (no_capabilities, "capabilities"),
        (*privileged != Some(true), "privileged"),
        (
            matches!(proc_mount.as_deref(), None | Some("Default")),
            "procMount",
        ),
        (
            *read_only_root_filesystem != Some(true),
            "readOnlyRootFilesystem",
        ),
        (run_as_group.is_none(), "runAsGroup"),
        (*run_as_non_root != Some(true), "runAsNonRoot"),
        (run_as_user.is_none(), "runAsUser"),
        (se_linux_options.is_none(), "seLinuxOptions"),
        (
            is_default_seccomp(seccomp_profile.as_ref()),
            "seccompProfile",
        ),
        (windows_options.is_none(), "windowsOptions"),
    ] {
        refusals.unless(fine, format!("{path}.{field}"), WHY);
    }
}

/// `RuntimeDefault` is what Podman applies by itself.
fn is_default_seccomp(profile: Option<&SeccompProfile>) -> bool {
    profile.is_none_or(
        |SeccompProfile {
             localhost_profile,
             type_,
         }| { localhost_profile.is_none() && type_ == "RuntimeDefault" },
    )
}
