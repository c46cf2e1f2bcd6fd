//! An object that pods refer to, as it is read from the API server.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use vk_provider::Sealed;
use zeroize::{Zeroize, Zeroizing};

/// What is kept of it, shared by all pods that refer to it.
#[derive(Clone)]
pub(super) enum Object {
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Sealed>),
    Service(Arc<Service>),
}

impl Object {
    fn name(&self) -> &str {
        let meta = match self {
            Self::ConfigMap(map) => &map.metadata,
            Self::Secret(secret) => &secret.metadata,
            Self::Service(service) => &service.metadata,
        };
        meta.name.as_deref().unwrap_or_default()
    }

    /// A fingerprint of what pods get of it; labels of a ConfigMap are not among it.
    pub(super) fn print(&self, keys: &impl BuildHasher) -> u64 {
        let mut hash = keys.build_hasher();
        match self {
            Self::ConfigMap(map) => {
                map.data.hash(&mut hash);
                for (key, value) in map.binary_data.iter().flatten() {
                    (key, &value.0).hash(&mut hash);
                }
            }
            Self::Secret(secret) => {
                secret.type_.hash(&mut hash);
                for (key, value) in secret.data.iter().flatten() {
                    (key, &value.0).hash(&mut hash);
                }
            }
            // Read at a start alone: nothing follows it.
            Self::Service(service) => {
                (self.name(), &service.metadata.resource_version).hash(&mut hash);
            }
        }
        hash.finish()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind of object that pods refer to.
pub(super) trait Referred:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Metadata<Ty = ObjectMeta>
    + DeserializeOwned
    + Send
    + 'static
{
    fn object(self) -> Object;
}

impl Referred for ConfigMap {
    fn object(self) -> Object {
        Object::ConfigMap(Arc::new(self))
    }
}

impl Referred for Secret {
    fn object(self) -> Object {
        Object::Secret(Arc::new(self.into()))
    }
}

impl Referred for Service {
    fn object(self) -> Object {
        Object::Service(Arc::new(self))
    }
}

/// One object of the kind `K`, without `managedFields`.
///
/// Reading it never fails: kube writes the text of an answer that it cannot read
/// into the log, and serde quotes values in its errors. What is no `K` has no
/// object, and nobody says what it holds.
///
/// # Caveats
/// As of [`crate::lean::LeanPod`].
pub(super) struct Shown<K> {
    meta: ObjectMeta,
    pub(super) object: Option<Object>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Shown<K> {
    fn clone(&self) -> Self {
        Self {
            meta: self.meta.clone(),
            object: self.object.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Shown<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shown").field(&self.object).finish()
    }
}

#[derive(Default, Deserialize)]
struct Identity {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: Referred> Deserialize<'de> for Shown<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::from(Box::<RawValue>::deserialize(deserializer)?);
        let text = Zeroizing::new(String::from(text));
        let Identity { metadata } = serde_json::from_str(&text).unwrap_or_default();
        let object = serde_json::from_str(&text).ok().map(|mut object: K| {
            let meta = object.metadata_mut();
            meta.managed_fields = None;
            // `kubectl apply` keeps the whole object there, a Secret too.
            if let Some(mut annotations) = meta.annotations.take() {
                annotations.values_mut().for_each(Zeroize::zeroize);
            }
            object.object()
        });
        Ok(Self {
            meta: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                resource_version: metadata.resource_version,
                ..ObjectMeta::default()
            },
            object,
            kind: PhantomData,
        })
    }
}

impl<K: Referred> Resource for Shown<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::RandomState;

    fn secret(text: &str) -> Shown<Secret> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_object_is_kept_without_what_no_pod_gets_and_shown_by_name() {
        let shown = secret(
            r#"{"metadata":{"name":"s","resourceVersion":"7","managedFields":[{"manager":"m"}],
                    "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"planted"}},
                "data":{"k":"cGxhbnRlZA=="}}"#,
        );
        assert_eq!(shown.meta().resource_version.as_deref(), Some("7"));
        let debug = format!("{shown:?}");
        assert!(debug.contains('s') && !debug.contains("112"), "{debug}");
        let Some(Object::Secret(secret)) = shown.object else {
            panic!("no secret");
        };
        assert_eq!(secret.metadata.managed_fields, None);
        assert_eq!(secret.metadata.annotations, None);
        assert_eq!(secret.data.as_ref().unwrap()["k"].0, b"planted");
    }

    #[test]
    fn what_is_no_secret_is_none_without_an_error_that_would_quote_it() {
        let shown = secret(r#"{"metadata":{"name":"s"},"data":{"k":"planted, no base64"}}"#);
        assert!(shown.object.is_none());
        assert_eq!(shown.meta().name.as_deref(), Some("s"));
    }

    #[test]
    fn a_fingerprint_follows_what_pods_get_and_nothing_else() {
        let keys = RandomState::new();
        let print = |text: &str| {
            let shown: Shown<ConfigMap> = serde_json::from_str(text).unwrap();
            shown.object.unwrap().print(&keys)
        };
        let one = print(r#"{"metadata":{"name":"m","resourceVersion":"1"},"data":{"a":"1"}}"#);
        let labelled = print(
            r#"{"metadata":{"name":"m","resourceVersion":"2","labels":{"x":"y"}},"data":{"a":"1"}}"#,
        );
        let other = print(r#"{"metadata":{"name":"m"},"data":{"a":"2"}}"#);
        let bytes = print(r#"{"metadata":{"name":"m"},"data":{"a":"1"},"binaryData":{"b":""}}"#);
        assert_eq!(one, labelled);
        assert!(one != other && one != bytes);
    }
}
