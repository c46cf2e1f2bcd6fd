//! A node's HTTPS API, as a kubelet's: logs, pods, health and measurements.
//!
//! ```text
//! API server ──TLS──▶ connection ──▶ request ──▶ auth ──▶ route ──▶ logs, pods, stats …
//!                          └─ behind an upgrade ─▶ streams ──▶ exec, attach, port-forward
//! ```
//!
//! Each node has a listener of its own (`node`), on a port of a range (`ports`)
//! which the Node tells. `route`, the readers of queries and the writers of
//! answers are pure; `auth` asks Kubernetes and remembers; `certificate` keeps
//! what the listener shows; `pulse` and `limits` bound everything.
//!
//! # Guarantees
//! Nothing is answered to a client that Kubernetes does not know and allow; where
//! Kubernetes cannot be asked, that is an error, never a yes. What the backend
//! cannot do is answered 501 with a sentence. No request has a body, and a
//! connection ends with one that does.
//!
//! # Tasks
//! Per node the listener and its certificate; per connection one, which goes on as
//! its session behind an upgrade; for the process one that reads the cluster's client CA.

mod answer;
mod auth;
mod certificate;
mod configz;
mod connection;
mod counters;
mod health;
mod limits;
mod line;
mod logs;
mod node;
mod pods;
mod ports;
mod pulse;
mod query;
mod request;
mod route;
mod settings;
mod stats;
mod streams;
mod telling;
mod tls;

use std::sync::Arc;

use kube::Client;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use vk_provider::{Backend, Clock};

use self::auth::Auth;
use self::counters::Counters;
pub(crate) use self::node::NodeApi;
use self::pulse::Connections;
pub use self::settings::{ApiSettings, ClientCa, ServingCertificate};
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::table::Table;

/// What the APIs of all nodes share.
pub(crate) struct Shared {
    settings: ApiSettings,
    client: Client,
    backend: Arc<dyn Backend>,
    table: Table,
    queue: Queue,
    metrics: Metrics,
    clock: Clock,
    auth: Auth,
    connections: Arc<Connections>,
    sessions: Arc<Semaphore>,
    counters: Counters,
}

/// The APIs of all nodes of a process; clones share everything.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

impl Api {
    pub(crate) fn new(
        settings: ApiSettings,
        client: Client,
        backend: Arc<dyn Backend>,
        table: Table,
        queue: Queue,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        let auth = Auth::new(client.clone(), settings.client_ca.clone(), clock.clone());
        Self(Arc::new(Shared {
            connections: Connections::new(settings.connections),
            sessions: Arc::new(Semaphore::new(limits::sessions(settings.connections))),
            counters: Counters::new(&metrics),
            auth,
            settings,
            client,
            backend,
            table,
            queue,
            metrics,
            clock,
        }))
    }

    /// The address that nodes tell, if it is given.
    pub(crate) fn address(&self) -> Option<std::net::IpAddr> {
        self.0.settings.address
    }

    /// Listens for a node.
    ///
    /// # Errors
    /// No port is to be had, in a sentence for whoever runs the node: it is then one
    /// without an API.
    pub(crate) fn open(&self, node: &str, leadership: &Leadership) -> Result<Arc<NodeApi>, String> {
        let ApiSettings { bind, ports, .. } = &self.0.settings;
        let opened = ports::listen(*bind, ports, node)
            .and_then(|door| NodeApi::new(self.0.clone(), node, door, leadership.clone()));
        match opened {
            Ok(api) => {
                info!(node, port = api.port(), "serving the node's kubelet API");
                Ok(Arc::new(api))
            }
            Err(error) => {
                let (first, last) = (ports.start(), ports.end());
                let message = format!(
                    "no port of {bind}:{first}-{last} could be opened ({error}): kubectl logs, exec \
                     and port-forward do not work on this node; give the kubelet API more ports (its \
                     setting `ports`)"
                );
                error!(node, message);
                Err(message)
            }
        }
    }

    /// Keeps what all nodes share until `stop`.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        self.0.auth.keep_authorities(&stop).await;
    }
}
