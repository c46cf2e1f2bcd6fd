//! `/pods` and `/runningpods/`.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};
use vk_provider::{ContainerState, PodFacts};

use super::answer;
use super::node::NodeApi;
use crate::table::Running;

/// The node's pods as Kubernetes has them, `managedFields` left out: they are
/// passed on as the text they rest as.
pub(super) fn all(api: &NodeApi) -> Response<Body> {
    let mut list = String::from(r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#);
    for (number, text) in api.shared.table.texts(&api.name).iter().enumerate() {
        if number > 0 {
            list.push(',');
        }
        list.push_str(text.json());
    }
    list.push_str("]}");
    answer::json(list)
}

/// The pods of which something runs at the remote, as it shows them.
pub(super) fn running(api: &NodeApi) -> Response<Body> {
    let pods = api.shared.table.running(&api.name);
    let items: Vec<Value> = pods.iter().map(shown).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    answer::json(list.to_string())
}

fn shown(pod: &Running) -> Value {
    let image = |name: &str| {
        let spec = pod.pod.as_ref().and_then(|pod| pod.spec.as_ref());
        let mut known = spec.iter().flat_map(|spec| &spec.containers);
        known.find(|c| c.name == name).and_then(|c| c.image.clone())
    };
    let containers: Vec<Value> = running_containers(&pod.facts)
        .map(|name| json!({"name": name, "image": image(name), "resources": {}}))
        .collect();
    json!({
        "metadata": {
            "name": &*pod.facts.key.name,
            "namespace": &*pod.facts.key.namespace,
            "uid": pod.facts.key.uid.as_str(),
            "creationTimestamp": null,
        },
        "spec": {"containers": containers},
        "status": {},
    })
}

/// The names of containers that run.
fn running_containers(facts: &PodFacts) -> impl Iterator<Item = &str> {
    let all = facts.containers.iter().chain(&facts.init);
    all.filter(|c| matches!(c.state, ContainerState::Running { .. }))
        .map(|c| c.name.as_str())
}
