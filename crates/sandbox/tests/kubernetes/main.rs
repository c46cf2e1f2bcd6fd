//! The sandbox's Kubernetes API, through the client that the product uses, in
//! paused time over in-memory connections.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare itself may panic"
)]

mod controllers;
mod inputs;
mod pods;
mod reads;
mod surface;
mod tokens;
mod watches;

use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, WatchEvent};
use kube::client::middleware::BaseUriLayer;
use kube::{Client, Error};
use serde_json::{Value, json};
use tower::ServiceBuilder;
use vk_sandbox::clock::Clock;
use vk_sandbox::kubernetes::Cluster;

/// Nothing here waits for the real world: in paused time an hour is a moment.
const LONG: Duration = Duration::from_secs(3600);

fn cluster() -> Cluster {
    Cluster::new(Clock::stepped("2026-01-01T00:00:00Z".parse().unwrap()))
}

fn client(cluster: &Cluster) -> Client {
    let http = HttpClient::builder(TokioExecutor::new())
        .build::<_, kube::client::Body>(cluster.endpoint().connector());
    let base = BaseUriLayer::new("http://sandbox".parse().unwrap());
    Client::new(ServiceBuilder::new().layer(base).service(http), "default")
}

fn pods(cluster: &Cluster) -> Api<Pod> {
    Api::default_namespaced(client(cluster))
}

fn pod(name: &str, extra: &Value) -> Pod {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "app", "image": "nginx"}]}});
    json_patch::merge(&mut pod, extra);
    serde_json::from_value(pod).unwrap()
}

fn on_node(name: &str) -> Pod {
    pod(name, &json!({"spec": {"nodeName": "edge"}}))
}

fn node(name: &str, cpu: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name}, "status": {
        "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True"}]}}))
    .unwrap()
}

fn status(value: &Value) -> Patch<Value> {
    Patch::Strategic(json!({"status": value}))
}

/// The code and message of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result {
        Err(Error::Api(status)) => (status.code, status.message),
        other => panic!("not refused by the API: {other:?}"),
    }
}

/// 200 and the body of an answer, or the code and message of a refusal.
async fn raw(
    cluster: &Cluster,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, Value) {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.as_bytes().to_vec()).unwrap();
    match client(cluster).request::<Value>(request).await {
        Ok(value) => (200, value),
        Err(Error::Api(status)) => (status.code, json!(status.message)),
        Err(other) => panic!("{other}"),
    }
}

fn kind<K>(event: &WatchEvent<K>) -> &'static str {
    match event {
        WatchEvent::Added(_) => "ADDED",
        WatchEvent::Modified(_) => "MODIFIED",
        WatchEvent::Deleted(_) => "DELETED",
        WatchEvent::Bookmark(_) => "BOOKMARK",
        WatchEvent::Error(_) => "ERROR",
    }
}

async fn revision(api: &Api<Pod>) -> String {
    let list = api.list(&ListParams::default()).await.unwrap();
    list.metadata.resource_version.unwrap()
}
