//! Security contexts: who the processes of a container are, and what they may do.
//!
//! What a container says holds before what its pod says, field by field (kubelet:
//! `DetermineEffectiveSecurityContext`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, SELinuxOptions, SecurityContext,
};
use vk_provider::podspec::{Refusal, Refusals};

use super::shape::{Part, Shape};
use crate::quadlet::{Key, TextError, Unit, Value};

/// All capabilities of Linux 5.9 and later (`capabilities(7)`), as Kubernetes
/// spells them. Podman starts no container with one that it does not know.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
/// Stands for all of them.
const ALL: &str = "ALL";

/// What holds for a container.
pub(super) struct Contexts<'a> {
    pod: Option<&'a PodSecurityContext>,
    own: Option<&'a SecurityContext>,
}

impl<'a> Contexts<'a> {
    pub(super) fn of(spec: &'a PodSpec, container: &'a Container) -> Self {
        Self {
            pod: spec.security_context.as_ref(),
            own: container.security_context.as_ref(),
        }
    }

    fn user(&self) -> Option<i64> {
        let own = self.own.and_then(|c| c.run_as_user);
        own.or(self.pod.and_then(|c| c.run_as_user))
    }

    fn group(&self) -> Option<i64> {
        let own = self.own.and_then(|c| c.run_as_group);
        own.or(self.pod.and_then(|c| c.run_as_group))
    }

    fn non_root(&self) -> bool {
        let own = self.own.and_then(|c| c.run_as_non_root);
        own.or(self.pod.and_then(|c| c.run_as_non_root)) == Some(true)
    }

    fn seccomp(&self) -> Option<&'a str> {
        let own = self.own.and_then(|c| c.seccomp_profile.as_ref());
        let profile = own.or(self.pod.and_then(|c| c.seccomp_profile.as_ref()));
        profile.map(|profile| profile.type_.as_str())
    }

    fn app_armor(&self) -> Option<&'a str> {
        let own = self.own.and_then(|c| c.app_armor_profile.as_ref());
        let profile = own.or(self.pod.and_then(|c| c.app_armor_profile.as_ref()));
        profile.map(|profile| profile.type_.as_str())
    }

    fn selinux(&self) -> Option<&'a SELinuxOptions> {
        let own = self.own.and_then(|c| c.se_linux_options.as_ref());
        own.or(self.pod.and_then(|c| c.se_linux_options.as_ref()))
    }

    fn is_privileged(&self) -> bool {
        self.own.and_then(|c| c.privileged) == Some(true)
    }

    fn capabilities(&self) -> Option<&'a Capabilities> {
        self.own.and_then(|c| c.capabilities.as_ref())
    }
}

/// Looks at the pod's own context.
pub(super) fn check_pod(spec: &PodSpec, refusals: &mut Refusals) {
    let Some(pod) = &spec.security_context else {
        return;
    };
    let path = "spec.securityContext";
    ids(path, "runAsUser", pod.run_as_user, refusals);
    ids(path, "runAsGroup", pod.run_as_group, refusals);
    ids(path, "fsGroup", pod.fs_group, refusals);
    let groups = pod.supplemental_groups.iter().flatten().copied();
    for group in groups {
        ids(path, "supplementalGroups", Some(group), refusals);
    }
    labels(path, pod.se_linux_options.as_ref(), refusals);
    let init = spec.init_containers.iter().flatten();
    let named = |c: &Container| Contexts::of(spec, c).group().is_some();
    let mut all = init.chain(&spec.containers).map(named);
    // Podman adds the groups that an image gives its user unless a group is named.
    let problem = match pod.supplemental_groups_policy.as_deref() {
        Some("Strict") if !all.all(|named| named) => {
            "without a group the image's own groups of the user are added; set runAsUser and runAsGroup of every container"
        }
        Some("Merge") if all.any(|named| named) => {
            "with runAsGroup the image's own groups of the user are not added; leave the policy out, or write Strict"
        }
        _ => return,
    };
    refusals.add(format!("{path}.supplementalGroupsPolicy"), problem);
}

/// Looks at what holds for a container.
pub(super) fn check(spec: &PodSpec, container: &Container, path: &str, refusals: &mut Refusals) {
    let all = Contexts::of(spec, container);
    let at = |is_own: bool| match is_own {
        true => format!("{path}.securityContext"),
        false => "spec.securityContext".to_owned(),
    };
    // A pod's own is one field, however many containers it is of.
    let mut once = |path: String, why: &str| {
        let fine = refusals.0.iter().any(|r| r.path == path);
        refusals.unless(fine, path, why);
    };
    if all.group().is_some() && all.user().is_none() {
        let own = all.own.is_some_and(|c| c.run_as_group.is_some());
        let why = "with the image's own user, which is not known here, it cannot be set; set runAsUser as well";
        once(format!("{}.runAsGroup", at(own)), why);
    }
    if all.non_root() && all.user().is_none_or(|user| user == 0) {
        let own = all.own.is_some_and(|c| c.run_as_non_root.is_some());
        let why = "nobody here knows the image's user; set runAsUser, to another than 0";
        once(format!("{}.runAsNonRoot", at(own)), why);
    }
    let Some(own) = all.own else { return };
    let path = &at(true);
    ids(path, "runAsUser", own.run_as_user, refusals);
    ids(path, "runAsGroup", own.run_as_group, refusals);
    labels(path, own.se_linux_options.as_ref(), refusals);
    for (field, names) in all.capabilities().into_iter().flat_map(named) {
        for (index, name) in names.iter().enumerate() {
            let name = name.to_ascii_uppercase();
            refusals.unless(
                name == ALL || CAPABILITIES.contains(&name.as_str()),
                format!("{path}.capabilities.{field}[{index}]"),
                "it is no capability of Linux; they are written as NET_ADMIN, without CAP_",
            );
        }
    }
}

