//! A new version on a device: as a whole, in order, or not at all.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use vk_sandbox::flightctl::{Occurrence, Pull, Script};

use crate::flightctl_client::{app, call, container_app, deploy};
use crate::{idle, reported, starts, updated};

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
async fn an_image_of_a_long_name_is_told_by_its_last_64_bytes() {
    let (service, device) = idle().await;
    let image = format!(
        "registry.example/{}/nope:1",
        "part/".repeat(15).trim_end_matches('/')
    );
    device.script(Script::image(&image).pull(Pull::Unauthorized));
    deploy(&service, "d1", &[container_app("new", &image, "")]).await;
    sleep(Duration::from_secs(45)).await;
    let told = format!(
        "While Preparing: prefetch failed for ...{}: authentication failed",
        &image[image.len() - 64..]
    );
    let (_, _, info) = updated(&device);
    assert!(info.ends_with(&told), "{info}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_in_the_way_of_a_folder_fails_the_version_and_is_named() {
    let (service, device) = idle().await;
    deploy(&service, "d1", &[app("goes")]).await;
    device.changed().await;
    let file = |path: &str| json!({"path": path, "content": "x"});
    let config = json!([{"name": "c", "inline": [file("/etc/x"), file("/etc/x/y")]}]);
    let patch = json!([
        {"op": "add", "path": "/spec/config", "value": config},
        {"op": "add", "path": "/spec/applications/-", "value": app("new")},
    ]);
    assert_eq!(call(&service, "PATCH /devices/d1", &patch).await.code, 200);
    sleep(Duration::from_secs(20)).await;
    let (version, _, info) = updated(&device);
    assert_eq!(version, "2");
    let told = "While ApplyingUpdate: config failed for /etc/x/y: required resource not found";
    assert!(info.ends_with(told), "{info}");
    assert!(device.files().is_empty());
    assert_eq!(device.journal().len(), 1, "no application was touched");
}

#[tokio::test(start_paused = true)]
async fn of_two_containers_with_one_port_the_second_never_starts() {
    let (service, device) = idle().await;
    let with = |name: &str, port: &str| {
        let more = format!("PublishPort={port}\n[Service]\nRestart=always\nRestartSec=5");
        container_app(name, "quay.io/x/y:1", &more)
    };
    deploy(
        &service,
        "d1",
        &[with("one", "8080:80"), with("two", "127.0.0.1:8080:81")],
    )
    .await;
    sleep(Duration::from_secs(30)).await;
    let shown = reported(&device);
    assert_eq!(shown[0], "one Running 1/1 r0");
    assert!(shown[1].starts_with("two Error 0/1 r"), "{shown:?}");
    assert_eq!(device.journal().len(), 1, "it has run nothing");
    deploy(&service, "d1", &[with("two", "127.0.0.1:8080:81")]).await;
    device
        .until(|journal| journal.last().is_some_and(|e| e.app == "two"))
        .await;
}

/// As on a real device: the agent writes the files of the next version before it ends
/// the containers of this one.
#[tokio::test(start_paused = true)]
async fn what_an_old_container_leaves_at_its_end_is_in_the_next_versions_folder() {
    let (service, device) = idle().await;
    let mark = "%E/containers/systemd/web/.done";
    let more = format!(
        "[Unit]\nConditionPathExists=!{mark}\n[Service]\nRestart=on-failure\nExecStopPost=/bin/sh -c \
         'if [ \"$$SERVICE_RESULT\" = success ] && [ \"$$EXIT_STATUS\" = 0 ]; then : > {mark}; fi'\n"
    );
    let images = ["quay.io/x/web:1", "quay.io/x/web:2", "quay.io/x/web:3"];
    for image in images {
        deploy(&service, "d1", &[container_app("web", image, &more)]).await;
        sleep(Duration::from_secs(30)).await;
    }
    let runs = images.map(|image| starts(&device.journal(), image));
    assert_eq!(runs, [1, 0, 1], "the first one's end keeps the second away");
}
