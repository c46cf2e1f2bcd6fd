//! The contract's conformance kit over the Flight Control backend.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    dead_code,
    reason = "modules of one test"
)]

mod stage;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use vk_flightctl::backend::FlightControl;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::world::World;
use vk_provider::conformance::{Fixture, check};
use vk_provider::{Backend, Clock};

struct Devices {
    backend: Arc<FlightControl>,
}

#[async_trait]
impl Fixture for Devices {
    fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    fn pod(&self, name: &str) -> Pod {
        let mut json = stage::pod(name, "vk-flightctl-node", "nginx:1");
        json["metadata"]["uid"] = format!("uid-{name}").into();
        serde_json::from_value(json).unwrap()
    }

    fn updated(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        pod.spec.as_mut().unwrap().containers[0].image = Some("nginx:2".into());
        pod
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_backend_keeps_the_contract() {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let service = vk_sandbox::flightctl::FlightControl::new(
        vk_sandbox::clock::Clock::stepped(start),
        vk_sandbox::flightctl::Options::default(),
    );
    let _devices = service.spawn_devices(2, 0, 2);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .build(service.endpoint().connector());
    let base = http::Uri::from_static("http://flightctl.test/");
    let client = Client::new(http, &base, TokenSource::fixed("any"));
    let world = World::new("cluster", vk_flightctl::config::default_rules());
    let backend = FlightControl::new(
        client,
        world,
        Clock::stepped(start),
        Duration::from_secs(30),
    );
    let following = {
        let backend = backend.clone();
        tokio::spawn(async move { backend.follow().await })
    };
    check(&Devices {
        backend: Arc::new(backend),
    })
    .await;
    following.abort();
}
