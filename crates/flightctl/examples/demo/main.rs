//! System A's story in one process: no cluster, no Flight Control, no device.
//!
//! The sandbox's Kubernetes API and Flight Control, four simulated devices in
//! two fleets, and the real provider between them, on the live clock. In a
//! terminal a picture of nodes, devices and pods is kept up to date; otherwise
//! one line a step is printed.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    reason = "modules of one test or example"
)]

mod picture;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::client::middleware::BaseUriLayer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::Layer;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::config::{ClusterAgents, default_rules};
use vk_flightctl::run::{Parts, run};
use vk_provider::Clock;
use vk_sandbox::flightctl::{Device, DeviceSpec, FlightControl, Options};
use vk_sandbox::kubernetes::Cluster;

use picture::Picture;

/// The story is told well within a minute; a step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Simulated agents report this often; real ones every 60 s by default, and
/// operators are asked for 10 s.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::new(vk_sandbox::clock::Clock::live());
    let controllers = cluster.start_controllers();
    let flightctl = FlightControl::new(vk_sandbox::clock::Clock::live(), Options::default());
    let devices: Vec<Device> = [
        "edge-fleet-1",
        "edge-fleet-1",
        "edge-fleet-1",
        "edge-fleet-2",
    ]
    .iter()
    .enumerate()
    .map(|(index, fleet)| flightctl.add_device(device(index + 1, fleet)))
    .collect();
    let stop = CancellationToken::new();
    let provider = tokio::spawn(run(parts(&cluster, &flightctl), stop.clone()));

    let story = Story {
        cluster: cluster.clone(),
        picture: Picture::new(cluster, devices.clone()),
    };
    let told = tokio::select! {
        told = story.tell(&devices) => told,
        ended = provider => {
            ended??;
            anyhow::bail!("the provider ended before the story did")
        }
    };
    stop.cancel();
    drop(controllers);
    told
}

fn device(number: usize, fleet: &str) -> DeviceSpec {
    let mut spec = DeviceSpec::new(&format!("device-{number}")).label("fleet", fleet);
    spec.cpu_cores = Some(4);
    spec.memory_kb = Some(8 * 1024 * 1024);
    spec.address = Some(format!("10.42.0.{number}/24"));
    spec.status_interval = STATUS_INTERVAL;
    spec
}

fn parts(cluster: &Cluster, flightctl: &FlightControl) -> Parts {
    let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.demo/"));
    let http =
        || base.layer(Http::builder(TokioExecutor::new()).build(cluster.endpoint().connector()));
    let mut rules = default_rules();
    rules.taints = Vec::new();
    Parts {
        kube: kube::Client::new(http(), "default"),
        lease: kube::Client::new(http(), "default"),
        flightctl: Client::new(
            Http::builder(TokioExecutor::new()).build(flightctl.endpoint().connector()),
            &http::Uri::from_static("http://flightctl.demo/"),
            TokenSource::fixed("demo"),
        ),
        rules,
        poll: Duration::from_secs(5),
        cluster_agents: ClusterAgents::default(),
        clock: Clock::live(),
        identity: None,
        listener: None,
    }
}

struct Story {
    cluster: Cluster,
    picture: Picture,
}

