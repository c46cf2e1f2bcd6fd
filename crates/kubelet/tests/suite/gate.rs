//! A line to Kubernetes whose watches of pods a test may cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body as Answer;
use futures::StreamExt;
use http::{Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::sync::watch;

/// Cuts and mends the line.
#[derive(Clone, Debug)]
pub struct Gate {
    cut: watch::Sender<bool>,
    expired: Arc<AtomicBool>,
}

impl Gate {
    /// Watches of pods end, and no other begins.
    pub fn cut(&self) {
        self.expired.store(true, Ordering::SeqCst);
        self.cut.send_replace(true);
    }

    /// They begin again. What happened meanwhile is no longer told: the first of
    /// them hears that its version is too old.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }

    async fn is(&self, cut: bool) {
        let _ = self.cut.subscribe().wait_for(|is| *is == cut).await;
    }
}

/// The same client, behind a gate.
pub fn through(client: Client) -> (Client, Gate) {
    let gate = Gate {
        cut: watch::Sender::new(false),
        expired: Arc::default(),
    };
    let here = gate.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, gate) = (client.clone(), here.clone());
        async move {
            if !watches_pods(request.uri()) {
                let answer = client.send(request).await?;
                return Ok::<_, kube::Error>(answer.map(Answer::new));
            }
            gate.is(false).await;
            if gate.expired.swap(false, Ordering::SeqCst) {
                return Ok(expired());
            }
            let answer = client.send(request).await?;
            Ok(answer.map(|body| {
                let told = Answer::new(body).into_data_stream();
                let cut = async move { gate.is(true).await };
                Answer::from_stream(told.take_until(Box::pin(cut)))
            }))
        }
    });
    (Client::new(service, "default"), gate)
}

fn watches_pods(uri: &Uri) -> bool {
    uri.path().ends_with("/pods") && uri.query().is_some_and(|q| q.contains("watch=true"))
}

fn expired() -> Response<Answer> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": "Expired", "code": 410, "message": "too old resource version"});
    let event = json!({"type": "ERROR", "object": status});
    Response::new(Answer::from(format!("{event}\n")))
}
