//! From a request to its answer: limits, tokens, versions, then the route.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};

use super::auth::{self, EXPIRED_ANSWER_AFTER, Role, Verdict};
use super::events::{self, Actor};
use super::lifecycle::{self, Action};
use super::list::Query;
use super::reply::{self, Refusal};
use super::store::{Shared, Store};
use super::{FlightControl, console, devices, fleets};

/// Longest URL, most headers and largest body the service reads.
const MAX_URL: usize = 2000;
const MAX_HEADERS: usize = 32;
const MAX_BODY: usize = 50 * 1024 * 1024;

const VERSION_HEADER: HeaderName = HeaderName::from_static("flightctl-api-version");

/// What else the real API has below `/api/v1`.
const ELSEWHERE: [&str; 9] = [
    "auth",
    "resourcesyncs",
    "repositories",
    "deviceactions",
    "enrollmentconfig",
    "enrollmentrequests",
    "certificatesigningrequests",
    "authproviders",
    "catalogs",
];

/// What stands in the way of a route.
#[derive(Debug)]
enum Fail {
    Refused(Refusal),
    Said(Box<Response>),
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(crate) async fn handle(State(service): State<FlightControl>, request: Request) -> Response {
    let mut response = answer(&service, request).await;
    // Of its own clock, which may be another than this machine's.
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&service.shared.clock.now());
    if let Some(date) = date.ok().and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

async fn answer(service: &FlightControl, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/readyz" | "/healthz" => return StatusCode::OK.into_response(),
        "/api/version" => return Json(version()).into_response(),
        _ => {}
    }
    if request.uri().to_string().len() > MAX_URL {
        let message = format!("URL too long, exceeds {MAX_URL} characters");
        return Refusal::new(StatusCode::URI_TOO_LONG, message).into_response();
    }
    if request.headers().len() > MAX_HEADERS {
        let message = format!("Request has too many headers, exceeds {MAX_HEADERS}");
        return Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message).into_response();
    }
    let Some(below) = path.strip_prefix("/api/v1/") else {
        return match path.strip_prefix("/ws/v1/") {
            Some(below) => console(&service.shared, request, below).await,
            None => StatusCode::NOT_FOUND.into_response(),
        };
    };
    let segments: Vec<&str> = below.split('/').collect();
    let shared = &service.shared;
    let mut headers = HeaderMap::new();
    let answer = match limited(shared, &segments, &mut headers) {
        Some(refused) => refused,
        None => match respond(shared, request, &segments).await {
            Ok(response) => response,
            Err(Fail::Refused(refusal)) => refusal.into_response(),
            Err(Fail::Said(response)) => *response,
        },
    };
    let (mut parts, body) = answer.into_parts();
    parts.headers.extend(headers);
    parts
        .headers
        .insert(VERSION_HEADER, HeaderValue::from_static("v1beta1"));
    parts.headers.insert(
        header::VARY,
        HeaderValue::from_static("Flightctl-API-Version"),
    );
    Response::from_parts(parts, body)
}

fn limited(shared: &Shared, path: &[&str], headers: &mut HeaderMap) -> Option<Response> {
    let now = shared.clock.now();
    let mut limiters = shared
        .limiters
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let (limiter, message) = match path {
        ["auth", "validate"] => (
            limiters.login.as_mut(),
            "Login rate limit exceeded, please try again later",
        ),
        _ => (
            limiters.general.as_mut(),
            "Rate limit exceeded, please try again later",
        ),
    };
    let taken = limiter?.take(now);
    taken.describe(headers);
    (!taken.allowed).then(|| reply::too_many_requests(message, taken.window))
}

/// A WebSocket: there is only that of a device's console.
async fn console(shared: &Arc<Shared>, request: Request, below: &str) -> Response {
    let segments: Vec<&str> = below.split('/').collect();
    let ["devices", name, "console"] = *segments else {
        return Refusal::not_implemented(&format!("/ws/v1/{below}")).into_response();
    };
    if let Some(refused) = limited(shared, &segments, &mut HeaderMap::new()) {
        return refused;
    }
    let admitted = admit(
        shared,
        request.headers(),
        request.uri(),
        &Method::GET,
        &segments,
    );
    let query = match admitted.await {
        Ok((query, _)) => query,
        Err(refusal) => return refusal.into_response(),
    };
    match console::serve(shared, name, &query, request).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.into_response(),
    }
}

