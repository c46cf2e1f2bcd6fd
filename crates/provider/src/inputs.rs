//! The objects a pod refers to, fetched by others.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};

/// What was found of the objects a pod refers to.
///
/// A name that is missing from a map is an object that does not exist: whoever
/// fills this waits for answers and passes failures on as failures.
#[derive(Clone, Default)]
pub struct Inputs {
    /// ConfigMaps of the pod's namespace, by name.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets of the pod's namespace, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// The services of the pod's namespace and `default/kubernetes`.
    pub services: Vec<Service>,
}

/// Names alone: this is where secrets are.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.services.iter().map(|s| s.metadata.name.as_deref());
        f.debug_struct("Inputs")
            .field("config_maps", &self.config_maps.keys())
            .field("secrets", &self.secrets.keys())
            .field("services", &services.collect::<Vec<_>>())
            .finish()
    }
}
