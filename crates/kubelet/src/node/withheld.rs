//! Labels that Kubernetes does not let this process write. To a user who is a
//! node (`system:node:…`) the admission plugin NodeRestriction forbids all under
//! `kubernetes.io` and `k8s.io` but a few, and refuses the whole Node for one of
//! them: better a node without a label than no node.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;

/// What NodeRestriction writes before the labels it forbids, to register a Node
/// (`… set the following labels: a, b`) and to change one (`… modify labels: a`).
const BEFORE: &str = "labels: ";
/// Some times what a Node has of ours; a refusal whose words change each time
/// must not be remembered for ever.
const MOST: usize = 64;

/// What was refused so far.
#[derive(Debug, Default)]
pub(super) struct Withheld(BTreeSet<String>);

impl Withheld {
    /// Notes the labels that a refusal names; those that are new, if any.
    pub(super) fn learn(&mut self, error: &kube::Error) -> Vec<String> {
        let kube::Error::Api(status) = error else {
            return Vec::new();
        };
        let named = status.message.split_once(BEFORE).map(|(_, named)| named);
        let Some(named) = named.filter(|_| status.code == 403) else {
            return Vec::new();
        };
        let labels = named.split(',').map(|label| label.trim().to_owned());
        let room = MOST.saturating_sub(self.0.len());
        labels
            .take(room)
            .filter(|label| self.0.insert(label.clone()))
            .collect()
    }

    /// They stay as the Node has them.
    pub(super) fn leave(&self, labels: &mut BTreeMap<String, String>, node: Option<&Node>) {
        let have = node.and_then(|node| node.metadata.labels.as_ref());
        for label in &self.0 {
            match have.and_then(|all| all.get(label)) {
                Some(value) => labels.insert(label.clone(), value.clone()),
                None => labels.remove(label),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use http::{Method, Request, Response};
    use k8s_openapi::api::core::v1::Event;
    use kube::Client;
    use serde_json::{Value, json};
    use tokio::sync::watch;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;
    use vk_provider::{Clock, NodeFacts};
    use vk_sandbox::kubernetes::Cluster;

    use super::super::sandboxed::start;
    use super::super::{NodeSettings, NodeTask};
    use super::*;
    use crate::events::Recorder;
    use crate::leadership::Leadership;
    use crate::metrics::Metrics;

    /// Of ours, what NodeRestriction forbids.
    const FORBIDDEN: [&str; 3] = [
        "alpha.service-controller.kubernetes.io/exclude-balancer",
        "kubernetes.io/role",
        "node-role.kubernetes.io/agent",
    ];

    fn refused(code: u16, message: &str) -> kube::Error {
        let status = json!({"code": code, "message": message});
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn a_refusal_that_names_labels_is_learnt_once_and_no_other() {
        let mut withheld = Withheld::default();
        let words = "nodes \"n\" is forbidden: node \"n\" is not allowed to set the following labels: a.kubernetes.io/b, kubernetes.io/role";
        assert_eq!(withheld.learn(&refused(500, words)), [""; 0]);
        let named = ["a.kubernetes.io/b", "kubernetes.io/role"];
        assert_eq!(withheld.learn(&refused(403, words)), named);
        assert_eq!(withheld.learn(&refused(403, words)), [""; 0]);
        assert_eq!(withheld.learn(&refused(403, "no")), [""; 0]);
        for n in 0..1000 {
            withheld.learn(&refused(403, &format!("labels: {n}")));
        }
        assert_eq!(withheld.0.len(), MOST);
    }

    #[test]
    fn what_is_withheld_stays_as_the_node_has_it() {
        let mut withheld = Withheld::default();
        withheld.learn(&refused(403, "is not allowed to modify labels: old, role"));
        let ours = [("role", "new"), ("mine", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let mut labels = BTreeMap::from(ours);
        let mut node = Node::default();
        let theirs = [("role", "first"), ("old", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        node.metadata.labels = Some(theirs.into());
        withheld.leave(&mut labels, Some(&node));
        let left: Vec<_> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(left, [("mine", "1"), ("old", ""), ("role", "first")]);
        withheld.leave(&mut labels, None);
        assert_eq!(labels.len(), 1);
    }

    /// A line to the sandbox where a Node is held against NodeRestriction.
    fn restricted(cluster: &Cluster) -> Client {
        let cluster = cluster.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let cluster = cluster.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let told: Value = serde_json::from_slice(&body).unwrap_or_default();
                let labels = &told["metadata"]["labels"];
                let of_node = head.uri.path().contains("/nodes") && head.method != Method::GET;
                let named = FORBIDDEN.iter().filter(|label| !labels[**label].is_null());
                let named: Vec<_> = named.copied().filter(|_| of_node).collect();
                if !named.is_empty() {
                    return Ok(forbidden(&named.join(", ")));
                }
                let request = Request::from_parts(head, Body::from(body));
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                    cluster.endpoint().answer(request).await?,
                )
            }
        });
        Client::new(service, "default")
    }

    /// Kubernetes' own words.
    fn forbidden(labels: &str) -> Response<Body> {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden",
            "code": 403,
            "message": format!("nodes \"vk-1\" is forbidden: node \"vk-1\" is not allowed to set the following labels: {labels}"),
        });
        let answer = Response::builder().status(403);
        let answer = answer.header(http::header::CONTENT_TYPE, "application/json");
        answer.body(Body::from(status.to_string())).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_labels_are_forbidden_comes_up_without_them_and_says_which() {
        let cluster = Cluster::new(vk_sandbox::clock::Clock::stepped(start()));
        let clock = Clock::stepped(start());
        let (client, metrics) = (restricted(&cluster), Metrics::default());
        let facts = watch::Sender::new(NodeFacts::default());
        let events = Recorder::start(client.clone(), "test", &metrics, clock.clone());
        let task = NodeTask {
            client: client.clone(),
            lease_client: client,
            settings: NodeSettings {
                name: "vk-1".into(),
                events: Some(events),
                ..NodeSettings::new("mock", "vk-mock")
            },
            facts: facts.subscribe(),
            registration: watch::Sender::default(),
            doubt: Arc::default(),
            heed: Arc::new(|_, _| {}),
            leadership: Leadership::default(),
            clock,
        };
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let running = tokio::spawn(async move {
            tokio::join!(task.keep_registered(ended.clone()), task.keep_lease(ended));
        });
        let patience = Duration::from_secs(20);
        let node = cluster.until(|c| c.get::<Node>("", "vk-1"));
        let node = timeout(patience, node).await.expect("the node registers");
        let labels = node.metadata.labels.unwrap();
        assert!(FORBIDDEN.iter().all(|label| !labels.contains_key(*label)));
        assert_eq!(labels["type"], "virtual-kubelet");
        assert_eq!(labels["kubernetes.io/hostname"], "vk-1");
        let told = cluster.until(|c| {
            let events = c.list::<Event>(None);
            events
                .into_iter()
                .find(|e| e.reason.as_deref() == Some("LabelsForbidden"))
        });
        let told = timeout(patience, told).await.expect("it is told");
        let message = told.message.unwrap();
        assert!(
            FORBIDDEN.iter().all(|label| message.contains(label)),
            "{message}"
        );
        // And goes on being kept.
        facts.send_modify(|facts| {
            facts.labels.insert("fleet".into(), "a".into());
        });
        let labelled = cluster.until(|c| {
            let labels = c.get::<Node>("", "vk-1")?.metadata.labels?;
            labels.contains_key("fleet").then_some(())
        });
        timeout(patience, labelled).await.expect("labels follow");
        stop.cancel();
        running.await.unwrap();
    }
}
