//! Any request: its token, its deadline, how often it may be made, how it is
//! refused.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use serde_json::json;
use tokio::time::Instant;
use vk_flightctl::client::{Call, Client, ClientError, TokenSource};
use vk_sandbox::clock::Clock;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::{FlightControl, Options, Role};

use crate::{client, flight_control, scripted};

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
