//! What a pod's images are pulled with, as the kubelet gathers it.
//!
//! Rules of Kubernetes 1.36: `getPullSecretsForPod` in
//! `pkg/kubelet/kubelet_pods.go`, `pkg/credentialprovider` (`secrets`, `config.go`,
//! `keyring.go`) and `EnsureImageExists` in `pkg/kubelet/images`.
//!
//! `spec.imagePullSecrets` is all there is: the API server's admission plugin
//! `ServiceAccount` copies the service account's list into pods that come without
//! one, and a pod that names its own gets nothing of the account's. What is added
//! to the account later does not reach pods that exist.
//!
//! Three things are other than in the kubelet:
//! - One entry that cannot be read costs that entry. In the kubelet it stops every
//!   image of the pod, also those that need no credentials.
//! - Secrets of another type, without data, or with entries for nobody are named.
//!   The kubelet passes over the first two and sends the third, which containerd
//!   then refuses.
//! - `localhost/app` gets no credentials of Docker Hub. By the kubelet's rule a
//!   registry's name needs a dot or a port, by everyone else's it is a registry.

mod config;
mod location;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::PodSpec;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::image;
use crate::inputs::Inputs;

/// Under which key the credentials of Docker Hub are found where no other
/// location covers an image: tools write them as `https://index.docker.io/v1/`.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// What a pod's images are pulled with. `Debug` shows names of secrets alone.
#[derive(Clone, Default)]
pub struct PullCredentials {
    /// By what they are for, in the order of the pod's list.
    by_location: BTreeMap<String, Vec<Credential>>,
    missing: Vec<String>,
    unusable: Vec<Unusable>,
}

impl PullCredentials {
    /// Reason of the Warning event for each of [`PullCredentials::warnings`]
    /// (kubelet).
    pub const REASON: &str = "FailedToRetrieveImagePullSecret";

    /// What the secrets named in the spec hold.
    pub fn of(spec: &PodSpec, inputs: &Inputs) -> Self {
        let mut all = Self::default();
        let mut seen = BTreeSet::new();
        for reference in spec.image_pull_secrets.iter().flatten() {
            let name = reference.name.as_str();
            // Old clients may leave a name empty; the kubelet passes over it too.
            if name.is_empty() || !seen.insert(name) {
                continue;
            }
            let Some(secret) = inputs.secrets.get(name) else {
                all.missing.push(name.to_owned());
                continue;
            };
            let (entries, flaws) = config::read(name, secret);
            for (location, credential) in entries {
                let known = all.by_location.entry(location).or_default();
                known.push(credential);
            }
            if !flaws.is_empty() {
                let secret = name.to_owned();
                all.unusable.push(Unusable { secret, flaws });
            }
        }
        all
    }

    /// What an image is to be pulled with, best first: try one after the other, and
    /// report failure when the last has failed. With none, pull without; with
    /// some, the kubelet never does.
    ///
    /// Locations are compared by host, where `*` stands for any part of a label,
    /// by port and by the beginning of the path. They go in reverse order of their
    /// text, so that a longer path comes first; credentials of one location go in
    /// the order of the pod's list.
    ///
    /// # Errors
    /// The image's name is none, as a sentence ([`image::normalized`]).
    pub fn candidates(&self, image: &str) -> Result<Vec<&Credential>, String> {
        let repository = image::repository(image)?;
        let covering = self.by_location.iter().rev();
        let found: Vec<_> = covering
            .filter(|(location, _)| location::covers(location, &repository))
            .flat_map(|(_, credentials)| credentials)
            .collect();
        let (domain, _) = location::split(&repository);
        if found.is_empty() && domain == image::DOCKER_HUB {
            let default = self.by_location.get(DEFAULT_REGISTRY);
            return Ok(default.into_iter().flatten().collect());
        }
        Ok(found)
    }

    /// Secrets that the pod names and that do not exist.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Secrets of which something, or everything, cannot be used.
    pub fn unusable(&self) -> &[Unusable] {
        &self.unusable
    }

    /// Messages of the Warning events, none if all is well. The first is the
    /// kubelet's, the second has its form.
    pub fn warnings(&self) -> Vec<String> {
        let message = |what: &str, which: Vec<String>| {
            (!which.is_empty()).then(|| {
                format!(
                    "Unable to {what} some image pull secrets ({}); attempting to pull the image may not succeed.",
                    which.join(", ")
                )
            })
        };
        let unusable = self.unusable.iter().map(Unusable::to_string).collect();
        message("retrieve", self.missing.clone())
            .into_iter()
            .chain(message("use", unusable))
            .collect()
    }
}

impl fmt::Debug for PullCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.by_location.values().flatten();
        f.debug_struct("PullCredentials")
            .field("credentials", &all.collect::<Vec<_>>())
            .field("missing", &self.missing)
            .field("unusable", &self.unusable)
            .finish()
    }
}

/// A user and a password for a registry: all that the kubelet takes from an
/// entry. (An `identitytoken` is not handed on by it, an `email` not needed.)
///
/// Wiped on drop; `Debug` shows the secret's name alone.
#[derive(Clone)]
pub struct Credential {
    secret: String,
    username: Zeroizing<String>,
    password: Zeroizing<String>,
}

impl Credential {
    /// Name of the Secret it is from.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Who pulls.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password or access token.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl ZeroizeOnDrop for Credential {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential(of {}, hidden)", self.secret)
    }
}

/// A secret of which something cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its name.
    pub secret: String,
    /// What is wrong with it: one at least.
    pub flaws: BTreeSet<Flaw>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flaws: Vec<_> = self.flaws.iter().map(Flaw::to_string).collect();
        write!(f, "{} {}", self.secret, flaws.join(" and "))
    }
}

/// What is wrong with a pull secret, as the rest of a sentence. Says nothing of
/// what it holds, registries included: their addresses may have passwords in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Flaw {
    /// Another type.
    #[error("is neither of type {} nor {}", config::CONFIG_JSON.kind, config::CONFIG.kind)]
    Type,
    /// The type's key is missing or empty.
    #[error("has no {0}")]
    Key(&'static str),
    /// Not JSON, or not an object where one must be.
    #[error("is not the JSON that its type stands for")]
    Json,
    /// An entry for something that no image name begins with.
    #[error("has an entry for what is no registry address")]
    Address,
    /// An entry that is no object of texts.
    #[error("has an entry that is not made of texts")]
    Entry,
    /// An entry with a wrong `auth`.
    #[error("has an entry whose auth is not base64 of user:password")]
    Auth,
    /// An entry for nobody, as tools write it that keep passwords elsewhere.
    #[error(
        "has an entry without user and password (those in credential helpers and identity tokens are not used)"
    )]
    Nobody,
}
