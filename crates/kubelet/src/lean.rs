//! A pod as it is read from the API server: without `managedFields`, which are
//! a third of its JSON, are of no use here, and would be built as trees only to
//! be dropped.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// A pod that is read lean.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeanPod(pub Pod);

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    metadata: Meta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

/// All of the metadata but `managedFields` and `selfLink`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl<'de> Deserialize<'de> for LeanPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Read {
            metadata: meta,
            spec,
            status,
        } = Read::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            annotations: meta.annotations,
            creation_timestamp: meta.creation_timestamp,
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            deletion_timestamp: meta.deletion_timestamp,
            finalizers: meta.finalizers,
            generate_name: meta.generate_name,
            generation: meta.generation,
            labels: meta.labels,
            managed_fields: None,
            name: meta.name,
            namespace: meta.namespace,
            owner_references: meta.owner_references,
            resource_version: meta.resource_version,
            self_link: None,
            uid: meta.uid,
        };
        Ok(Self(Pod {
            metadata,
            spec,
            status,
        }))
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
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let mut pod: Pod = serde_json::from_value(whole.clone()).unwrap();
        pod.metadata.managed_fields = None;
        let lean: LeanPod = serde_json::from_value(whole).unwrap();
        assert_eq!(lean.0, pod);
        // A field that a newer Kubernetes adds to metadata shows here.
        let ObjectMeta {
            self_link,
            managed_fields,
            ..
        } = &lean.0.metadata;
        assert!(self_link.is_none() && managed_fields.is_none());
    }
}
