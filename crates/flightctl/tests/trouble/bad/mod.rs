//! One bad pod among twenty on a device: the others run, and nothing disturbs them.
//! What happened there is asserted from the device's own journal of starts and stops.

mod anew;
mod fair;
mod others;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use vk_sandbox::flightctl::{DeviceSpec, JournalEntry, Occurrence, Pull, Script};

use crate::refusals::set_image;
use crate::stage::{Stage, condition, pod};
use crate::{NODE, delete, foreign, is_ready, pass, phase, see, waits_for};

const BAD: &str = "docker.io/library/bad:1";

/// A device for many, as operators set it up.
async fn stage() -> Stage {
    let mut stage = Stage::empty();
    let mut spec = DeviceSpec::new("device-1");
    spec.cpu_cores = Some(64);
    spec.memory_kb = Some(64 << 20);
    spec.status_interval = Duration::from_secs(10);
    stage.devices = vec![stage.flightctl.add_device(spec)];
    stage.start_provider().await;
    stage
}

fn good() -> impl Iterator<Item = String> {
    (0..19).map(|n| format!("good-{n}"))
}

/// Twenty pods at once, the bad ones in the middle.
fn twenty(stage: &Stage, bad: &[&str]) {
    for (n, name) in good().enumerate() {
        if n == 9 {
            for name in bad {
                stage.create(pod(name, NODE, &format!("{name}:1")));
            }
        }
        stage.create(pod(&name, NODE, "nginx:alpine"));
    }
}

fn running(stage: &Stage) -> usize {
    good().filter(|name| is_ready(stage, name)).count()
}

/// What the bad one's container waits with.
fn message(stage: &Stage, name: &str) -> String {
    let pod = stage.pod(name).unwrap_or_default();
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    waiting["message"].as_str().unwrap_or_default().to_owned()
}

/// All neighbours run within this long; how long it took.
async fn all_run(stage: &Stage, within: u64) {
    let begun = Instant::now();
    see(stage, "the neighbours run", || running(stage) == 19).await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(within), "{took:?}");
}

fn journal(stage: &Stage) -> Vec<JournalEntry> {
    stage.devices[0].journal()
}

fn starts(journal: &[JournalEntry]) -> usize {
    let started = |e: &&JournalEntry| e.event == Occurrence::Start;
    journal.iter().filter(started).count()
}

