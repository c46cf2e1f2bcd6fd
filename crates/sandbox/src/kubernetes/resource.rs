//! The resources this API knows, as one table.

use k8s_openapi::api::{apps, authentication, authorization, batch, coordination, core};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::status::ApiError;

/// What the API does with one resource.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) short: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    /// `name` and `kind` of each, beside the resource itself.
    pub(crate) subresources: &'static [(&'static str, &'static str)],
    /// `metadata.generation` counts changes of `spec`.
    pub(crate) generation: bool,
    /// A PUT without `resourceVersion` overwrites.
    pub(crate) unconditional_update: bool,
    /// A PUT of what does not exist creates it.
    pub(crate) create_on_update: bool,
    /// Reads and drops what is not of the type; ill-typed input is an error.
    typed: fn(Value) -> serde_json::Result<Value>,
}

const BASE: Resource = Resource {
    group: "",
    plural: "",
    singular: "",
    kind: "",
    namespaced: true,
    short: &[],
    categories: &[],
    subresources: &[],
    generation: false,
    unconditional_update: true,
    create_on_update: false,
    typed: |value| Ok(value),
};

const SCALE: (&str, &str) = ("scale", "Scale");

pub(crate) static PODS: Resource = Resource {
    plural: "pods",
    singular: "pod",
    kind: "Pod",
    short: &["po"],
    categories: &["all"],
    subresources: &[
        ("attach", "PodAttachOptions"),
        ("binding", "Binding"),
        ("ephemeralcontainers", "Pod"),
        ("eviction", "Eviction"),
        ("exec", "PodExecOptions"),
        ("log", "Pod"),
        ("portforward", "PodPortForwardOptions"),
        ("resize", "Pod"),
        ("status", "Pod"),
    ],
    generation: true,
    typed: typed::<core::v1::Pod>,
    ..BASE
};
pub(crate) static NODES: Resource = Resource {
    plural: "nodes",
    singular: "node",
    kind: "Node",
    namespaced: false,
    short: &["no"],
    subresources: &[("proxy", "NodeProxyOptions"), ("status", "Node")],
    typed: typed::<core::v1::Node>,
    ..BASE
};
pub(crate) static NAMESPACES: Resource = Resource {
    plural: "namespaces",
    singular: "namespace",
    kind: "Namespace",
    namespaced: false,
    short: &["ns"],
    subresources: &[("status", "Namespace")],
    typed: typed::<core::v1::Namespace>,
    ..BASE
};
pub(crate) static EVENTS: Resource = Resource {
    plural: "events",
    singular: "event",
    kind: "Event",
    short: &["ev"],
    create_on_update: true,
    typed: typed::<core::v1::Event>,
    ..BASE
};
pub(crate) static SERVICE_ACCOUNTS: Resource = Resource {
    plural: "serviceaccounts",
    singular: "serviceaccount",
    kind: "ServiceAccount",
    short: &["sa"],
    subresources: &[("token", "TokenRequest")],
    typed: typed::<core::v1::ServiceAccount>,
    ..BASE
};
pub(crate) static CONFIG_MAPS: Resource = Resource {
    plural: "configmaps",
    singular: "configmap",
    kind: "ConfigMap",
    short: &["cm"],
    typed: typed::<core::v1::ConfigMap>,
    ..BASE
};
pub(crate) static SECRETS: Resource = Resource {
    plural: "secrets",
    singular: "secret",
    kind: "Secret",
    typed: typed::<core::v1::Secret>,
    ..BASE
};
pub(crate) static SERVICES: Resource = Resource {
    plural: "services",
    singular: "service",
    kind: "Service",
    short: &["svc"],
    categories: &["all"],
    subresources: &[("status", "Service")],
    typed: typed::<core::v1::Service>,
    ..BASE
};
pub(crate) static LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    plural: "leases",
    singular: "lease",
    kind: "Lease",
    unconditional_update: false,
    create_on_update: true,
    typed: typed::<coordination::v1::Lease>,
    ..BASE
};
pub(crate) static DEPLOYMENTS: Resource = Resource {
    group: "apps",
    plural: "deployments",
    singular: "deployment",
    kind: "Deployment",
    short: &["deploy"],
    categories: &["all"],
    subresources: &[("status", "Deployment"), SCALE],
    generation: true,
    typed: typed::<apps::v1::Deployment>,
    ..BASE
};
pub(crate) static REPLICA_SETS: Resource = Resource {
    group: "apps",
    plural: "replicasets",
    singular: "replicaset",
    kind: "ReplicaSet",
    short: &["rs"],
    categories: &["all"],
    subresources: &[("status", "ReplicaSet"), SCALE],
    generation: true,
    typed: typed::<apps::v1::ReplicaSet>,
    ..BASE
};
pub(crate) static STATEFUL_SETS: Resource = Resource {
    group: "apps",
    plural: "statefulsets",
    singular: "statefulset",
    kind: "StatefulSet",
    short: &["sts"],
    categories: &["all"],
    subresources: &[("status", "StatefulSet"), SCALE],
    generation: true,
    typed: typed::<apps::v1::StatefulSet>,
    ..BASE
};
pub(crate) static DAEMON_SETS: Resource = Resource {
    group: "apps",
    plural: "daemonsets",
    singular: "daemonset",
    kind: "DaemonSet",
    short: &["ds"],
    categories: &["all"],
    subresources: &[("status", "DaemonSet")],
    generation: true,
    typed: typed::<apps::v1::DaemonSet>,
    ..BASE
};
pub(crate) static JOBS: Resource = Resource {
    group: "batch",
    plural: "jobs",
    singular: "job",
    kind: "Job",
    categories: &["all"],
    subresources: &[("status", "Job")],
    generation: true,
    typed: typed::<batch::v1::Job>,
    ..BASE
};

