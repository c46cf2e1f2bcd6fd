//! Simulated devices: cadence, updates as a whole, what the status shows.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod flightctl_client;

use std::time::Duration;

use flightctl_client::{app, call, container_app, deploy, quadlet, service};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vk_sandbox::flightctl::{
    Device, DeviceSpec, FlightControl, JournalEntry, Occurrence, Options, Pull, Script,
};

const INSTALL: &str = "[Install]\nWantedBy=default.target\n";

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
async fn right_after_a_patch_the_device_still_reads_up_to_date() {
    let (service, device) = idle().await;
    let answer = deploy(&service, "d1", &[app("web")]).await;
    assert_eq!(answer.at("/status/updated/status"), "UpToDate");
    assert_eq!(
        answer.at("/metadata/annotations/device-controller~1renderedVersion"),
        "1"
    );
    // The engine's tick, a daemon-reload and a start are still to come.
    sleep(Duration::from_millis(1020)).await;
    assert_eq!(updated(&device).1, "Updating");
    device.changed().await;
    sleep(Duration::from_millis(1)).await;
    let (version, state, _) = updated(&device);
    assert_eq!((version.as_str(), state.as_str()), ("2", "UpToDate"));
    assert_eq!(
        reported(&device),
        ["web Preparing 0/1 r0"],
        "events are read later"
    );
    sleep(Duration::from_secs(10)).await;
    assert_eq!(reported(&device), ["web Running 1/1 r0"]);
}

