//! `kubectl port-forward` over WebSocket to a node that takes SPDY: the same
//! bytes, out of messages and into them (apiserver `util/proxy/streamtunnel.go`).

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kubelet_streams::io::connect;
use kubelet_streams::negotiate;
use kubelet_streams::websocket::{Pipe, Role};
use tokio::io::copy;

use super::dial::Dialer;
use super::location::Place;
use super::upgrade;
use crate::kubernetes::status::ApiError;

/// What a client offers that wants a tunnel.
pub(super) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

pub(super) async fn serve(
    dialer: &Dialer,
    place: &Place,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let accepted = match negotiate::port_forward(request.headers()) {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(refusal.response().map(Body::from)),
    };
    let client = hyper::upgrade::on(&mut request);
    let answer = upgrade::send(dialer, place, asking()).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::refusal(answer);
    }
    if !upgrade::is_to(answer.headers(), "SPDY/3.1") {
        let why = "unable to upgrade: missing upgrade headers in response";
        return Err(ApiError::unknown(why));
    }
    tokio::spawn(carry(client, hyper::upgrade::on(answer)));
    Ok(accepted.response.map(|()| Body::empty()))
}

fn asking() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    let protocol = HeaderValue::from_static("portforward.k8s.io");
    headers.insert("X-Stream-Protocol-Version", protocol);
    request
}

/// Until one of them is done; then the other is hung up on.
async fn carry(client: OnUpgrade, node: OnUpgrade) {
    let (Ok(client), Ok(node)) = tokio::join!(client, node) else {
        return;
    };
    let (handle, driver) = connect(Box::new(Pipe::new(Role::Server)), TokioIo::new(client));
    tokio::spawn(driver);
    // Open from the start, and taken for the first time.
    let Some(stream) = handle.channel(Pipe::STREAM) else {
        return;
    };
    let (mut from_client, mut to_client) = stream.split();
    let (mut from_node, mut to_node) = tokio::io::split(TokioIo::new(node));
    tokio::select! {
        _ = copy(&mut from_client, &mut to_node) => {}
        _ = copy(&mut from_node, &mut to_client) => {}
    }
    let _ = handle.close().await;
}
