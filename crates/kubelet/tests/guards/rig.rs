//! The sandbox's world with a kubelet over an [`Around`], and a client whose
//! requests a test may meet on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body as Answer;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Response, StatusCode};
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::{Host, InputSettings, Settings};
use vk_provider::Grace;
use vk_sandbox::kubernetes::Cluster;

use crate::around::Around;
use crate::sandboxed;
use crate::suite::world::{World, node_settings};

/// Meets a request before the API server does; an answer stops it there.
pub type Meet = Arc<dyn Fn(&Parts) -> BoxFuture<'static, Option<Response<Answer>>> + Send + Sync>;

pub struct Rig {
    pub world: World,
    pub cluster: Cluster,
    pub backend: Arc<Around>,
    pub metrics: Metrics,
    kubelet: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Rig {
    /// A world whose kubelet has not started yet.
    pub async fn stopped() -> Self {
        let (mut world, cluster) = sandboxed::world().await;
        world.stop().await;
        let backend = Around::new(world.remote.backend(), Grace::Exact);
        Self {
            world,
            cluster,
            backend,
            metrics: Metrics::default(),
            kubelet: None,
        }
    }

    pub async fn running() -> Self {
        let mut rig = Self::stopped().await;
        rig.start(rig.world.client.clone());
        rig
    }

    /// A kubelet behind whose client `meet` stands.
    pub async fn met(meet: Meet) -> Self {
        let mut rig = Self::stopped().await;
        let client = meeting(&rig.cluster, meet);
        rig.start(client);
        rig
    }

    pub fn start(&mut self, client: Client) {
        let clock = self.world.clock.clone();
        let settings = Settings {
            client: client.clone(),
            lease_client: client.clone(),
            node: node_settings("default"),
            inputs: InputSettings::default(),
            api: None,
            events: Recorder::start(client, "vk-memory", &self.metrics, clock.clone()),
            metrics: self.metrics.clone(),
            clock,
        };
        let stop = CancellationToken::new();
        let host = Host::new(settings, self.backend.clone());
        self.kubelet = Some((stop.clone(), tokio::spawn(host.run(stop))));
    }

    pub async fn stop(&mut self) {
        if let Some((stop, task)) = self.kubelet.take() {
            stop.cancel();
            task.await.unwrap();
        }
    }

    /// How often an event with this reason was told.
    pub async fn events(&self, reason: &str) -> i32 {
        let events: Api<Event> = Api::namespaced(self.world.client.clone(), "default");
        let all = events.list(&ListParams::default()).await.unwrap();
        let told = all.iter().filter(|e| e.reason.as_deref() == Some(reason));
        told.map(|e| e.count.unwrap_or(1)).sum()
    }
}

pub async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

/// A request that arrived goes on even if nobody waits for its answer any more.
fn meeting(cluster: &Cluster, meet: Meet) -> Client {
    let http: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .build(cluster.endpoint().connector());
    let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.test/")).layer(http);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (base, meet) = (base.clone(), meet.clone());
        let answer = tokio::spawn(async move {
            let (parts, body) = request.into_parts();
            if let Some(answer) = meet(&parts).await {
                return Ok(answer);
            }
            let answer = base.oneshot(http::Request::from_parts(parts, body)).await;
            answer.map(|answer| answer.map(Answer::new))
        });
        async move { answer.await.unwrap() }
    });
    Client::new(service, "default")
}

/// Whether this is the first request of this method for the path of this end.
pub fn first(method: &'static str, end: &'static str) -> impl Fn(&Parts) -> bool {
    let spent = AtomicBool::new(false);
    move |parts| {
        parts.method == method
            && parts.uri.path().ends_with(end)
            && !spent.swap(true, Ordering::SeqCst)
    }
}

/// What a proxy says when it does not know the way.
pub fn bare_404() -> Response<Answer> {
    let mut answer = Response::new(Answer::from(b"404 page not found\n".to_vec()));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