#[tokio::test(start_paused = true)]
async fn polls_start_five_seconds_apart_so_a_third_quick_change_waits() {
    let (service, device) = idle().await;
    let mut apps = Vec::new();
    let mut waited = Vec::new();
    for name in ["one", "two", "three"] {
        apps.push(app(name));
        let began = Instant::now();
        deploy(&service, "d1", &apps).await;
        device.changed().await;
        waited.push(began.elapsed().as_secs());
    }
    assert!(waited[0] < 3 && waited[1] < 3, "{waited:?}");
    assert!((3..8).contains(&waited[2]), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_update_stops_the_old_before_it_starts_the_new_and_touches_no_other() {
    let (service, device) = idle().await;
    let keep = container_app("keep", "quay.io/x/keep:1", "");
    deploy(
        &service,
        "d1",
        &[keep.clone(), container_app("web", "quay.io/x/web:1", "")],
    )
    .await;
    device
        .until(|journal| starts(journal, "quay.io/x/web:1") == 1)
        .await;
    sleep(Duration::from_secs(10)).await;
    deploy(
        &service,
        "d1",
        &[keep, container_app("web", "quay.io/x/web:2", "")],
    )
    .await;
    device
        .until(|journal| starts(journal, "quay.io/x/web:2") == 1)
        .await;
    let journal = device.journal();
    let web: Vec<(String, Occurrence)> = journal
        .iter()
        .filter(|entry| entry.app == "web")
        .map(|entry| (entry.image.clone(), entry.event))
        .collect();
    let (one, two) = ("quay.io/x/web:1".to_owned(), "quay.io/x/web:2".to_owned());
    assert_eq!(
        web,
        [
            (one.clone(), Occurrence::Start),
            (one.clone(), Occurrence::Stop),
            (one, Occurrence::Exit(0)),
            (two, Occurrence::Start),
        ]
    );
    assert_eq!(
        journal.iter().filter(|entry| entry.app == "keep").count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ignores_term_holds_up_all_and_freezes_the_status() {
    let (service, device) = idle().await;
    device.script(Script::container("app").ignores_term());
    deploy(
        &service,
        "d1",
        &[container_app("slow", "quay.io/x/y:1", "StopTimeout=30")],
    )
    .await;
    device.changed().await;
    sleep(Duration::from_secs(20)).await;
    deploy(
        &service,
        "d1",
        &[container_app("next", "quay.io/x/z:1", "")],
    )
    .await;
    device.changed().await;
    let told = Instant::now();
    sleep(Duration::from_secs(25)).await;
    assert_eq!(updated(&device).2, "Device is applying renderedVersion: 3");
    assert_eq!(reported(&device), ["slow Running 1/1 r0"]);
    device.changed().await;
    assert_eq!(told.elapsed(), Duration::from_secs(30));
    assert_eq!(
        device.journal().last().unwrap().event,
        Occurrence::Exit(137)
    );
    device.changed().await;
    assert_eq!(device.journal().last().unwrap().app, "next");
}

#[tokio::test(start_paused = true)]
async fn restart_policies_show_as_measured() {
    let (service, device) = idle().await;
    device.script(Script::image("quay.io/x/zero:1").exits(Duration::from_secs(2), 0));
    device.script(Script::image("quay.io/x/three:1").exits(Duration::from_secs(2), 3));
    let unit = |name: &str, image: &str, more: &str| container_app(name, image, more);
    deploy(
        &service,
        "d1",
        &[
            unit("never-0", "quay.io/x/zero:1", "[Service]\nRestart=no"),
            unit("never-3", "quay.io/x/three:1", "[Service]\nRestart=no"),
            unit(
                "fail-0",
                "quay.io/x/zero:1",
                "[Service]\nRestart=on-failure\nRestartSec=5",
            ),
            unit(
                "fail-3",
                "quay.io/x/three:1",
                "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure\nRestartSec=1000",
            ),
            unit("limit", "quay.io/x/zero:1", "[Service]\nRestart=always"),
        ],
    )
    .await;
    device.script(Script::app("limit").exits(Duration::from_millis(100), 0));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        reported(&device),
        [
            "fail-0 Completed 0/1 r0",
            "fail-3 Error 0/1 r0",
            "limit Completed 0/1 r4",
            "never-0 Completed 0/1 r0",
            "never-3 Error 0/1 r0",
        ]
    );
    let summary = &device.value().unwrap()["status"]["applicationsSummary"];
    assert_eq!(summary["status"], "Error");
    assert_eq!(
        summary["info"],
        "fail-3 is in status Error, never-3 is in status Error"
    );
}

#[tokio::test(start_paused = true)]
async fn a_never_pod_with_its_marker_runs_once_whatever_restarts() {
    let (service, device) = idle().await;
    device.script(Script::container("app").exits(Duration::from_secs(1), 3));
    let unit = format!(
        "[Unit]\nConditionPathExists=!%E/containers/systemd/job/.app.ran\n[Container]\nImage=quay.io/x/job:1\nContainerName=app\n[Service]\nRestart=no\nExecStartPre=/usr/bin/touch %E/containers/systemd/job/.app.ran\n{INSTALL}"
    );
    deploy(
        &service,
        "d1",
        &[quadlet("job", &[("app.container", &unit)])],
    )
    .await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(reported(&device), ["job Error 0/1 r0"]);
    device.restart_agent();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        reported(&device),
        [""; 0],
        "just restarted: nothing is listed"
    );
    sleep(Duration::from_secs(20)).await;
    assert_eq!(reported(&device), ["job Error 0/1 r0"]);
    device.reboot();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        reported(&device),
        ["job Unknown 0/0 r0"],
        "no event since boot"
    );
    assert_eq!(starts(&device.journal(), "quay.io/x/job:1"), 1);
}

#[tokio::test(start_paused = true)]
async fn pods_count_their_infra_container_and_end_by_their_exit_policy() {
    let (service, device) = idle().await;
    device.script(Script::container("one").exits(Duration::from_secs(2), 0));
    device.script(Script::container("two").exits(Duration::from_secs(8), 3));
    let pod = |policy: &str| format!("[Pod]\nPodName=p\n{policy}\n{INSTALL}");
    let member = |name: &str| {
        format!(
            "[Container]\nImage=quay.io/x/{name}:1\nPod=p.pod\nContainerName={name}\n[Service]\nRestart=no\n{INSTALL}"
        )
    };
    let files = |policy: &str, name: &str| {
        let (pod, one, two) = (pod(policy), member("one"), member("two"));
        quadlet(
            name,
            &[
                ("p.pod", &pod),
                ("one.container", &one),
                ("two.container", &two),
            ],
        )
    };
    deploy(
        &service,
        "d1",
        &[
            files("", "stops"),
            files("PodmanArgs=--exit-policy=continue", "stays"),
        ],
    )
    .await;
    device
        .until(|journal| starts(journal, "quay.io/x/two:1") == 2)
        .await;
    sleep(Duration::from_secs(4)).await;
    let now: Vec<String> = device
        .applications()
        .iter()
        .map(|a| format!("{} {} {}", a.name, a.status, a.ready))
        .collect();
    assert_eq!(now, ["stays Running 2/3", "stops Running 2/3"]);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        reported(&device),
        ["stays Running 1/3 r0", "stops Error 0/3 r0"]
    );
}

