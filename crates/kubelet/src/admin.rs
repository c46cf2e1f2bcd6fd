//! `/healthz`, `/readyz` and `/metrics`, for probes and Prometheus.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::leadership::Leadership;
use crate::metrics::Metrics;

/// Whether the process does its work, and why not; clones share it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    waits: Option<String>,
    note: Option<String>,
}

impl Readiness {
    /// Not ready yet, for this reason.
    pub fn waiting(reason: &str) -> Self {
        Self(Arc::new(Mutex::new(State {
            waits: Some(reason.into()),
            note: None,
        })))
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
        self.lock().waits.clone()
    }

    /// What `/readyz` says beside `ok`. A standby is ready: a rolling update waits
    /// for that before it ends the process it stands by for.
    pub fn note(&self, note: Option<String>) {
        self.lock().note = note;
    }

    fn set(&self, reason: Option<String>) {
        self.lock().waits = reason;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many nodes a note names; it is read by people.
const NAMED: usize = 5;

/// Notes which nodes another process serves, until `stop`.
pub async fn note_standby(leadership: Leadership, readiness: Readiness, stop: CancellationToken) {
    let mut changes = leadership.changes();
    loop {
        changes.mark_unchanged();
        let standby = leadership.standby();
        let named: Vec<String> = standby
            .iter()
            .take(NAMED)
            .map(|(node, holder)| format!("{node} is served by {holder}"))
            .collect();
        let more = if standby.len() > NAMED { ", …" } else { "" };
        let note = format!(
            "standby for {} nodes: {}{more}",
            standby.len(),
            named.join(", ")
        );
        readiness.note((!standby.is_empty()).then_some(note));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
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

async fn readyz(extract::State(readiness): extract::State<Readiness>) -> impl IntoResponse {
    let state = readiness.lock();
    match (&state.waits, &state.note) {
        (Some(reason), _) => (StatusCode::SERVICE_UNAVAILABLE, reason.clone()),
        (None, Some(note)) => (StatusCode::OK, format!("ok, {note}")),
        (None, None) => (StatusCode::OK, "ok".to_owned()),
    }
}

async fn text(extract::State(metrics): extract::State<Metrics>) -> impl IntoResponse {
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

        let leadership = Leadership::default();
        let noting = note_standby(leadership.clone(), readiness.clone(), stop.clone());
        let noting = tokio::spawn(noting);
        let _role = leadership.contend("vk-1");
        leadership.lost("vk-1", Some("vk-1_other"));
        while readiness.lock().note.is_none() {
            tokio::task::yield_now().await;
        }
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let text = "ok, standby for 1 nodes: vk-1 is served by vk-1_other";
        assert!(answer.ends_with(text), "{answer}");
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
        noting.await.unwrap();
    }
}
