//! How soon what happens at a device is known, and how often it is told.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use vk_sandbox::flightctl::DeviceSpec;

use crate::edits::is_ours;
use crate::refusals::set_image;
use crate::stage::{Stage, pod};
use crate::{NODE, delete, foreign, pass, see};

#[tokio::test(start_paused = true)]
async fn an_edit_by_others_is_noticed_long_before_the_next_full_reading() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let edited = json!([foreign(&format!("vk-{uid}"))]);
    // Everything is read every 30 s; these are three places in between.
    for _ in 0..3 {
        // Long enough that the edit counts as a new one.
        pass(700).await;
        stage.edit_applications("device-1", &edited).await;
        let begun = Instant::now();
        see(&stage, "ours again", || {
            is_ours(&stage.spec_applications("device-1"), &ours)
        })
        .await;
        let took = begun.elapsed();
        assert!(took <= Duration::from_secs(8), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_update_is_told_anew() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "hello-app:1.0"));
    stage.ready("p").await;
    set_image(&stage, "p", "hello-app:2.0");
    stage
        .until("Pulled, of the new image", |_| {
            let told = stage.events("p", "Pulled");
            told.iter()
                .any(|e| e.contains("hello-app:2.0"))
                .then_some(())
        })
        .await;
}

/// A device that reports every 7 s, not in step with the looks at the event
/// log every 5 s.
async fn out_of_step() -> Stage {
    let mut stage = Stage::empty();
    let mut spec = DeviceSpec::new("device-1");
    spec.status_interval = Duration::from_secs(7);
    stage.devices = vec![stage.flightctl.add_device(spec)];
    stage.start_provider().await;
    stage
}

/// What Flight Control shows of a pod's application.
fn shown(stage: &Stage, uid: &str) -> Option<String> {
    let device = stage.flightctl.device_value("device-1").unwrap();
    let apps = device["status"]["applications"].as_array().cloned();
    let name = format!("vk-{uid}");
    let app = apps.into_iter().flatten().find(|a| a["name"] == *name)?;
    app["status"].as_str().map(str::to_owned)
}

/// A look a second, and what it takes to tell Kubernetes.
const AT_ONCE: Duration = Duration::from_millis(1500);

#[tokio::test(start_paused = true)]
async fn what_a_device_reports_about_a_new_pod_is_shown_a_second_later() {
    let stage = out_of_step().await;
    for name in ["p", "q", "r", "s"] {
        pass(38).await;
        let uid = stage.create(pod(name, NODE, "nginx:alpine"));
        see(&stage, "the device reports it", || {
            shown(&stage, &uid).as_deref() == Some("Running")
        })
        .await;
        let begun = Instant::now();
        stage.ready(name).await;
        let took = begun.elapsed();
        assert!(took <= AT_ONCE, "{name}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_left_its_device_is_gone_a_second_later() {
    let stage = out_of_step().await;
    let names = ["p", "q", "r", "s"];
    let uids = names.map(|name| stage.create(pod(name, NODE, "nginx:alpine")));
    for name in names {
        stage.ready(name).await;
    }
    // Nothing is expected of the device before the first is deleted.
    pass(200).await;
    for (name, uid) in names.iter().zip(uids) {
        pass(21).await;
        delete(&stage, name);
        see(&stage, "the device reports that it left", || {
            shown(&stage, &uid).is_none()
        })
        .await;
        let begun = Instant::now();
        stage.gone(name).await;
        let took = begun.elapsed();
        assert!(took <= AT_ONCE, "{name}: {took:?}");
    }
}
