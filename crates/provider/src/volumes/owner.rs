//! Who owns what is laid out, and who may read it.

use k8s_openapi::api::core::v1::PodSpec;

use super::{Content, Dir, File, Medium};

/// The API server's default, for objects that never went through it.
const DEFAULT_MODE: i32 = 0o644;
/// What a mode can say; the API server lets nothing else pass.
const PERMISSIONS: i32 = 0o777;
/// Of a credential that has one reader.
const PRIVATE: u32 = 0o600;
/// What an `fsGroup` adds to each file of a volume that is read-only.
const GROUP_READS: u32 = 0o440;
/// What it adds to each directory: the group enters, and owns what comes new.
const GROUP_ENTERS: u32 = 0o2110 | GROUP_READS;

/// The owners that a pod's security contexts ask for.
pub(super) struct Owner {
    /// Of the credentials: `runAsUser`, where all containers share one.
    user: Option<i64>,
    /// Of everything: `fsGroup`.
    group: Option<i64>,
}

impl Owner {
    pub(super) fn of(spec: &PodSpec) -> Self {
        let pod = spec.security_context.as_ref();
        let contexts = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .map(|c| c.security_context.as_ref())
            .chain(
                spec.ephemeral_containers
                    .iter()
                    .flatten()
                    .map(|c| c.security_context.as_ref()),
            );
        let mut users = contexts.map(|own| {
            own.and_then(|c| c.run_as_user)
                .or(pod.and_then(|c| c.run_as_user))
        });
        let first = users.next().flatten();
        Self {
            user: first.filter(|_| users.all(|user| user == first)),
            group: pod.and_then(|c| c.fs_group),
        }
    }

    /// A file that anyone may read whom its mode lets.
    pub(super) fn file(&self, content: Content, mode: Option<i32>, default: Option<i32>) -> File {
        self.own(content, permissions(mode.or(default)), 0)
    }

    /// A service account's token: for its user or group alone where there is one.
    pub(super) fn token(&self, content: Content, default: Option<i32>) -> File {
        let mode = if self.user.is_some() || self.group.is_some() {
            PRIVATE
        } else {
            permissions(default)
        };
        self.own(content, mode, self.user.unwrap_or(0))
    }

    fn own(&self, content: Content, mode: u32, uid: i64) -> File {
        let added = self.group.map_or(0, |_| GROUP_READS);
        File {
            content,
            mode: mode | added,
            uid,
            gid: self.group.unwrap_or(0),
        }
    }

    /// The volume's own directory.
    pub(super) fn root(&self, medium: &Medium) -> Dir {
        self.dir(match medium {
            // As a fresh tmpfs is.
            Medium::Memory => 0o1777,
            Medium::Disk => 0o777,
        })
    }

    /// Directories in a volume of files.
    pub(super) fn inner(&self) -> Dir {
        self.dir(0o755)
    }

    fn dir(&self, mode: u32) -> Dir {
        Dir {
            mode: mode | self.group.map_or(0, |_| GROUP_ENTERS),
            gid: self.group.unwrap_or(0),
        }
    }
}

fn permissions(mode: Option<i32>) -> u32 {
    (mode.unwrap_or(DEFAULT_MODE) & PERMISSIONS).unsigned_abs()
}
