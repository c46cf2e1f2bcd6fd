//! What the sandbox's Kubernetes API passes on to a node, over real sockets.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_debug_implementations,
    reason = "modules of one test"
)]

mod kubectl;
mod node;
mod streams;
mod talk;

use axum::body::Body;
use http::Request;
use hyper::upgrade::Upgraded;
use k8s_openapi::api::core::v1::{ConfigMap, Node as KubeNode, Pod};
use serde_json::{Value, json};
use vk_sandbox::clock::Clock;
use vk_sandbox::kubernetes::Cluster;

use node::Node;
use talk::{Answer, ask};

const BASE: &str = "/api/v1/namespaces/default/pods/web";

struct World {
    cluster: Cluster,
    node: Node,
}

impl World {
    /// A node `edge` with a pod `web` of the containers `app` and `silent`.
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The node declares these features.
    async fn with(features: &[&str]) -> Self {
        let cluster = Cluster::new(Clock::live()).with_token("secret");
        let map = cluster.get::<ConfigMap>("kube-system", "extension-apiserver-authentication");
        let ca = map.unwrap().data.unwrap()["client-ca-file"].clone();
        let node = Node::start(&ca).await;
        let world = Self { cluster, node };
        world.tell("edge", world.node.address.port(), features);
        world.create("web", Some("edge"), &["app", "silent"]);
        world
    }

