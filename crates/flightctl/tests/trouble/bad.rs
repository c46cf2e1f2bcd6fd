//! One bad pod among twenty on a device: the others run, and nothing disturbs them.
//! What happened there is asserted from the device's own journal of starts and stops.

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
    stage.devices[0].script(Script::image(BAD).pull(Pull::Local));
    let begun = Instant::now();
    stage.ready("bad").await;
    assert!(
        begun.elapsed() < Duration::from_secs(60),
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
    all_run(&stage, 90).await;
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
async fn a_bad_update_leaves_what_runs_and_its_neighbours_as_they_are() {
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
    undisturbed(&journal(&stage));
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

/// The provider ends while a device fails, and another one takes over.
async fn restarted_while(script: Script, seconds: u64, within: u64) -> Stage {
    let mut stage = stage().await;
    stage.devices[0].script(script);
    twenty(&stage, &["bad"]);
    pass(seconds).await;
    stage.stop_provider().await;
    pass(60).await;
    stage.start_provider().await;
    all_run(&stage, within).await;
    let found = journal(&stage).len();
    pass(300).await;
    undisturbed(&journal(&stage)[found..]);
    assert_eq!(running(&stage), 19);
    assert_eq!(phase(&stage, "bad"), "Pending");
    stage
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_starts_anew_in_the_middle_finds_the_bad_image() {
    // Before the device says so, and when it just has.
    for seconds in [10, 34] {
        let bad = Script::image(BAD).pull(Pull::NotFound);
        let stage = restarted_while(bad, seconds, 60).await;
        undisturbed(&journal(&stage));
        assert_eq!(waits_for(&stage, "bad"), "ImagePullBackOff");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_starts_anew_in_the_middle_finds_the_bad_unit() {
    for seconds in [8, 20] {
        let bad = Script::image(BAD).generator_rejects();
        let stage = restarted_while(bad, seconds, 300).await;
        assert_eq!(
            waits_for(&stage, "bad"),
            "CreateContainerError",
            "{seconds}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_starts_anew_tries_a_bad_pod_once_more_in_a_quiet_moment() {
    let mut stage = stage().await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    twenty(&stage, &["bad"]);
    all_run(&stage, 60).await;
    pass(600).await;
    stage.stop_provider().await;
    stage.start_provider().await;
    pass(10).await;
    assert_eq!(waits_for(&stage, "bad"), "ImagePullBackOff", "as before");
    pass(600).await;
    undisturbed(&journal(&stage));
    assert_eq!(waits_for(&stage, "bad"), "ImagePullBackOff");
    stage.devices[0].script(Script::image(BAD).pull(Pull::Local));
    stage.ready("bad").await;
}

/// What a pod says that waits for a device that does not get on with others' things.
async fn waits_for_others(stage: &Stage, name: &str, words: &str) {
    see(stage, "the device's words", || {
        message(stage, name).contains(words)
    })
    .await;
    let event = stage.event(name, "DeviceUpdateFailed").await;
    assert!(event.contains(words), "{event}");
    see(stage, "no blame", || {
        waits_for(stage, name) == "ContainerCreating"
    })
    .await;
    pass(600).await;
    assert_eq!(waits_for(stage, name), "ContainerCreating");
    assert_eq!(
        stage.applications("device-1").len(),
        21,
        "nobody is taken out"
    );
    assert!(message(stage, name).contains(words));
    undisturbed(&journal(stage));
}

#[tokio::test(start_paused = true)]
async fn what_others_have_put_on_a_device_is_told_and_left_alone() {
    let named = Script::image("quay.io/other/app:1").pull(Pull::Unauthorized);
    let unnamed = Script::image("quay.io/other/app:1").generator_rejects();
    for (script, words) in [
        (
            named,
            "prefetch failed for quay.io/other/app:1: authentication failed",
        ),
        (
            unnamed,
            "While Rebooting: unknown failed: an error occurred",
        ),
    ] {
        let stage = stage().await;
        twenty(&stage, &[]);
        all_run(&stage, 60).await;
        stage.devices[0].script(script);
        let mut apps = stage.spec_applications("device-1");
        apps.as_array_mut().unwrap().push(foreign("theirs"));
        stage.edit_applications("device-1", &apps).await;
        pass(60).await;
        stage.create(pod("new", NODE, "nginx:alpine"));
        waits_for_others(&stage, "new", words).await;
        // When they take it away all goes on.
        let apps = stage.spec_applications("device-1");
        let ours = apps
            .as_array()
            .unwrap()
            .iter()
            .filter(|a| a["name"] != "theirs");
        stage
            .edit_applications("device-1", &ours.cloned().collect::<Value>())
            .await;
        stage.ready("new").await;
        undisturbed(&journal(&stage));
    }
}

#[tokio::test(start_paused = true)]
async fn a_config_of_others_that_cannot_be_rendered_is_told_and_left_alone() {
    let stage = stage().await;
    twenty(&stage, &[]);
    all_run(&stage, 60).await;
    let bad = json!([{"name": "g", "gitRef": {"repository": "r", "path": "/", "targetRevision": "main"}}]);
    let patch = json!([{"op": "add", "path": "/spec/config", "value": bad}]);
    stage
        .request("PATCH", "/api/v1/devices/device-1", patch)
        .await;
    stage.create(pod("new", NODE, "nginx:alpine"));
    see(&stage, "the words", || {
        message(&stage, "new").contains("1 invalid configuration: g.")
    })
    .await;
    pass(600).await;
    assert_eq!(stage.applications("device-1").len(), 20);
    let patch = json!([{"op": "remove", "path": "/spec/config"}]);
    stage
        .request("PATCH", "/api/v1/devices/device-1", patch)
        .await;
    stage.ready("new").await;
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_nobody_elses_trouble() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).crash_loops());
    twenty(&stage, &["bad"]);
    all_run(&stage, 30).await;
    see(&stage, "CrashLoopBackOff", || {
        waits_for(&stage, "bad") == "CrashLoopBackOff"
    })
    .await;
    pass(300).await;
    let of_others = journal(&stage).into_iter().filter(|e| e.image != BAD);
    undisturbed(&of_others.collect::<Vec<_>>());
    assert_eq!(stage.applications("device-1").len(), 20);
    assert_eq!(condition(&stage.pod("bad").unwrap(), "Ready"), "False");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_others_have_is_nobody_elses_trouble() {
    let stage = stage().await;
    let mut theirs = foreign("theirs");
    theirs["inline"][0]["content"] = json!(
        "[Container]\nImage=quay.io/other/app:1\nPublishPort=8080:80\n[Install]\nWantedBy=default.target\n"
    );
    stage.edit_applications("device-1", &json!([theirs])).await;
    pass(20).await;
    let mut bad = pod("bad", NODE, "bad:1");
    bad["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
    stage.create(bad);
    twenty(&stage, &[]);
    all_run(&stage, 30).await;
    see(&stage, "CrashLoopBackOff", || {
        waits_for(&stage, "bad") == "CrashLoopBackOff"
    })
    .await;
    pass(300).await;
    assert!(!is_ready(&stage, "bad"));
    undisturbed(&journal(&stage));
    assert_eq!(starts(&journal(&stage)), 20, "theirs, and the neighbours");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_units_never_start_says_so_and_is_nobody_elses_trouble() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).never_created());
    twenty(&stage, &["bad"]);
    all_run(&stage, 30).await;
    see(&stage, "CreateContainerError", || {
        waits_for(&stage, "bad") == "CreateContainerError"
    })
    .await;
    let words = message(&stage, "bad");
    assert!(words.contains("started none of its units"), "{words}");
    assert_eq!(phase(&stage, "bad"), "Pending");
    pass(300).await;
    undisturbed(&journal(&stage));
    assert_eq!(
        stage.applications("device-1").len(),
        20,
        "its device goes on trying"
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_update_in_whose_middle_the_provider_starts_anew_is_shown_as_it_is() {
    let mut stage = stage().await;
    twenty(&stage, &[]);
    all_run(&stage, 60).await;
    let before = journal(&stage).len();
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    set_image(&stage, "good-7", "bad:1");
    // The device says so while nobody looks.
    pass(20).await;
    stage.stop_provider().await;
    pass(30).await;
    stage.start_provider().await;
    // What ran before is not known any more: the bad one is ended, as by a kubelet.
    see(&stage, "ImagePullBackOff", || {
        waits_for(&stage, "good-7") == "ImagePullBackOff"
    })
    .await;
    pass(300).await;
    let ended: BTreeSet<String> = journal(&stage)[before..]
        .iter()
        .map(|e| e.app.clone())
        .collect();
    assert_eq!(ended.len(), 1, "its neighbours run on");
    assert_eq!(stage.devices[0].applications().len(), 18);
    assert!(!is_ready(&stage, "good-7"));
    assert_eq!(running(&stage), 18);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_starts_anew_beside_others_trouble_takes_nothing_out() {
    let mut stage = stage().await;
    twenty(&stage, &[]);
    all_run(&stage, 60).await;
    stage.devices[0].script(Script::image("quay.io/other/app:1").generator_rejects());
    let mut apps = stage.spec_applications("device-1");
    apps.as_array_mut().unwrap().push(foreign("theirs"));
    stage.edit_applications("device-1", &apps).await;
    pass(30).await;
    stage.stop_provider().await;
    // It lists nothing for a while, and tries the version once more.
    stage.devices[0].restart_agent();
    stage.start_provider().await;
    for _ in 0..60 {
        pass(10).await;
        assert_eq!(stage.applications("device-1").len(), 20);
    }
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_lacks_a_config_map_keeps_no_other_from_its_turn() {
    let stage = stage().await;
    let mut lacks = pod("lacks", NODE, "nginx:alpine");
    let from = json!([{"configMapRef": {"name": "missing"}}]);
    lacks["spec"]["containers"][0]["envFrom"] = from;
    stage.create(lacks);
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    twenty(&stage, &["bad"]);
    all_run(&stage, 60).await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::Local));
    stage.ready("bad").await;
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
