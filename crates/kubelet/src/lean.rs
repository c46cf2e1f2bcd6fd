//! A pod as it is read from the API server and as it rests: the text of its
//! JSON, without `managedFields`. As values a pod takes ten times the memory of
//! its text, so it is opened only while something happens to it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use vk_provider::PodKey;

/// A pod whose spec and status are not looked into yet.
///
/// # Caveats
/// Only serde_json reads it, and of a watch event only when its `type` comes
/// before its `object`, as Kubernetes writes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeanPod {
    /// Name, namespace, UID and resource version; nothing else.
    identity: ObjectMeta,
    text: PodText,
}

impl LeanPod {
    /// The pod's key; `None` while it lacks a name, namespace or UID.
    pub(crate) fn key(&self) -> Option<PodKey> {
        let meta = &self.identity;
        Some(PodKey::new(
            meta.namespace.as_deref()?,
            meta.name.as_deref()?,
            meta.uid.as_deref()?,
        ))
    }

    /// Its text, to be kept.
    pub(crate) fn into_text(self) -> PodText {
        self.text
    }
}

/// The JSON of a pod: metadata without `managedFields`, spec and status.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct PodText {
    json: Box<str>,
    /// Where its spec stands in it.
    spec: Range<usize>,
    version: Option<u64>,
}

impl PodText {
    /// The pod.
    ///
    /// # Errors
    /// A field is not what the API defines; the error names the place.
    pub(crate) fn open(&self) -> serde_json::Result<Pod> {
        serde_json::from_str(&self.json)
    }

    /// The pod as JSON.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// Whether both have the same spec.
    pub(crate) fn same_spec(&self, other: &Self) -> bool {
        self.json.get(self.spec.clone()) == other.json.get(other.spec.clone())
    }

    /// Whether this is a later version than the other. Resource versions compare
    /// as numbers (promised since Kubernetes 1.35, true before).
    pub(crate) fn later_than(&self, other: &Self) -> bool {
        matches!((self.version, other.version), (Some(a), Some(b)) if a > b)
    }
}

impl fmt::Debug for PodText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    metadata: Meta,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

/// The text of the metadata, with its end still open, and who it is of.
#[derive(Default)]
struct Meta {
    text: String,
    identity: ObjectMeta,
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Meta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the metadata of an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
                let mut meta = Meta::default();
                while let Some(name) = map.next_key::<String>()? {
                    if matches!(name.as_str(), "managedFields" | "selfLink") {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value: Box<RawValue> = map.next_value()?;
                    meta.take(&name, value.get());
                }
                Ok(meta)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl Meta {
    fn take(&mut self, name: &str, value: &str) {
        let separator = if self.text.is_empty() { "" } else { "," };
        let name_text = serde_json::Value::from(name).to_string();
        for part in [separator, &name_text, ":", value] {
            self.text.push_str(part);
        }
        let identity = &mut self.identity;
        let known = match name {
            "name" => &mut identity.name,
            "namespace" => &mut identity.namespace,
            "uid" => &mut identity.uid,
            "resourceVersion" => &mut identity.resource_version,
            _ => return,
        };
        *known = serde_json::from_str(value).ok();
    }
}

impl<'de> Deserialize<'de> for LeanPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Read {
            metadata: Meta { text, identity },
            spec,
            status,
        } = Read::deserialize(deserializer)?;
        let (spec, status) = (
            spec.as_deref().map_or("null", RawValue::get),
            status.as_deref().map_or("null", RawValue::get),
        );
        let before = r#"{"metadata":{"#.len() + text.len() + r#"},"spec":"#.len();
        let json = format!(r#"{{"metadata":{{{text}}},"spec":{spec},"status":{status}}}"#);
        let version = identity.resource_version.as_deref();
        let text = PodText {
            json: json.into(),
            spec: before..before + spec.len(),
            version: version.and_then(|v| v.parse().ok()),
        };
        Ok(Self { identity, text })
    }
}

impl Resource for LeanPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.identity
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.identity
    }
}

#[cfg(test)]
impl LeanPod {
    /// A pod as the API server would send it.
    pub(crate) fn of(pod: &Pod) -> Self {
        let text = serde_json::to_string(pod).expect("a pod is JSON");
        serde_json::from_str(&text).expect("and is read again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::pod;
    use kube::core::WatchEvent;
    use serde_json::json;

    #[test]
    fn a_lean_pod_lacks_managed_fields_and_nothing_else() {
        let mut metadata = serde_json::Map::new();
        for text in [
            "generateName",
            "name",
            "namespace",
            "resourceVersion",
            "uid",
        ] {
            metadata.insert(text.into(), text.into());
        }
        for time in ["creationTimestamp", "deletionTimestamp"] {
            metadata.insert(time.into(), "2026-01-01T00:00:00Z".into());
        }
        for number in ["deletionGracePeriodSeconds", "generation"] {
            metadata.insert(number.into(), 7.into());
        }
        for map in ["annotations", "labels"] {
            metadata.insert(map.into(), json!({"a": "b"}));
        }
        metadata.insert("finalizers".into(), json!(["f"]));
        metadata.insert(
            "ownerReferences".into(),
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]),
        );
        let mut whole = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [{"name": "app"}], "nodeName": "n"},
            "status": {"phase": "Running"},
        });
        whole["metadata"]["managedFields"] = json!([{"manager": "m", "fieldsV1": {"f:a": {}}}]);
        let text = whole.to_string();
        let mut pod: Pod = serde_json::from_str(&text).unwrap();
        pod.metadata.managed_fields = None;
        let lean: LeanPod = serde_json::from_str(&text).unwrap();
        assert_eq!(lean.text.open().unwrap(), pod);
        let key = lean.key().unwrap();
        assert_eq!((&*key.namespace, &*key.name), ("namespace", "name"));
        assert_eq!(key.uid.as_str(), "uid");
        let identity = lean.meta().resource_version.as_deref();
        assert_eq!(identity, Some("resourceVersion"));
    }

    #[test]
    fn a_watch_event_holds_a_lean_pod() {
        let object = serde_json::to_string(&pod("a", "1")).unwrap();
        let line = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
        let event: WatchEvent<LeanPod> = serde_json::from_str(&line).unwrap();
        let WatchEvent::Modified(lean) = event else {
            panic!("{event:?}")
        };
        assert_eq!(lean.text.open().unwrap(), pod("a", "1"));
    }

    #[test]
    fn specs_and_versions_compare_without_being_read() {
        let (one, mut other) = (pod("a", "1"), pod("b", "2"));
        other.metadata.resource_version = Some("10".into());
        let text = |pod: &Pod| LeanPod::of(pod).into_text();
        let old = {
            let mut pod = pod("a", "1");
            pod.metadata.resource_version = Some("9".into());
            text(&pod)
        };
        assert!(text(&one).same_spec(&text(&other)));
        assert!(text(&other).later_than(&old), "as numbers");
        assert!(!old.later_than(&text(&other)));
        other.spec.as_mut().unwrap().containers[0].image = Some("app:2".into());
        assert!(!text(&one).same_spec(&text(&other)));
    }

    #[test]
    fn a_pod_that_is_not_what_the_api_defines_names_the_place() {
        let text = r#"{"metadata":{"name":"a"},"spec":{"containers":7}}"#;
        let lean: LeanPod = serde_json::from_str(text).unwrap();
        let error = lean.into_text().open().unwrap_err().to_string();
        assert!(error.contains("invalid type: integer `7`"), "{error}");
    }
}