/// Nothing of this journal was ever told to end.
fn undisturbed(journal: &[JournalEntry]) {
    let ends: Vec<_> = journal
        .iter()
        .filter(|e| e.event != Occurrence::Start)
        .collect();
    assert!(ends.is_empty(), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_image_of_any_kind_leaves_its_nineteen_neighbours_running_and_undisturbed() {
    let unauthorized = "authentication failed";
    let missing = "service unavailable (network issue)";
    let told = "image not found";
    for (pull, words, within) in [
        // The device says so after half a minute, and polls again within 5 s.
        (Pull::NotFound, missing, 60),
        (Pull::Unauthorized, unauthorized, 60),
        (Pull::Retrying(told.into()), told, 60),
        // It says no more than that it waits: a minute is what it is given.
        (Pull::Unreachable, "pending", 90),
    ] {
        let stage = stage().await;
        stage.devices[0].script(Script::image(BAD).pull(pull.clone()));
        twenty(&stage, &["bad"]);
        all_run(&stage, within).await;
        see(&stage, "ImagePullBackOff", || {
            waits_for(&stage, "bad") == "ImagePullBackOff"
        })
        .await;
        let shown = message(&stage, "bad");
        assert!(
            shown.starts_with(&format!("Back-off pulling image \"{BAD}\": ")),
            "{shown}"
        );
        assert!(shown.contains(words), "{shown}");
        assert_eq!(phase(&stage, "bad"), "Pending");
        let event = stage.event("bad", "Failed").await;
        assert!(event.contains(words) && event.contains(BAD), "{event}");
        stage.event("bad", "BackOff").await;
        // It is tried again, ever more rarely, and nobody notices.
        pass(300).await;
        let journal = journal(&stage);
        undisturbed(&journal);
        assert_eq!(starts(&journal), 19, "{pull:?}");
        assert_eq!(running(&stage), 19);
        assert_eq!(waits_for(&stage, "bad"), "ImagePullBackOff");
        for name in good() {
            let warned = stage.events(&name, "Failed");
            assert!(warned.is_empty(), "{warned:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_image_appears_starts_by_itself() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    twenty(&stage, &["bad"]);
    all_run(&stage, 60).await;
    // Refused several times: each try has to be another spec to the device.
    pass(240).await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::Local));
    let begun = Instant::now();
    stage.ready("bad").await;
    assert!(
        begun.elapsed() < Duration::from_secs(330),
        "{:?}",
        begun.elapsed()
    );
    pass(300).await;
    undisturbed(&journal(&stage));
    assert_eq!(starts(&journal(&stage)), 20);
}

#[tokio::test(start_paused = true)]
async fn another_image_is_tried_at_once() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::Unauthorized));
    twenty(&stage, &["bad"]);
    all_run(&stage, 60).await;
    // Far into the back-off.
    pass(900).await;
    set_image(&stage, "bad", "nginx:alpine");
    let begun = Instant::now();
    stage.ready("bad").await;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_wait_for_an_image_that_failed_before() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::Unreachable));
    twenty(&stage, &["bad"]);
    all_run(&stage, 90).await;
    see(&stage, "tried again", || {
        stage.applications("device-1").len() == 20
    })
    .await;
    pass(3).await;
    stage.create(pod("new", NODE, "nginx:alpine"));
    let begun = Instant::now();
    stage.ready("new").await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_no_generator_takes_is_found_by_halves_and_its_neighbours_run() {
    let stage = stage().await;
    stage.create(pod("first", NODE, "nginx:alpine"));
    stage.ready("first").await;
    stage.devices[0].script(Script::image(BAD).generator_rejects());
    twenty(&stage, &["bad"]);
    // Six versions, each of them at the device's next poll.
    all_run(&stage, 100).await;
    see(&stage, "CreateContainerError", || {
        waits_for(&stage, "bad") == "CreateContainerError"
    })
    .await;
    let words = "While Rebooting: unknown failed: an error occurred";
    assert_eq!(message(&stage, "bad"), words);
    assert_eq!(phase(&stage, "bad"), "Pending");
    assert!(stage.event("bad", "Failed").await.contains(words));
    for name in good() {
        assert_ne!(waits_for(&stage, &name), "CreateContainerError");
    }
    let found = journal(&stage).len();
    pass(300).await;
    let all = journal(&stage);
    undisturbed(&all[found..]);
    let of_first: Vec<_> = all.iter().filter(|e| e.app == all[0].app).collect();
    assert_eq!(of_first.len(), 1, "what ran before was never touched");
    assert_eq!(running(&stage), 19);
}