fn init(name: &str, marker: &str, more: &str, next: &str) -> String {
    format!(
        "[Unit]\nStartLimitIntervalSec=0\nConditionPathExists=!%t/ID.{marker}\n{more}OnSuccess={next}.service\n[Container]\nImage=quay.io/x/{name}:1\nPod=p.pod\nContainerName={name}\n[Service]\nRestart=on-failure\nRestartSec=4\nExecStopPost=/bin/sh -c 'if [ \"$$SERVICE_RESULT\" = success ] && [ \"$$EXIT_STATUS\" = 0 ]; then : > %t/ID.{marker}; fi'\n{INSTALL}"
    )
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_one_after_the_other_before_the_app_and_again_after_a_reboot() {
    let (service, device) = idle().await;
    device.script(Script::container("i1").exits_in_turn(vec![
        Some((Duration::from_secs(1), 1)),
        Some((Duration::from_secs(1), 1)),
        Some((Duration::from_secs(1), 0)),
    ]));
    device.script(Script::container("i2").exits(Duration::from_secs(1), 0));
    let (i1, i2) = (
        init("i1", "i1", "", "i2"),
        init(
            "i2",
            "i2",
            "ConditionPathExists=%t/ID.i1\nAfter=i1.service\n",
            "app",
        ),
    );
    let main = format!(
        "[Unit]\nStartLimitIntervalSec=0\nConditionPathExists=%t/ID.i2\nAfter=i2.service\n[Container]\nImage=quay.io/x/app:1\nPod=p.pod\nContainerName=app\n[Service]\nRestart=always\n{INSTALL}"
    );
    let pod = format!(
        "[Pod]\nPodName=p\nPodmanArgs=--exit-policy=continue\n[Service]\nExecStopPost=/bin/rm -f %t/ID.i1 %t/ID.i2\n{INSTALL}"
    );
    let files = [
        ("i1.container", i1.as_str()),
        ("i2.container", &i2),
        ("app.container", &main),
        ("p.pod", &pod),
    ];
    deploy(&service, "d1", &[quadlet("web", &files)]).await;
    device
        .until(|journal| starts(journal, "quay.io/x/app:1") == 1)
        .await;
    let order: Vec<String> = device
        .journal()
        .iter()
        .filter(|e| e.event == Occurrence::Start)
        .map(|e| e.container.clone())
        .collect();
    assert_eq!(order, ["i1", "i1", "i1", "i2", "app"]);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        reported(&device),
        ["web Running 2/4 r2"],
        "infra and app, of four"
    );
    device.restart_agent();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        starts(&device.journal(), "quay.io/x/app:1"),
        1,
        "the running app is not touched"
    );
    device.reboot();
    device
        .until(|journal| starts(journal, "quay.io/x/app:1") == 2)
        .await;
    assert_eq!(starts(&device.journal(), "quay.io/x/i2:1"), 2);
    deploy(&service, "d1", &[]).await;
    device
        .until(|journal| {
            journal
                .last()
                .is_some_and(|e| e.container == "app" && e.event == Occurrence::Exit(0))
        })
        .await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(reported(&device), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_new_image_holds_the_version_for_half_a_minute() {
    let (service, device) = idle().await;
    device.script(
        Script::image("registry.example/nginx:1.27").pull(Pull::Takes(Duration::from_millis(100))),
    );
    let began = Instant::now();
    deploy(&service, "d1", &[app("web")]).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        updated(&device).2,
        "0/1 images complete, pending: registry.example/nginx:1.27"
    );
    device.changed().await;
    assert!(
        (30..36).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_found_kills_the_version_and_a_newer_one_clears_it() {
    let (service, device) = idle().await;
    deploy(&service, "d1", &[app("old")]).await;
    device.changed().await;
    device.script(Script::image("quay.io/x/nope:1").pull(Pull::NotFound));
    deploy(
        &service,
        "d1",
        &[app("old"), container_app("new", "quay.io/x/nope:1", "")],
    )
    .await;
    sleep(Duration::from_secs(45)).await;
    let (version, state, info) = updated(&device);
    assert_eq!((version.as_str(), state.as_str()), ("2", "OutOfDate"));
    assert!(
        info.starts_with("Device has not been updated to the latest device spec: [2026-11-21 04:0"),
        "{info}"
    );
    assert!(info.ends_with("] While Preparing: prefetch failed for quay.io/x/nope:1: service unavailable (network issue)"), "{info}");
    assert!(
        service
            .events()
            .iter()
            .any(|event| event["reason"] == "DeviceUpdateFailed")
    );
    sleep(Duration::from_secs(600)).await;
    assert_eq!(
        updated(&device).1,
        "OutOfDate",
        "a dead version is not tried again"
    );
    assert_eq!(
        device.journal().len(),
        1,
        "the old application was left alone"
    );
    deploy(&service, "d1", &[app("old"), app("good")]).await;
    device.changed().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(updated(&device).1, "UpToDate");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_unit_rolls_everything_back() {
    let (service, device) = idle().await;
    deploy(&service, "d1", &[app("goes")]).await;
    device.changed().await;
    sleep(Duration::from_secs(10)).await;
    let bad = container_app("bad", "quay.io/x/y:1", "Memory=1g");
    deploy(&service, "d1", &[app("fine"), bad, app("later")]).await;
    sleep(Duration::from_secs(20)).await;
    let (version, _, info) = updated(&device);
    assert_eq!(version, "2");
    assert!(
        info.ends_with("While Rebooting: unknown failed: an error occurred"),
        "{info}"
    );
    assert_eq!(reported(&device), ["goes Running 1/1 r0"]);
    let story: Vec<(String, Occurrence)> = device
        .journal()
        .iter()
        .map(|e| (e.app.clone(), e.event))
        .collect();
    let line = |app: &str, event| (app.to_owned(), event);
    assert_eq!(
        story,
        [
            line("goes", Occurrence::Start),
            line("goes", Occurrence::Stop),
            line("goes", Occurrence::Exit(0)),
            line("fine", Occurrence::Start),
            line("fine", Occurrence::Stop),
            line("fine", Occurrence::Exit(0)),
            line("goes", Occurrence::Start),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn silence_is_found_after_five_minutes_by_a_task_and_ends_with_a_report() {
    let (service, device) = idle().await;
    deploy(&service, "d1", &[app("web")]).await;
    sleep(Duration::from_secs(30)).await;
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
    let disconnected: Vec<Value> = service
        .events()
        .into_iter()
        .filter(|e| e["reason"] == "DeviceDisconnected")
        .collect();
    assert_eq!(disconnected.len(), 1);
    assert_eq!(disconnected[0]["type"], "Warning");
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
async fn an_operator_stops_and_starts_an_application() {
    let (service, device) = idle().await;
    deploy(&service, "d1", &[app("web")]).await;
    sleep(Duration::from_secs(15)).await;
    let act = async |action: &str| {
        let path = format!("POST /devices/d1/applications/web/actions/{action}");
        assert_eq!(call(&service, &path, &Value::Null).await.code, 200);
        sleep(Duration::from_secs(20)).await;
        reported(&device)
    };
    assert_eq!(act("stop").await, ["web Stopped 0/1 r0"]);
    assert_eq!(act("start").await, ["web Running 1/1 r0"]);
    let before = device.journal().len();
    assert_eq!(act("restart").await, ["web Running 1/1 r0"]);
    assert_eq!(device.journal().len(), before + 3);
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
