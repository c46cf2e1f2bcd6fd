//! Volumes: `emptyDir` in the application's own folder; the volume that the API
//! server injects for its own access is left out; all else is refused.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Volume, VolumeMount};
use vk_provider::podspec::{Refusal, Refusals, is_service_account_volume};

use crate::quadlet::{TextError, Value, is_name};

/// Where the volume that the ServiceAccount admission plugin injects is mounted.
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

/// Looks at all volumes of a pod that are of a kind which devices have.
pub(super) fn check(spec: &PodSpec, refusals: &mut Refusals) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let nothing = Volume {
            name: volume.name.clone(),
            ..Volume::default()
        };
        // The API server makes an emptyDir of one that is nothing.
        refusals.unless(
            *volume != nothing && (volume.empty_dir.is_none() || is_name(&volume.name)),
            format!("spec.volumes[{index}].name"),
            "it is no DNS label, or its volume is of no kind",
        );
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
        let path = format!("{path}.volumeMounts[{index}]");
        match kinds.get(mount.name.as_str()) {
            // The volume's own refusal says it already.
            None => continue,
            Some(Kind::ApiAccess) if mount.mount_path == API_ACCESS_PATH => continue,
            Some(Kind::ApiAccess) => {
                refusals.add(
                    format!("{path}.mountPath"),
                    "the volume of the API server's credentials is not on devices, so it cannot be mounted elsewhere either",
                );
                continue;
            }
            Some(Kind::EmptyDir) => {}
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
    is_service_account_volume(volume).then_some(Kind::ApiAccess)
}
