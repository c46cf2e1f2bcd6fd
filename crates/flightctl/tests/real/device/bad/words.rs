//! What a device says of itself.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::device::Edge;

/// The agent's steps take about a second each.
const LOOK: Duration = Duration::from_millis(200);

/// Prints it each time that it is something else, until dropped: what a test waited
/// for can be read from it.
pub struct Words {
    _task: AbortOnDropHandle<()>,
}

impl Words {
    pub fn listen(edge: &Edge) -> Self {
        let user = edge.world.flightctl.service().unwrap().user();
        let path = format!("/api/v1/devices/{}", edge.device);
        let begun = Instant::now();
        let listening = async move {
            let mut last = String::new();
            loop {
                if let Ok((_, device)) = user.call(Method::GET, &path, None).await {
                    let now = of(&device);
                    if now != last {
                        println!("    {:6.1} s: {now}", begun.elapsed().as_secs_f64());
                        last = now;
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        Self {
            _task: AbortOnDropHandle::new(tokio::spawn(listening)),
        }
    }
}

/// A condition of a device's status.
pub fn condition(status: &Value, kind: &str) -> Value {
    let mut all = status["conditions"].as_array().into_iter().flatten();
    all.find(|c| c["type"] == kind).cloned().unwrap_or_default()
}

/// The version that it runs, the one that it shall run, and how it gets on.
fn of(device: &Value) -> String {
    let runs = device["status"]["config"]["renderedVersion"].as_str();
    let shall = device["metadata"]["annotations"]["device-controller/renderedVersion"].as_str();
    let updating = condition(&device["status"], "Updating");
    let message = updating["message"].as_str();
    format!(
        "{} of {}: {}",
        runs.unwrap_or_default(),
        shall.unwrap_or_default(),
        message.unwrap_or_default()
    )
}
