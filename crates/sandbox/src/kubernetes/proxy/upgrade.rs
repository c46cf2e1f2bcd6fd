//! Requests that become a connection of other bytes, passed on as they are
//! (apimachinery `util/proxy/upgradeaware.go`).

use axum::body::Body;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONNECTION, UPGRADE};
use http::{HeaderMap, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::dial::Dialer;
use super::location::Place;
use crate::kubernetes::status::ApiError;

/// Refuses what asks for no upgrade.
pub(super) fn required(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_asked(headers) {
        Ok(())
    } else {
        Err(ApiError::bad_request("Upgrade request required"))
    }
}

/// Whether any upgrade is asked for.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    values(headers, CONNECTION.as_str()).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Whether an upgrade to this protocol is asked for, or granted.
pub(super) fn is_to(headers: &HeaderMap, protocol: &str) -> bool {
    let mut named = values(headers, UPGRADE.as_str());
    is_asked(headers) && named.any(|name| name.eq_ignore_ascii_case(protocol))
}

/// All values of a header, over lines and commas.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    let values = lines.filter_map(|line| line.to_str().ok());
    let values = values.flat_map(|line| line.split(',')).map(str::trim);
    values.filter(|value| !value.is_empty())
}

/// Passes it on, and then the bytes either way. A refusal of the node's is the
/// answer, word for word.
pub(super) async fn pass(
    dialer: &Dialer,
    place: &Place,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let client = hyper::upgrade::on(&mut request);
    let mut passed = Request::new(Body::empty());
    *passed.method_mut() = request.method().clone();
    *passed.headers_mut() = std::mem::take(request.headers_mut());
    let mut answer = send(dialer, place, passed).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refusal(answer);
    }
    tokio::spawn(splice(client, hyper::upgrade::on(&mut answer)));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

/// Dials the node and sends it a request for an upgrade.
pub(super) async fn send(
    dialer: &Dialer,
    place: &Place,
    mut request: Request<Body>,
) -> Result<Response<hyper::body::Incoming>, ApiError> {
    let uri = place.target.parse();
    *request.uri_mut() = uri.map_err(|error| ApiError::bad_request(format!("{error}")))?;
    // Whoever the client is, the node gets to know the API server alone.
    request.headers_mut().remove(AUTHORIZATION);
    let answer = dialer.send(place, request).await;
    answer.map_err(|why| ApiError::unknown(format!("error dialing backend: {why}")))
}

/// The node does not upgrade.
pub(super) fn refusal(answer: Response<hyper::body::Incoming>) -> Result<Response, ApiError> {
    let status = answer.status();
    if status.as_u16() < 400 {
        let why = format!("invalid upgrade response: status code {}", status.as_u16());
        return Err(ApiError::unknown(why));
    }
    Ok(super::node::without_hops(answer))
}

/// Bytes either way until both sides are done.
async fn splice(client: OnUpgrade, node: OnUpgrade) {
    let (Ok(client), Ok(node)) = tokio::join!(client, node) else {
        return;
    };
    let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
    // An error is one of them going away; the other is hung up on.
    let _ = copy_bidirectional(&mut client, &mut node).await;
}
