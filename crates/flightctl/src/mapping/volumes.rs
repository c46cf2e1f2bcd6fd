//! Volumes: `emptyDir` in the application's own folder; the volume that the API
//! server injects for its own access is left out; all else is refused.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PodSpec, ProjectedVolumeSource, Volume, VolumeMount, VolumeProjection,
};

use super::refusal::{Refusal, Refusals};
use crate::quadlet::{TextError, Value, is_name};

/// Name prefix of the volume that the ServiceAccount admission plugin injects.
const API_ACCESS: &str = "kube-api-access-";
/// Where it is mounted.
const API_ACCESS_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Folder of emptyDirs in the application's folder.
const FOLDER: &str = "e";

/// What becomes of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder beside the units.
    EmptyDir,
    /// Not on devices: they have no way to the API server and get no token.
    ApiAccess,
}

/// The volumes that are honoured, by name.
pub(super) fn kinds(spec: &PodSpec) -> BTreeMap<&str, Kind> {
    spec.volumes
        .iter()
        .flatten()
        .filter_map(|volume| Some((volume.name.as_str(), kind(volume)?)))
        .collect()
}

/// Looks at all volumes of a pod.
pub(super) fn check(spec: &PodSpec, refusals: &mut Refusals) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{index}]");
        if let Some(empty) = &volume.empty_dir {
            let EmptyDirVolumeSource { medium, size_limit } = empty;
            refusals.unless(
                medium.as_deref().unwrap_or_default().is_empty(),
                format!("{path}.emptyDir.medium"),
                "an emptyDir is a folder on the device's disk; leave the medium out",
            );
            refusals.unless(
                size_limit.as_ref().is_none_or(|limit| limit.0 == "0"),
                format!("{path}.emptyDir.sizeLimit"),
                "nothing on a device watches the size of a folder; leave the limit out",
            );
            refusals.unless(
                is_name(&volume.name),
                format!("{path}.name"),
                "it is no DNS label",
            );
        } else if kind(volume).is_none() {
            refusals.add(
                format!("{path}.{}", source(volume)),
                "only emptyDir volumes reach devices; put files into the image or values into env",
            );
        }
    }
}

/// Looks at the mounts of a container.
pub(super) fn check_mounts(
    mounts: &[VolumeMount],
    kinds: &BTreeMap<&str, Kind>,
    path: &str,
    refusals: &mut Refusals,
) {
    for (index, mount) in mounts.iter().enumerate() {
        let VolumeMount {
            mount_path,
            mount_propagation,
            name,
            read_only: _,
            recursive_read_only,
            sub_path,
            sub_path_expr,
        } = mount;
        let path = format!("{path}.volumeMounts[{index}]");
        match kinds.get(name.as_str()) {
            // The volume's own refusal says it already.
            None => continue,
            Some(Kind::ApiAccess) if mount_path == API_ACCESS_PATH => continue,
            Some(Kind::ApiAccess) => {
                refusals.add(
                    format!("{path}.mountPath"),
                    "the volume of the API server's credentials is not on devices, so it cannot be mounted elsewhere either",
                );
                continue;
            }
            Some(Kind::EmptyDir) => {}
        }
        for (fine, field) in [
            (
                matches!(mount_propagation.as_deref(), None | Some("None")),
                "mountPropagation",
            ),
            (
                matches!(recursive_read_only.as_deref(), None | Some("Disabled")),
                "recursiveReadOnly",
            ),
            (
                sub_path.as_deref().unwrap_or_default().is_empty(),
                "subPath",
            ),
            (
                sub_path_expr.as_deref().unwrap_or_default().is_empty(),
                "subPathExpr",
            ),
        ] {
            refusals.unless(
                fine,
                format!("{path}.{field}"),
                "mount the whole volume, without propagation",
            );
        }
        if let Err(why) = mount_value(mount) {
            refusals.add(format!("{path}.mountPath"), why);
        }
    }
}

