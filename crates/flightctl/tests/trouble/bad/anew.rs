//! The provider starts anew while a device is in trouble with a bad pod.

use super::*;

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
