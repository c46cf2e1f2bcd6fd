//! Volumes in units: `emptyDir` in the application's own folder, files in ours.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Volume as Source, VolumeMount};
use vk_provider::BackendError;
use vk_provider::environment::Origin;
use vk_provider::podspec::{Refusal, Refusals};
use vk_provider::volumes::{EmptyDir, Files, Medium, Mount, Volume};

use super::env::given;
use super::memory;
use super::payload::{folder as pod_folder, nothing_of, volume_folder};
use super::shape::{Part, Shape};
use crate::items::ROOT;
use crate::quadlet::{Key, TextError, Unit, Value, is_name};

/// Folder of emptyDirs in the application's folder.
const FOLDER: &str = "e";

/// Looks at the names of all volumes: they become names of folders.
pub(super) fn check(spec: &PodSpec, refusals: &mut Refusals) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let nothing = Source {
            name: volume.name.clone(),
            ..Source::default()
        };
        // The API server makes an emptyDir of one that is nothing.
        refusals.unless(
            *volume != nothing && is_name(&volume.name),
            format!("spec.volumes[{index}].name"),
            "it is no DNS label, or its volume is of no kind",
        );
    }
}

/// Looks at the mounts of a container.
pub(super) fn check_mounts(
    mounts: &[VolumeMount],
    spec: &PodSpec,
    path: &str,
    refusals: &mut Refusals,
) {
    for (index, mount) in mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if let Err(why) = target(&mount.mount_path) {
            refusals.add(format!("{path}.mountPath"), why);
        }
        let mut all = spec.volumes.iter().flatten();
        let is_empty = all.any(|v| v.name == mount.name && v.empty_dir.is_some());
        for (field, text) in [
            ("subPath", &mount.sub_path),
            ("subPathExpr", &mount.sub_path_expr),
        ] {
            let set = text.as_deref().is_some_and(|text| !text.is_empty());
            // A container could put a link there, and Podman follows it as root.
            refusals.unless(
                !(is_empty && set),
                format!("{path}.{field}"),
                "a part of an emptyDir could lead out of it on the device; mount the whole volume and use the folder in it",
            );
        }
    }
}

/// Where something is mounted: a path that neither Podman nor systemd reads
/// anything else in.
fn target(path: &str) -> Result<(), TextError> {
    if !path.starts_with('/') {
        return Err(TextError::Form("it is not an absolute path"));
    }
    part_of_a_mount(path)
}

fn part_of_a_mount(path: &str) -> Result<(), TextError> {
    let odd = |c: &char| matches!(c, ':' | ',' | '[' | ']' | '=');
    match path.chars().find(odd) {
        Some(odd) => Err(TextError::Character(odd)),
        None => Value::plain(path).map(|_| ()),
    }
}