fn named(capabilities: &Capabilities) -> [(&'static str, &[String]); 2] {
    [
        ("add", capabilities.add.as_deref().unwrap_or_default()),
        ("drop", capabilities.drop.as_deref().unwrap_or_default()),
    ]
}

fn ids(path: &str, field: &str, id: Option<i64>, refusals: &mut Refusals) {
    refusals.unless(
        id.is_none_or(|id| i32::try_from(id).is_ok_and(|id| id >= 0)),
        format!("{path}.{field}"),
        "it is no number of a user or a group",
    );
}

fn labels(path: &str, options: Option<&SELinuxOptions>, refusals: &mut Refusals) {
    for (field, text) in options.into_iter().flat_map(parts) {
        if let Err(why) = Value::plain(text) {
            refusals.add(format!("{path}.seLinuxOptions.{field}"), why);
        }
    }
}

/// The parts of a label that are set.
fn parts(options: &SELinuxOptions) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("user", &options.user),
        ("role", &options.role),
        ("type", &options.type_),
        ("level", &options.level),
    ]
    .into_iter()
    .filter_map(|(field, text)| Some((field, text.as_deref()?)))
    .filter(|(_, text)| !text.is_empty())
}

/// Writes what holds for a container into its unit.
pub(super) fn write(shape: &Shape<'_>, part: &Part<'_>, unit: &mut Unit) -> Result<(), Refusal> {
    let all = Contexts::of(shape.spec, part.container);
    let refused = |why: TextError| Refusal::new(format!("{}.securityContext", part.path), why);
    let mut set = |key: Key, text: &str| {
        let value = Value::ours(text.to_owned());
        value
            .and_then(|value| unit.set(key, value))
            .map_err(refused)
    };
    if let Some(user) = all.user() {
        let text = match all.group() {
            Some(group) => format!("{user}:{group}"),
            None => user.to_string(),
        };
        set(Key::User, &text)?;
    }
    for group in groups(all.pod) {
        set(Key::GroupAdd, &group.to_string())?;
    }
    if all.is_privileged() {
        // It has them all.
        set(Key::PodmanArgs, "--privileged")?;
    } else if let Some(wanted) = all.capabilities() {
        let [dropped, added] = podman(wanted);
        if !dropped.is_empty() {
            set(Key::DropCapability, &dropped.join(" "))?;
        }
        if !added.is_empty() {
            set(Key::AddCapability, &added.join(" "))?;
        }
    }
    if all.own.and_then(|c| c.allow_privilege_escalation) == Some(false) {
        set(Key::NoNewPrivileges, "true")?;
    }
    if all.own.and_then(|c| c.read_only_root_filesystem) == Some(true) {
        set(Key::ReadOnly, "true")?;
        // Or Podman makes /tmp, /run and /var/tmp writable.
        set(Key::ReadOnlyTmpfs, "false")?;
    }
    if all.seccomp() == Some("Unconfined") {
        set(Key::SeccompProfile, "unconfined")?;
    }
    if all.app_armor() == Some("Unconfined") {
        set(Key::PodmanArgs, "--security-opt=apparmor=unconfined")?;
    }
    for (field, text) in all.selinux().into_iter().flat_map(parts) {
        match field {
            "type" => set(Key::SecurityLabelType, text)?,
            "level" => set(Key::SecurityLabelLevel, text)?,
            _ => set(
                Key::PodmanArgs,
                &format!("--security-opt=label={field}:{text}"),
            )?,
        }
    }
    Ok(())
}

/// Groups of all containers beside their own: the one of the files is among them.
fn groups(pod: Option<&PodSecurityContext>) -> BTreeSet<i64> {
    let more = pod.and_then(|c| c.supplemental_groups.as_ref());
    let files = pod.and_then(|c| c.fs_group);
    more.into_iter().flatten().copied().chain(files).collect()
}

/// What is dropped and what is added. Podman starts no container where one is in
/// both lists; in Kubernetes (containerd) it is dropped, and `ALL` counts first.
fn podman(wanted: &Capabilities) -> [Vec<String>; 2] {
    let set = |names: &Option<Vec<String>>| -> BTreeSet<String> {
        let names = names.iter().flatten();
        names.map(|name| name.to_ascii_uppercase()).collect()
    };
    let (mut add, mut drop) = (set(&wanted.add), set(&wanted.drop));
    if drop.contains(ALL) {
        add.remove(ALL);
        add.retain(|name| !drop.contains(name));
        drop = [ALL.to_owned()].into();
    } else if add.contains(ALL) {
        add = [ALL.to_owned()].into();
    } else {
        add.retain(|name| !drop.contains(name));
    }
    [drop, add].map(|names| names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_and_dropped_is_dropped() {
        for (add, drop, expected) in [
            (&["NET_ADMIN"][..], &["ALL"][..], ["ALL", "NET_ADMIN"]),
            (&["chown", "KILL"], &["KILL"], ["KILL", "CHOWN"]),
            (&["ALL"], &["MKNOD", "KILL"], ["KILL MKNOD", "ALL"]),
            (&["ALL", "KILL"], &["all"], ["ALL", "KILL"]),
            (&[], &[], ["", ""]),
        ] {
            let list = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
            let wanted = Capabilities {
                add: list(add),
                drop: list(drop),
            };
            assert_eq!(podman(&wanted).map(|names| names.join(" ")), expected);
        }
    }
}
