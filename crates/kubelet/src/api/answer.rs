//! Answers, in the kubelet's words where it has some.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use vk_provider::{Backend, BackendError};

use super::route::NoRoute;

const TEXT: &str = "text/plain; charset=utf-8";

/// A sentence for people.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    of(status, TEXT, Body::from(text.into()))
}

/// A JSON document.
pub(super) fn json(document: impl Into<Body>) -> Response<Body> {
    of(StatusCode::OK, "application/json", document.into())
}

/// An answer of any kind.
pub(super) fn of(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// There is no such endpoint.
pub(super) fn no_route(why: NoRoute) -> Response<Body> {
    match why {
        NoRoute::Path => text(StatusCode::NOT_FOUND, "404: Page Not Found"),
        NoRoute::Method => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
    }
}

/// The backend cannot do it.
pub(super) fn not_implemented(backend: &dyn Backend, what: &str) -> Response<Body> {
    text(StatusCode::NOT_IMPLEMENTED, lacks(backend, what) + "\n")
}

/// That the backend cannot do it, in a sentence.
pub(super) fn lacks(backend: &dyn Backend, what: &str) -> String {
    let name = backend.capabilities().name;
    format!("the {name} backend of this node has no {what}")
}

/// The backend did not do it. The API server passes on the words of 400 and 500
/// alone: of 404 and 503 it makes words of its own.
pub(super) fn backend_error(error: &BackendError) -> Response<Body> {
    let status = match error {
        BackendError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        BackendError::Unavailable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        BackendError::NotFound
        | BackendError::Rejected { .. }
        | BackendError::Waiting { .. }
        | BackendError::Inputs(_) => StatusCode::BAD_REQUEST,
    };
    text(status, error.to_string())
}

/// After this answer the connection ends: what else came on it is not looked at.
pub(super) fn last(mut answer: Response<Body>) -> Response<Body> {
    answer
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
