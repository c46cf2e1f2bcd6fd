//! Who may ask, for what, and how often.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vk_sandbox::flightctl::{Options, Role};

use crate::flightctl_client::{call, service, with};
use crate::{device, header};

#[tokio::test(start_paused = true)]
async fn versions_health_and_routes_answer_as_recorded() {
    let service = service(Options::default());
    let none = Value::Null;
    for (request, code, message) in [
        ("GET //readyz", 200, ""),
        ("GET //healthz", 200, ""),
        ("GET //api/version", 200, ""),
        ("GET /version", 400, "failed to get auth token"),
    ] {
        let answer = with(&service, request, &none, &[]).await;
        assert_eq!(
            (answer.code, answer.message()),
            (code, message),
            "{request}"
        );
    }
    let denied = "access denied to organization";
    for (request, code, message) in [
        ("GET /version", 200, ""),
        (
            "GET /nonsense",
            404,
            "API Error: no matching operation was found",
        ),
        ("DELETE /devices", 404, "API Error: method not allowed"),
        ("POST /devices/a", 404, "API Error: method not allowed"),
        (
            "GET /devices?org_id=00000000-0000-0000-0000-000000000001",
            403,
            denied,
        ),
        (
            "GET /devices?org_id=x",
            400,
            "invalid organization ID format",
        ),
        (
            "GET /devices/nope",
            404,
            "Device of name \"nope\" not found",
        ),
        (
            "GET /repositories",
            501,
            "the sandbox does not implement /api/v1/repositories",
        ),
        ("GET /devices?watch=true&nonsense=1", 200, ""),
    ] {
        let answer = call(&service, request, &none).await;
        assert_eq!(
            (answer.code, answer.message()),
            (code, message),
            "{request}"
        );
        assert_eq!(header(&answer.headers, "flightctl-api-version"), "v1beta1");
        assert_eq!(header(&answer.headers, "vary"), "Flightctl-API-Version");
    }
    let long = format!("GET /devices?x={}", "x".repeat(2000));
    assert_eq!(call(&service, &long, &none).await.code, 414);
    let headers = [
        ("authorization", "Bearer t"),
        ("flightctl-api-version", "v1alpha1"),
    ];
    let answer = with(&service, "GET /devices", &none, &headers).await;
    assert_eq!(
        answer.body,
        json!({"apiVersion": "", "code": 406, "kind": "", "message": "Requested API version is not supported for this endpoint. Supported versions: v1beta1", "reason": "", "status": ""})
    );
    let answer = call(&service, "GET /organizations", &none).await;
    assert_eq!(
        answer.body,
        json!({"apiVersion": "flightctl.io/v1beta1", "items": [{"apiVersion": "flightctl.io/v1beta1", "kind": "Organization", "metadata": {"name": "00000000-0000-0000-0000-000000000000"}, "spec": {"displayName": "Default", "externalId": "default"}}], "kind": "OrganizationList", "metadata": {}})
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_are_refused_as_recorded_an_expired_one_after_ten_seconds() {
    let options = Options {
        token: Some("good".into()),
        ..Options::default()
    };
    let service = service(options);
    service.accept_token_as("viewer", Role::Viewer);
    service.accept_token_as("operator", Role::Operator);
    service.accept_token("old");
    service.expire_token("old");
    let answer = with(&service, "GET /devices", &Value::Null, &[]).await;
    assert_eq!(
        answer.body,
        json!({"apiVersion": "flightctl.io/v1beta1", "code": 400, "kind": "Status", "message": "failed to get auth token", "reason": "Bad Request", "status": "Failure"})
    );
    for (token, request, code, after) in [
        ("good", "GET /devices", 200, 0),
        ("nonsense", "GET /devices", 401, 0),
        ("old", "GET /devices", 401, 10),
        ("a.b.c", "GET /devices", 401, 10),
        ("viewer", "GET /events", 200, 0),
        ("viewer", "POST /devices", 403, 0),
        ("operator", "POST /devices", 201, 0),
        ("operator", "PUT /devices/d1/decommission", 403, 0),
        ("operator", "PUT /devices/d1/status", 403, 0),
    ] {
        let began = Instant::now();
        let bearer = format!("Bearer {token}");
        let body = if request.starts_with("GET") {
            Value::Null
        } else {
            device("d1")
        };
        let answer = with(&service, request, &body, &[("authorization", &bearer)]).await;
        assert_eq!(answer.code, code, "{token} {request} {}", answer.message());
        assert_eq!(began.elapsed().as_secs(), after, "{token}");
        match code {
            401 => assert_eq!(answer.message(), "failed to validate token"),
            403 => assert_eq!(answer.message(), "Forbidden"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_limit_answers_as_recorded() {
    let service = service(Options {
        rate_limit: Some(20),
        rate_limit_window: Duration::from_secs(10),
        ..Options::default()
    });
    let first = call(&service, "GET /version", &Value::Null).await;
    assert_eq!(header(&first.headers, "x-ratelimit-limit"), "20");
    assert_eq!(header(&first.headers, "x-ratelimit-remaining"), "19");
    assert!(!header(&first.headers, "x-ratelimit-reset").is_empty());
    for _ in 0..19 {
        assert_eq!(call(&service, "GET /version", &Value::Null).await.code, 200);
    }
    let over = call(&service, "GET /version", &Value::Null).await;
    assert_eq!(over.code, 429);
    assert_eq!(header(&over.headers, "retry-after"), "10");
    assert_eq!(
        over.body,
        json!({"apiVersion": "", "code": 429, "kind": "", "message": "Rate limit exceeded, please try again later", "reason": "TooManyRequests", "status": ""})
    );
    assert_eq!(call(&service, "GET //readyz", &Value::Null).await.code, 200);
    assert_eq!(
        call(&service, "GET //api/version", &Value::Null).await.code,
        200
    );
    sleep(Duration::from_secs(13)).await;
    assert_eq!(call(&service, "GET /version", &Value::Null).await.code, 200);
}
