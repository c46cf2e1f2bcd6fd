//! An `emptyDir` in memory: a file system of its own, which the unit of the Podman
//! pod mounts and unmounts.
//!
//! Podman's own ways lose what is in it whenever no container holds it: between an
//! init container and those behind it, and while the only container restarts.

use k8s_openapi::api::core::v1::PodSpec;
use vk_provider::podspec::{Refusal, Refusals};
use vk_provider::quantity::Amount;
use vk_provider::volumes::{EmptyDir, Medium, Volume};

use super::expected::{Policy, Role, policy, role_of_init};
use super::shape::Shape;
use crate::quadlet::{Key, TextError, Unit, Value};

/// Where they are on a device, a folder per pod. Gone after a reboot, as they are.
const ROOT: &str = "/run/virtual-kubelet";
const MEMORY: &str = "Memory";

/// Whether a pod has one.
pub(super) fn any(spec: &PodSpec) -> bool {
    names(spec).next().is_some()
}

fn names(spec: &PodSpec) -> impl Iterator<Item = (usize, &str)> {
    let all = spec.volumes.iter().flatten().enumerate();
    all.filter(|(_, volume)| {
        let empty = volume.empty_dir.as_ref();
        empty.is_some_and(|empty| empty.medium.as_deref() == Some(MEMORY))
    })
    .map(|(index, volume)| (index, &*volume.name))
}

/// Looks at whether something holds them while they are needed, and something
/// bounds those that are bounded.
pub(super) fn check(spec: &PodSpec, refusals: &mut Refusals) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let folder = volume.empty_dir.as_ref();
        let folder = folder.filter(|empty| empty.medium.as_deref() != Some(MEMORY));
        let limit = folder.and_then(|empty| empty.size_limit.as_ref());
        refusals.unless(
            limit.is_none_or(|limit| Amount::parse(&limit.0) == Ok(Amount::ZERO)),
            format!("spec.volumes[{index}].emptyDir.sizeLimit"),
            "nothing on a device watches the size of a folder; leave the limit out, or set medium: Memory",
        );
    }
    for (index, name) in names(spec) {
        let mut init = spec.init_containers.iter().flatten();
        let early = init.any(|container| {
            let mut mounts = container.volume_mounts.iter().flatten();
            role_of_init(container) == Role::Init && mounts.any(|mount| mount.name == name)
        });
        let why = if spec.host_network == Some(true) {
            "with hostNetwork there is no Podman pod that could hold it; leave the medium out"
        } else if early && policy(spec) != Policy::Always {
            "init containers of a pod that ends run before there is anything to hold it; leave the medium out, or have no init container mount it"
        } else {
            continue;
        };
        refusals.add(format!("spec.volumes[{index}].emptyDir.medium"), why);
    }
}

/// The folder of a pod.
fn folder(shape: &Shape<'_>) -> String {
    let app = &shape.app;
    format!("{ROOT}/{}", app.strip_prefix("vk-").unwrap_or(app))
}

/// Where one is on the device.
pub(super) fn source(shape: &Shape<'_>, volume: &str) -> String {
    format!("{}/{volume}", folder(shape))
}

/// Writes them into the unit of the Podman pod, which its containers start after
/// and end before.
pub(super) fn write(shape: &Shape<'_>, unit: &mut Unit) -> Result<(), Refusal> {
    let folder = folder(shape);
    for (name, volume) in shape.volumes {
        let Volume::Empty(empty) = volume else {
            continue;
        };
        if empty.medium != Medium::Memory {
            continue;
        }
        let place = source(shape, name);
        let options = options(empty);
        let mount = format!(
            "/bin/sh -c 'mkdir -p {place} && chmod 0700 {folder} && \
             {{ mountpoint -q {place} || mount -t tmpfs -o {options} tmpfs {place}; }}'"
        );
        let unmount =
            format!("-/bin/sh -c 'umount -l {place}; rmdir -p --ignore-fail-on-non-empty {place}'");
        let mut set = |key: Key, text: String| {
            let value = Value::ours(text);
            let set = value.and_then(|value| unit.set(key, value));
            set.map_err(|why: TextError| Refusal::new("spec.volumes", why))
        };
        set(Key::ExecStartPre, mount)?;
        set(Key::ExecStopPost, unmount)?;
    }
    Ok(())
}

fn options(empty: &EmptyDir) -> String {
    let mut options = format!("mode={:o}", empty.root.mode);
    if empty.root.gid != 0 {
        options.push_str(&format!(",gid={}", empty.root.gid));
    }
    if let Some(limit) = empty.size_limit {
        options.push_str(&format!(",size={}", limit.ceil_units()));
    }
    options
}
