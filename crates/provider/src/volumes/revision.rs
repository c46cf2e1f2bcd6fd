//! Whether containers see the same files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use sha2::{Digest, Sha256};

use super::{Files, Volume, mounts};
use crate::request::Revision;

/// Hex digits kept of the SHA-256: 64 bits, never compared across pods.
const REVISION_DIGITS: usize = 16;

/// A fingerprint of what a running container can see change: the files of those
/// volumes that one of them mounts as a whole. A mount with a `subPath` stays as
/// it was, and an empty directory is the containers' own.
///
/// It differs between pods with the same files, but who reads it and the pod can
/// still try guesses at a short secret: keep it where the files are.
pub fn payload_revision(pod: &Pod, volumes: &BTreeMap<String, Volume>) -> Revision {
    let mut hash = Sha256::new();
    put(&mut hash, pod.metadata.uid.as_deref().unwrap_or_default());
    let seen = pod.spec.as_ref().map(mounts::mounted_whole);
    for name in seen.into_iter().flatten() {
        if let Some(Volume::Files(files)) = volumes.get(name) {
            put(&mut hash, name);
            put_files(&mut hash, files);
        }
    }
    let digest = hash.finalize();
    let mut text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(REVISION_DIGITS);
    Revision::from_text(&text)
}

fn put_files(hash: &mut Sha256, volume: &Files) {
    count(hash, volume.files.len());
    for (path, file) in &volume.files {
        put(hash, path);
        put(hash, file.content.bytes());
        hash.update(file.mode.to_le_bytes());
        hash.update(file.uid.to_le_bytes());
        hash.update(file.gid.to_le_bytes());
    }
    count(hash, volume.mount_points.len());
    for path in &volume.mount_points {
        put(hash, path);
    }
}

/// With its length in front, so that no two sequences read alike.
fn put(hash: &mut Sha256, bytes: impl AsRef<[u8]>) {
    count(hash, bytes.as_ref().len());
    hash.update(bytes);
}

fn count(hash: &mut Sha256, count: usize) {
    hash.update((count as u64).to_le_bytes());
}
