//! The way from the process under test to the API server: a tower service
//! below the client, where the process dies, answers come late, broken guards
//! are played, and the court looks at every effect.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::StreamExt;
use http::{Method, Request, Uri};
use serde_json::Value;
use tokio::time::Instant;
use tower::Service;
use vk_sandbox::kubernetes::Cluster;
use vk_sandbox::transport::Dropped;

use crate::broken::Guard;
use crate::court::{Actor, Court};
use crate::dice::Dice;
use crate::life::Life;
use crate::weather::{LATE_ANSWER, Weather};

/// One request, whole.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: Method,
    pub uri: Uri,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Sent {
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    pub fn is_watch(&self) -> bool {
        let query = self.uri.query().unwrap_or_default();
        query.contains("watch=true") || query.contains("watch=1")
    }

    /// The UID that the write insists on.
    pub fn uid(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let at = if self.method == Method::DELETE {
            "/preconditions/uid"
        } else {
            "/metadata/uid"
        };
        Some(body.pointer(at)?.as_str()?.to_owned())
    }

    /// About a pod or its status.
    pub fn is_pod(&self) -> bool {
        self.path().contains("/pods/")
    }
}

/// Clones share everything.
#[derive(Clone)]
pub struct Wire {
    pub cluster: Cluster,
    pub court: Court,
    pub life: Life,
    pub weather: Weather,
    pub dice: Dice,
    pub clock: vk_provider::Clock,
    pub guard: Guard,
    /// Method and path of every request.
    pub log: Arc<Mutex<Vec<(Method, String)>>>,
}

impl Wire {
    /// The present, as the API writes it.
    pub fn now(&self) -> String {
        let now = self.clock.now().as_second();
        jiff::Timestamp::from_second(now).unwrap().to_string()
    }

    /// The request as a broken guard sends it, then its answer through the weather.
    async fn serve(&self, sent: Sent) -> Result<Response, Dropped> {
        let watch = sent.is_watch();
        let answer = match self.guard.instead(self, sent).await {
            Ok(answer) => answer,
            Err(sent) => self.forward(sent).await?,
        };
        let faults = self.weather.now();
        if self.dice.percent(faults.late_answers) {
            tokio::time::sleep(self.dice.within(LATE_ANSWER)).await;
        }
        if watch && !faults.watch_lag.is_zero() {
            let lag = self.dice.within(faults.watch_lag);
            return Ok(answer.map(|body| {
                let late = body.into_data_stream().then(move |chunk| async move {
                    tokio::time::sleep(lag).await;
                    chunk
                });
                Body::from_stream(late)
            }));
        }
        Ok(answer)
    }

    /// To the API server; the court looks before anyone else moves.
    pub async fn forward(&self, sent: Sent) -> Result<Response, Dropped> {
        let reads = sent.method == Method::GET;
        if sent.is_pod() && !reads && sent.uid().is_none() {
            let what = format!("{} {} names no UID", sent.method, sent.path());
            self.court.wrong(what);
        }
        let lease = sent.path().contains("/leases");
        let node = sent.path().contains("/nodes") && !lease;
        let (what, began) = (format!("{} {}", sent.method, sent.path()), Instant::now());
        let pod_write = (sent.is_pod() && !reads).then(|| (what.clone(), sent.uid()));
        if pod_write.is_some() || node && !reads {
            self.court.may_write(&what);
        }
        if let Some(write) = &pod_write {
            self.court.write(write);
        }
        let gives_up = lease && is_given_up(&sent.body);
        let mut request = Request::new(Body::from(sent.body));
        *request.method_mut() = sent.method;
        *request.uri_mut() = sent.uri;
        *request.headers_mut() = sent.headers;
        let answer = self.cluster.endpoint().answer(request).await;
        if let (Ok(answer), Some(write)) = (&answer, pod_write) {
            self.court.told_to_wait(write, answer);
        }
        if lease {
            if !reads && answer.as_ref().is_ok_and(|a| a.status().is_success()) {
                self.court.held((!gives_up).then_some(began));
            }
            self.court.look_at_lease();
        } else if !reads {
            self.court.look(Actor::Us);
        }
        answer
    }
}

/// A lease that its holder gives up.
fn is_given_up(lease: &Bytes) -> bool {
    let lease: Value = serde_json::from_slice(lease).unwrap_or_default();
    let holder = lease.pointer("/spec/holderIdentity");
    holder.and_then(Value::as_str).is_none_or(str::is_empty)
}

impl Service<Request<kube::client::Body>> for Wire {
    type Response = Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let sent = Sent {
                method: head.method,
                uri: head.uri,
                headers: head.headers,
                body: body.collect_bytes().await?,
            };
            let what = format!("{} {}", sent.method, sent.path());
            wire.log
                .lock()
                .unwrap()
                .push((sent.method.clone(), sent.path().into()));
            wire.court.watch_over(&wire.life);
            Ok(wire.life.call(what, wire.serve(sent)).await?)
        })
    }
}