/// Whether a request's user may make it.
async fn admit(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    uri: &Uri,
    method: &Method,
    path: &[&str],
) -> Result<(Query, Role), Refusal> {
    let verdict = {
        let tokens = shared.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.judge(headers)
    };
    let role = match verdict {
        Verdict::Allowed(role) => role,
        Verdict::Refused(refusal) => return Err(refusal),
        Verdict::RefusedLate => {
            tokio::time::sleep(EXPIRED_ANSWER_AFTER).await;
            return Err(Refusal::unauthorized());
        }
    };
    let query = Query::of(uri)?;
    if *path != ["organizations"] {
        auth::organization(&query, &shared.options.organizations)?;
    }
    if role < auth::needed(method, path) {
        return Err(Refusal::forbidden());
    }
    Ok((query, role))
}

async fn respond(shared: &Arc<Shared>, request: Request, path: &[&str]) -> Result<Response, Fail> {
    let method = request.method().clone();
    let admitted = admit(shared, request.headers(), request.uri(), &method, path);
    let (query, role) = admitted.await?;
    let asked = request.headers().get(VERSION_HEADER);
    if asked.is_some_and(|version| version != "v1beta1") {
        return Err(Fail::Said(Box::new(reply::version_not_supported())));
    }
    route(shared, request, &method, path, &query, role).await
}

async fn route(
    shared: &Arc<Shared>,
    request: Request,
    method: &Method,
    path: &[&str],
    query: &Query,
    role: Role,
) -> Result<Response, Fail> {
    if method == Method::GET {
        return match *path {
            ["devices", name, "rendered"] => {
                let known = query.get("knownRenderedVersion");
                Ok(match shared.rendered(name, known, false).await? {
                    Some(doc) => Json(doc).into_response(),
                    None => StatusCode::NO_CONTENT.into_response(),
                })
            }
            _ => get(shared, path, query, role),
        };
    }
    let known = writes(path);
    let Some(allowed) = known else {
        return Err(unknown_route(path).into());
    };
    if !allowed.contains(method) {
        return Err(method_not_allowed().into());
    }
    let body = read_body(request, method).await?;
    let (code, doc) = shared.transact(|store, now| write(store, now, method, path, &body))?;
    Ok((code, Json(doc)).into_response())
}

fn get(shared: &Shared, path: &[&str], query: &Query, role: Role) -> Result<Response, Fail> {
    let doc = match *path {
        ["version"] => version(),
        ["organizations"] => auth::organizations(&shared.options.organizations),
        ["auth", "permissions"] => auth::permissions(role),
        ["auth", "validate"] => return Ok(StatusCode::OK.into_response()),
        ["devices"] => shared.read(|store| devices::list(store, query))?,
        ["devices", name] | ["devices", name, "status"] => {
            shared.read(|store| store.device(name).map(super::store::DeviceRow::doc))?
        }
        ["devices", name, "lastseen"] => {
            match shared.read(|store| store.device(name).map(|row| row.last_seen))? {
                Some(seen) => json!({"lastSeen": seen.to_string()}),
                None => return Ok(StatusCode::NO_CONTENT.into_response()),
            }
        }
        ["fleets"] => shared.read(|store| fleets::list(store, query))?,
        ["fleets", name] | ["fleets", name, "status"] => {
            shared.read(|store| fleets::get(store, name, query))?
        }
        ["events"] => shared.read(|store| events::list(&store.events, query))?,
        ["labels"] => shared.read(|store| devices::list_labels(store, query))?,
        _ if writes(path).is_some() => return Err(method_not_allowed().into()),
        _ => return Err(unknown_route(path).into()),
    };
    Ok(Json(doc).into_response())
}