    fn tell(&self, name: &str, port: u16, features: &[&str]) {
        let node = json!({"metadata": {"name": name}, "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "declaredFeatures": features}});
        let node: KubeNode = serde_json::from_value(node).unwrap();
        self.cluster.create(&node).unwrap();
    }

    fn create(&self, name: &str, node: Option<&str>, containers: &[&str]) {
        let container = |name: &&str| json!({"name": name, "image": "x"});
        let containers: Vec<Value> = containers.iter().map(container).collect();
        let pod = json!({"metadata": {"name": name},
            "spec": {"nodeName": node, "containers": containers}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.cluster.create(&pod).unwrap();
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        ask(&self.cluster, request).await
    }

    /// What the connection becomes that is asked for an upgrade.
    async fn upgraded(&self, request: Request<Body>) -> Upgraded {
        let answer = self.ask(request).await;
        answer.upgraded.expect("the connection is upgraded")
    }

    async fn get(&self, target: &str) -> Answer {
        let request = Request::get(target).header("Authorization", "Bearer secret");
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    /// Code and message of a refusal.
    async fn refusal(&self, target: &str) -> (u16, String) {
        let answer = self.get(target).await;
        let status: Value = serde_json::from_str(&answer.text).unwrap();
        (
            answer.status.as_u16(),
            status["message"].as_str().unwrap().to_owned(),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_comes_from_the_node_which_sees_the_api_server_alone() {
    let world = World::new().await;
    let log = world
        .get(&format!("{BASE}/log?container=app&follow=true&tailLines=2"))
        .await;
    assert_eq!((log.status.as_u16(), &*log.text), (200, "one\ntwo\n"));
    assert_eq!(log.headers["content-type"], "text/plain");
    let asked = world.node.last();
    let target = "/containerLogs/default/web/app?follow=true&tailLines=2";
    assert_eq!((asked.method.as_str(), &*asked.target), ("GET", target));
    assert!(
        !asked.headers.contains_key("authorization"),
        "no token leaves the API server"
    );
    let name = b"kube-apiserver-kubelet-client";
    let shown = asked
        .certificate
        .windows(name.len())
        .any(|part| part == name);
    assert!(shown, "it shows its certificate");
    let refused = world.refusal(&format!("{BASE}/log?container=silent")).await;
    assert_eq!(refused, (400, "the device is away".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_passed_on_is_refused_in_the_real_servers_words() {
    let world = World::new().await;
    world.create("waiting", None, &["app"]);
    world.create("orphan", Some("gone"), &["app"]);
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    world.tell("dead", port, &[]);
    world.create("lost", Some("dead"), &["app"]);
    let pods = "/api/v1/namespaces/default/pods";
    let none = world.get(&format!("{pods}/waiting/log")).await;
    assert_eq!((none.status.as_u16(), &*none.text), (204, ""));
    let url = format!("https://127.0.0.1:{port}/containerLogs/default/lost/app");
    let dial = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    for (target, code, words) in [
        (
            format!("{BASE}/log"),
            400,
            "a container name must be specified for pod web, choose one of: [app silent]"
                .to_owned(),
        ),
        (
            format!("{BASE}/exec?container=x&command=a"),
            400,
            "container x is not valid for pod web".into(),
        ),
        (
            format!("{BASE}/exec?container=app&command=a"),
            400,
            "Upgrade request required".into(),
        ),
        (
            format!("{pods}/waiting/attach"),
            400,
            "pod waiting does not have a host assigned".into(),
        ),
        (
            format!("{pods}/orphan/log"),
            404,
            "nodes \"gone\" not found".into(),
        ),
        (
            format!("{pods}/none/log"),
            404,
            "pods \"none\" not found".into(),
        ),
        (
            format!("{pods}/lost/log"),
            500,
            format!("Get \"{url}\": {dial}"),
        ),
        (
            "/api/v1/nodes/dead/proxy/pods".into(),
            503,
            format!("error trying to reach service: {dial}"),
        ),
    ] {
        assert_eq!(world.refusal(&target).await, (code, words), "{target}");
    }
    let spdy = talk::spdy(&format!("{pods}/lost/exec?command=a"), "v4.channel.k8s.io");
    let answer = world.ask(spdy).await;
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .text
            .contains(&format!("error dialing backend: {dial}"))
    );
    assert_eq!(world.node.count(), 0, "the node heard of none of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_paths_are_reached_through_its_proxy() {
    let world = World::new().await;
    let port = world.node.address.port();
    for name in ["edge".to_owned(), format!("https:edge:{port}")] {
        let found = world
            .get(&format!("/api/v1/nodes/{name}/proxy/stats/summary?a=b"))
            .await;
        assert_eq!((found.status.as_u16(), &*found.text), (200, "numbers"));
        let asked = world.node.last();
        assert_eq!(asked.target, "/stats/summary?a=b");
        assert!(!asked.headers.contains_key("authorization"));
    }
    let missing = world.get("/api/v1/nodes/edge/proxy/debug").await;
    assert_eq!((missing.status.as_u16(), &*missing.text), (404, "not here"));
    let root = world.get("/api/v1/nodes/edge/proxy").await;
    assert_eq!(root.headers["location"], "/api/v1/nodes/edge/proxy/");
    let other = world.refusal("/api/v1/nodes/edge:1/proxy/pods").await;
    assert_eq!(other.0, 501, "{}", other.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_only_read_pods_may_run_nothing_in_them() {
    let world = World::new().await;
    let get = Request::get(format!("{BASE}/log?container=app")).body(Body::empty());
    assert_eq!(world.ask(get.unwrap()).await.status, 401);
    world.cluster.forbid("create", "pods/exec", None);
    let exec = talk::websocket(
        &format!("{BASE}/exec?container=app&command=0&stdout=1"),
        "v5.channel.k8s.io",
    );
    let refused = world.ask(exec).await;
    assert_eq!(refused.status, 403);
    let words = "User \\\"admin\\\" cannot create resource \\\"pods/exec\\\"";
    assert!(refused.text.contains(words), "{}", refused.text);
    world.cluster.forbid("get", "nodes/proxy", None);
    let refused = world.refusal("/api/v1/nodes/edge/proxy/pods").await;
    assert_eq!(refused.0, 403, "{}", refused.1);
    assert_eq!(world.node.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_of_rights_says_what_was_forbidden() {
    let world = World::new().await;
    world.cluster.forbid("get", "nodes/proxy", None);
    let ask = async |spec: Value| {
        let body = json!({"spec": spec}).to_string();
        let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
            .header("Authorization", "Bearer secret")
            .header("Content-Type", "application/json");
        let answer = world.ask(request.body(Body::from(body)).unwrap()).await;
        let text: Value = serde_json::from_str(&answer.text).unwrap();
        (answer.status.as_u16(), text)
    };
    let about = |user: &str, sub: &str| {
        json!({"user": user, "resourceAttributes":
            {"verb": "get", "resource": "nodes", "subresource": sub, "name": "edge"}})
    };
    for (user, sub, allowed) in [
        ("jane", "metrics", true),
        ("jane", "proxy", false),
        ("system:anonymous", "metrics", false),
    ] {
        let (code, review) = ask(about(user, sub)).await;
        assert_eq!(code, 201, "{review}");
        assert_eq!(review["status"]["allowed"], allowed, "{user} {sub}");
    }
    let (code, refused) = ask(json!({"user": "jane"})).await;
    assert_eq!(code, 422);
    let words = refused["message"].as_str().unwrap();
    assert!(
        words.contains("exactly one of nonResourceAttributes"),
        "{words}"
    );
}
