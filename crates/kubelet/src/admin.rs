//! `/healthz`, `/readyz` and `/metrics`, for probes and Prometheus.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Whether the process does its work, and why not; clones share it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Not ready yet, for this reason.
    pub fn waiting(reason: &str) -> Self {
        Self(Arc::new(Mutex::new(Some(reason.into()))))
    }

    /// Ready from now on.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Not ready, for this reason.
    pub fn not_ready(&self, reason: &str) {
        self.set(Some(reason.into()));
    }

    /// The reason, while not ready.
    pub fn reason(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// The routes.
pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(text).with_state(metrics))
}

/// Serves until `stop`; a request under way may finish.
///
/// # Errors
/// The listener failed.
pub async fn run(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let serving = serve(listener, router(metrics, readiness));
    tokio::select! {
        // Keep-alive connections of a scraper would hold a graceful end up.
        () = stop.cancelled() => Ok(()),
        ended = std::future::IntoFuture::into_future(serving) => ended,
    }
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.reason() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)],
        metrics.text(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readyz_tells_why_not_until_ready_and_the_rest_answers_always() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, stop) = (Metrics::new("mock", "1"), CancellationToken::new());
        let readiness = Readiness::waiting("no node is registered yet");
        let serving = tokio::spawn(run(listener, metrics, readiness.clone(), stop.clone()));

        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("no node is registered yet"), "{answer}");
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));

        readiness.ready();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        readiness.not_ready("draining");
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));

        let metrics = get(address, "/metrics").await;
        assert!(
            metrics.contains("content-type: application/openmetrics-text"),
            "{metrics}"
        );
        assert!(metrics.contains("virtual_kubelet_build_info"), "{metrics}");

        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
