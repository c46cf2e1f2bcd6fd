//! System A's story in one process: no cluster, no Flight Control, no device.
//!
//! The sandbox's Kubernetes API and Flight Control, four simulated devices in
//! two fleets, and the real provider between them, on the live clock. In a
//! terminal a picture of nodes, devices and pods is kept up to date; otherwise
//! one line a step is printed. With `--keep` it all stays, for kubectl.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    reason = "modules of one test or example"
)]

mod keep;
mod picture;

use std::net::Ipv4Addr;
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
use virtual_kubelet::ApiSettings;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::config::{ClusterAgents, default_rules};
use vk_flightctl::console::Consoles;
use vk_flightctl::run::{Parts, run};
use vk_provider::Clock;
use vk_sandbox::flightctl::{Device, DeviceSpec, FlightControl, Options, Script};
use vk_sandbox::kubernetes::Cluster;

use keep::Open;
use picture::Picture;

/// The story is told well within a minute; a step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Simulated agents report this often; real ones every 60 s by default, and
/// operators are asked for 10 s.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// Between two lines of a container's log, and how many there are.
const REQUEST: Duration = Duration::from_secs(2);
const REQUESTS: usize = 1000;

/// Long enough to see that nothing happens.
const AWAY: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::new(vk_sandbox::clock::Clock::live());
    let mut open = match std::env::args().nth(1).as_deref() {
        None => None,
        Some("--keep") => Some(Open::new(&cluster).await?),
        Some(other) => anyhow::bail!("{other:?} is not known; the only option is --keep"),
    };
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
    devices.iter().for_each(|device| device.script(chatter()));
    let stop = CancellationToken::new();
    let provider = tokio::spawn(run(parts(&cluster, &flightctl), stop.clone()));

    let story = Story {
        cluster: cluster.clone(),
        picture: Picture::new(cluster, devices.clone()),
    };
    let told = tokio::select! {
        told = tell(&story, &devices, open.as_mut()) => told,
        ended = provider => {
            ended??;
            anyhow::bail!("the provider ended before the story did")
        }
    };
    stop.cancel();
    drop(controllers);
    match open {
        Some(open) => told.and(open.close().await),
        None => told,
    }
}

/// The story; then, where it stays open, whatever the user does.
async fn tell(story: &Story, devices: &[Device], open: Option<&mut Open>) -> Result<()> {
    let Some(open) = open else {
        return story.tell(devices).await;
    };
    tokio::select! {
        told = story.tell(devices) => told?,
        () = open.signalled() => return Ok(()),
    }
    open.invite();
    open.signalled().await;
    Ok(())
}

fn device(number: usize, fleet: &str) -> DeviceSpec {
    let mut spec = DeviceSpec::new(&format!("device-{number}")).label("fleet", fleet);
    spec.cpu_cores = Some(4);
    spec.memory_kb = Some(8 * 1024 * 1024);
    spec.address = Some(format!("10.42.0.{number}/24"));
    spec.status_interval = STATUS_INTERVAL;
    spec
}

/// What every container writes, for `kubectl logs`.
fn chatter() -> Script {
    let begun = [
        "a simulated container: no image was pulled",
        "ready to serve",
    ];
    let requests: Vec<String> = (1..=REQUESTS)
        .map(|number| format!("GET / 200 (request {number})"))
        .collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    Script::any()
        .prints(Duration::from_millis(10), &begun)
        .prints(REQUEST, &requests)
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
        metrics: vk_flightctl::run::metrics(),
        flightctl: Client::new(
            Http::builder(TokioExecutor::new()).build(flightctl.endpoint().connector()),
            &http::Uri::from_static("http://flightctl.demo/"),
            TokenSource::fixed("demo"),
        ),
        rules,
        poll: Duration::from_secs(5),
        cluster_agents: ClusterAgents::default(),
        workloads: Default::default(),
        kubelet_api: Some(kubelet_api()),
        // Off by default: it is root on the device.
        consoles: Consoles {
            enabled: true,
            ..Consoles::default()
        },
        clock: Clock::live(),
        identity: None,
        listener: None,
    }
}

/// On loopback, where the sandbox's API server reaches it.
fn kubelet_api() -> ApiSettings {
    let loopback = Ipv4Addr::LOCALHOST.into();
    ApiSettings {
        bind: loopback,
        address: Some(loopback),
        ..ApiSettings::new(0..=0)
    }
}

struct Story {
    cluster: Cluster,
    picture: Picture,
}

impl Story {
    async fn tell(&self, devices: &[Device]) -> Result<()> {
        let begun = Instant::now();
        self.step(
            "two fleets of devices appear as two nodes, beside one for devices of no fleet",
            async {
                self.cluster
                    .until(|c| {
                        let nodes = c.list_values("nodes", None);
                        let fleets = nodes
                            .iter()
                            .filter(|n| n["metadata"]["labels"]["flightctl.io/fleet"].is_string());
                        (fleets.count() == 2).then_some(())
                    })
                    .await;
            },
        )
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

        self.cut_off_and_delete(&devices[3]).await?;

        let mut fewer: Deployment = self
            .cluster
            .get("default", "hello-edge")
            .context("the Deployment is there")?;
        if let Some(spec) = &mut fewer.spec {
            spec.replicas = Some(2);
        }
        self.cluster
            .update(&fewer)
            .context("the scaling is refused")?;
        self.step(
            "kubectl scale --replicas=2: one pod ends on its device, then leaves Kubernetes",
            async {
                self.cluster
                    .until(|c| (c.list_values("pods", Some("default")).len() == 2).then_some(()))
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

    /// A pod is deleted while its device cannot hear of it.
    async fn cut_off_and_delete(&self, device: &Device) -> Result<()> {
        let name = device.name();
        self.picture.link(device, false);
        self.picture
            .say(&format!("{name} is cut off: its container runs on, Flight Control itself notices after five minutes"))
            .await;
        self.cluster
            .delete::<Pod>("default", "nginx-edge", None)
            .context("the delete is refused")?;
        self.step(
            &format!("kubectl delete: the pod stays Terminating while it may run on {name}"),
            tokio::time::sleep(AWAY),
        )
        .await?;
        let pod = |c: &Cluster| c.get_value("pods", "default", "nginx-edge");
        anyhow::ensure!(pod(&self.cluster).is_some(), "the pod was called gone");
        anyhow::ensure!(!device.applications().is_empty(), "{name} was reached");
        self.picture.link(device, true);
        self.step(
            &format!("{name} is back: the container ends there, then the pod is gone"),
            async {
                self.cluster.until(|c| pod(c).is_none().then_some(())).await;
            },
        )
        .await?;
        anyhow::ensure!(device.applications().is_empty(), "{name} still runs it");
        Ok(())
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
