//! Which objects a pod takes values from.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, PodSpec};

/// Whether a pod can start without an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// Every reference to it is optional.
    Optional,
    /// Some reference to it is not.
    Required,
}

/// The objects a pod refers to, by name; all are of the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, Need>,
    /// Secrets.
    pub secrets: BTreeMap<String, Need>,
}

/// All ConfigMaps and Secrets named in environments, in volumes of the kinds
/// `configMap`, `secret` and `projected`, and in `imagePullSecrets` (optional:
/// a public image needs none).
pub fn references(pod: &Pod) -> References {
    let mut all = References::default();
    let Some(spec) = &pod.spec else { return all };
    let own = spec.containers.iter();
    for container in own.chain(spec.init_containers.iter().flatten()) {
        all.environment(container.env_from.as_ref(), container.env.as_ref());
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        all.environment(container.env_from.as_ref(), container.env.as_ref());
    }
    all.volumes(spec);
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(&mut all.secrets, &secret.name, Some(true));
    }
    all
}

impl References {
    fn environment(&mut self, from: Option<&Vec<EnvFromSource>>, env: Option<&Vec<EnvVar>>) {
        for source in from.into_iter().flatten() {
            if let Some(map) = &source.config_map_ref {
                add(&mut self.config_maps, &map.name, map.optional);
            }
            if let Some(secret) = &source.secret_ref {
                add(&mut self.secrets, &secret.name, secret.optional);
            }
        }
        for source in env
            .into_iter()
            .flatten()
            .filter_map(|e| e.value_from.as_ref())
        {
            if let Some(map) = &source.config_map_key_ref {
                add(&mut self.config_maps, &map.name, map.optional);
            }
            if let Some(secret) = &source.secret_key_ref {
                add(&mut self.secrets, &secret.name, secret.optional);
            }
        }
    }

    fn volumes(&mut self, spec: &PodSpec) {
        for volume in spec.volumes.iter().flatten() {
            if let Some(map) = &volume.config_map {
                add(&mut self.config_maps, &map.name, map.optional);
            }
            if let Some(secret) = &volume.secret {
                let name = secret.secret_name.as_deref().unwrap_or_default();
                add(&mut self.secrets, name, secret.optional);
            }
            let projected = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
            for source in projected.into_iter().flatten() {
                if let Some(map) = &source.config_map {
                    add(&mut self.config_maps, &map.name, map.optional);
                }
                if let Some(secret) = &source.secret {
                    add(&mut self.secrets, &secret.name, secret.optional);
                }
            }
        }
    }
}

/// Old clients may leave a name empty; there is no such object to look for.
fn add(names: &mut BTreeMap<String, Need>, name: &str, optional: Option<bool>) {
    if name.is_empty() {
        return;
    }
    let need = if optional == Some(true) {
        Need::Optional
    } else {
        Need::Required
    };
    let known = names.entry(name.into()).or_insert(need);
    *known = need.max(*known);
}
