//! Simulated devices: cadence, updates as a whole, what the status shows.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

#[path = "../flightctl_client/mod.rs"]
mod flightctl_client;

mod containers;
mod presence;
mod updates;

use std::time::Duration;

use flightctl_client::service;
use serde_json::Value;
use tokio::time::sleep;
use vk_sandbox::flightctl::{Device, DeviceSpec, FlightControl, JournalEntry, Occurrence, Options};

/// A service and a device that is idle and reports every ten seconds.
async fn idle() -> (FlightControl, Device) {
    let service = service(Options::default());
    let mut spec = DeviceSpec::new("d1");
    spec.status_interval = Duration::from_secs(10);
    let device = service.add_device(spec);
    sleep(Duration::from_secs(20)).await;
    (service, device)
}

fn updated(device: &Device) -> (String, String, String) {
    let value = device.value().unwrap();
    let text = |at: &str| {
        value
            .pointer(at)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (
        text("/status/config/renderedVersion"),
        text("/status/updated/status"),
        text("/status/updated/info"),
    )
}

/// `name status ready restarts` of the reported applications.
fn reported(device: &Device) -> Vec<String> {
    let value = device.value().unwrap();
    let apps = value["status"]["applications"].as_array().unwrap().clone();
    apps.iter()
        .map(|app| {
            let text = |key: &str| app[key].as_str().unwrap().to_owned();
            format!(
                "{} {} {} r{}",
                text("name"),
                text("status"),
                text("ready"),
                app["restarts"]
            )
        })
        .collect()
}

fn starts(journal: &[JournalEntry], image: &str) -> usize {
    journal
        .iter()
        .filter(|e| e.event == Occurrence::Start && e.image == image)
        .count()
}
