//! The Flight Control client against the sandbox's service, a scripted one, and
//! loopback sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vk_flightctl::client::{Call, Client, ClientError, EventCursor, Tls, TokenSource};
use vk_sandbox::clock::Clock;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{FlightControl, Options, Role};

fn flight_control(token: &str) -> FlightControl {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    FlightControl::new(
        Clock::stepped(start),
        Options {
            token: Some(token.into()),
            ..Options::default()
        },
    )
}

fn client(service: &FlightControl, token: TokenSource) -> Client {
    let http = Http::builder(TokioExecutor::new()).build(service.endpoint().connector());
    Client::new(http, &Uri::from_static("http://flightctl.test/"), token)
}

/// A service that answers each request with the next of these, and what it was asked.
fn scripted(answers: Vec<(u16, Value)>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        log.lock().unwrap().push(request.uri().to_string());
        let (status, body) = answers
            .lock()
            .unwrap()
            .pop_front()
            .expect("no more requests than answers");
        async move {
            let answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
            Ok::<_, Infallible>(
                answer
                    .body(Full::new(Bytes::from(body.to_string())))
                    .unwrap(),
            )
        }
    });
    let client = Client::new(
        service,
        &Uri::from_static("http://flightctl.test/"),
        TokenSource::fixed("token"),
    );
    (client, asked)
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_refused_after_ten_seconds_and_a_fresh_one_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    // As a coarse file system has it: both tokens were written in one moment.
    let write = |token: &str| {
        std::fs::write(&path, token).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    write("old");
    let service = flight_control("old");
    let client = client(&service, TokenSource::file(path.clone()));
    client.list_devices(None).await.unwrap();

    service.expire_token("old");
    let begun = Instant::now();
    let error = client.list_devices(None).await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    assert!(
        begun.elapsed() >= Duration::from_secs(10),
        "the service's own answer, not our deadline"
    );
    assert!(
        error.to_string().contains("FLIGHTCTL_AUTH_TOKEN"),
        "{error}"
    );

    service.accept_token("new");
    write("new\n");
    client.list_devices(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_holds_every_caller() {
    let service = flight_control("token");
    service
        .faults()
        .add(Rule::always("/devices", Effect::TooManyRequests(30)).times(1));
    let client = client(&service, TokenSource::fixed("token"));
    let begun = Instant::now();
    let error = client.list_devices(None).await.unwrap_err();
    assert_eq!(
        error.retry_after(),
        Some(Duration::from_secs(30)),
        "{error}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "not repeated inside"
    );
    // Longer than a request's deadline: told at once, and without a request.
    let error = client.clone().list_devices(None).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    assert!(begun.elapsed() < Duration::from_secs(1), "not waited for");
    tokio::time::advance(Duration::from_secs(20)).await;
    client.clone().list_devices(None).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn no_retry_after_is_obeyed_for_longer_than_a_minute() {
    let service = flight_control("token");
    service
        .faults()
        .add(Rule::always("/devices", Effect::TooManyRequests(3600)).times(1));
    let client = client(&service, TokenSource::fixed("token"));
    let error = client.list_devices(None).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    tokio::time::advance(Duration::from_secs(60)).await;
    client.list_devices(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_default_budget_stays_below_the_shipped_limit() {
    let options = Options {
        token: Some("token".into()),
        rate_limit: Some(300),
        ..Options::default()
    };
    let service = FlightControl::new(
        Clock::stepped("2026-01-01T00:00:00Z".parse().unwrap()),
        options,
    );
    let client = client(&service, TokenSource::fixed("token"));
    for _ in 0..1000 {
        client.list_devices(None).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_a_write_are_told_apart() {
    let service = flight_control("token");
    service.accept_token_as("viewer", Role::Viewer);
    service.spawn_devices(2, 1, 1);
    let client = client(&service, TokenSource::fixed("token"));
    let apps = json!([{"name": "a", "appType": "quadlet", "inline": [{
        "path": "a.container", "content": "[Container]\nImage=registry.example/a:1\n",
    }]}]);
    let write = |generation: i64| {
        json!([
            {"op": "test", "path": "/metadata/generation", "value": generation},
            {"op": "add", "path": "/spec/applications", "value": apps},
        ])
    };
    let device = client.get_device("device-1").await.unwrap();
    let generation = device["metadata"]["generation"].as_i64().unwrap();
    let written = client
        .patch_device("device-1", &write(generation))
        .await
        .unwrap();
    assert_eq!(written["metadata"]["generation"], generation + 1);

    let stale = client
        .patch_device("device-1", &write(generation))
        .await
        .unwrap_err();
    assert!(matches!(stale, ClientError::TestFailed { .. }), "{stale}");
    let absent = client.patch_device("nobody", &write(1)).await.unwrap_err();
    assert!(matches!(absent, ClientError::NotFound { .. }), "{absent}");
    let bad = json!([{"op": "add", "path": "/spec/applications", "value": [{"name": "A_B", "appType": "quadlet"}]}]);
    let bad = client.patch_device("device-1", &bad).await.unwrap_err();
    assert!(matches!(bad, ClientError::Invalid { .. }), "{bad}");

    let labels = [("fleet".to_owned(), "edge-fleet-1".to_owned())].into();
    service
        .create_fleet("factory", &labels, &json!({}))
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let owned = client.get_device("device-1").await.unwrap();
    assert_eq!(owned["metadata"]["owner"], "Fleet/factory");
    let write = write(owned["metadata"]["generation"].as_i64().unwrap());
    let owned = client.patch_device("device-1", &write).await.unwrap_err();
    assert!(matches!(owned, ClientError::Owned { .. }), "{owned}");
}

#[tokio::test(start_paused = true)]
async fn a_user_without_the_right_is_told_which() {
    let service = flight_control("admin");
    service.accept_token_as("viewer", Role::Viewer);
    service.spawn_devices(1, 0, 1);
    let client = client(&service, TokenSource::fixed("viewer"));
    let patch = json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}]);
    let error = client.patch_device("device-1", &patch).await.unwrap_err();
    assert!(matches!(error, ClientError::Forbidden { .. }), "{error}");
    assert!(
        error.to_string().contains("device-1") && error.to_string().contains("operator"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_ends_at_the_deadline() {
    let silent = tower::service_fn(|_: Request<Full<Bytes>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let client = Client::new(
        silent,
        &Uri::from_static("http://flightctl.test/"),
        TokenSource::fixed("token"),
    );
    let begun = Instant::now();
    let error = client.get_device("device-1").await.unwrap_err();
    assert!(
        matches!(error, ClientError::Timeout { seconds: 15 }),
        "{error}"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_to_its_last_page() {
    let device = |name: &str| json!({"metadata": {"name": name}});
    let (client, asked) = scripted(vec![
        (
            200,
            json!({"items": [device("a")], "metadata": {"continue": "next=="}}),
        ),
        (200, json!({"items": [device("b")], "metadata": {}})),
    ]);
    let names: Vec<Value> = client
        .list_devices(Some("metadata.name in (a,b)"))
        .await
        .unwrap();
    assert_eq!(names, [device("a"), device("b")]);
    let asked = asked.lock().unwrap();
    assert!(
        asked[1].ends_with("fieldSelector=metadata.name%20in%20%28a%2Cb%29&continue=next%3D%3D"),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_list_is_not_an_empty_one() {
    let (client, _) = scripted(vec![
        (200, json!({"login": "please"})),
        (404, json!("404 page not found")),
    ]);
    let error = client.list_devices(None).await.unwrap_err();
    assert!(matches!(error, ClientError::Decode { .. }), "{error}");
    let error = client.get_device("device-1").await.unwrap_err();
    assert!(
        !matches!(error, ClientError::NotFound { .. }),
        "a proxy's 404 is no deleted device: {error}"
    );
}

#[tokio::test(start_paused = true)]
async fn more_events_than_a_page_within_the_overlap_are_all_told_once() {
    let event = |n: usize| {
        json!({
            "metadata": {"name": format!("event-{n}"), "creationTimestamp": "2026-01-01T00:00:01.5Z"},
            "involvedObject": {"kind": "Device", "name": format!("device-{n}")},
        })
    };
    let first = json!({"metadata": {"name": "old", "creationTimestamp": "2026-01-01T00:00:00Z"}, "involvedObject": {"name": "x"}});
    let page = |from: usize, to: usize, next: Option<&str>| {
        let events: Vec<Value> = (from..to).map(event).collect();
        (
            200,
            json!({"items": events, "metadata": {"continue": next}}),
        )
    };
    let (client, asked) = scripted(vec![
        (200, json!({"items": [first], "metadata": {}})),
        page(0, 1000, Some("p2")),
        page(1000, 1500, None),
        page(0, 1000, Some("p2")),
        page(1000, 1501, None),
    ]);
    let mut cursor = EventCursor::default();
    assert!(
        client
            .devices_in_events(&mut cursor)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        client.devices_in_events(&mut cursor).await.unwrap().len(),
        1500
    );
    let news = client.devices_in_events(&mut cursor).await.unwrap();
    assert_eq!(news.into_iter().collect::<Vec<_>>(), ["device-1500"]);
    let asked = asked.lock().unwrap();
    assert!(
        asked[1].contains("creationTimestamp%3E%3D2025-12-31T23%3A59%3A55Z"),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_of_one_moment_is_read_on_and_holds_nothing_up() {
    let event = |n: usize, at: &str| {
        json!({
            "metadata": {"name": format!("event-{n}"), "creationTimestamp": at},
            "involvedObject": {"kind": "Device", "name": format!("device-{n}")},
        })
    };
    let page = |n: usize, next: Option<&str>| {
        let events = [event(n, "2026-01-01T00:00:01Z")];
        (
            200,
            json!({"items": events, "metadata": {"continue": next}}),
        )
    };
    let mut answers = vec![page(0, None)];
    answers.extend((1..=10).map(|n| page(n, Some("next"))));
    answers.push(page(11, None));
    answers.push((
        200,
        json!({"items": [event(12, "2026-01-01T00:00:02Z")], "metadata": {}}),
    ));
    let (client, asked) = scripted(answers);
    let mut cursor = EventCursor::default();
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(client.devices_in_events(&mut cursor).await.unwrap().len());
    }
    assert_eq!(counts, [0, 10, 1, 1]);
    let asked = asked.lock().unwrap();
    assert!(asked[11].ends_with("continue=next"), "{}", asked[11]);
    assert!(!asked[12].contains("continue"), "{}", asked[12]);
}

#[tokio::test(start_paused = true)]
async fn a_page_too_large_to_read_is_asked_for_in_smaller_ones() {
    let large = json!({"items": ["x".repeat(65 << 20)], "metadata": {}});
    let small = json!({"items": [{"metadata": {"name": "a"}}], "metadata": {}});
    let (client, asked) = scripted(vec![
        (200, large.clone()),
        (200, large),
        (200, small.clone()),
        (200, small),
    ]);
    assert_eq!(client.list_devices(None).await.unwrap().len(), 1);
    client.list_devices(None).await.unwrap();
    let limits: Vec<String> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|uri| uri.split("limit=").nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(limits, ["1000", "500", "250", "250"]);
}

#[tokio::test(start_paused = true)]
async fn the_events_of_the_service_name_the_devices_that_changed() {
    let service = flight_control("token");
    service.spawn_devices(2, 0, 2);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let client = client(&service, TokenSource::fixed("token"));
    let mut cursor = EventCursor::default();
    assert!(
        client
            .devices_in_events(&mut cursor)
            .await
            .unwrap()
            .is_empty(),
        "the past is not news"
    );
    tokio::time::sleep(Duration::from_secs(30)).await;
    client.devices_in_events(&mut cursor).await.unwrap();
    let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"zone": "x"}}]);
    client.patch_device("device-2", &patch).await.unwrap();
    let names = client.devices_in_events(&mut cursor).await.unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["device-2"]);
}

#[tokio::test(start_paused = true)]
async fn every_request_is_told_with_its_code_and_time() {
    let service = flight_control("token");
    service.expire_token("old");
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let client = client(&service, TokenSource::fixed("old"))
        .with_observer(move |call: &Call| log.lock().unwrap().push(*call));
    client.get_device("device-1").await.unwrap_err();
    let told = told.lock().unwrap();
    assert_eq!(
        (told.len(), told[0].operation, told[0].code),
        (1, "get_device", Some(401))
    );
    assert!(told[0].took >= Duration::from_secs(10), "{told:?}");
}

#[test]
fn a_client_never_shows_its_token() {
    let (client, _) = scripted(Vec::new());
    assert!(!format!("{client:?}").contains("token"), "{client:?}");
}

/// The sandbox's service on a loopback socket with TLS.
struct Socket {
    base: Uri,
    authority: Vec<u8>,
    _stop: tokio_util::sync::DropGuard,
}

async fn socket() -> Socket {
    let service = FlightControl::new(Clock::live(), Options::default());
    let tls = vk_sandbox::tls::loopback().unwrap();
    let listener = vk_sandbox::transport::loopback("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(
        service
            .endpoint()
            .listen(listener, Some(tls.acceptor), stop.clone()),
    );
    Socket {
        base,
        authority: tls.ca_pem.into_bytes(),
        _stop: stop.drop_guard(),
    }
}

async fn listed(base: &Uri, tls: &Tls) -> Result<Vec<Value>, ClientError> {
    Client::https(base, tls, TokenSource::fixed("token"))
        .unwrap()
        .list_devices(None)
        .await
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_given_authority() {
    let socket = socket().await;
    let trusted = Tls::Authorities(socket.authority.clone());
    listed(&socket.base, &trusted).await.unwrap();
    listed(&socket.base, &Tls::Insecure).await.unwrap();

    let other = Tls::Authorities(vk_sandbox::tls::loopback().unwrap().ca_pem.into_bytes());
    let error = listed(&socket.base, &other).await.unwrap_err().to_string();
    assert!(
        error.contains("certificate") && error.contains("caFile"),
        "{error}"
    );
    assert!(
        error.contains(&socket.base.to_string().trim_end_matches('/').to_owned()),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_name_of_its_own_replaces_the_urls_host() {
    let socket = socket().await;
    let named = |name: &str| Tls::Named {
        server_name: name.into(),
        trust: Box::new(Tls::Authorities(socket.authority.clone())),
    };
    listed(&socket.base, &named("localhost")).await.unwrap();
    let error = listed(&socket.base, &named("elsewhere.example"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_authority_without_a_certificate_is_refused_before_anything_is_sent() {
    let base = Uri::from_static("https://127.0.0.1:1");
    let error = Client::https(
        &base,
        &Tls::Authorities(b"hello".to_vec()),
        TokenSource::fixed("t"),
    )
    .unwrap_err();
    assert!(error.to_string().contains("PEM"), "{error}");
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_named() {
    let listener = vk_sandbox::transport::loopback("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let base: Uri = format!("https://{address}").parse().unwrap();
    let error = listed(&base, &Tls::Insecure).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
