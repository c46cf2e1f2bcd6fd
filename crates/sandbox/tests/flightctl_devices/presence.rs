//! When a device is there, and how that is known.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vk_sandbox::flightctl::{DeviceSpec, Options};

use crate::flightctl_client::{app, call, deploy, service};
use crate::{idle, reported, updated};

#[tokio::test(start_paused = true)]
async fn an_enrolled_device_is_online_within_seconds_and_silent_when_idle() {
    let service = service(Options::default());
    let mut spec = DeviceSpec::new("d1").label("alias", "vm");
    spec.cpu_cores = Some(2);
    spec.memory_kb = Some(24_684_092);
    spec.address = Some("192.0.2.2".into());
    let device = service.add_device(spec);
    sleep(Duration::from_secs(3)).await;
    let value = device.value().unwrap();
    assert_eq!(value["status"]["summary"]["status"], "Online");
    assert_eq!(value["status"]["lifecycle"]["status"], "Enrolled");
    assert_eq!(
        value["status"]["applicationsSummary"]["status"],
        "NoApplications"
    );
    assert_eq!(value["status"]["systemInfo"]["cpuCores"], "2");
    assert_eq!(
        value["status"]["systemInfo"]["netIpDefault"],
        "192.0.2.2/24"
    );
    assert_eq!(updated(&device).1, "UpToDate");
    assert_eq!(
        value["status"]["conditions"][0]["message"],
        "Updated to desired renderedVersion: 1"
    );
    let version = value["metadata"]["resourceVersion"].clone();
    sleep(Duration::from_secs(600)).await;
    let value = device.value().unwrap();
    assert_eq!(
        value["metadata"]["resourceVersion"], version,
        "an idle device sends nothing"
    );
    assert_eq!(
        value["status"]["summary"]["status"], "Online",
        "its polls are its heartbeat"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_is_found_after_five_minutes_by_a_task_and_ends_with_a_report() {
    let (service, device) = idle().await;
    deploy(&service, "d1", &[app("web")]).await;
    sleep(Duration::from_secs(30)).await;
    let disconnected = || -> Vec<Value> {
        let events = service.events().into_iter();
        events
            .filter(|e| e["reason"] == "DeviceDisconnected")
            .collect()
    };
    // One that has just enrolled reads as disconnected before it is first seen.
    let before = disconnected().len();
    device.disconnect();
    sleep(Duration::from_secs(7 * 60 + 30)).await;
    let value = device.value().unwrap();
    let away = json!({"status": "Unknown", "info": "Device is disconnected (last seen more than 5 minutes ago)."});
    for part in ["summary", "updated", "applicationsSummary"] {
        assert_eq!(value["status"][part], away);
    }
    assert_eq!(value["status"]["config"]["renderedVersion"], "2");
    assert_eq!(
        reported(&device),
        ["web Running 1/1 r0"],
        "the last values stay"
    );
    let disconnected = disconnected();
    assert_eq!(disconnected.len(), before + 1);
    assert!(disconnected.iter().all(|event| event["type"] == "Warning"));
    // A patch is rendered, and the device has something new when it is back.
    deploy(&service, "d1", &[app("web"), app("more")]).await;
    device.reconnect();
    let back = Instant::now();
    device.changed().await;
    assert!(
        back.elapsed() < Duration::from_secs(3),
        "{:?}",
        back.elapsed()
    );
    assert_eq!(
        device.value().unwrap()["status"]["summary"]["status"],
        "Online"
    );
    assert!(
        service
            .events()
            .iter()
            .any(|event| event["reason"] == "DeviceConnected")
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_with_nothing_new_turns_online_with_the_next_check() {
    let (_service, device) = idle().await;
    device.disconnect();
    sleep(Duration::from_secs(10 * 60 + 5)).await;
    device.reconnect();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        device.value().unwrap()["status"]["summary"]["status"],
        "Unknown"
    );
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        device.value().unwrap()["status"]["summary"]["status"],
        "Online"
    );
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_saved_in_batches() {
    let (service, device) = idle().await;
    sleep(Duration::from_secs(300)).await;
    let seen = call(&service, "GET /devices/d1/lastseen", &Value::Null).await;
    assert_eq!(seen.code, 200);
    let seen: jiff::Timestamp = seen.at("/lastSeen").as_str().unwrap().parse().unwrap();
    let now: jiff::Timestamp = "2026-11-21T04:05:20Z".parse().unwrap();
    assert!(now.duration_since(seen).as_secs() <= 135);
    drop(device);
}

#[tokio::test(start_paused = true)]
async fn many_devices_are_spread_over_fleets_by_label() {
    let service = service(Options::default());
    let devices = service.spawn_devices(7, 2, 2);
    sleep(Duration::from_secs(10)).await;
    let labels: Vec<Value> = devices
        .iter()
        .map(|device| device.value().unwrap()["metadata"]["labels"]["fleet"].clone())
        .collect();
    let (one, two) = (json!("edge-fleet-1"), json!("edge-fleet-2"));
    assert_eq!(
        labels,
        [
            one.clone(),
            two.clone(),
            one.clone(),
            two,
            one,
            Value::Null,
            Value::Null
        ]
    );
    assert_eq!(devices[6].name(), "device-7");
    let online = "GET /devices?fieldSelector=status.summary.status%3DOnline";
    let answer = call(&service, online, &Value::Null).await;
    assert_eq!(answer.at("/items").as_array().unwrap().len(), 7);
}
