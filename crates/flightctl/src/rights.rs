//! What this process needs of Kubernetes, right by right, as `config/rbac.yaml` and
//! `config/inputs` grant it.
//!
//! What the nodes' kubelet API needs is asked for at the start: without it nodes
//! come up all the same and every client is turned away, and whoever runs `kubectl
//! logs` is not told what to apply.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tracing::{debug, warn};
use virtual_kubelet::{ApiSettings, ClientCa, ServingCertificate};

/// Deadline of one question.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// The users whose certificates the signer of kubelets signs.
const NODES: &str = "system:node:";

/// One thing that the process has to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    verb: &'static str,
    group: &'static str,
    /// `nodes`, or `nodes/status`.
    resource: &'static str,
    /// Without one it is for the whole cluster.
    namespace: Option<Cow<'static, str>>,
    /// Of one object alone.
    name: Option<&'static str>,
}

const fn right(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right {
        verb,
        group,
        resource,
        namespace: None,
        name: None,
    }
}

const fn of(
    namespace: &'static str,
    name: Option<&'static str>,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
) -> Right {
    Right {
        verb,
        group,
        resource,
        namespace: Some(Cow::Borrowed(namespace)),
        name,
    }
}

/// For its nodes and what is bound to them.
pub(crate) const NODES_AND_PODS: &[Right] = &[
    right("get", "", "nodes"),
    right("list", "", "nodes"),
    right("watch", "", "nodes"),
    right("create", "", "nodes"),
    right("patch", "", "nodes"),
    right("delete", "", "nodes"),
    right("patch", "", "nodes/status"),
    right("get", "", "pods"),
    right("list", "", "pods"),
    right("watch", "", "pods"),
    right("patch", "", "pods"),
    right("delete", "", "pods"),
    right("patch", "", "pods/status"),
    right("create", "", "events"),
    right("patch", "", "events"),
    right("create", "events.k8s.io", "events"),
    right("patch", "events.k8s.io", "events"),
    of("kube-system", Some("kube-system"), "get", "", "namespaces"),
];

/// For the heartbeats of its nodes.
pub(crate) const LEASES: &[Right] = &[
    of(NODE_LEASES, None, "get", LEASE_GROUP, "leases"),
    of(NODE_LEASES, None, "create", LEASE_GROUP, "leases"),
    of(NODE_LEASES, None, "update", LEASE_GROUP, "leases"),
    of(NODE_LEASES, None, "patch", LEASE_GROUP, "leases"),
];
const NODE_LEASES: &str = "kube-node-lease";
const LEASE_GROUP: &str = "coordination.k8s.io";

/// Only where it drains its nodes at the end.
pub(crate) const EVICTION: Right = right("create", "", "pods/eviction");

/// For clients with a token.
const TOKENS: Right = right("create", "authentication.k8s.io", "tokenreviews");
/// For every client.
const ACCESS: Right = right("create", "authorization.k8s.io", "subjectaccessreviews");
/// For clients with a certificate; the API server is one.
const CLIENT_CA: Right = of(
    "kube-system",
    Some("extension-apiserver-authentication"),
    "get",
    "",
    "configmaps",
);

/// For what pods of a namespace refer to.
pub(crate) fn inputs(namespace: &str) -> Vec<Right> {
    let all = ["configmaps", "secrets"]
        .into_iter()
        .flat_map(|resource| ["get", "list", "watch"].map(|verb| right(verb, "", resource)));
    all.map(|right| right.within(namespace)).collect()
}

/// For the tokens of their ServiceAccounts.
pub(crate) fn tokens(namespace: &str) -> Right {
    right("create", "", "serviceaccounts/token").within(namespace)
}

impl Right {
    fn within(self, namespace: &str) -> Self {
        Self {
            namespace: Some(Cow::Owned(namespace.to_owned())),
            ..self
        }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match (&self.namespace, self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (Some(namespace), None) => write!(f, " in {namespace}"),
            (None, _) => Ok(()),
        }
    }
}

/// What `config/rbac.yaml` grants for the kubelet API. The right to ask for a
/// certificate is not among it: Kubernetes gives it to nodes' own users, and signs
/// for no other.
pub(crate) fn needed(api: &ApiSettings) -> Vec<Right> {
    let mut all = vec![TOKENS, ACCESS];
    if api.client_ca == ClientCa::Cluster {
        all.push(CLIENT_CA);
    }
    all
}

/// Says once what is missing. Nothing waits for it, and an API server that does
/// not answer is no reason to complain: it is asked again with each client.
pub(crate) async fn tell_missing(kube: Client, api: ApiSettings) {
    let missing = missing(&kube, &api).await;
    if !missing.is_empty() {
        let named: Vec<String> = missing.iter().map(Right::to_string).collect();
        warn!(
            missing = named.join(", "),
            "the nodes' kubelet API turns clients away, kubectl logs among them, until Kubernetes allows this process what is missing; apply config/rbac.yaml, or set kubeletApi.enabled to false"
        );
    }
    if api.certificate != ServingCertificate::Requested {
        return;
    }
    let name = user(&kube).await;
    if let Some(user) = name.filter(|user| !user.starts_with(NODES)) {
        warn!(
            user,
            "kubeletApi.certificate is requested, and Kubernetes signs it for the user {NODES}<node> alone, which this process is not: the nodes' API stays closed; set it to selfSigned, or set certFile and keyFile"
        );
    }
}

