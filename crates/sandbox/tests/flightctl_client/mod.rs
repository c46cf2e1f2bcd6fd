//! A client for the tests: whole requests against the router, no sockets.

use axum::body::Body;
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tower::ServiceExt;
use vk_sandbox::clock::Clock;
use vk_sandbox::flightctl::{FlightControl, Options};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    #[allow(dead_code, reason = "not every test binary looks at them")]
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    #[allow(dead_code, reason = "not every test binary looks at every part")]
    pub(crate) fn at(&self, pointer: &str) -> Value {
        self.body.pointer(pointer).cloned().unwrap_or_default()
    }
}

pub(crate) fn service(options: Options) -> FlightControl {
    let start = "2026-11-21T04:00:00Z".parse().expect("a timestamp");
    FlightControl::new(Clock::stepped(start), options)
}

/// `call` is `METHOD path`, the path below `/api/v1` unless it starts with two
/// slashes.
pub(crate) async fn call(service: &FlightControl, call: &str, body: &Value) -> Answer {
    with(service, call, body, &[("authorization", "Bearer t")]).await
}

pub(crate) async fn with(
    service: &FlightControl,
    call: &str,
    body: &Value,
    headers: &[(&str, &str)],
) -> Answer {
    let (method, path) = call.split_once(' ').expect("a method and a path");
    let uri = match path.strip_prefix("//") {
        Some(root) => format!("/{root}"),
        None => format!("/api/v1{path}"),
    };
    let mut request = Request::builder().method(method).uri(uri);
    let given = |name: &str| headers.iter().any(|(key, _)| *key == name);
    if !given("content-type") {
        let kind = if method == "PATCH" {
            "application/json-patch+json"
        } else {
            "application/json"
        };
        request = request.header("content-type", kind);
    }
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    let request = request.body(body).expect("a request");
    let response = service.router().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .expect("a body");
    Answer {
        code: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}

/// The application `app("name")` of the recording.
#[allow(dead_code, reason = "not every test binary deploys")]
pub(crate) fn app(name: &str) -> Value {
    container_app(name, "registry.example/nginx:1.27", "")
}

/// An application of one container that restarts, with more unit text.
#[allow(dead_code, reason = "not every test binary deploys")]
pub(crate) fn container_app(name: &str, image: &str, more: &str) -> Value {
    let unit = format!(
        "[Container]\nImage={image}\nContainerName=app\n{more}\n[Install]\nWantedBy=default.target\n"
    );
    quadlet(name, &[("a.container", &unit)])
}

/// An application of these files.
#[allow(dead_code, reason = "not every test binary deploys")]
pub(crate) fn quadlet(name: &str, files: &[(&str, &str)]) -> Value {
    let inline: Vec<Value> = files
        .iter()
        .map(|(path, content)| json!({"path": path, "content": content}))
        .collect();
    json!({"name": name, "appType": "quadlet", "inline": inline})
}

/// Sets all applications of a device, unguarded.
#[allow(dead_code, reason = "not every test binary deploys")]
pub(crate) async fn deploy(service: &FlightControl, device: &str, apps: &[Value]) -> Answer {
    let patch = json!([{"op": "add", "path": "/spec/applications", "value": apps}]);
    let answer = call(service, &format!("PATCH /devices/{device}"), &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.message());
    answer
}
