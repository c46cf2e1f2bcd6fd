//! The exchanges recorded from the real service, replayed against ours.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

#[path = "../flightctl_client/mod.rs"]
mod flightctl_client;

mod access;
mod console;
mod fleets;
mod life;
mod lists;
mod validity;
mod writes;

use std::time::Duration;

use flightctl_client::call;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::sleep;
use vk_sandbox::flightctl::FlightControl;

const RENDERED: Duration = Duration::from_millis(20);

fn device(name: &str) -> Value {
    json!({"apiVersion": "flightctl.io/v1beta1", "kind": "Device", "metadata": {"name": name}, "spec": {}})
}

async fn created(service: &FlightControl, name: &str) {
    assert_eq!(
        call(service, "POST /devices", &device(name)).await.code,
        201
    );
    sleep(RENDERED).await;
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .map_or(String::new(), |v| v.to_str().unwrap().to_owned())
}
