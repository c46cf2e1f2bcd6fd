//! The files that an agent keeps from `spec.config`, and what of them containers
//! have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::quadlet::Unit;

/// A file on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFile {
    /// What is in it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Its user's name.
    pub user: String,
    /// Its group's name.
    pub group: String,
}

/// Files by absolute path.
pub(crate) type Files = BTreeMap<String, Arc<DeviceFile>>;

/// The files of a rendered document: all in one item, their contents in base64;
/// `None` where one cannot be read.
pub(crate) fn read(spec: &Value) -> Option<Files> {
    let items = spec["config"].as_array().into_iter().flatten();
    let files = items.flat_map(|item| item["inline"].as_array().into_iter().flatten());
    files
        .map(|file| {
            let content = BASE64.decode(file["content"].as_str()?).ok()?;
            let owner = |key: &str| file[key].as_str().unwrap_or("root").to_owned();
            let kept = DeviceFile {
                content,
                mode: file["mode"].as_u64().and_then(|m| m.try_into().ok())?,
                user: owner("user"),
                group: owner("group"),
            };
            Some((file["path"].as_str()?.to_owned(), Arc::new(kept)))
        })
        .collect()
}

/// What an agent has written: folders stay when their files go.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) files: Files,
    pub(crate) folders: BTreeSet<String>,
}

impl Disk {
    /// Removes what is not wanted any more, writes what is.
    ///
    /// # Errors
    /// The path that a file or a folder is in the way of.
    pub(crate) fn keep(&mut self, wanted: &Files) -> Result<(), String> {
        self.files.retain(|path, _| wanted.contains_key(path));
        for (path, file) in wanted {
            if self.folders.contains(path) || parents(path).any(|p| self.files.contains_key(p)) {
                return Err(path.clone());
            }
            self.folders.extend(parents(path).map(str::to_owned));
            // A new one even where nothing changed but the content: written beside
            // it and renamed, so that who has the old one open keeps it.
            if self.files.get(path) != Some(file) {
                self.files.insert(path.clone(), Arc::clone(file));
            }
        }
        Ok(())
    }

    /// `mkdir -p`.
    pub(crate) fn make_folder(&mut self, path: &str) {
        self.folders.extend(parents(path).map(str::to_owned));
        self.folders.insert(path.to_owned());
    }
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(move |(at, _)| &path[..at])
        .filter(|parent| !parent.is_empty())
}

/// What a running container has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// What it calls itself.
    pub hostname: String,
    /// Its variables, as far as its unit and the files named there say.
    pub environment: BTreeMap<String, String>,
    /// The files of the device that it sees, by their path in it.
    pub files: BTreeMap<String, DeviceFile>,
    /// Where something is mounted in it.
    pub mounts: Vec<String>,
}

/// The same, as it was started: a folder shows what is in it now, a file what it
/// was.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    hostname: String,
    /// What its processes wrote; it goes with the container.
    written: Files,
    environment: BTreeMap<String, String>,
    mounts: Vec<(String, Source)>,
}

#[derive(Clone, Debug)]
enum Source {
    Folder(String),
    File(Arc<DeviceFile>),
    /// Of the application's own folder.
    Own,
}

impl Started {
    /// Creates a unit's container; `None` where Podman cannot: a source or a file
    /// of variables is not there.
    pub(crate) fn create(unit: &Unit, hostname: String, disk: &Disk) -> Option<Self> {
        let mut environment = BTreeMap::new();
        for path in &unit.environment_files {
            let file = disk.files.get(path)?;
            environment.extend(variables(&String::from_utf8_lossy(&file.content)));
        }
        environment.extend(unit.environment.iter().cloned());
        let mut mounts = Vec::new();
        for (source, target) in &unit.volumes {
            let what = if !source.starts_with('/') {
                Source::Own
            } else if let Some(file) = disk.files.get(source) {
                Source::File(Arc::clone(file))
            } else if disk.folders.contains(source) {
                Source::Folder(source.clone())
            } else {
                return None;
            };
            mounts.push((target.clone(), what));
        }
        Some(Self {
            hostname,
            written: Files::new(),
            environment,
            mounts,
        })
    }

