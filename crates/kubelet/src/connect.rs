//! A Kubernetes client whose requests share connections.
//!
//! kube speaks HTTP/1.1, where every watch holds a connection for itself: 500
//! nodes hold a thousand. Here watches are offered HTTP/2; a server that has
//! only HTTP/1.1 is spoken to as before.
//!
//! A server answers only so many requests at once on one connection
//! (Kubernetes: 100). hyper has one connection per client and lets what is
//! beyond wait, and watches do not end. So they are dealt out over connections
//! of 64 each, as many as it takes.
//!
//! Everything else is short and stays with HTTP/1.1, on as few connections as
//! are busy at once: a burst of writes over one HTTP/2 connection took a fifth
//! more processor time and came seconds late.
//!
//! # Guarantees
//! A connection of watches on which nothing arrives for `PING_EVERY` and
//! `PING_DEADLINE` together is given up, with everything on it: long before a
//! lease runs out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, ServiceBuilder};

use crate::holding::Holding;
use crate::metrics::Metrics;

/// Watches on one connection: well below the 100 of Kubernetes and the 128 of
/// common load balancers.
const WATCHES: usize = 64;
/// Short requests at once, and so their connections: more than the framework's
/// writes, and 500 nodes that register or renew at once come in turn.
const SHORT: usize = 64;
/// A quiet connection is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Without one for so long it is given up: with [`PING_EVERY`] this leaves a
/// lease of 40 s several tries on a new one.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// A client for what `config` names, with connections of its own and, as the
/// framework wants it, without automatic retries. `metrics` counts its requests, but
/// for those through a proxy.
///
/// # Errors
/// The credentials or certificates cannot be used.
pub fn connect(config: Config, metrics: &Metrics) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        // kube's own way, or its error where it was built without.
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_client_config()?;
    let resolver = || {
        let name = config.tls_server_name.clone()?.try_into().ok()?;
        Some(FixedServerNameResolver::new(name))
    };
    if config.tls_server_name.is_some() && resolver().is_none() {
        // It refuses the name with the right words.
        return Client::try_from(config);
    }
    let https = || {
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http();
        match resolver() {
            Some(resolver) => builder.with_server_name_resolver(resolver),
            None => builder,
        }
    };
    let short = https().enable_http1().wrap_connector(tcp.clone());
    let long = https().enable_all_versions().wrap_connector(tcp);
    let client = |connector| {
        Hyper::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_DEADLINE)
            .http2_keep_alive_while_idle(true)
            .build(connector)
    };
    let requests = metrics.requests().clone();
    let lanes = Lanes::new(client(short), move || client(long.clone()));
    let sending = tower::service_fn(move |request: Request<Body>| {
        let (lanes, requests) = (lanes.clone(), requests.clone());
        async move {
            let (lane, place) = lanes.choose(is_watch(&request)).await;
            let under_way = requests.begin(request.method());
            let answer = lane.request(request).await.map_err(BoxError::from)?;
            under_way.answered(answer.status());
            Ok::<_, BoxError>(answer.map(|body| Holding::new(body, place)))
        }
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(sending);
    Ok(Client::new(service, config.default_namespace.clone()))
}

fn is_watch<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query
        .split('&')
        .any(|part| matches!(part, "watch=true" | "watch=1"))
}

/// One client for short requests, and for watches those of one connection each.
struct Lanes<T> {
    make: Box<dyn Fn() -> T + Send + Sync>,
    short: (T, Arc<Semaphore>),
    watches: Mutex<Vec<(T, Arc<Semaphore>)>>,
}

impl<T: Clone> Lanes<T> {
    fn new(short: T, make: impl Fn() -> T + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            short: (short, Arc::new(Semaphore::new(SHORT))),
            make: Box::new(make),
            watches: Mutex::default(),
        })
    }

    /// Where a request goes, and its place there.
    async fn choose(&self, watch: bool) -> (T, Option<OwnedSemaphorePermit>) {
        if watch {
            return self.choose_for_watch();
        }
        let (lane, places) = &self.short;
        // The semaphore is never closed.
        (lane.clone(), places.clone().acquire_owned().await.ok())
    }

    fn choose_for_watch(&self) -> (T, Option<OwnedSemaphorePermit>) {
        let mut lanes = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for (lane, places) in &*lanes {
            if let Ok(place) = places.clone().try_acquire_owned() {
                return (lane.clone(), Some(place));
            }
        }
        let (lane, places) = ((self.make)(), Arc::new(Semaphore::new(WATCHES)));
        lanes.push((lane.clone(), places.clone()));
        (lane, places.try_acquire_owned().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn watches_fill_connections_of_their_own_and_leave_their_places_again() {
        let made = AtomicUsize::new(1);
        let lanes = Lanes::new(0, move || made.fetch_add(1, Ordering::SeqCst));
        let mut watches: Vec<_> = (0..WATCHES).map(|_| lanes.choose_for_watch()).collect();
        assert!(
            watches
                .iter()
                .all(|(lane, place)| *lane == 1 && place.is_some())
        );
        let (next, _place) = lanes.choose_for_watch();
        assert_eq!(next, 2, "the first is full");
        watches.pop();
        assert_eq!(lanes.choose_for_watch().0, 1, "one has ended");
    }

    #[test]
    fn short_requests_wait_for_each_other_and_for_no_watch() {
        let lanes = Lanes::new(0, || 1);
        let _watches: Vec<_> = (0..2 * SHORT).map(|_| lanes.choose_for_watch()).collect();
        let choose = || lanes.choose(false).now_or_never();
        let mut short: Vec<_> = (0..SHORT).map(|_| choose().unwrap()).collect();
        assert!(short.iter().all(|(lane, _)| *lane == 0));
        assert!(choose().is_none(), "all places are taken");
        short.pop();
        assert!(choose().is_some());
    }

    #[test]
    fn a_watch_is_told_by_its_query() {
        let of = |uri: &str| is_watch(&Request::get(uri).body(()).unwrap());
        assert!(of("/api/v1/pods?&watch=true&timeoutSeconds=290"));
        assert!(of("/api/v1/pods?watch=1"));
        assert!(!of("/api/v1/pods?fieldSelector=a%3Db"));
        assert!(!of("/api/v1/pods"));
    }
}
