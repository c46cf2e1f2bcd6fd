//! A kubelet process of a test's own making: cut off, silenced, or beside another.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Method, Request};
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};
use virtual_kubelet::events::Recorder;
use virtual_kubelet::leadership::Leadership;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::{Host, InputSettings, Settings, Shutdown, Undrained};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, Clock, Listing, NodeSet, PodCx, PodKey, PodRequest,
};
use vk_sandbox::kubernetes::Cluster;

use crate::suite::memory::Remote;
use crate::suite::world::node_settings;

/// A running process.
pub struct Process {
    pub line: Line,
    pub backend: Arc<Reached>,
    pub leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Undrained>>,
}

impl Process {
    /// Starts one; `change` sees its settings first.
    pub fn start(
        cluster: &Cluster,
        remote: &Remote,
        clock: &Clock,
        answers: bool,
        change: impl FnOnce(&mut NodeSettings),
    ) -> Self {
        Self::start_ending(cluster, remote, clock, answers, Shutdown::Keep, change)
    }

    /// Starts one that ends like this.
    pub fn start_ending(
        cluster: &Cluster,
        remote: &Remote,
        clock: &Clock,
        answers: bool,
        shutdown: Shutdown,
        change: impl FnOnce(&mut NodeSettings),
    ) -> Self {
        let line = Line::default();
        let client = line.client(cluster);
        let metrics = Metrics::default();
        let mut node = node_settings("default");
        change(&mut node);
        let settings = Settings {
            client: client.clone(),
            lease_client: line.client(cluster),
            node,
            inputs: InputSettings::default(),
            api: None,
            events: Recorder::start(client, "vk-memory", &metrics, clock.clone()),
            metrics,
            clock: clock.clone(),
        };
        let backend = Arc::new(Reached {
            remote: remote.clone(),
            answers: watch::Sender::new(answers),
            line: line.clone(),
        });
        let host = Host::new(settings, backend.clone());
        let (leadership, stop) = (host.leadership(), CancellationToken::new());
        let task = tokio::spawn(host.run_until(stop.clone(), shutdown));
        Self {
            line,
            backend,
            leadership,
            stop,
            task,
        }
    }

    /// Ends it as SIGTERM does.
    pub async fn end(self) {
        self.stop.cancel();
        let ended = timeout(Duration::from_secs(5), self.task).await;
        ended.expect("ends within 5 s").unwrap().unwrap();
    }

    /// Asks it to end, and waits as long as it takes.
    pub async fn ended(self) -> Result<(), Undrained> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// What goes out of a process: it can be held up, and is written down.
#[derive(Clone, Debug)]
pub struct Line {
    held: watch::Sender<bool>,
    writes: Arc<Mutex<Vec<String>>>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            held: watch::Sender::new(false),
            writes: Arc::default(),
        }
    }
}

impl Line {
    /// Nothing passes from now on, in either direction, until it is let go.
    pub fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// Writes that left the process, in order.
    pub fn writes(&self) -> Vec<String> {
        self.writes.lock().unwrap().clone()
    }

    async fn passes(&self) {
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    fn note(&self, what: String) {
        self.writes.lock().unwrap().push(what);
    }

    fn client(&self, cluster: &Cluster) -> Client {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .build(cluster.endpoint().connector());
        let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.test/")).layer(http);
        let line = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (base, line) = (base.clone(), line.clone());
            async move {
                line.passes().await;
                if request.method() != Method::GET {
                    line.note(format!("{} {}", request.method(), request.uri().path()));
                }
                let answer = base.oneshot(request).await;
                line.passes().await;
                answer
            }
        });
        Client::new(service, "default")
    }
}

/// The remote, which may not answer, over the process's line.
#[derive(Debug)]
pub struct Reached {
    remote: Remote,
    pub answers: watch::Sender<bool>,
    line: Line,
}

impl Reached {
    async fn call(&self, what: Option<String>) -> Result<(), BackendError> {
        if !*self.answers.borrow() {
            return Err(BackendError::Unavailable {
                message: "no answer".into(),
                retry: None,
            });
        }
        self.line.passes().await;
        if let Some(what) = what {
            self.line.note(what);
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Reached {
    fn capabilities(&self) -> &Capabilities {
        self.remote.capabilities()
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        let (mut answers, remote) = (self.answers.subscribe(), self.remote.clone());
        stream::once(async move {
            let _ = answers.wait_for(|answers| *answers).await;
            remote.nodes()
        })
        .flatten()
        .boxed()
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        self.call(Some(format!("ensure {}", pod.key.name))).await?;
        self.remote.ensure(pod, cx).await
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        self.call(Some(format!("stop {}", pod.name))).await?;
        self.remote.stop(pod, grace).await
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        self.call(Some(format!("release {}", pod.name))).await?;
        self.remote.release(pod).await
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        self.call(None).await?;
        self.remote.list().await
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let line = self.line.clone();
        let changes = self.remote.changes();
        changes
            .then(move |change| {
                let line = line.clone();
                async move {
                    line.passes().await;
                    change
                }
            })
            .boxed()
    }
}
