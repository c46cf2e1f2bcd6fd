//! What a node declares, against API servers that keep it and such that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use vk_provider::{Clock, NodeFacts};
use vk_sandbox::kubernetes::Cluster;

use super::object::features;
use super::sandboxed::start;
use super::{NodeSettings, NodeTask, STATUS_EVERY};
use crate::leadership::Leadership;

const FEATURE: &str = "ExtendWebSocketsToKubelet";
/// In paused time; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// An API server: one that knows the field, or an older one.
#[derive(Clone)]
struct Server {
    cluster: Cluster,
    knows: Arc<AtomicBool>,
    /// Writes that told of features, and all others.
    told: Arc<AtomicUsize>,
    others: Arc<AtomicUsize>,
}

impl Server {
    fn new(knows: bool) -> Self {
        Self {
            cluster: Cluster::new(vk_sandbox::clock::Clock::stepped(start())),
            knows: Arc::new(AtomicBool::new(knows)),
            told: Arc::default(),
            others: Arc::default(),
        }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let mut body = body.collect_bytes().await?.to_vec();
                if head.uri.path().contains("/nodes") && head.method != Method::GET {
                    body = server.take(&body);
                }
                let request = Request::from_parts(head, Body::from(body));
                Ok::<_, tower::BoxError>(server.cluster.endpoint().answer(request).await?)
            }
        });
        Client::new(service, "default")
    }

    /// A write as this server understands it.
    fn take(&self, body: &[u8]) -> Vec<u8> {
        let mut told: Value = serde_json::from_slice(body).unwrap();
        let status = told["status"].as_object_mut();
        let declared = status.is_some_and(|status| match self.knows.load(Ordering::SeqCst) {
            true => status.contains_key("declaredFeatures"),
            false => status.remove("declaredFeatures").is_some(),
        });
        let counter = if declared { &self.told } else { &self.others };
        counter.fetch_add(1, Ordering::SeqCst);
        told.to_string().into_bytes()
    }

    fn told(&self) -> usize {
        self.told.load(Ordering::SeqCst)
    }

    fn others(&self) -> usize {
        self.others.load(Ordering::SeqCst)
    }

    async fn node(&self, is: impl Fn(&Node) -> bool) -> Node {
        let look = |c: &Cluster| c.get::<Node>("", "vk-1").filter(&is);
        let becomes = timeout(PATIENCE, self.cluster.until(look));
        becomes.await.expect("the node becomes so")
    }
}

/// A process that keeps the node.
struct Process {
    facts: watch::Sender<NodeFacts>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    fn start(server: &Server, declared: &[&str]) -> Self {
        let facts = watch::Sender::new(NodeFacts::default());
        let task = NodeTask {
            client: server.client(),
            lease_client: server.client(),
            settings: NodeSettings {
                name: "vk-1".into(),
                features: declared.iter().map(|name| (*name).into()).collect(),
                ..NodeSettings::new("mock", "vk-mock")
            },
            facts: facts.subscribe(),
            registration: watch::Sender::default(),
            doubt: Arc::default(),
            heed: Arc::new(|_, _| {}),
            leadership: Leadership::default(),
            clock: Clock::stepped(start()),
        };
        let stop = CancellationToken::new();
        let until = stop.clone();
        let task = tokio::spawn(async move {
            tokio::join!(task.keep_registered(until.clone()), task.keep_lease(until));
        });
        Self { facts, stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_declares_what_it_serves_and_its_successor_takes_back_what_it_does_not() {
    let server = Server::new(true);
    let first = Process::start(&server, &["B", FEATURE, "A"]);
    let node = server.node(|node| !features(node).is_empty()).await;
    assert_eq!(features(&node), ["A", "B", FEATURE], "sorted");
    sleep(STATUS_EVERY / 2).await;
    assert_eq!(server.told(), 1, "once");
    first.end().await;
    let second = Process::start(&server, &[FEATURE]);
    server.node(|node| features(node) == [FEATURE]).await;
    assert_eq!(server.told(), 2);
    second.end().await;
    let third = Process::start(&server, &[]);
    server.node(|node| features(node).is_empty()).await;
    third.end().await;
    let fourth = Process::start(&server, &[]);
    sleep(STATUS_EVERY / 2).await;
    assert_eq!(server.told(), 3, "nothing to take back any more");
    fourth.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_older_api_server_is_not_told_again_and_again() {
    let server = Server::new(false);
    let process = Process::start(&server, &[FEATURE]);
    server.node(|_| true).await;
    let begun = Instant::now();
    sleep(STATUS_EVERY - Duration::from_secs(10)).await;
    assert_eq!(server.told(), 1, "with the registration");
    // News of the node does not bring it up again.
    let before = server.others();
    process.facts.send_modify(|facts| {
        facts.labels.insert("fleet".into(), "a".into());
        facts.info.os_image = "another".into();
    });
    sleep(Duration::from_secs(5)).await;
    assert!(server.others() > before);
    assert_eq!(server.told(), 1);
    // The servers are upgraded: the next full status finds it out.
    server.knows.store(true, Ordering::SeqCst);
    let node = server.node(|node| !features(node).is_empty()).await;
    assert_eq!(features(&node), [FEATURE]);
    let took = begun.elapsed();
    assert!(
        took < STATUS_EVERY * 2 + Duration::from_secs(10),
        "{took:?}"
    );
    assert_eq!(server.told(), 2);
    process.end().await;
}