impl Story {
    async fn tell(&self, devices: &[Device]) -> Result<()> {
        let begun = Instant::now();
        self.step("two fleets of devices appear as two nodes", async {
            self.cluster
                .until(|c| {
                    let nodes = c.list_values("nodes", None);
                    let fleets = nodes
                        .iter()
                        .filter(|n| n["metadata"]["labels"]["flightctl.io/fleet"].is_string());
                    (fleets.count() == 2).then_some(())
                })
                .await;
        })
        .await?;

        self.create(&pod(
            "nginx-edge",
            "vk-flightctl-edge-fleet-2",
            "nginx:alpine",
        ))?;
        self.step(
            "kubectl apply: a pod on edge-fleet-2 is Running",
            self.ready("nginx-edge", 1),
        )
        .await?;

        let deployment: Deployment = serde_json::from_value(deployment())?;
        self.cluster
            .create(&deployment)
            .context("the Deployment is refused")?;
        self.step(
            "a Deployment of 3 spreads over edge-fleet-1",
            self.ready("hello-edge", 3),
        )
        .await?;

        let mut pod: Pod = self
            .cluster
            .get("default", "nginx-edge")
            .context("the pod is there")?;
        if let Some(container) = pod.spec.as_mut().and_then(|s| s.containers.first_mut()) {
            container.image = Some("nginx:1.27".into());
        }
        self.cluster.update(&pod).context("the update is refused")?;
        self.step(
            "kubectl set image: the old container ends, then the new one starts",
            async {
                let device = &devices[3];
                while !device
                    .journal()
                    .iter()
                    .any(|e| e.image.contains("nginx:1.27"))
                {
                    device.changed().await;
                }
                self.ready("nginx-edge", 1).await;
            },
        )
        .await?;

        let before = (devices[0].journal(), self.placements());
        devices[0].disconnect();
        self.picture.say("device-1 goes away: Flight Control itself notices after five minutes; until then its last state stands").await;
        devices[0].reconnect();
        // The agent has come back when it has reported or polled again.
        tokio::time::sleep(STATUS_INTERVAL * 2).await;
        let touched = devices[0].journal().split_off(before.0.len());
        anyhow::ensure!(
            touched.is_empty(),
            "device-1 started or stopped something: {touched:?}"
        );
        anyhow::ensure!(self.placements() == before.1, "a pod was moved");
        self.picture
            .say("device-1 is back: nothing was restarted, nothing was moved")
            .await;

        self.cluster
            .delete::<Pod>("default", "nginx-edge", None)
            .context("the delete is refused")?;
        self.step(
            "kubectl delete: gone from the device, then from Kubernetes",
            async {
                self.cluster
                    .until(|c| {
                        c.get_value("pods", "default", "nginx-edge")
                            .is_none()
                            .then_some(())
                    })
                    .await;
            },
        )
        .await?;
        self.picture.end(begun.elapsed());
        Ok(())
    }

    fn create(&self, pod: &Value) -> Result<()> {
        let pod: Pod = serde_json::from_value(pod.clone())?;
        self.cluster.create(&pod).context("the pod is refused")?;
        Ok(())
    }

    /// Each pod by UID, with its device.
    fn placements(&self) -> BTreeMap<String, String> {
        let pods = self.cluster.list_values("pods", Some("default"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        pods.iter()
            .map(|pod| {
                let meta = &pod["metadata"];
                (
                    text(&meta["uid"]),
                    text(&meta["labels"]["flightctl.io/device"]),
                )
            })
            .collect()
    }

    async fn step(&self, what: &str, done: impl Future<Output = ()>) -> Result<()> {
        self.picture.step(what, PATIENCE, done).await
    }

    /// So many pods whose names begin so are Ready.
    async fn ready(&self, name: &str, count: usize) {
        self.cluster
            .until(|c| {
                let pods = c.list_values("pods", Some("default"));
                let ready = pods.iter().filter(|p| {
                    p["metadata"]["name"]
                        .as_str()
                        .is_some_and(|n| n.starts_with(name))
                        && picture::is_ready(p)
                });
                (ready.count() == count).then_some(())
            })
            .await;
    }
}

fn pod(name: &str, node: &str, image: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{
            "name": "app", "image": image,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        }]},
    })
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "hello-edge", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "hello-edge"}},
            "template": {
                "metadata": {"labels": {"app": "hello-edge"}},
                "spec": {
                    "nodeSelector": {"flightctl.io/fleet": "edge-fleet-1"},
                    "containers": [{
                        "name": "hello", "image": "gcr.io/google-samples/hello-app:1.0",
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                    }],
                },
            },
        },
    })
}