#[tokio::test(start_paused = true)]
async fn two_bad_ones_at_once_are_both_found() {
    for unit in [false, true] {
        let stage = stage().await;
        for image in ["docker.io/library/bad:1", "docker.io/library/worse:1"] {
            let script = Script::image(image);
            stage.devices[0].script(if unit {
                script.generator_rejects()
            } else {
                script.pull(Pull::NotFound)
            });
        }
        twenty(&stage, &["bad", "worse"]);
        all_run(&stage, 180).await;
        let reason = if unit {
            "CreateContainerError"
        } else {
            "ImagePullBackOff"
        };
        see(&stage, "both are told", || {
            ["bad", "worse"]
                .iter()
                .all(|name| waits_for(&stage, name) == reason)
        })
        .await;
        let found = journal(&stage).len();
        let mut tried = 0;
        for _ in 0..300 {
            pass(1).await;
            let there = stage.applications("device-1").len();
            assert!(there <= 20, "one is tried after the other");
            tried += usize::from(there == 20);
        }
        assert!(tried > 0);
        undisturbed(&journal(&stage)[found..]);
        assert_eq!(running(&stage), 19);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_update_keeps_the_old_one_running_and_its_neighbours_as_they_are() {
    let stage = stage().await;
    twenty(&stage, &[]);
    all_run(&stage, 60).await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    set_image(&stage, "good-7", "bad:1");
    let event = stage.event("good-7", "BackOff").await;
    assert!(
        event.contains("service unavailable (network issue)"),
        "{event}"
    );
    pass(600).await;
    let shown = stage.pod("good-7").unwrap();
    assert_eq!(shown["spec"]["containers"][0]["image"], "bad:1");
    let status = &shown["status"]["containerStatuses"][0];
    assert!(status["state"]["running"].is_object(), "{status}");
    assert!(
        status["image"].as_str().unwrap().contains("nginx:alpine"),
        "{status}"
    );
    assert_eq!(running(&stage), 19);
    // Each try starts the old one anew, and there are few of them.
    let all = journal(&stage);
    let ends = all.iter().filter(|e| e.event == Occurrence::Stop);
    let ended: Vec<&str> = ends.map(|e| e.app.as_str()).collect();
    assert!(ended.len() <= 3, "{ended:?}");
    assert_eq!(BTreeSet::from_iter(ended).len(), 1);
    // And when its image is there it follows, and it alone.
    stage.devices[0].script(Script::image(BAD).pull(Pull::Local));
    see(&stage, "the new image", || {
        journal(&stage)
            .last()
            .is_some_and(|e| e.image == BAD && e.event == Occurrence::Start)
    })
    .await;
    let all = journal(&stage);
    let ended: BTreeSet<&str> = all
        .iter()
        .filter(|e| e.event != Occurrence::Start)
        .map(|e| e.app.as_str())
        .collect();
    assert_eq!(ended.len(), 1);
    stage.ready("good-7").await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_pod_that_is_deleted_is_gone_at_once_and_its_device_is_as_it_was() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    twenty(&stage, &["bad"]);
    all_run(&stage, 60).await;
    pass(120).await;
    delete(&stage, "bad");
    let begun = Instant::now();
    stage.gone("bad").await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    pass(600).await;
    assert_eq!(stage.applications("device-1").len(), 19);
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_holds_up_its_pod_alone() {
    use k8s_openapi::api::core::v1::ConfigMap;
    let stage = stage().await;
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "settings", "namespace": "default"}, "data": {"key": "value"},
    }))
    .unwrap();
    stage.cluster.create(&map).unwrap();
    let mut bad = pod("bad", NODE, "nginx:alpine");
    let mount = json!([{"name": "v", "mountPath": "/etc/settings"}]);
    bad["spec"]["containers"][0]["volumeMounts"] = mount;
    bad["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "settings"}}]);
    // What someone left on the device where all folders of pods go.
    let theirs = json!([{"name": "theirs", "inline": [
        {"path": "/var/lib/virtual-kubelet", "content": "in the way"}]}]);
    let patch = json!([{"op": "add", "path": "/spec/config", "value": theirs}]);
    stage
        .request("PATCH", "/api/v1/devices/device-1", patch)
        .await;
    pass(20).await;
    stage.create(bad);
    twenty(&stage, &[]);
    all_run(&stage, 60).await;
    see(&stage, "CreateContainerError", || {
        waits_for(&stage, "bad") == "CreateContainerError"
    })
    .await;
    let words = message(&stage, "bad");
    assert!(
        words.starts_with("While ApplyingUpdate: config failed for "),
        "{words}"
    );
    pass(300).await;
    undisturbed(&journal(&stage));
    assert_eq!(starts(&journal(&stage)), 19);
}