/// Folder of an emptyDir on the device, below the application's.
fn folder(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Writes the mounts of a container into its unit, and what has to be there
/// before it starts.
pub(super) fn write(
    shape: &Shape<'_>,
    part: &Part<'_>,
    unit: &mut Unit,
) -> Result<(), BackendError> {
    let set = |unit: &mut Unit, key, text: String, path: &str| {
        let value = Value::plain(&text);
        let set = value.and_then(|value| unit.set(key, value));
        set.map_err(|why| Refusal::new(path, why))
    };
    let command = |unit: &mut Unit, text: String, path: &str| {
        let value = Value::ours(text);
        let set = value.and_then(|value| unit.set(Key::ExecStartPre, value));
        set.map_err(|why| Refusal::new(path, why))
    };
    for (path, declared, mount) in mounts(part, shape.volumes) {
        let options = if mount.read_only { "ro,z" } else { "z" };
        match shape.volumes.get(&mount.volume) {
            Some(Volume::Empty(empty)) if empty.medium == Medium::Memory => {
                let source = memory::source(shape, &mount.volume);
                let line = format!("{source}:{}:{options}", mount.mount_path);
                set(unit, Key::Volume, line, &path)?;
            }
            Some(Volume::Empty(empty)) => {
                let source = format!("./{}", folder(&mount.volume));
                let line = format!("{source}:{}:{options}", mount.mount_path);
                set(unit, Key::Volume, line, &path)?;
                command(unit, made(shape, &mount.volume, empty), &path)?;
            }
            Some(Volume::Files(files)) => {
                let source = source(shape, part, files, declared, mount, &path)?;
                let line = format!("{source}:{}:{options}", mount.mount_path);
                set(unit, Key::Volume, line, &path)?;
                for needed in needed(shape, files, mount, source) {
                    command(unit, format!("/bin/mkdir -p {needed}"), &path)?;
                }
            }
            // Refused by the declaration, or left out.
            Some(Volume::Declared(_)) | None => {}
        }
    }
    Ok(())
}

/// Makes the folder of an emptyDir.
///
/// Writable for everyone, as in Kubernetes: images run as users of their own. Not
/// by a file in it, which the container would find, nor again at each start: the
/// mode is the containers' then. What takes more than one step is marked as done
/// beside it, where no volume can be.
fn made(shape: &Shape<'_>, volume: &str, empty: &EmptyDir) -> String {
    let all = format!("{}/{FOLDER}", shape.folder());
    let (mode, group) = (empty.root.mode, empty.root.gid);
    if group == 0 {
        return format!("/bin/mkdir -p --mode={mode:04o} {all}/{volume}");
    }
    format!(
        "/bin/sh -c 'mkdir -p {all} && cd {all} && {{ [ -e .{volume} ] || {{ mkdir -p {volume} && \
         chgrp {group} {volume} && chmod {mode:04o} {volume} && : > .{volume}; }}; }}'"
    )
}

/// Keeps the folder of a pod's files to the device's own user, in a unit that
/// needs any of them, and sweeps.
pub(super) fn close(shape: &Shape<'_>, unit: &mut Unit) -> Result<(), TextError> {
    let folder = pod_folder(&shape.app);
    let value = Value::ours(format!("/bin/chmod 0700 {folder}"))?;
    unit.set(Key::ExecStartPre, value)?;
    unit.set(Key::ExecStartPre, Value::ours(sweep())?)
}

/// Takes away the folders of pods that are gone: the agent removes files, and not
/// the folders that it made for them.
///
/// What is younger than a minute may be of a pod that is just coming: its files
/// are there before its application.
fn sweep() -> String {
    format!(
        r#"-/bin/sh -c 'cd {ROOT} && for f in *; do [ -e "%E/containers/systemd/vk-$$f" ] || find "$$f" -depth -type d -empty -mmin +1 -delete; done'"#
    )
}

/// Each mount with its path in the pod and as the pod declares it.
fn mounts<'a>(
    part: &'a Part<'a>,
    volumes: &'a BTreeMap<String, Volume>,
) -> impl Iterator<Item = (String, &'a VolumeMount, &'a Mount)> {
    let declared = part.container.volume_mounts.iter().flatten().enumerate();
    // Those of a volume that is left out are not among the rendered ones.
    let declared = declared.filter(|(_, mount)| volumes.contains_key(&mount.name));
    declared
        .zip(&part.given.mounts)
        .map(|((index, declared), mount)| {
            let path = format!("{}.volumeMounts[{index}]", part.path);
            (path, declared, mount)
        })
}

/// Whether a container has any volume of files.
pub(super) fn has_files(part: &Part<'_>, volumes: &BTreeMap<String, Volume>) -> bool {
    let mut mounts = part.given.mounts.iter();
    mounts.any(|mount| matches!(volumes.get(&mount.volume), Some(Volume::Files(_))))
}

/// What of a volume of files is mounted.
fn source(
    shape: &Shape<'_>,
    part: &Part<'_>,
    files: &Files,
    declared: &VolumeMount,
    mount: &Mount,
    path: &str,
) -> Result<String, BackendError> {
    let folder = volume_folder(&shape.app, &mount.volume);
    let Some(sub) = &mount.sub_path else {
        return Ok(folder);
    };
    let expression = declared.sub_path_expr.as_deref().unwrap_or_default();
    let origin = part.given.environment.origin(expression);
    let field = match expression {
        "" => "subPath",
        _ => "subPathExpr",
    };
    let field = format!("{path}.{field}");
    if origin == Origin::Secret {
        let why = "it holds the text of a Secret, which must not stand in a unit";
        return Err(Refusal::new(field, why).into());
    }
    part_of_a_mount(sub).map_err(|why| given(part, origin, Refusal::new(field, why)))?;
    if is_there(files, sub) {
        Ok(format!("{folder}/{sub}"))
    } else {
        Ok(nothing_of(&shape.app, &mount.volume))
    }
}

/// Whether a volume has this path, as a file or a folder.
fn is_there(files: &Files, path: &str) -> bool {
    let below = format!("{path}/");
    let mut all = files.files.keys().chain(&files.mount_points);
    all.any(|has| has == path || has.starts_with(&below))
}

/// Folders that have to be there for a mount: of files the agent makes them, but
/// not for a volume that holds none, nor for what else is mounted in it.
fn needed(shape: &Shape<'_>, files: &Files, mount: &Mount, source: String) -> Vec<String> {
    let folder = volume_folder(&shape.app, &mount.volume);
    // One that cannot be written is of an ephemeral container, which never starts.
    let points = files.mount_points.iter();
    let points = points.filter(|point| part_of_a_mount(point).is_ok());
    let points = points.map(|point| format!("{folder}/{point}"));
    let is_file = mount
        .sub_path
        .as_ref()
        .is_some_and(|sub| files.files.contains_key(sub));
    let own = (!is_file).then_some(source);
    own.into_iter().chain(points).collect()
}
