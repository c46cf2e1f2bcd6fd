//! `nodes/proxy`: any path of a node (kubernetes
//! `pkg/registry/core/node/rest/proxy.go`).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    AUTHORIZATION, CONNECTION, HeaderName, LOCATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, StatusCode, Uri};

use super::dial::Dialer;
use super::{location, upgrade};
use crate::kubernetes::Cluster;
use crate::kubernetes::status::ApiError;

/// Headers that are about one connection.
const HOPS: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

pub(super) async fn serve(
    dialer: &Dialer,
    cluster: &Cluster,
    (id, path): (&str, &str),
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let (name, port) = split(id)?;
    let query = request.uri().query();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let place = location::node(cluster, name, format!("{path}{query}"))?;
    if port.is_some_and(|port| port != place.port) {
        let what = format!("nodes/proxy to port {}", port.unwrap_or_default());
        return Err(ApiError::not_implemented(request.method().as_str(), &what));
    }
    if upgrade::is_asked(request.headers()) {
        return upgrade::pass(dialer, &place, request).await;
    }
    if path.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        let to = format!("{}/{query}", request.uri().path());
        return Ok((StatusCode::MOVED_PERMANENTLY, [(LOCATION, to)]).into_response());
    }
    let uri: Result<Uri, _> = place.target.parse();
    *request.uri_mut() = uri.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let headers = request.headers_mut();
    headers.remove(AUTHORIZATION);
    strip(headers);
    let answer = dialer.send(&place, request).await.map_err(|why| {
        ApiError::service_unavailable(format!("error trying to reach service: {why}"))
    })?;
    Ok(without_hops(answer))
}

/// `name`, `name:port` or `https:name:port`.
fn split(id: &str) -> Result<(&str, Option<&str>), ApiError> {
    let parts: Vec<&str> = id.split(':').collect();
    match parts[..] {
        [name] if !name.is_empty() => Ok((name, None)),
        [name, port] if !name.is_empty() => Ok((name, (!port.is_empty()).then_some(port))),
        ["https" | "", name, port] if !name.is_empty() => {
            Ok((name, (!port.is_empty()).then_some(port)))
        }
        _ => Err(ApiError::bad_request(format!(
            "invalid node request {id:?}"
        ))),
    }
}

/// An answer as it is, but for what is about the node's connection.
pub(super) fn without_hops(answer: Response<hyper::body::Incoming>) -> Response {
    let mut answer = answer.map(Body::new);
    strip(answer.headers_mut());
    answer
}

fn strip(headers: &mut HeaderMap) {
    for name in HOPS {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_alone_or_with_scheme_and_port() {
        assert_eq!(split("edge").unwrap(), ("edge", None));
        assert_eq!(split("edge:10250").unwrap(), ("edge", Some("10250")));
        assert_eq!(split("https:edge:").unwrap(), ("edge", None));
        for bad in ["", ":1", "ftp:edge:1", "a:b:c:d"] {
            let error = split(bad).unwrap_err();
            assert_eq!(error.code, 400, "{bad}");
        }
    }
}
