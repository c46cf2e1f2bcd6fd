//! What goes wrong between Kubernetes, Flight Control and devices, in the
//! sandbox on the stepped clock: how each ends.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../stage/mod.rs"]
mod stage;

mod away;
mod bad;
mod devices;
mod echo;
mod edits;
mod estate;
mod explain;
mod gone;
mod pace;
mod ports;
mod refusals;
mod scale;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use stage::{Stage, condition};

const NODE: &str = "vk-flightctl-node";
const FLEET: &str = "vk-flightctl-edge-fleet-1";

/// Time in which nothing may happen.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn pass_ms(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Looks again and again: what devices and Flight Control hold wakes nobody.
async fn see(stage: &Stage, what: &str, done: impl Fn() -> bool) {
    stage
        .patiently(what, async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
}

fn delete(stage: &Stage, name: &str) {
    stage.cluster.delete::<Pod>("default", name, None).unwrap();
}

fn phase(stage: &Stage, name: &str) -> String {
    let pod = stage.pod(name).unwrap_or_default();
    pod["status"]["phase"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn is_ready(stage: &Stage, name: &str) -> bool {
    stage
        .pod(name)
        .is_some_and(|pod| condition(&pod, "Ready") == "True")
}

/// Why the pod's container waits.
fn waits_for(stage: &Stage, name: &str) -> String {
    let pod = stage.pod(name).unwrap_or_default();
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// An application that someone else wrote, under any name.
fn foreign(name: &str) -> Value {
    json!({"name": name, "appType": "quadlet", "inline": [{
        "path": "app.container",
        "content": "[Container]\nImage=quay.io/other/app:1\n[Install]\nWantedBy=default.target\n",
    }]})
}
