//! The files of a pod on its device, as items of `spec.config`.
//!
//! They are in a folder that only the device's own user enters, by the name of
//! the pod's UID: containers get the folders of their volumes through Podman.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume as Source};
use vk_provider::podspec::Refusals;
use vk_provider::volumes::{FailedMount, Volume};
use vk_provider::{BackendError, RenderError};
use zeroize::Zeroizing;

use crate::items::{self, FILE_LIMIT, File, Item, ROOT};

/// Names of volumes are DNS labels, so that none is one of these.
const ENVIRONMENT: &str = ".env";
const NOTHING: &str = ".none";
/// Longest path in a volume, in bytes: with the folder it has to stay a path of
/// Linux (4,096), or the agent fails everybody's update.
const PATH_LIMIT: usize = 3800;
/// For its reader alone: Podman, as the device's own user.
const PRIVATE: u32 = 0o600;

/// The folder of a pod, of an application of this name.
pub(super) fn folder(app: &str) -> String {
    format!("{ROOT}/{}", app.strip_prefix("vk-").unwrap_or(app))
}

/// The folder of one of its volumes.
pub(super) fn volume_folder(app: &str, volume: &str) -> String {
    format!("{}/{volume}", folder(app))
}

/// A folder that is always empty, for what a volume does not hold. It is not in
/// the volume: a file of that name may come, and cannot be where a folder is.
pub(super) fn nothing_of(app: &str, volume: &str) -> String {
    format!("{}/{NOTHING}/{volume}", folder(app))
}

/// The file with variables of a container.
pub(super) fn environment_file(app: &str, container: &str) -> String {
    format!("{}/{ENVIRONMENT}/{container}", folder(app))
}

/// The item of a pod's volumes of files, if it has any.
pub(super) fn volumes_item(
    app: &str,
    spec: &PodSpec,
    volumes: &BTreeMap<String, Volume>,
) -> Result<Option<Item>, BackendError> {
    let mut files = Vec::new();
    let mut any = false;
    let mut failed = Vec::new();
    for (name, volume) in volumes {
        let Volume::Files(volume) = volume else {
            continue;
        };
        any = true;
        let folders = declared_folders(spec, name);
        for (path, file) in &volume.files {
            let length = file.content.bytes().len();
            let why = if folders.contains(path) {
                format!("invalid path: {path:?} is a file and also a directory")
            } else if length > FILE_LIMIT {
                format!("{path} is {length} bytes, and Flight Control takes {FILE_LIMIT} in a file")
            } else if !items::travels(file.content.bytes()) {
                format!(
                    "{path} is no text, and Flight Control spoils other bytes on their way to \
                     the device; store them as text that the container decodes (base64)"
                )
            } else {
                files.push(File {
                    path: format!("{}/{path}", volume_folder(app, name)),
                    content: file.content.clone(),
                    mode: file.mode,
                    uid: file.uid,
                    gid: file.gid,
                });
                continue;
            };
            failed.push(FailedMount {
                volume: name.clone(),
                why,
            });
        }
    }
    if !failed.is_empty() {
        return Err(BackendError::Inputs(RenderError::Volumes(failed)));
    }
    Ok(any.then(|| Item::new(&items::volumes_item(app), &files)))
}

/// The item of the environment of a pod's containers, by name; none without one.
pub(super) fn environment_item(
    app: &str,
    environments: Vec<(String, Zeroizing<String>)>,
) -> Result<Option<Item>, BackendError> {
    let mut files = Vec::new();
    for (container, text) in environments
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
    {
        if text.len() > FILE_LIMIT {
            let why = format!(
                "variables of Secrets and long ones take {} bytes, and Flight Control takes \
                 {FILE_LIMIT} in a file; mount some as files",
                text.len()
            );
            let name = container;
            return Err(BackendError::Inputs(RenderError::Container { name, why }));
        }
        files.push(File {
            path: environment_file(app, &container),
            content: text.into(),
            mode: PRIVATE,
            uid: 0,
            gid: 0,
        });
    }
    let name = items::environment_item(app);
    Ok((!files.is_empty()).then(|| Item::new(&name, &files)))
}

/// Looks at the paths that a pod gives its files. A file is never where a folder
/// was or will be: the agent could not write it and would fail everybody's update.
pub(super) fn check(spec: &PodSpec, refusals: &mut Refusals) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{index}]");
        let folders = folders_of(volume);
        for (field, item) in declared_paths(volume) {
            let odd = item.chars().find(|c| *c == ':' || c.is_control());
            if let Some(odd) = odd {
                let why = format!("it holds {odd:?}, which a path on a device cannot have");
                refusals.add(format!("{path}.{field}"), why);
            } else if item.len() > PATH_LIMIT {
                let why = format!("it is longer than {PATH_LIMIT} bytes");
                refusals.add(format!("{path}.{field}"), why);
            } else if folders.contains(&clean(item)) {
                let why = "another path of the volume goes through it: it would be a file and also a directory";
                refusals.add(format!("{path}.{field}"), why);
            }
        }
    }
}

/// Folders in a volume that its declared paths go through, whether what they name
/// is there or not.
fn declared_folders(spec: &PodSpec, volume: &str) -> BTreeSet<String> {
    let mut named = spec.volumes.iter().flatten().filter(|v| v.name == volume);
    named.next().map(folders_of).unwrap_or_default()
}

fn folders_of(volume: &Source) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for (_, path) in declared_paths(volume) {
        let path = clean(path);
        folders.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
    }
    folders
}

fn clean(path: &str) -> String {
    let names = path.split('/').filter(|n| !matches!(*n, "" | "."));
    names.collect::<Vec<_>>().join("/")
}

/// Every path that a volume's source names, and its field.
fn declared_paths(volume: &Source) -> Vec<(String, &str)> {
    let mut all = Vec::new();
    let map = volume.config_map.as_ref();
    all.extend(keys("configMap", map.and_then(|s| s.items.as_ref())));
    let secret = volume.secret.as_ref();
    all.extend(keys("secret", secret.and_then(|s| s.items.as_ref())));
    let downward = volume.downward_api.as_ref();
    all.extend(fields(
        "downwardAPI",
        downward.and_then(|s| s.items.as_ref()),
    ));
    let sources = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
    for (index, source) in sources.into_iter().flatten().enumerate() {
        let at = |kind: &str| format!("projected.sources[{index}].{kind}");
        let map = source.config_map.as_ref();
        all.extend(keys(&at("configMap"), map.and_then(|s| s.items.as_ref())));
        let secret = source.secret.as_ref();
        all.extend(keys(&at("secret"), secret.and_then(|s| s.items.as_ref())));
        let downward = source.downward_api.as_ref();
        let downward = downward.and_then(|s| s.items.as_ref());
        all.extend(fields(&at("downwardAPI"), downward));
        let token = source.service_account_token.as_ref();
        all.extend(token.map(|t| (at("serviceAccountToken.path"), t.path.as_str())));
    }
    all
}

fn keys<'a>(
    source: &str,
    items: Option<&'a Vec<KeyToPath>>,
) -> impl Iterator<Item = (String, &'a str)> {
    let items = items.into_iter().flatten().enumerate();
    items.map(move |(n, item)| (format!("{source}.items[{n}].path"), item.path.as_str()))
}

fn fields<'a>(
    source: &str,
    items: Option<&'a Vec<DownwardAPIVolumeFile>>,
) -> impl Iterator<Item = (String, &'a str)> {
    let items = items.into_iter().flatten().enumerate();
    items.map(move |(n, item)| (format!("{source}.items[{n}].path"), item.path.as_str()))
}
