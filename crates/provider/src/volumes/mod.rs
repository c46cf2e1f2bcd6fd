//! A pod's volumes, as what a backend has to lay out. Pure.
//!
//! [`lay_out`] makes from a pod and its [`Inputs`] each volume that a container
//! uses, [`mounts`] says where a container has them, and
//! [`payload_revision`] tells whether what a running container sees of them is
//! still the same. All of it is what a kubelet of 1.36 does
//! (`pkg/volume/{configmap,secret,projected,downwardapi,emptydir}`,
//! `pkg/volume/util/atomic_writer.go`, `makeMounts`), but for this:
//!
//! * A source that is none of those is refused by its path, used or not,
//!   unless the caller declares that its backend reads it from the spec.
//! * `clusterTrustBundle` and `podCertificate` are refused by path, and so are
//!   huge pages as a medium.
//! * Where tokens are withheld, the volume that the API server puts into pods for
//!   one is left out, and any other token refused by path.
//! * Paths that differ only in `./` or `//` collide, and the later source has
//!   the file; the kubelet leaves it to chance. A path that is a file and also a
//!   directory is named as such.
//! * Paths that would leave their volume if a backslash separated are refused
//!   as they are by a kubelet on Windows.

mod content;
mod downward;
mod empty;
mod gather;
mod mounts;
mod owner;
mod path;
mod revision;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume as Source};

use crate::inputs::Inputs;
use crate::podspec::{Refusal, Refusals, is_service_account_volume};
use crate::quantity::{Amount, Resources};
pub use content::Content;
pub use mounts::{Mount, MountError, mounts};
pub use revision::payload_revision;

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// Files that are there before a container starts, read-only to all of them:
    /// configMap, secret, projected, downwardAPI.
    Files(Files),
    /// An empty directory that the containers share and write to.
    Empty(EmptyDir),
    /// A source that the caller declared: `hostPath`, `csi`. Its backend reads
    /// it from the spec.
    Declared(String),
}

/// A volume of files.
///
/// To be changed all at once: a container sees the old files or the new ones.
/// Names that begin with `..` are free for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// By path: relative, `/` between names, never out of the volume, and never
    /// both a file and a directory.
    pub files: BTreeMap<String, File>,
    /// Directories that other volumes are mounted on, below this one.
    pub mount_points: BTreeSet<String>,
    /// Where a kubelet has it.
    pub medium: Medium,
    /// The volume's own directory.
    pub root: Dir,
    /// All directories below.
    pub inner: Dir,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub content: Content,
    /// Permission bits.
    pub mode: u32,
    /// Its user; 0 where the pod asks for none.
    pub uid: i64,
    /// Its group; 0 where the pod asks for none.
    pub gid: i64,
}

/// A directory; its user is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dir {
    /// Permission bits, with the sticky and the set-group-id bit.
    pub mode: u32,
    /// Its group; 0 where the pod asks for none.
    pub gid: i64,
}

/// An empty directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyDir {
    /// Where it is.
    pub medium: Medium,
    /// What may be in it. In memory that is the smallest of `sizeLimit`, the
    /// pod's memory limit and the node's allocatable memory, and is the size of
    /// the file system; on disk it is `sizeLimit`, and exceeding it evicts.
    pub size_limit: Option<Amount>,
    /// The volume's own directory.
    pub root: Dir,
}

/// What a volume is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The node's disk.
    Disk,
    /// Memory, gone with the pod.
    Memory,
}

/// What is known beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The objects it refers to.
    pub inputs: &'a Inputs,
    /// Of its node: stands in for limits that a container does not have.
    pub allocatable: &'a Resources,
    /// Sources beyond those of this module that the backend takes from the
    /// spec, as the spec spells them: `hostPath`.
    pub declared: &'a [&'a str],
}

/// Why there are no volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumesError {
    /// Never here: these fields.
    Refused(Refusals),
    /// Not as things are now; to be tried again when an input changes.
    Failed(Vec<FailedMount>),
}

/// A volume that cannot be made; `Display` is the message of the kubelet's
/// event `FailedMount`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
pub struct FailedMount {
    /// Its name.
    pub volume: String,
    /// `configmap "x" not found`.
    pub why: String,
}

