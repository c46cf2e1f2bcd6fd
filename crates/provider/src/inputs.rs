//! The objects a pod refers to, as they are now.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccountTokenProjection};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::environment::ApiServer;
use crate::rendered::RenderError;
use crate::volumes::Content;

/// What the API server asks for where a projection names no expiry: an hour.
const DEFAULT_EXPIRY_SECONDS: i64 = 3600;

/// What one pod refers to, by name in its own namespace. An object that is not
/// here does not exist, unless some are [`unread`](Self::unread).
///
/// Objects are shared with all pods that refer to them. `Debug` shows names
/// alone; what is in secrets and tokens is wiped when the last owner goes.
#[derive(Clone, Default)]
pub struct Inputs {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Arc<Sealed>>,
    /// Tokens of the pod's service account, bound to the pod. `None`: those of
    /// this namespace are withheld from places outside the cluster.
    pub tokens: Option<BTreeMap<TokenAsk, Content>>,
    /// The services of the pod's namespace and `default/kubernetes`.
    pub services: Vec<Arc<Service>>,
    /// Where the pod reaches the API server, if not by the service `kubernetes`.
    pub api_server: Option<ApiServer>,
    /// Why some of it could not be read: then what is missing here may exist, and
    /// nothing is rendered. Only of a pod that the remote has already: no other
    /// is handed over like this.
    pub unread: Option<RenderError>,
}

/// A Secret that is wiped on drop and not shown by `Debug`.
#[derive(Default, PartialEq)]
pub struct Sealed(Zeroizing<Bare>);

#[derive(Default, PartialEq)]
struct Bare(Secret);

impl Zeroize for Bare {
    fn zeroize(&mut self) {
        for value in self.0.data.iter_mut().flat_map(BTreeMap::values_mut) {
            value.0.zeroize();
        }
        for value in self.0.string_data.iter_mut().flat_map(BTreeMap::values_mut) {
            value.zeroize();
        }
    }
}

impl ZeroizeOnDrop for Sealed {}

impl From<Secret> for Sealed {
    fn from(secret: Secret) -> Self {
        Self(Bare(secret).into())
    }
}

impl Deref for Sealed {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0.0
    }
}

#[cfg(test)]
impl std::ops::DerefMut for Sealed {
    fn deref_mut(&mut self) -> &mut Secret {
        &mut self.0.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        write!(f, "Secret({name}, hidden)")
    }
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

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.services.iter().map(|s| s.metadata.name.as_deref());
        f.debug_struct("Inputs")
            .field("config_maps", &self.config_maps.keys())
            .field("secrets", &self.secrets.keys())
            .field("tokens", &self.tokens)
            .field("services", &services.collect::<Vec<_>>())
            .field("api_server", &self.api_server)
            .field("unread", &self.unread)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    const PLANTED: &str = "planted-s3cret";

    fn sealed() -> Sealed {
        Sealed::from(Secret {
            data: Some([("key".into(), ByteString(PLANTED.into()))].into()),
            string_data: Some([("key".into(), PLANTED.into())].into()),
            ..Default::default()
        })
    }

    #[test]
    fn debug_shows_names_and_no_bytes_of_secrets_or_tokens() {
        let ask = TokenAsk::of(&ServiceAccountTokenProjection::default());
        let mut inputs = Inputs::default();
        inputs.secrets.insert("name".into(), Arc::new(sealed()));
        inputs.tokens = Some([(ask, Content::from(PLANTED))].into());
        let shown = format!("{inputs:?} {:?}", inputs.secrets);
        assert!(shown.contains("name"), "{shown}");
        assert!(!shown.contains("planted"), "{shown}");
        // Bytes as a list of numbers are bytes too.
        assert!(!shown.contains("112, 108"), "{shown}");
    }

    #[test]
    fn what_a_secret_holds_is_wiped_when_it_goes() {
        let mut secret = sealed();
        // The type that does it on drop; what it does then, by hand.
        let holder: &mut Zeroizing<Bare> = &mut secret.0;
        holder.zeroize();
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