    /// A process writes a file.
    pub(crate) fn write(&mut self, path: &str, content: Vec<u8>) {
        let file = DeviceFile {
            content,
            mode: 0o644,
            user: "root".into(),
            group: "root".into(),
        };
        self.written.insert(path.to_owned(), Arc::new(file));
    }

    /// What it has now.
    pub(crate) fn seen(&self, disk: &Disk) -> Container {
        let mut files = BTreeMap::new();
        for (target, what) in &self.mounts {
            match what {
                Source::File(file) => {
                    files.insert(target.clone(), DeviceFile::clone(file));
                }
                Source::Folder(folder) => {
                    let below = format!("{folder}/");
                    let inside = disk.files.iter();
                    let inside =
                        inside.filter_map(|(path, file)| Some((path.strip_prefix(&below)?, file)));
                    for (path, file) in inside {
                        let path = format!("{target}/{path}");
                        if self.mount_of(&path) == Some(target) {
                            files.insert(path, DeviceFile::clone(file));
                        }
                    }
                }
                Source::Own => {}
            }
        }
        let written = self.written.iter();
        files.extend(written.map(|(path, file)| (path.clone(), DeviceFile::clone(file))));
        Container {
            hostname: self.hostname.clone(),
            environment: self.environment.clone(),
            files,
            mounts: self
                .mounts
                .iter()
                .map(|(target, _)| target.clone())
                .collect(),
        }
    }

    /// The innermost mount that a path is in.
    fn mount_of(&self, path: &str) -> Option<&String> {
        let targets = self.mounts.iter().map(|(target, _)| target);
        let around = |target: &&String| {
            let rest = path.strip_prefix(target.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        targets.filter(around).max_by_key(|target| target.len())
    }
}

/// Podman's reading of a file of variables: no quotes, no escapes.
fn variables(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines()
        .map(|line| line.trim_start_matches([' ', '\t']))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// `"NAME=VALUE"` as a unit has it, with systemd's quoting.
pub(super) fn assignment(text: &str) -> Option<(String, String)> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let inner = inner.replace("%%", "%").replace("$$", "$");
    let mut out = String::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        out.push(match c {
            '\\' => match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'x' => {
                    let code: String = rest.by_ref().take(2).collect();
                    char::from(u8::from_str_radix(&code, 16).ok()?)
                }
                other => other,
            },
            c => c,
        });
    }
    let (name, value) = out.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Files {
        let file = |path: &&str| {
            let content = path.as_bytes().to_vec();
            let (user, group) = ("root".to_owned(), "root".to_owned());
            let mode = 0o644;
            let file = DeviceFile {
                content,
                mode,
                user,
                group,
            };
            ((*path).to_owned(), Arc::new(file))
        };
        paths.iter().map(file).collect()
    }

    #[test]
    fn files_go_folders_stay_and_neither_replaces_the_other() {
        let mut disk = Disk::default();
        assert_eq!(disk.keep(&files(&["/a/b/c", "/a/d"])), Ok(()));
        assert_eq!(disk.keep(&files(&["/a/d"])), Ok(()));
        assert_eq!(disk.files.keys().collect::<Vec<_>>(), ["/a/d"]);
        let folder = disk.keep(&files(&["/a/b"]));
        assert_eq!(folder, Err("/a/b".into()), "a folder was there");
        assert_eq!(disk.keep(&files(&["/a/d"])), Ok(()));
        let file = disk.keep(&files(&["/a/d", "/a/d/e"]));
        assert_eq!(file, Err("/a/d/e".into()), "a file is there");
    }

    #[test]
    fn variables_are_read_as_systemd_and_podman_read_them() {
        assert_eq!(
            assignment(r#""K=a \"b\" %% $$ \\ \x01\n""#),
            Some(("K".into(), "a \"b\" % $ \\ \u{1}\n".into()))
        );
        let all: Vec<_> = variables("# no\n  A=b=c \"$x\" \n\nB=\n").collect();
        assert_eq!(
            all,
            [
                ("A".into(), "b=c \"$x\" ".into()),
                ("B".into(), String::new())
            ]
        );
    }
}