/// The value of `Volume=` for a mount of an emptyDir. `z`: where SELinux is on,
/// containers may use the folder; elsewhere it says nothing.
pub(super) fn mount_value(mount: &VolumeMount) -> Result<Value, TextError> {
    let target = &mount.mount_path;
    if !target.starts_with('/') {
        return Err(TextError::Form("it is not an absolute path"));
    }
    if let Some(odd) = target
        .chars()
        .find(|c| matches!(c, ':' | ',' | '[' | ']' | '='))
    {
        return Err(TextError::Character(odd));
    }
    let options = if mount.read_only == Some(true) {
        "ro,z"
    } else {
        "z"
    };
    Value::plain(&format!("./{FOLDER}/{}:{target}:{options}", mount.name))
}

/// The file that makes an emptyDir's folder.
pub(super) fn keep_file(name: &str) -> String {
    format!("{FOLDER}/{name}/.keep")
}

/// Folder of an emptyDir on the device, below the application's.
pub(super) fn folder(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Names of the emptyDirs that a container mounts.
pub(super) fn empty_dirs<'a>(
    mounts: Option<&'a Vec<VolumeMount>>,
    kinds: &'a BTreeMap<&str, Kind>,
) -> impl Iterator<Item = &'a VolumeMount> {
    mounts
        .into_iter()
        .flatten()
        .filter(|mount| kinds.get(mount.name.as_str()) == Some(&Kind::EmptyDir))
}

/// A mount that became text without trouble in [`check_mounts`], or its refusal.
pub(super) fn mount_line(mount: &VolumeMount, path: &str) -> Result<Value, Refusal> {
    mount_value(mount).map_err(|why| Refusal::new(format!("{path}.volumeMounts"), why))
}

fn kind(volume: &Volume) -> Option<Kind> {
    if let Some(empty) = &volume.empty_dir {
        let alone = Volume {
            name: volume.name.clone(),
            empty_dir: Some(empty.clone()),
            ..Volume::default()
        };
        return (*volume == alone).then_some(Kind::EmptyDir);
    }
    is_api_access(volume).then_some(Kind::ApiAccess)
}

/// Exactly what the admission plugin makes: a token, the cluster's CA and the
/// namespace. A volume that holds anything else besides is the user's own.
fn is_api_access(volume: &Volume) -> bool {
    let alone = Volume {
        name: volume.name.clone(),
        projected: volume.projected.clone(),
        ..Volume::default()
    };
    let Some(ProjectedVolumeSource {
        sources: Some(sources),
        ..
    }) = &volume.projected
    else {
        return false;
    };
    if !volume.name.starts_with(API_ACCESS) || *volume != alone || sources.len() != 3 {
        return false;
    }
    let token = |s: &VolumeProjection| {
        let only = VolumeProjection {
            service_account_token: s.service_account_token.clone(),
            ..VolumeProjection::default()
        };
        *s == only
            && s.service_account_token.as_ref().is_some_and(|t| {
                t.path == "token" && t.audience.as_deref().unwrap_or_default().is_empty()
            })
    };
    let authority = |s: &VolumeProjection| {
        let only = VolumeProjection {
            config_map: s.config_map.clone(),
            ..VolumeProjection::default()
        };
        *s == only
            && s.config_map
                .as_ref()
                .is_some_and(|c| c.name == "kube-root-ca.crt")
    };
    let namespace = |s: &VolumeProjection| {
        let only = VolumeProjection {
            downward_api: s.downward_api.clone(),
            ..VolumeProjection::default()
        };
        *s == only
            && s.downward_api
                .as_ref()
                .and_then(|d| d.items.as_ref())
                .is_some_and(|items| {
                    items.len() == 1
                        && items.iter().all(|i| {
                            i.path == "namespace"
                                && i.field_ref
                                    .as_ref()
                                    .is_some_and(|f| f.field_path == "metadata.namespace")
                        })
                })
    };
    [
        &token as &dyn Fn(&VolumeProjection) -> bool,
        &authority,
        &namespace,
    ]
    .iter()
    .all(|is| sources.iter().any(is))
}

/// The field that a volume is made by, for its refusal's path.
fn source(volume: &Volume) -> String {
    serde_json::to_value(volume)
        .ok()
        .and_then(|v| {
            v.as_object()?
                .keys()
                .find(|k| *k != "name" && *k != "emptyDir")
                .cloned()
        })
        .unwrap_or_else(|| "name".to_owned())
}