/// The methods that change something at a path.
fn writes(path: &[&str]) -> Option<&'static [Method]> {
    Some(match *path {
        ["devices"] | ["fleets"] => &[Method::POST],
        ["devices", _] | ["fleets", _] => &[Method::PUT, Method::PATCH, Method::DELETE],
        ["devices", _, "status"] => &[Method::PUT, Method::PATCH],
        ["devices", _, "decommission"] => &[Method::PUT],
        ["devices", _, "applications", _, "actions", action] if Action::parse(action).is_some() => {
            &[Method::POST]
        }
        // Readable only: known, so another method is not an unknown route.
        ["version" | "organizations" | "events" | "labels"]
        | ["devices", _, "rendered" | "lastseen"]
        | ["auth", "permissions" | "validate"] => &[],
        _ => return None,
    })
}

fn write(
    store: &mut Store,
    now: jiff::Timestamp,
    method: &Method,
    path: &[&str],
    body: &Value,
) -> Result<(StatusCode, Value), Refusal> {
    let ok = |doc| (StatusCode::OK, doc);
    let created = |doc| (StatusCode::CREATED, doc);
    match (method.as_str(), path) {
        ("POST", ["devices"]) => devices::create(store, now, body).map(created),
        ("POST", ["fleets"]) => fleets::create(store, now, body).map(created),
        ("PUT", ["devices", name]) => devices::replace(store, now, name, body),
        ("PUT", ["fleets", name]) => fleets::replace(store, now, name, body),
        ("PATCH", ["devices", name]) => devices::patch(store, now, name, body).map(ok),
        ("PATCH", ["fleets", name]) => fleets::patch(store, now, name, body).map(ok),
        ("DELETE", ["devices", name]) => Ok(ok(devices::delete(store, now, name))),
        ("DELETE", ["fleets", name]) => Ok(ok(fleets::delete(store, now, name))),
        ("PUT", ["devices", name, "status"]) => {
            devices::put_status(store, now, name, body, Actor::User).map(ok)
        }
        ("PUT", ["devices", name, "decommission"]) => {
            devices::decommission(store, now, name, body).map(ok)
        }
        ("POST", ["devices", name, "applications", app, "actions", word]) => {
            match Action::parse(word) {
                Some(action) => lifecycle::act(store, now, name, app, action).map(ok),
                None => Err(unknown_route(path)),
            }
        }
        _ => Err(Refusal::not_implemented(&format!(
            "{method} /api/v1/{}",
            path.join("/")
        ))),
    }
}

fn unknown_route(path: &[&str]) -> Refusal {
    let elsewhere = path.first().is_some_and(|first| ELSEWHERE.contains(first))
        || matches!(
            path,
            ["fleets", _, _, ..] | ["devices", _, "applications", _, "console"]
        );
    if elsewhere {
        return Refusal::not_implemented(&format!("/api/v1/{}", path.join("/")));
    }
    Refusal::new(
        StatusCode::NOT_FOUND,
        "API Error: no matching operation was found",
    )
}

fn method_not_allowed() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "API Error: method not allowed")
}

async fn read_body(request: Request, method: &Method) -> Result<Value, Refusal> {
    let (parts, body) = request.into_parts();
    if matches!(*method, Method::DELETE) {
        return Ok(Value::Null);
    }
    let bytes = collect(body).await?;
    if bytes.is_empty() && *method == Method::POST {
        return Ok(Value::Null);
    }
    let kind = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let wanted = if *method == Method::PATCH {
        "application/json-patch+json"
    } else {
        "application/json"
    };
    if kind.split(';').next().map(str::trim) != Some(wanted) {
        return Err(Refusal::bad_request(format!(
            "API Error: request body has an error: header Content-Type has unexpected value \"{kind}\""
        )));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::bad_request(format!(
            "API Error: request body has an error: failed to decode request body: {error}"
        ))
    })
}

async fn collect(body: Body) -> Result<bytes::Bytes, Refusal> {
    axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| {
        Refusal::bad_request(
            "API Error: request body has an error: reading failed: http: request body too large",
        )
    })
}

fn version() -> Value {
    json!({"version": "unknown-"})
}
