//! Others edit what is ours in Flight Control.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use vk_flightctl::marker::MARKER_FILE;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::flightctl::Script;

use crate::stage::{Stage, condition, pod};
use crate::{FLEET, NODE, delete, foreign, is_ready, pass, see};

#[tokio::test(start_paused = true)]
async fn an_edit_that_drops_our_marker_is_restored_and_ends_with_the_pod() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let edited = json!([foreign(&format!("vk-{uid}"))]);
    stage.edit_applications("device-1", &edited).await;
    see(&stage, "ours again", || {
        is_ours(&stage.spec_applications("device-1"), &ours)
    })
    .await;
    stage.edit_applications("device-1", &edited).await;
    delete(&stage, "p");
    stage.gone("p").await;
    assert_eq!(stage.spec_applications("device-1"), json!([]));
    see(&stage, "nothing runs", || {
        stage.devices[0].applications().is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_marker_is_lost_and_that_is_deleted_while_we_are_away_ends_on_its_device() {
    let mut stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.stop_provider().await;
    let others = [foreign("theirs"), foreign(&format!("vk-{uid}"))];
    stage.edit_applications("device-1", &json!(others)).await;
    delete(&stage, "p");
    pass(60).await;
    stage.start_provider().await;
    stage.gone("p").await;
    assert_eq!(stage.applications("device-1"), ["theirs"]);
    let run = stage.devices[0].applications();
    let run: Vec<_> = run.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(run, ["theirs"], "gone only when it had ended");
}

#[tokio::test(start_paused = true)]
async fn an_application_without_a_marker_that_no_pod_of_ours_names_is_left_alone() {
    let mut stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.stop_provider().await;
    let bare = json!([foreign(&format!("vk-{uid}"))]);
    stage.edit_applications("device-1", &bare).await;
    stage
        .cluster
        .delete::<Pod>("default", "p", Some(0))
        .unwrap();
    stage.start_provider().await;
    pass(600).await;
    assert_eq!(stage.spec_applications("device-1"), bare);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_ours_that_someone_edits_is_restored_and_runs_as_it_was() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let mut edited = ours.clone();
    let files = edited[0]["inline"].as_array_mut().unwrap();
    let unit = files
        .iter_mut()
        .find(|f| {
            f["path"]
                .as_str()
                .is_some_and(|p| p.ends_with(".container"))
        })
        .expect("a container unit");
    let text = unit["content"].as_str().unwrap();
    let other = text.replace("nginx:alpine", "quay.io/other/app:1");
    assert_ne!(text, other);
    unit["content"] = other.into();
    stage.edit_applications("device-1", &edited).await;
    see(&stage, "ours again", || {
        stage.spec_applications("device-1") == ours
    })
    .await;
    pass(60).await;
    assert_eq!(stage.spec_applications("device-1"), ours);
    let last = stage.devices[0].journal().pop().unwrap();
    assert!(last.image.contains("nginx:alpine"), "{last:?}");
    assert!(is_ready(&stage, "p"));
}

#[tokio::test(start_paused = true)]
async fn each_edit_of_what_is_ours_is_told_once_with_what_was_changed() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let mut edited = ours.clone();
    edited[0]["runAs"] = "someone".into();
    for (edit, words) in [
        (edited, "changed: runAs"),
        (json!([]), "changed: it was taken out"),
    ] {
        stage.edit_applications("device-1", &edit).await;
        see(&stage, "ours again", || {
            let now = stage.spec_applications("device-1");
            now[0]["name"] == ours[0]["name"] && now[0]["runAs"].is_null()
        })
        .await;
        pass(60).await;
        let told = stage.events("p", "ChangedByOthers");
        let of: Vec<_> = told.iter().filter(|t| t.contains(words)).collect();
        assert_eq!(of.len(), 1, "{told:?}");
        let whole = format!(
            "vk-{uid} on device device-1 was changed in Flight Control, and is put back; {words}"
        );
        assert_eq!(*of[0], whole);
    }
    assert_eq!(stage.events("p", "ChangedByOthers").len(), 2);
    assert!(is_ready(&stage, "p"));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_takes_the_device_ends_the_running_status() {
    let stage = Stage::new(1, 1, 0).await;
    stage.create(pod("p", FLEET, "nginx:alpine"));
    stage.ready("p").await;
    let fleet = [("fleet".to_owned(), "edge-fleet-1".to_owned())].into();
    stage
        .flightctl
        .create_fleet("fx", &fleet, &json!({"applications": []}))
        .unwrap();
    let shown = stage
        .until("not Ready, and why", |c| {
            c.get_value("pods", "default", "p").filter(|p| {
                condition(p, "Ready") == "False"
                    && p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
                        == "FleetManaged"
            })
        })
        .await;
    assert!(stage.devices[0].applications().is_empty());
    assert_eq!(shown["status"]["containerStatuses"][0]["ready"], false);
    stage.flightctl.delete_fleet("fx");
    stage.ready("p").await;
    assert_eq!(stage.devices[0].applications().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_restarts_takes_no_pod_out_of_ready() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.devices[0].restart_agent();
    for _ in 0..60 {
        pass(1).await;
        assert!(is_ready(&stage, "p"));
    }
}

fn runs(stage: &Stage) -> Vec<usize> {
    stage
        .devices
        .iter()
        .map(|d| d.applications().len())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_copy_of_a_pod_is_taken_out_and_the_first_runs_on() {
    let stage = Stage::new(2, 0, 2).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let apps = stage.spec_applications("device-1");
    stage.edit_applications("device-2", &apps).await;
    see(&stage, "one copy in the specs", || {
        stage.applications("device-2").is_empty()
    })
    .await;
    pass(120).await;
    assert_eq!(runs(&stage), [1, 0]);
    assert!(is_ready(&stage, "p"));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_device_on_the_pods_label_keeps_it() {
    let mut stage = Stage::new(2, 0, 2).await;
    let mut there = pod("p", NODE, "nginx:alpine");
    there["metadata"]["annotations"] = json!({"flightctl.io/device": "device-2"});
    stage.create(there);
    stage.ready("p").await;
    stage.stop_provider().await;
    let apps = stage.spec_applications("device-2");
    stage.edit_applications("device-1", &apps).await;
    see(&stage, "both run", || runs(&stage) == [1, 1]).await;
    // And both say so: nothing but the label tells them apart.
    pass(30).await;
    stage.start_provider().await;
    see(&stage, "one copy", || runs(&stage) == [0, 1]).await;
    pass(120).await;
    assert_eq!(runs(&stage), [0, 1]);
    let shown = stage.pod("p").unwrap();
    assert_eq!(stage.device_of(&shown).name(), "device-2");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_ends_on_every_device_that_has_it() {
    let stage = Stage::new(2, 0, 2).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let apps = stage.spec_applications("device-1");
    delete(&stage, "p");
    stage.edit_applications("device-2", &apps).await;
    stage.gone("p").await;
    see(&stage, "none runs", || runs(&stage) == [0, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_someone_undoes_is_repeated() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let apps = stage.spec_applications("device-1");
    delete(&stage, "p");
    see(&stage, "removed", || {
        stage.applications("device-1").is_empty()
    })
    .await;
    stage.edit_applications("device-1", &apps).await;
    stage.gone("p").await;
    see(&stage, "nothing runs", || {
        stage.devices[0].applications().is_empty()
    })
    .await;
    assert!(stage.applications("device-1").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_confirms_a_removal_is_not_asked_for_every_second() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let stubborn = Script::any().ignores_term();
    stage.devices[0].script(stubborn);
    stage.devices[0].disconnect();
    delete(&stage, "p");
    pass(200).await;
    let rule = Rule::always("/api/v1/devices?", Effect::Latency(1)).method("GET");
    stage.flightctl.faults().add(rule.times(1000));
    pass(60).await;
    let left = stage.flightctl.faults().rules()[0].times.unwrap();
    assert!(1000 - left < 10, "{} reads in a minute", 1000 - left);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_changing_our_application_is_fought_less_and_less() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let theirs = json!([foreign(&format!("vk-{uid}"))]);
    let mut edits = 0;
    for _ in 0..300 {
        if is_ours(&stage.spec_applications("device-1"), &ours) {
            stage.edit_applications("device-1", &theirs).await;
            edits += 1;
        }
        pass(1).await;
    }
    assert!((5..12).contains(&edits), "{edits} edits");
    see(&stage, "ours in the end", || {
        is_ours(&stage.spec_applications("device-1"), &ours)
    })
    .await;
}

/// The same files, the marker aside: that was lost, and is another one.
pub fn is_ours(apps: &Value, ours: &Value) -> bool {
    let files = |apps: &Value| {
        let files = apps[0]["inline"].as_array().cloned().unwrap_or_default();
        files.into_iter().skip(1).collect::<Vec<_>>()
    };
    apps[0]["inline"][0]["path"] == MARKER_FILE && files(apps) == files(ours)
}