/// Asked and answered, never stored.
pub(crate) static TOKEN_REVIEWS: Resource = Resource {
    group: AUTHENTICATION_GROUP,
    plural: "tokenreviews",
    singular: "tokenreview",
    kind: "TokenReview",
    namespaced: false,
    typed: typed::<authentication::v1::TokenReview>,
    ..BASE
};
/// The body of `serviceaccounts/token`; never stored.
pub(crate) static TOKEN_REQUESTS: Resource = Resource {
    group: AUTHENTICATION_GROUP,
    kind: "TokenRequest",
    typed: typed::<authentication::v1::TokenRequest>,
    ..BASE
};

/// Asked and answered, never stored.
pub(crate) static SUBJECT_ACCESS_REVIEWS: Resource = Resource {
    group: AUTHORIZATION_GROUP,
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    kind: "SubjectAccessReview",
    namespaced: false,
    typed: typed::<authorization::v1::SubjectAccessReview>,
    ..BASE
};
/// Asked and answered, never stored.
pub(crate) static SELF_SUBJECT_ACCESS_REVIEWS: Resource = Resource {
    group: AUTHORIZATION_GROUP,
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    kind: "SelfSubjectAccessReview",
    namespaced: false,
    typed: typed::<authorization::v1::SelfSubjectAccessReview>,
    ..BASE
};
/// Asked and answered, never stored.
pub(crate) static SELF_SUBJECT_REVIEWS: Resource = Resource {
    group: AUTHENTICATION_GROUP,
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    kind: "SelfSubjectReview",
    namespaced: false,
    typed: typed::<authentication::v1::SelfSubjectReview>,
    ..BASE
};
/// The query of `pods/log`, as refusals name it.
pub(crate) static LOG_OPTIONS: Resource = Resource {
    kind: "PodLogOptions",
    ..BASE
};

/// What is asked and answered.
pub(crate) static REVIEWS: [&Resource; 4] = [
    &SELF_SUBJECT_REVIEWS,
    &TOKEN_REVIEWS,
    &SELF_SUBJECT_ACCESS_REVIEWS,
    &SUBJECT_ACCESS_REVIEWS,
];

/// All that are stored, in the order discovery lists them.
pub(crate) static ALL: [&Resource; 14] = [
    &CONFIG_MAPS,
    &EVENTS,
    &NAMESPACES,
    &NODES,
    &PODS,
    &SECRETS,
    &SERVICE_ACCOUNTS,
    &SERVICES,
    &LEASES,
    &DEPLOYMENTS,
    &REPLICA_SETS,
    &STATEFUL_SETS,
    &DAEMON_SETS,
    &JOBS,
];

/// The group under which [`EVENTS`] are shown a second time.
pub(crate) const EVENTS_GROUP: &str = "events.k8s.io";

/// The group of what is asked about tokens.
pub(crate) const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";

/// The group of what is asked about rights.
pub(crate) const AUTHORIZATION_GROUP: &str = "authorization.k8s.io";

impl Resource {
    /// The resource of that name in that group.
    pub(crate) fn find(group: &str, plural: &str) -> Option<&'static Self> {
        if group == EVENTS_GROUP && plural == EVENTS.plural {
            return Some(&EVENTS);
        }
        ALL.into_iter()
            .chain(REVIEWS)
            .find(|r| r.group == group && r.plural == plural)
    }

    /// Whether objects of it are kept.
    pub(crate) fn is_stored(&self) -> bool {
        !REVIEWS.iter().any(|review| review.kind == self.kind)
    }

    /// The resource of a typed object.
    pub(crate) fn by_kind(group: &str, kind: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|r| r.group == group && r.kind == kind)
    }

    /// The resource of that name in any group.
    pub(crate) fn by_plural(plural: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|r| r.plural == plural)
    }

    /// `leases.coordination.k8s.io`, or `pods`.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.into()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            "v1".into()
        } else {
            format!("{}/v1", self.group)
        }
    }

    /// What the type keeps of an object.
    pub(crate) fn typed(&self, body: Value) -> serde_json::Result<Value> {
        (self.typed)(body)
    }

    pub(crate) fn has_status(&self) -> bool {
        self.subresources.iter().any(|(name, _)| *name == "status")
    }

    /// The object as the typed API reads it: unknown fields gone, nulls gone.
    pub(crate) fn normalise(&self, mut body: Value) -> Result<Value, ApiError> {
        let Some(object) = body.as_object_mut() else {
            return Err(ApiError::bad_request("the body is no JSON object"));
        };
        let version = self.api_version();
        for (field, expected, what) in [
            ("apiVersion", version.as_str(), "API version"),
            ("kind", self.kind, "kind"),
        ] {
            let given = object.entry(field).or_insert_with(|| json!(expected));
            if given != expected {
                return Err(ApiError::bad_request(format!(
                    "the {what} in the data ({}) does not match the expected {what} ({expected})",
                    given.as_str().unwrap_or_default()
                )));
            }
        }
        if object.get("metadata").is_none_or(Value::is_null) {
            object.insert("metadata".into(), json!({}));
        }
        let mut value = (self.typed)(body).map_err(|error| {
            ApiError::bad_request(format!(
                "{0} in version \"v1\" cannot be handled as a {0}: {error}",
                self.kind
            ))
        })?;
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            metadata.remove("selfLink");
        }
        Ok(value)
    }
}

fn typed<K: Serialize + DeserializeOwned>(value: Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<K>(value)?)
}
