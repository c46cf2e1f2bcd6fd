//! Answers and refusals in Flight Control's own words.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// `apiVersion` of everything the service says.
pub(crate) const API_VERSION: &str = "flightctl.io/v1beta1";

/// A request that the service turns down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What the OpenAPI validator says before a handler sees the request.
    pub(crate) fn schema(message: &str) -> Self {
        Self::bad_request(format!(
            "API Error: request body has an error: doesn't match schema #/components/schemas/{message}"
        ))
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// The stored object is newer than the one the writer has seen.
    pub(crate) fn modified() -> Self {
        Self::conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("{kind} of name \"{name}\" not found"),
        )
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden")
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "failed to validate token")
    }

    /// The real service has it, the sandbox does not.
    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("the sandbox does not implement {what}"),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.code, Json(failure(self.code, &self.message))).into_response()
    }
}

fn failure(code: StatusCode, message: &str) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "Status",
        "code": code.as_u16(),
        "message": message,
        "reason": code.canonical_reason().unwrap_or_default(),
        "status": "Failure",
    })
}

/// The Status body of a successful delete.
pub(crate) fn success() -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "Status",
        "code": 200,
        "message": "",
        "reason": "OK",
        "status": "Success",
    })
}

/// 429 as the rate limiter words it: kind, apiVersion and status stay empty.
pub(crate) fn too_many_requests(message: &str, retry_after: u64) -> Response {
    let mut response = bare(StatusCode::TOO_MANY_REQUESTS, message, "TooManyRequests");
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// 406 as the version negotiator words it.
pub(crate) fn version_not_supported() -> Response {
    bare(
        StatusCode::NOT_ACCEPTABLE,
        "Requested API version is not supported for this endpoint. Supported versions: v1beta1",
        "",
    )
}

fn bare(code: StatusCode, message: &str, reason: &str) -> Response {
    let body = json!({
        "apiVersion": "",
        "kind": "",
        "code": code.as_u16(),
        "message": message,
        "reason": reason,
        "status": "",
    });
    (code, Json(body)).into_response()
}

/// How faults are worded on this service.
pub(crate) fn fault(code: StatusCode, retry_after: Option<u64>) -> Response {
    if code == StatusCode::TOO_MANY_REQUESTS {
        return too_many_requests(
            "Rate limit exceeded, please try again later",
            retry_after.unwrap_or_default(),
        );
    }
    Refusal::new(code, code.canonical_reason().unwrap_or("fault")).into_response()
}
