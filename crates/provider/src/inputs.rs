//! The objects a pod refers to, as they are now.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccountTokenProjection};
use zeroize::Zeroize;

use crate::volumes::Content;

/// What the API server asks for where a projection names no expiry: an hour.
const DEFAULT_EXPIRY_SECONDS: i64 = 3600;

/// What one pod refers to, by name in its own namespace. An object that is not
/// here does not exist: whoever fills this waits for answers and passes failures
/// on as failures.
///
/// `Debug` shows names alone; what is in secrets and tokens is wiped on drop.
#[derive(Clone, Default)]
pub struct Inputs {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Tokens of the pod's service account, bound to the pod.
    pub tokens: BTreeMap<TokenAsk, Content>,
    /// The services of the pod's namespace and `default/kubernetes`.
    pub services: Vec<Service>,
}

/// What is asked of the TokenRequest API for one projected token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenAsk {
    /// For whom it is; `None` is the API server itself.
    pub audience: Option<String>,
    /// How long it is to live.
    pub expiration_seconds: i64,
}

impl TokenAsk {
    /// What a projection asks for.
    pub fn of(projection: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: projection.audience.clone().filter(|a| !a.is_empty()),
            expiration_seconds: projection
                .expiration_seconds
                .unwrap_or(DEFAULT_EXPIRY_SECONDS),
        }
    }
}

impl Inputs {
    /// Overwrites the secrets; tokens wipe themselves.
    fn wipe(&mut self) {
        for secret in self.secrets.values_mut() {
            for value in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
                value.0.zeroize();
            }
            for value in secret.string_data.iter_mut().flat_map(BTreeMap::values_mut) {
                value.zeroize();
            }
        }
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.services.iter().map(|s| s.metadata.name.as_deref());
        f.debug_struct("Inputs")
            .field("config_maps", &self.config_maps.keys())
            .field("secrets", &self.secrets.keys())
            .field("tokens", &self.tokens)
            .field("services", &services.collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    const PLANTED: &str = "planted-s3cret";

    fn inputs() -> Inputs {
        let secret = Secret {
            data: Some([("key".into(), ByteString(PLANTED.into()))].into()),
            string_data: Some([("key".into(), PLANTED.into())].into()),
            ..Default::default()
        };
        let ask = TokenAsk::of(&ServiceAccountTokenProjection::default());
        let mut inputs = Inputs::default();
        inputs.secrets.insert("name".into(), secret);
        inputs.tokens.insert(ask, Content::from(PLANTED));
        inputs
    }

    #[test]
    fn debug_shows_names_and_no_bytes_of_secrets_or_tokens() {
        let shown = format!("{:?}", inputs());
        assert!(shown.contains("name"), "{shown}");
        assert!(!shown.contains("planted"), "{shown}");
        // Bytes as a list of numbers are bytes too.
        assert!(!shown.contains("112, 108"), "{shown}");
    }

    #[test]
    fn wiping_leaves_nothing_of_a_secret() {
        let mut inputs = inputs();
        inputs.wipe();
        let secret = &inputs.secrets["name"];
        let data = &secret.data.as_ref().unwrap()["key"].0;
        assert!(data.is_empty());
        assert_eq!(secret.string_data.as_ref().unwrap()["key"], "");
    }

    #[test]
    fn a_projection_without_audience_and_expiry_asks_what_the_api_server_defaults() {
        let projection = ServiceAccountTokenProjection {
            audience: Some(String::new()),
            ..Default::default()
        };
        let ask = TokenAsk::of(&projection);
        assert_eq!((ask.audience, ask.expiration_seconds), (None, 3600));
    }
}
