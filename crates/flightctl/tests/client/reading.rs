//! Lists in pages, and events as news.

use std::time::Duration;

use serde_json::{Value, json};
use vk_flightctl::client::{ClientError, EventCursor, TokenSource};

use crate::{client, flight_control, scripted};

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

/// An event about `device-n`.
fn event(n: usize, at: &str) -> Value {
    json!({
        "metadata": {"name": format!("event-{n}"), "creationTimestamp": at},
        "involvedObject": {"kind": "Device", "name": format!("device-{n}")},
    })
}

#[tokio::test(start_paused = true)]
async fn more_events_than_a_page_within_the_overlap_are_all_told_once() {
    let event = |n: usize| event(n, "2026-01-01T00:00:01.5Z");
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
