//! What is no fault of a pod: trouble of others, and trouble that stays a pod's own.

use super::*;

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
    assert_eq!(waits_for(&stage, "new"), "ContainerCreating");
    stage.event("new", "DeviceUpdateFailed").await;
    assert!(stage.events("new", "DeviceSpecInvalid").is_empty());
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
async fn a_port_that_others_take_at_the_same_moment_is_nobody_elses_trouble() {
    let stage = stage().await;
    let mut theirs = foreign("theirs");
    theirs["inline"][0]["content"] = json!(
        "[Container]\nImage=quay.io/other/app:1\nPublishPort=8080:80\n[Install]\nWantedBy=default.target\n"
    );
    stage.edit_applications("device-1", &json!([theirs])).await;
    // Before it has been read that they are there.
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
    assert!(
        words.contains("the device says: Not started: vk-"),
        "{words}"
    );
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
