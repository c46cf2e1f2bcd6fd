//! The memory backend with what it has not: commands and measurements. And a
//! process that serves a node of it with an API.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kube::Client;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::{ApiSettings, Host, InputSettings, ServingCertificate, Settings};
use vk_provider::facts::ContainerState;
use vk_provider::stats::{ContainerStats, Cpu, Memory, NodeStats, PodStats, Stats, Usage};
use vk_provider::streams::{Exec, ExecRequest, Exit, ProcessIo};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, Clock, Listing, NodeSet, PodCx, PodKey, PodRequest,
};

use crate::harness::control_plane::ControlPlane;
use crate::suite::memory::Remote;
use crate::suite::world::node_settings;

/// Of a core, what each container uses.
pub const MILLI_CORES: u64 = 250;
/// What each container has in memory.
pub const MEBIBYTES: u64 = 64;

#[derive(Clone, Debug)]
pub struct Able {
    pub remote: Remote,
    pub clock: Clock,
    /// Whether it runs commands.
    pub streams: bool,
}

#[async_trait]
impl Backend for Able {
    fn capabilities(&self) -> &Capabilities {
        self.remote.capabilities()
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        self.remote.nodes()
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        self.remote.ensure(pod, cx).await
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        self.remote.stop(pod, grace).await
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        self.remote.release(pod).await
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        self.remote.list().await
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        self.remote.changes()
    }

    fn exec(&self) -> Option<&dyn Exec> {
        self.streams.then_some(self)
    }

    fn stats(&self) -> Option<&dyn Stats> {
        Some(self)
    }
}

#[async_trait]
impl Exec for Able {
    async fn exec(&self, _request: &ExecRequest, mut io: ProcessIo) -> Result<Exit, BackendError> {
        if let Some(out) = &mut io.stdout {
            // Who has gone reads nothing.
            let _ = out.write_all(b"hello\n").await;
            let _ = out.shutdown().await;
        }
        Ok(Exit::Code(0))
    }
}

#[async_trait]
impl Stats for Able {
    async fn stats(&self, node: &str) -> Result<NodeStats, BackendError> {
        let now = self.clock.now();
        let usage = |spent: u64, containers: u64| Usage {
            cpu: Some(Cpu {
                at: now,
                total_nanos: Some(spent),
                nano_cores: Some(containers * MILLI_CORES * 1_000_000),
            }),
            memory: Some(Memory {
                at: now,
                working_set: Some((containers * MEBIBYTES) << 20),
                usage: None,
                rss: None,
                available: None,
            }),
        };
        let mut whole = NodeStats::default();
        let listed = self.remote.list().await?.pods;
        for facts in listed.iter().filter(|facts| &*facts.node == node) {
            let mut containers = Vec::new();
            for container in &facts.containers {
                let ContainerState::Running {
                    started_at: Some(since),
                } = &container.state
                else {
                    continue;
                };
                let ran = u64::try_from(now.duration_since(*since).as_nanos()).unwrap_or(0);
                containers.push(ContainerStats {
                    name: container.name.to_string(),
                    started_at: Some(*since),
                    usage: usage(ran / 1000 * MILLI_CORES, 1),
                });
            }
            whole.pods.push(PodStats {
                key: facts.key.clone(),
                started_at: containers.first().and_then(|c| c.started_at),
                usage: Usage::default(),
                containers,
            });
        }
        let spent = whole.pods.iter().flat_map(|pod| &pod.containers);
        let spent = spent.filter_map(|c| c.usage.cpu?.total_nanos).sum();
        // A node uses something however idle it is, or it was not measured.
        whole.usage = usage(spent, whole.pods.len() as u64 + 1);
        Ok(whole)
    }
}

/// A running process.
pub struct Process {
    pub metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    /// Serves the nodes of a backend, with a certificate that the API server takes.
    pub fn start(plane: &ControlPlane, client: &Client, backend: Able, instance: &str) -> Self {
        let (metrics, clock) = (Metrics::default(), backend.clock.clone());
        let loopback = [127, 0, 0, 1].into();
        let settings = Settings {
            client: client.clone(),
            lease_client: client.clone(),
            node: node_settings(instance),
            inputs: InputSettings::default(),
            api: Some(ApiSettings {
                bind: loopback,
                address: Some(loopback),
                certificate: ServingCertificate::Files {
                    certificate: plane.folder().join("server.crt"),
                    key: plane.folder().join("server.key"),
                },
                ..ApiSettings::new(0..=0)
            }),
            events: Recorder::start(client.clone(), "vk-able", &metrics, clock.clone()),
            metrics: metrics.clone(),
            clock,
        };
        let host = Host::new(settings, Arc::new(backend));
        let stop = CancellationToken::new();
        let task = tokio::spawn(host.run(stop.clone()));
        Self {
            metrics,
            stop,
            task,
        }
    }

    /// Ends it as SIGTERM does.
    pub async fn end(self) {
        self.stop.cancel();
        let ended = timeout(Duration::from_secs(5), self.task).await;
        ended.expect("ends within 5 s").unwrap();
    }
}
