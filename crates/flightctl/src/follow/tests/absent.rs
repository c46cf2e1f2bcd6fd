//! A device that a list lacks.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use serde_json::json;

use super::*;
use crate::client::TokenSource;
use crate::config::default_rules;

/// Answers lists of the devices named, and everything else with `other`.
fn follower(listed: &Arc<Mutex<Vec<&'static str>>>, other: &Arc<Mutex<(u16, String)>>) -> Follower {
    let (listed, other) = (listed.clone(), other.clone());
    let http = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let (status, body) = if request.uri().path().ends_with("/devices") {
            let items: Vec<_> = listed.lock().unwrap().iter().map(|n| device(n)).collect();
            (200, json!({"metadata": {}, "items": items}).to_string())
        } else {
            other.lock().unwrap().clone()
        };
        let response = Response::builder().status(status);
        let response = response.body(Full::new(Bytes::from(body))).unwrap();
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let base = Uri::from_static("http://flightctl.test/");
    let client = Client::new(http, &base, TokenSource::fixed("t"));
    let world = Arc::new(Mutex::new(World::new("cluster", default_rules())));
    let nodes = watch::Sender::new(None);
    Follower::new(client, world, nodes, Arc::default(), EVENTS)
}

fn device(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "status": {"summary": {"status": "Online"}}})
}

#[tokio::test(start_paused = true)]
async fn only_the_services_own_404_proves_that_a_device_was_deleted() {
    let listed = Arc::new(Mutex::new(vec!["a", "b"]));
    let other = Arc::new(Mutex::new((200, device("a").to_string())));
    let follower = follower(&listed, &other);
    follower.sweep().await.unwrap();
    listed.lock().unwrap().retain(|name| *name != "a");
    let message = |text: &str| json!({"kind": "Status", "message": text}).to_string();
    for (status, body, there) in [
        (200, device("a").to_string(), true),
        (500, message("database is away"), true),
        (403, message("no"), true),
        (404, "404 page not found".to_owned(), true),
        (404, message("Device of name \"a\" not found"), false),
    ] {
        *other.lock().unwrap() = (status, body);
        // One that failed is left alone for a while.
        tokio::time::advance(Duration::from_secs(300)).await;
        let _ = follower.sweep().await;
        let world = follower.world();
        assert_eq!(world.device("a").is_some(), there, "{status}");
        assert!(world.device("b").is_some());
    }
}
