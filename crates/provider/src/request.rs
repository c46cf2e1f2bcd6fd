//! What Kubernetes wants of one pod.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use sha2::{Digest, Sha256};

use crate::environment::Placement;
use crate::inputs::Inputs;
use crate::key::PodKey;
use crate::pull::PullCredentials;
use crate::rendered::{self, RenderError, RenderedPayload, RenderedPod};

/// A fingerprint of what may change in the containers of a living pod.
///
/// That is their images: the API server lets nothing else of a container
/// change under one UID (`ValidatePodUpdate` in `pkg/apis/core/validation`;
/// resources only through the resize subresource, which no backend here has).
/// Everything else is left out on purpose: a field that a newer API server
/// defaults into old pods, or that a newer version of this library learns to
/// read, must not look like a change and restart what runs. References to
/// ConfigMaps and Secrets cannot change; their content does not count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(Arc<str>);

/// Hex digits kept of the SHA-256: 64 bits, never compared across pods.
const REVISION_DIGITS: usize = 16;

impl Revision {
    /// The revision of a spec.
    pub fn of(spec: &PodSpec) -> Self {
        let mut hash = Sha256::new();
        let init = spec.init_containers.iter().flatten();
        for (list, container) in init
            .map(|c| ("init", c))
            .chain(spec.containers.iter().map(|c| ("main", c)))
        {
            let image = container.image.as_deref().unwrap_or_default();
            // No name and no image holds a NUL.
            for part in [list, &container.name, image] {
                hash.update(part);
                hash.update([0]);
            }
        }
        let mut text: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        text.truncate(REVISION_DIGITS);
        Self(text.into())
    }

    /// A revision as it was read back from the remote.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text, fit for a marker at the remote: hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why `ensure` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PodChange {
    /// The pod is new to this process; the remote may have it already.
    First,
    /// The containers' spec changed (an image).
    Image,
    /// What running containers see of their volumes may have changed: an object
    /// that one of them names, a label, an annotation, a token. Nothing restarts.
    Payload,
    /// Everything of it has ended, and its restart policy wants it again: asked
    /// only of backends that do not restart by themselves.
    Restart,
    /// Labels or annotations that the backend reads
    /// ([`crate::Capabilities::heeds`]) changed since it was given the pod.
    /// Nothing restarts.
    Metadata,
    /// Nothing changed: the remote is thought to have lost it or has to be told
    /// another place to run it at, or a call is repeated.
    Repeat,
}

/// One pod as its backend is to run it.
#[derive(Clone, Debug)]
pub struct PodRequest {
    /// Identity.
    pub key: PodKey,
    /// `spec.nodeName`, and nothing else, decides the node.
    pub node: Arc<str>,
    /// The API object. Its status is what Kubernetes shows now.
    pub pod: Arc<Pod>,
    /// Fingerprint of the containers' spec.
    pub spec_revision: Revision,
    /// Why the call is made.
    pub change: PodChange,
    /// What [`crate::Journal::persist`] wrote last for this pod.
    pub journal: Option<Arc<str>>,
    /// What the pod refers to, as far as [`crate::Capabilities::inputs`] asks for
    /// it. Of a pod that runs, objects may be gone again: it runs on with what it
    /// was given.
    pub inputs: Arc<Inputs>,
}

impl PodRequest {
    /// The spec; an empty one where the API object has none (the API server
    /// never lets that pass).
    pub fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
        self.pod
            .spec
            .as_ref()
            .unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
    }

    /// Everything the pod is given at this place: each container's environment,
    /// command and mounts, and the volumes. Volume sources that the backend takes
    /// from the spec itself are named in `declared` (`hostPath`).
    ///
    /// Resolved once per start of the containers; of a pod that runs, only its
    /// files may follow ([`PodRequest::render_payload`]).
    ///
    /// # Errors
    /// Something is missing or refused. It is a [`crate::BackendError`] as it
    /// stands.
    pub fn render(
        &self,
        placement: &Placement,
        declared: &[&str],
    ) -> Result<RenderedPod, RenderError> {
        rendered::render(&self.pod, &self.inputs, placement, declared)
    }

    /// What the pod's images are pulled with. Asks for
    /// [`crate::InputNeeds::objects`]: without them every secret is missing. The
    /// framework tells the warnings when the pod starts.
    pub fn pull_credentials(&self) -> PullCredentials {
        PullCredentials::of(self.spec(), &self.inputs)
    }

    /// The same of the volumes alone: all that may change while containers run,
    /// whatever became of the objects that their environment came from.
    ///
    /// # Errors
    /// As of [`PodRequest::render`]. The containers run on with what they have.
    pub fn render_payload(
        &self,
        placement: &Placement,
        declared: &[&str],
    ) -> Result<RenderedPayload, RenderError> {
        rendered::payload(&self.pod, &self.inputs, placement, declared)
    }

    /// An annotation of the pod.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.pod
            .metadata
            .annotations
            .as_ref()?
            .get(name)
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, Toleration};

    fn spec(image: &str) -> PodSpec {
        PodSpec {
            containers: vec![Container {
                name: "app".into(),
                image: Some(image.into()),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn an_image_change_is_a_new_revision() {
        assert_ne!(Revision::of(&spec("a:1")), Revision::of(&spec("a:2")));
        assert_eq!(Revision::of(&spec("a:1")), Revision::of(&spec("a:1")));
    }

    #[test]
    fn what_does_not_touch_containers_is_the_same_revision() {
        let mut other = spec("a:1");
        other.node_name = Some("n".into());
        other.active_deadline_seconds = Some(5);
        other.tolerations = Some(vec![Toleration::default()]);
        other.host_users = Some(true);
        assert_eq!(Revision::of(&spec("a:1")), Revision::of(&other));
        assert_eq!(Revision::of(&other).as_str(), "05f5674cd8039d25", "stable");
    }
}
