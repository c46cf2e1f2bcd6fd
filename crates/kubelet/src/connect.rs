//! A Kubernetes client whose requests share connections.
//!
//! kube speaks HTTP/1.1, where every watch holds a connection for itself: 500
//! nodes hold a thousand. Here HTTP/2 is offered; a server that has only
//! HTTP/1.1 is spoken to as before.
//!
//! A server answers only so many requests at once on one connection
//! (Kubernetes: 100). hyper has one connection per client and lets what is
//! beyond wait, and watches do not end: they would keep everything else out for
//! ever. So watches are dealt out over connections of their own, as many as it
//! takes, and everything else has the first.
//!
//! # Guarantees
//! A connection on which nothing arrives for `PING_EVERY` and
//! `PING_DEADLINE` together is given up, with everything on it: long before a
//! lease runs out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, ServiceBuilder};

/// Watches on one connection: well below the 100 of Kubernetes and the 128 of
/// common load balancers.
const WATCHES: usize = 64;
/// A quiet connection is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Without one for so long it is given up: with [`PING_EVERY`] this leaves a
/// lease of 40 s several tries on a new one.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// A client for what `config` names, with connections of its own and, as the
/// framework wants it, without automatic retries.
///
/// # Errors
/// The credentials or certificates cannot be used.
pub fn connect(config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        // kube's own way, or its error where it was built without.
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let Ok(name) = name.clone().try_into() else {
            // It refuses the name with the right words.
            return Client::try_from(config);
        };
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = builder.enable_all_versions().wrap_connector(tcp);
    let lanes = Lanes::new(move || {
        Hyper::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_DEADLINE)
            .http2_keep_alive_while_idle(true)
            .build(connector.clone())
    });
    let sending = tower::service_fn(move |request: Request<Body>| {
        let (lane, place) = lanes.choose(is_watch(&request));
        async move {
            let answer = lane.request(request).await.map_err(BoxError::from)?;
            Ok::<_, BoxError>(answer.map(|body| Placed {
                body,
                _place: place,
            }))
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

/// Clients of one connection each.
struct Lanes<T> {
    make: Box<dyn Fn() -> T + Send + Sync>,
    first: T,
    watches: Mutex<Vec<(T, Arc<Semaphore>)>>,
}

impl<T: Clone> Lanes<T> {
    fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            first: make(),
            make: Box::new(make),
            watches: Mutex::default(),
        })
    }

    /// Where a request goes, and its place there.
    fn choose(&self, watch: bool) -> (T, Option<OwnedSemaphorePermit>) {
        if !watch {
            return (self.first.clone(), None);
        }
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

/// An answer that holds its place until it is read to the end or dropped.
struct Placed<B> {
    body: B,
    _place: Option<OwnedSemaphorePermit>,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Placed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn watches_fill_connections_of_their_own_and_leave_their_places_again() {
        let made = AtomicUsize::new(0);
        let lanes = Lanes::new(move || made.fetch_add(1, Ordering::SeqCst));
        let mut watches: Vec<_> = (0..WATCHES).map(|_| lanes.choose(true)).collect();
        assert!(
            watches
                .iter()
                .all(|(lane, place)| *lane == 1 && place.is_some())
        );
        let (next, _place) = lanes.choose(true);
        assert_eq!(next, 2, "the first is full");
        for _ in 0..2 * WATCHES {
            assert_eq!(lanes.choose(false).0, 0, "never behind watches");
        }
        watches.pop();
        assert_eq!(lanes.choose(true).0, 1, "one has ended");
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
