//! `status.declaredFeatures`, and what the API server makes of it: its own counters
//! tell whether it passed a WebSocket on or spoke SPDY in its place.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client};
use serde_json::json;
use vk_provider::Clock;

use crate::able::{Able, Process};
use crate::harness::control_plane::{ControlPlane, Output};
use crate::suite::memory::Remote;
use crate::suite::world::{eventually, ready};

const NAMESPACE: &str = "declared";
const NODE: &str = "vk-declared";
const FEATURE: &str = "ExtendWebSocketsToKubelet";

pub async fn websockets(plane: Arc<ControlPlane>) {
    plane.ok(&["create", "namespace", NAMESPACE]);
    let client = crate::top::client(&plane).await;
    let clock = Clock::live();
    let mut backend = Able {
        remote: Remote::new(clock.clone(), &[NODE]),
        clock,
        streams: true,
    };
    let start = |backend: &Able| Process::start(&plane, &client, backend.clone(), NAMESPACE);
    let first = start(&backend);
    declares(&client, &[FEATURE]).await;
    runs(&client).await;
    passed_on(
        &plane,
        &first,
        "proxied_to_kubelet",
        "translated_at_apiserver",
    )
    .await;
    first.end().await;

    // A restart: nothing is taken back meanwhile, and nothing said twice.
    let still = node(&client).await;
    assert_eq!(features(&still), [FEATURE]);
    let second = start(&backend);
    passed_on(
        &plane,
        &second,
        "proxied_to_kubelet",
        "translated_at_apiserver",
    )
    .await;
    assert_eq!(features(&node(&client).await), [FEATURE]);
    second.end().await;

    // One that cannot stream.
    backend.streams = false;
    let third = start(&backend);
    declares(&client, &[]).await;
    passed_on(
        &plane,
        &third,
        "translated_at_apiserver",
        "proxied_to_kubelet",
    )
    .await;
    // kubectl's user reads the node's own sentence.
    let told = exec(&plane).await;
    let sentence = "backend of this node has no exec (kubectl exec)";
    assert!(
        !told.success && told.text.contains(sentence),
        "{}",
        told.text
    );
    third.end().await;
}

/// An exec by WebSocket, as kubectl does it, goes this way and not the other, and
/// arrives. What is answered is another test's.
async fn passed_on(plane: &Arc<ControlPlane>, process: &Process, way: &str, other: &str) {
    let before = (routed(plane, way).await, routed(plane, other).await);
    let arrives = async || {
        exec(plane).await;
        let text = process.metrics.text();
        let asked =
            |line: &str| line.starts_with("virtual_kubelet_http_requests_total{endpoint=\"exec\"");
        text.lines().any(asked).then_some(())
    };
    // Which port the node has now is known to the API server by and by.
    eventually("the exec arrives", arrives).await;
    assert!(routed(plane, way).await > before.0, "{way}");
    assert_eq!(routed(plane, other).await, before.1, "{other}");
}

async fn exec(plane: &Arc<ControlPlane>) -> Output {
    plane
        .kubectl_apart(&["exec", "web", "-n", NAMESPACE, "--", "true"])
        .await
}

/// How many execs the API server routed in this way.
async fn routed(plane: &Arc<ControlPlane>, way: &str) -> u64 {
    let name = format!(
        "apiserver_websocket_streaming_requests_total{{proxy_type=\"{way}\",subresource=\"exec\"}} "
    );
    let text = plane
        .kubectl_apart(&["get", "--raw", "/metrics"])
        .await
        .text;
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.map_or(0, |value| value.parse().unwrap())
}

async fn node(client: &Client) -> Node {
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.get(NODE).await.unwrap()
}

fn features(node: &Node) -> Vec<String> {
    let status = node.status.clone().unwrap_or_default();
    status.declared_features.unwrap_or_default()
}

async fn declares(client: &Client, wanted: &[&str]) {
    let nodes: Api<Node> = Api::all(client.clone());
    eventually("the node declares that", async || {
        let node = nodes.get_opt(NODE).await.unwrap()?;
        (features(&node) == wanted).then_some(())
    })
    .await;
}

async fn runs(client: &Client) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "app:1"}],
        },
    }))
    .unwrap();
    pods.create(&Default::default(), &pod).await.unwrap();
    eventually("the pod runs", async || {
        ready(&pods.get("web").await.unwrap()).then_some(())
    })
    .await;
}