/// What is known to be missing.
async fn missing(kube: &Client, api: &ApiSettings) -> Vec<Right> {
    let mut missing = Vec::new();
    for right in needed(api) {
        if allowed(kube, &right).await == Some(false) {
            missing.push(right);
        }
    }
    missing
}

/// `None` where that is not known.
pub(crate) async fn allowed(kube: &Client, right: &Right) -> Option<bool> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (right.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(right.verb.into()),
                group: Some(right.group.into()),
                resource: Some(resource.into()),
                subresource: subresource.map(Into::into),
                namespace: right.namespace.as_ref().map(ToString::to_string),
                name: right.name.map(Into::into),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    Some(ask(kube, &review).await?.status?.allowed)
}

async fn user(kube: &Client) -> Option<String> {
    let review = ask(kube, &SelfSubjectReview::default()).await?;
    review.status?.user_info?.username
}

async fn ask<K>(kube: &Client, review: &K) -> Option<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::all(kube.clone());
    let params = PostParams::default();
    match timeout(ASK_DEADLINE, api.create(&params, review)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            debug!(%error, "Kubernetes does not say what this process may");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// Kubernetes that allows these resources, and is away for `configmaps`.
    fn kubernetes(allows: &'static [&'static str]) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let bytes = request.into_body().collect_bytes().await?;
            let mut review: Value = serde_json::from_slice(&bytes)?;
            let resource = review["spec"]["resourceAttributes"]["resource"].take();
            let resource = resource.as_str().unwrap_or_default();
            let mut answer = Response::new(Body::empty());
            if resource == "configmaps" {
                *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                return Ok(answer);
            }
            review["status"] = serde_json::json!({"allowed": allows.contains(&resource)});
            *answer.body_mut() = Body::from(review.to_string().into_bytes());
            Ok::<_, tower::BoxError>(answer)
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn what_is_refused_is_missing_and_what_is_not_known_is_not() {
        let api = ApiSettings::new(0..=0);
        let some = kubernetes(&["subjectaccessreviews"]);
        assert_eq!(missing(&some, &api).await, [TOKENS]);
        let none = kubernetes(&[]);
        assert_eq!(missing(&none, &api).await, [TOKENS, ACCESS]);
        let all = kubernetes(&["tokenreviews", "subjectaccessreviews"]);
        assert_eq!(missing(&all, &api).await, []);
    }

    #[test]
    fn what_is_needed_follows_the_settings_and_is_told_as_kubectl_names_it() {
        let mut api = ApiSettings::new(0..=0);
        let told = |api: &ApiSettings| needed(api).iter().map(Right::to_string).collect::<Vec<_>>();
        let reviews = [
            "create tokenreviews.authentication.k8s.io",
            "create subjectaccessreviews.authorization.k8s.io",
        ];
        let client_ca = "get configmaps kube-system/extension-apiserver-authentication";
        assert_eq!(told(&api), [&reviews[..], &[client_ca]].concat());
        api.client_ca = ClientCa::Nobody;
        assert_eq!(told(&api), reviews);
    }

    /// A rule of a role in the repository's manifests.
    #[derive(serde::Deserialize)]
    struct Rule {
        #[serde(rename = "apiGroups")]
        groups: Vec<String>,
        resources: Vec<String>,
        verbs: Vec<String>,
    }

    #[derive(serde::Deserialize)]
    struct Role {
        #[serde(default)]
        rules: Vec<Rule>,
    }

    fn granted(file: &str) -> BTreeSet<String> {
        let path = format!("{}/../../config/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let roles = text.split("\n---\n").map(|one| {
            let role: Role = serde_saphyr::from_str(one).unwrap();
            role.rules
        });
        let mut all = BTreeSet::new();
        for rule in roles.flatten() {
            for (group, resource) in rule
                .groups
                .iter()
                .flat_map(|g| rule.resources.iter().map(move |r| (g, r)))
            {
                all.extend(
                    rule.verbs
                        .iter()
                        .map(|verb| format!("{verb} {resource} {group}")),
                );
            }
        }
        all
    }

    #[test]
    fn what_is_asked_for_is_what_the_manifests_grant() {
        let told = |rights: &[Right]| -> BTreeSet<String> {
            let told = rights.iter();
            told.map(|r| format!("{} {} {}", r.verb, r.resource, r.group))
                .collect()
        };
        let own = [NODES_AND_PODS, LEASES, &[EVICTION]].concat();
        assert_eq!(told(&own), granted("rbac.yaml"));
        let mut of_pods = inputs("shop");
        of_pods.push(tokens("shop"));
        assert_eq!(told(&of_pods), granted("inputs/role.yaml"));
    }
}
