//! One node's listener.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use vk_provider::NodeFacts;

use super::limits::{ACCEPT_AGAIN, KEEP_ALIVE, KEEP_ALIVE_TRIES};
use super::route::InPod;
use super::tls::Shown;
use super::{Shared, certificate, connection, tls};
use crate::leadership::Leadership;
use crate::node::NodeSettings;

/// The node takes WebSockets as clients send them; to others the API server speaks
/// SPDY in their place (pkg/registry/core/pod/rest/subresources.go, from 1.36 on).
/// One name for exec, attach and port-forward.
const WEBSOCKETS: &str = "ExtendWebSocketsToKubelet";

/// The API of one node: what its requests are answered from.
pub(crate) struct NodeApi {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    pub(super) port: u16,
    pub(super) leadership: Leadership,
    listener: TcpListener,
    shown: Arc<Shown>,
}

impl std::fmt::Debug for NodeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeApi")
            .field("name", &self.name)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl NodeApi {
    pub(super) fn new(
        shared: Arc<Shared>,
        name: &str,
        listener: std::net::TcpListener,
        leadership: Leadership,
    ) -> std::io::Result<Self> {
        Ok(Self {
            shared,
            name: name.into(),
            port: listener.local_addr()?.port(),
            leadership,
            listener: TcpListener::from_std(listener)?,
            shown: Arc::default(),
        })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Features of Kubernetes that a node with this API declares.
    pub(crate) fn features(&self) -> BTreeSet<String> {
        let backend = &self.shared.backend;
        let streams = backend.exec().is_some()
            || backend.attach().is_some()
            || backend.port_forward().is_some();
        streams.then(|| WEBSOCKETS.into()).into_iter().collect()
    }

    /// The pod of this name that is bound to the node.
    pub(super) fn pod(&self, place: InPod<'_>) -> Option<Arc<Pod>> {
        let table = &self.shared.table;
        table.named(&self.name, place.namespace, place.pod)
    }

    /// Serves until `stop`, with a certificate for the node's addresses. May be
    /// run again when it has ended: the listener stays.
    pub(crate) async fn serve(
        self: Arc<Self>,
        settings: NodeSettings,
        facts: watch::Receiver<NodeFacts>,
        stop: CancellationToken,
    ) {
        let config = match tls::config(self.shown.clone()) {
            Ok(config) => config,
            Err(error) => {
                // The versions are built in.
                warn!(%error, "TLS cannot be set up: the node has no API");
                return stop.cancelled().await;
            }
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let certifying = certificate::keep(&self.shared, &settings, &self.shown, facts, &stop);
        tokio::join!(certifying, self.accept(acceptor, &stop));
    }

    async fn accept(self: &Arc<Self>, acceptor: TlsAcceptor, stop: &CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    debug!(node = &*self.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let (connections, counters) = (&self.shared.connections, &self.shared.counters);
            let Some(place) = connections.admit() else {
                counters.refused();
                continue;
            };
            counters.connections(connections.len());
            prepare(&socket);
            let (api, acceptor, stop) = (self.clone(), acceptor.clone(), stop.clone());
            tasks.spawn(async move {
                let shared = api.shared.clone();
                connection::serve(api, socket, acceptor, place, stop).await;
                shared.counters.connections(shared.connections.len());
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

/// Bytes go at once, and a peer that is gone is noticed: a log may be quiet for
/// hours. A system without these options serves without them.
fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let probes = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE)
        .with_retries(KEEP_ALIVE_TRIES);
    let _ = SockRef::from(socket).set_tcp_keepalive(&probes);
}
