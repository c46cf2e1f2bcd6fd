//! Which objects a pod takes values from.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, PodSpec, VolumeProjection};

use crate::inputs::TokenAsk;
use crate::podspec::is_service_account_volume;

/// When an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Read {
    /// When an image is pulled. One that is not there stops no public image.
    ToPull,
    /// When a container starts.
    AtStart,
    /// Also while containers run: files of a volume follow it.
    WhileRunning,
}

/// The objects a pod refers to, by name; all are of the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, Read>,
    /// Secrets.
    pub secrets: BTreeMap<String, Read>,
    /// Tokens of the pod's service account.
    pub tokens: BTreeSet<TokenAsk>,
}

/// All that is named in environments, in volumes of the kinds `configMap`,
/// `secret` and `projected`, and in `imagePullSecrets`.
///
/// Without `tokens` there are none, and the volume that the API server puts into
/// pods for them counts for nothing.
pub fn references(pod: &Pod, tokens: bool) -> References {
    let mut all = References::default();
    let Some(spec) = &pod.spec else { return all };
    let own = spec.containers.iter();
    for container in own.chain(spec.init_containers.iter().flatten()) {
        all.environment(container.env_from.as_ref(), container.env.as_ref());
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        all.environment(container.env_from.as_ref(), container.env.as_ref());
    }
    all.volumes(spec, tokens);
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(&mut all.secrets, &secret.name, Read::ToPull);
    }
    if !tokens {
        all.tokens.clear();
    }
    all
}

impl References {
    fn environment(&mut self, from: Option<&Vec<EnvFromSource>>, env: Option<&Vec<EnvVar>>) {
        for source in from.into_iter().flatten() {
            if let Some(map) = &source.config_map_ref {
                add(&mut self.config_maps, &map.name, Read::AtStart);
            }
            if let Some(secret) = &source.secret_ref {
                add(&mut self.secrets, &secret.name, Read::AtStart);
            }
        }
        for source in env
            .into_iter()
            .flatten()
            .filter_map(|e| e.value_from.as_ref())
        {
            if let Some(map) = &source.config_map_key_ref {
                add(&mut self.config_maps, &map.name, Read::AtStart);
            }
            if let Some(secret) = &source.secret_key_ref {
                add(&mut self.secrets, &secret.name, Read::AtStart);
            }
        }
    }

    fn volumes(&mut self, spec: &PodSpec, tokens: bool) {
        for volume in spec.volumes.iter().flatten() {
            if !tokens && is_service_account_volume(volume) {
                continue;
            }
            if let Some(map) = &volume.config_map {
                add(&mut self.config_maps, &map.name, Read::WhileRunning);
            }
            if let Some(secret) = &volume.secret {
                let name = secret.secret_name.as_deref().unwrap_or_default();
                add(&mut self.secrets, name, Read::WhileRunning);
            }
            let projected = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
            projected
                .into_iter()
                .flatten()
                .for_each(|source| self.projection(source));
        }
    }

    fn projection(&mut self, source: &VolumeProjection) {
        if let Some(map) = &source.config_map {
            add(&mut self.config_maps, &map.name, Read::WhileRunning);
        }
        if let Some(secret) = &source.secret {
            add(&mut self.secrets, &secret.name, Read::WhileRunning);
        }
        let token = source.service_account_token.as_ref();
        self.tokens.extend(token.map(TokenAsk::of));
    }
}

/// Old clients may leave a name empty; there is no such object to look for.
fn add(names: &mut BTreeMap<String, Read>, name: &str, read: Read) {
    if name.is_empty() {
        return;
    }
    let known = names.entry(name.into()).or_insert(read);
    *known = read.max(*known);
}
