//! Where the containers of a pod have its volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};

use super::path::{mount_path, sub_path};

/// One volume in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Name of the volume.
    pub volume: String,
    /// Absolute, cleaned.
    pub mount_path: String,
    /// What of the volume is mounted in its place: relative, cleaned, never out
    /// of the volume. Where it does not exist it is made as a directory; a file
    /// mounted so is not refreshed.
    pub sub_path: Option<String>,
    /// The container cannot write to it. Volumes of files always are.
    pub read_only: bool,
}

/// A mount that cannot be; `Display` is the message of the kubelet's waiting
/// reason `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MountError(pub String);

/// The mounts of one container, in their order.
///
/// `expand` is asked for each `subPathExpr` and answers with the variables of
/// this container put in, or with words for what is missing. Propagation and
/// `recursiveReadOnly` are left to what the backend declares of them.
///
/// # Errors
/// A volume does not exist, a variable has no value, or a path leaves its place.
pub fn mounts(
    spec: &PodSpec,
    container: &str,
    expand: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<Mount>, MountError> {
    let (_, own) = all(spec)
        .find(|(name, _)| *name == container)
        .ok_or_else(|| MountError(format!("container {container} not found")))?;
    own.iter()
        .map(|mount| one(spec, container, mount, &expand))
        .collect::<Result<_, _>>()
        .map_err(MountError)
}

fn one(
    spec: &PodSpec,
    container: &str,
    mount: &VolumeMount,
    expand: impl Fn(&str) -> Result<String, String>,
) -> Result<Mount, String> {
    let name = &mount.name;
    let mut volumes = spec.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == *name);
    let volume = volume.ok_or_else(|| {
        format!("cannot find volume {name:?} to mount into container {container:?}")
    })?;
    let of_files = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some();
    let expression = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty());
    let sub_path = match expression {
        None => sub_path(mount.sub_path.as_deref().unwrap_or_default(), of_files)?,
        Some(expression) => {
            let expanded = sub_path(&expand(expression)?, of_files)?;
            // The whole volume is more than was asked for.
            Some(expanded.ok_or_else(|| format!("subPathExpr `{expression}` names no path"))?)
        }
    };
    Ok(Mount {
        volume: name.clone(),
        mount_path: mount_path(&mount.mount_path)?,
        sub_path,
        read_only: of_files || mount.read_only == Some(true),
    })
}

/// Each container of any kind, with its mounts.
fn all(spec: &PodSpec) -> impl Iterator<Item = (&str, &[VolumeMount])> {
    let regular = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    regular
        .map(|c| (c.name.as_str(), c.volume_mounts.as_deref()))
        .chain(ephemeral.map(|c| (c.name.as_str(), c.volume_mounts.as_deref())))
        .map(|(name, mounts)| (name, mounts.unwrap_or_default()))
}

/// The volumes that any container mounts, or has as a block device.
pub(super) fn used(spec: &PodSpec) -> BTreeSet<&str> {
    let mounts = all(spec).flat_map(|(_, mounts)| mounts);
    let regular = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let devices = regular.flat_map(|c| c.volume_devices.iter().flatten());
    mounts
        .map(|mount| mount.name.as_str())
        .chain(devices.map(|device| device.name.as_str()))
        .collect()
}

/// The volumes that any container sees as they change: mounted as a whole.
pub(super) fn mounted_whole(spec: &PodSpec) -> BTreeSet<&str> {
    let is_whole = |mount: &&VolumeMount| {
        let raw = mount.sub_path.as_deref().unwrap_or_default();
        mount
            .sub_path_expr
            .as_deref()
            .unwrap_or_default()
            .is_empty()
            && matches!(sub_path(raw, false), Ok(None))
    };
    let mounts = all(spec).flat_map(|(_, mounts)| mounts);
    let whole = mounts.filter(is_whole);
    whole.map(|mount| mount.name.as_str()).collect()
}

/// The directories of a volume that others are mounted on, in any container;
/// not those within such a one.
///
/// # Errors
/// This volume is mounted where no mount can be.
pub(super) fn mount_points(spec: &PodSpec, volume: &str) -> Result<BTreeSet<String>, String> {
    let mut points = BTreeSet::new();
    for (_, mounts) in all(spec) {
        // Another volume's bad path is that volume's fault.
        let valid = mounts.iter().filter_map(|m| mount_path(&m.mount_path).ok());
        let everywhere: BTreeSet<String> = valid.collect();
        for own in mounts.iter().filter(|mount| mount.name == volume) {
            let below = format!("{}/", mount_path(&own.mount_path)?);
            let mut nested: Vec<&str> = Vec::new();
            for path in &everywhere {
                let Some(inside) = path.strip_prefix(&below) else {
                    continue;
                };
                let within = |outer: &&str| {
                    let rest = inside.strip_prefix(*outer);
                    rest.is_some_and(|rest| rest.starts_with('/'))
                };
                if !nested.iter().any(within) {
                    nested.push(inside);
                }
            }
            points.extend(nested.into_iter().map(str::to_owned));
        }
    }
    Ok(points)
}
