//! The suite's world in the sandbox, on the stepped clock.

use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use kube::Client;
use kube::client::middleware::BaseUriLayer;
use tower::Layer;
use vk_sandbox::kubernetes::Cluster;

use crate::suite::world::World;

pub async fn world() -> (World, Cluster) {
    let (mut world, cluster) = idle();
    world.start().await;
    (world, cluster)
}

/// The same before a kubelet is started.
pub fn idle() -> (World, Cluster) {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let cluster = Cluster::new(vk_sandbox::clock::Clock::stepped(start));
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .build(cluster.endpoint().connector());
    let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.test/"));
    let client = Client::new(base.layer(http), "default");
    let controllers = cluster.start_controllers();
    // They run as long as the test's runtime.
    tokio::spawn(async move {
        let _running = controllers;
        std::future::pending::<()>().await;
    });
    let world = World::idle(client, vk_provider::Clock::stepped(start), "default");
    (world, cluster)
}
