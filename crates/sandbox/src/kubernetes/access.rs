//! The cluster without HTTP, for tests and demos.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::delete::{DeleteOptions, Deleted};
use super::resource::Resource;
use super::status::ApiError;
use super::update::Part;
use super::{Cluster, patch};

/// A typed object of the API.
pub trait Object:
    k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned
{
}

impl<K> Object for K where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned
{
}

fn resource<K: Object>() -> Result<&'static Resource, ApiError> {
    Resource::by_kind(K::GROUP, K::KIND)
        .ok_or_else(|| ApiError::not_implemented("any verb", K::KIND))
}

fn to_value<K: Object>(object: &K) -> Result<Value, ApiError> {
    serde_json::to_value(object).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn from_value<K: Object>(value: &Value) -> Result<K, ApiError> {
    serde_json::from_value(value.clone()).map_err(|error| ApiError::bad_request(error.to_string()))
}

impl Cluster {
    /// Creates an object in the namespace it names, or in `default`.
    ///
    /// # Errors
    /// What the API refuses.
    pub fn create<K: Object>(&self, object: &K) -> Result<K, ApiError> {
        let ns = object.metadata().namespace.as_deref().unwrap_or("default");
        let resource = resource::<K>()?;
        let ns = if resource.namespaced { ns } else { "" };
        from_value(&*self.create_object(resource, ns, to_value(object)?)?)
    }

    /// An object, if it is there. The namespace of cluster-wide kinds is ignored.
    pub fn get<K: Object>(&self, namespace: &str, name: &str) -> Option<K> {
        let resource = resource::<K>().ok()?;
        from_value(&self.get_value(resource.plural, namespace, name)?).ok()
    }

    /// All objects of a kind, of one namespace or of all.
    pub fn list<K: Object>(&self, namespace: Option<&str>) -> Vec<K> {
        let Ok(resource) = resource::<K>() else {
            return Vec::new();
        };
        let values = self.list_values(resource.plural, namespace);
        values
            .iter()
            .filter_map(|value| from_value(value).ok())
            .collect()
    }

    /// Replaces an object, all but its status.
    ///
    /// # Errors
    /// What the API refuses.
    pub fn update<K: Object>(&self, object: &K) -> Result<K, ApiError> {
        self.put(object, Part::Main)
    }

    /// Replaces the status of an object.
    ///
    /// # Errors
    /// What the API refuses.
    pub fn update_status<K: Object>(&self, object: &K) -> Result<K, ApiError> {
        self.put(object, Part::Status)
    }

    fn put<K: Object>(&self, object: &K, part: Part) -> Result<K, ApiError> {
        let resource = resource::<K>()?;
        let metadata = object.metadata();
        let ns = metadata.namespace.as_deref().unwrap_or("default");
        let at = (
            if resource.namespaced { ns } else { "" },
            metadata.name.as_deref().unwrap_or_default(),
        );
        from_value(&*self.put_object(resource, at, part, to_value(object)?)?)
    }

    /// Applies a JSON merge patch to an object, all but its status.
    ///
    /// # Errors
    /// What the API refuses.
    pub fn patch<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        merge: &Value,
    ) -> Result<K, ApiError> {
        self.merge(namespace, name, merge, Part::Main)
    }

    /// Applies a JSON merge patch to the status of an object (`{"status": …}`).
    ///
    /// # Errors
    /// What the API refuses.
    pub fn patch_status<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        merge: &Value,
    ) -> Result<K, ApiError> {
        self.merge(namespace, name, merge, Part::Status)
    }

    fn merge<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        merge: &Value,
        part: Part,
    ) -> Result<K, ApiError> {
        let resource = resource::<K>()?;
        let ns = if resource.namespaced { namespace } else { "" };
        let text = merge.to_string();
        let stored = self.revise(resource, (ns, name), part, |old| {
            patch::apply(patch::PatchKind::Merge, old, text.as_bytes())
        })?;
        from_value(&stored)
    }

    /// Deletes an object; with a grace period in seconds, or the default one.
    ///
    /// # Errors
    /// What the API refuses.
    pub fn delete<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        grace: Option<i64>,
    ) -> Result<(), ApiError> {
        let resource = resource::<K>()?;
        let ns = if resource.namespaced { namespace } else { "" };
        let options = DeleteOptions {
            grace_period_seconds: grace,
            ..DeleteOptions::default()
        };
        match self.delete_object(resource, ns, name, &options)? {
            Deleted::Object(_) | Deleted::Gone { .. } => Ok(()),
        }
    }

    /// An object as JSON; `plural` as in URLs.
    pub fn get_value(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = Resource::by_plural(plural)?;
        let ns = if resource.namespaced { namespace } else { "" };
        self.store().read(|state| {
            state
                .get(resource, ns, name)
                .map(|object| Value::clone(object))
        })
    }

    /// All objects of a resource as JSON, of one namespace or of all.
    pub fn list_values(&self, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        let Some(resource) = Resource::by_plural(plural) else {
            return Vec::new();
        };
        let ns = namespace.filter(|_| resource.namespaced);
        self.store().read(|state| {
            state
                .list(resource, ns)
                .map(|(_, object)| Value::clone(object))
                .collect()
        })
    }

    /// Waits until `look` finds what it looks for; it looks now and after
    /// every change of the store.
    pub async fn until<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let mut news = self.store().changes();
        loop {
            news.mark_unchanged();
            if let Some(found) = look(self) {
                return found;
            }
            if news.changed().await.is_err() {
                // The store lives as long as `self`; its bell cannot be gone.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Rings whenever something was written; the value is the revision.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.store().changes()
    }
}