impl std::error::Error for VolumesError {}

impl fmt::Display for VolumesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = match self {
            Self::Refused(refusals) => {
                let each = refusals.0.iter();
                each.map(|r| format!("{}: {}", r.path, r.message)).collect()
            }
            Self::Failed(failed) => failed.iter().map(FailedMount::to_string).collect(),
        };
        f.write_str(&all.join("; "))
    }
}

/// Each volume that a container of the pod uses, by name.
///
/// # Errors
/// A field is refused, or a volume cannot be made from these inputs. All that is
/// wrong is named at once.
pub fn lay_out(pod: &Pod, given: Given<'_>) -> Result<BTreeMap<String, Volume>, VolumesError> {
    let Some(spec) = &pod.spec else {
        return Ok(BTreeMap::new());
    };
    let used = mounts::used(spec);
    let mut refusals = Refusals::default();
    let mut failed = Vec::new();
    let mut volumes = BTreeMap::new();
    for (index, source) in spec.volumes.iter().flatten().enumerate() {
        if left_out(source, given.inputs) {
            continue;
        }
        let path = format!("spec.volumes[{index}]");
        match lay_out_one(pod, spec, source, &path, given) {
            Err(Problem::Refused(refusal)) => refusals.0.push(refusal),
            // A volume that nobody uses is not made.
            _ if !used.contains(source.name.as_str()) => {}
            Err(Problem::Failed(why)) => failed.push(FailedMount {
                volume: source.name.clone(),
                why,
            }),
            Ok(volume) => {
                volumes.insert(source.name.clone(), volume);
            }
        }
    }
    if !refusals.0.is_empty() {
        return Err(VolumesError::Refused(refusals));
    }
    if !failed.is_empty() {
        return Err(VolumesError::Failed(failed));
    }
    Ok(volumes)
}

/// Whether the pod does without this volume: it is the API server's own for a
/// token that is withheld.
pub(crate) fn left_out(source: &Source, inputs: &Inputs) -> bool {
    inputs.tokens.is_none() && is_service_account_volume(source)
}

/// What stands in the way of one volume.
enum Problem {
    Refused(Refusal),
    Failed(String),
}

impl From<String> for Problem {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn lay_out_one(
    pod: &Pod,
    spec: &PodSpec,
    source: &Source,
    path: &str,
    given: Given<'_>,
) -> Result<Volume, Problem> {
    let owner = owner::Owner::of(spec);
    if let Some((medium, gathered)) = gather::gather(pod, source, path, given, &owner)? {
        let mount_points = mounts::mount_points(spec, &source.name)?;
        let mut files = gathered.into_files()?;
        // The kubelet makes these directories first, and then links no file over
        // what is there: of a volume's top names, such a directory takes its own.
        let top = |path: &str| path.split('/').next().map(str::to_owned);
        let taken: BTreeSet<_> = mount_points.iter().map(|p| top(p)).collect();
        files.retain(|path, _| !taken.contains(&top(path)));
        return Ok(Volume::Files(Files {
            files,
            mount_points,
            root: owner.root(&medium),
            inner: owner.inner(),
            medium,
        }));
    }
    match other_source(source) {
        None => {
            let path = format!("{path}.emptyDir.medium");
            let empty = source.empty_dir.as_ref();
            empty::lay_out(empty, spec, &path, given.allocatable, &owner)
                .map(Volume::Empty)
                .map_err(Problem::from)
        }
        Some(kind) if given.declared.contains(&kind.as_str()) => Ok(Volume::Declared(kind)),
        Some(kind) => Err(Refusal::new(
            format!("{path}.{kind}"),
            "volumes of this kind are not supported here; use configMap, secret, projected, \
             downwardAPI or emptyDir",
        )
        .into()),
    }
}

/// The source of a volume that is not of this module, as the spec spells it. A
/// volume without any is an empty directory.
fn other_source(volume: &Source) -> Option<String> {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let mut named = fields.as_object()?.keys();
    named
        .find(|name| !matches!(name.as_str(), "name" | "emptyDir"))
        .cloned()
}
