//! What is told of a pod, and kept from it, where it is not to blame.

use k8s_openapi::api::core::v1::ConfigMap;
use vk_sandbox::faults::{Effect, Rule};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_bad_pod_that_cannot_be_made_any_more_gives_its_turn_back() {
    let stage = stage().await;
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "settings", "namespace": "default"}, "data": {"KEY": "value"},
    }))
    .unwrap();
    stage.cluster.create(&map).unwrap();
    for image in [BAD, "docker.io/library/worse:1"] {
        stage.devices[0].script(Script::image(image).pull(Pull::NotFound));
    }
    let mut bad = pod("bad", NODE, "bad:1");
    bad["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    stage.create(bad);
    twenty(&stage, &["worse"]);
    all_run(&stage, 120).await;
    see(&stage, "both are refused", || {
        ["bad", "worse"]
            .iter()
            .all(|name| waits_for(&stage, name) == "ImagePullBackOff")
    })
    .await;
    stage
        .cluster
        .delete::<ConfigMap>("default", "settings", None)
        .unwrap();
    pass(600).await;
    let worse = Script::image("docker.io/library/worse:1");
    stage.devices[0].script(worse.pull(Pull::Local));
    stage.ready("worse").await;
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn while_a_device_is_away_its_last_words_blame_nobody_else() {
    // Flight Control calls it offline after five minutes.
    for away in [200, 900] {
        let stage = stage().await;
        stage.devices[0].script(Script::image(BAD).generator_rejects());
        twenty(&stage, &["bad"]);
        see(&stage, "half of them are taken out", || {
            stage.applications("device-1").len() == 10
        })
        .await;
        stage.devices[0].disconnect();
        for second in 0..away {
            pass(1).await;
            for name in good() {
                let waits = waits_for(&stage, &name);
                assert_ne!(waits, "CreateContainerError", "{name} after {second} s");
            }
            assert_eq!(stage.applications("device-1").len(), 10, "after {second} s");
        }
        stage.devices[0].reconnect();
        all_run(&stage, 150).await;
        see(&stage, "CreateContainerError", || {
            waits_for(&stage, "bad") == "CreateContainerError"
        })
        .await;
        for name in good() {
            let warned = stage.events(&name, "Failed");
            assert!(warned.is_empty(), "{warned:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_pod_that_came_beside_others_trouble_is_found_when_theirs_is_over() {
    let stage = stage().await;
    twenty(&stage, &[]);
    all_run(&stage, 60).await;
    for image in [BAD, "quay.io/other/app:1"] {
        stage.devices[0].script(Script::image(image).generator_rejects());
    }
    let mut apps = stage.spec_applications("device-1");
    apps.as_array_mut().unwrap().push(foreign("theirs"));
    stage.edit_applications("device-1", &apps).await;
    pass(60).await;
    stage.create(pod("new", NODE, "nginx:alpine"));
    pass(300).await;
    // Of the first one it is known by now that it is not to blame.
    stage.create(pod("bad", NODE, "bad:1"));
    pass(300).await;
    let apps = stage.spec_applications("device-1");
    let apps = apps.as_array().unwrap().iter();
    let ours: Value = apps.filter(|a| a["name"] != "theirs").cloned().collect();
    stage.edit_applications("device-1", &ours).await;
    stage.ready("new").await;
    see(&stage, "CreateContainerError", || {
        waits_for(&stage, "bad") == "CreateContainerError"
    })
    .await;
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_bad_pod_that_gave_way_without_an_answer_is_not_put_straight_back() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    twenty(&stage, &["bad"]);
    see(&stage, "all are written", || {
        stage.applications("device-1").len() == 20
    })
    .await;
    pass(5).await;
    let rule = Rule::always("/api/v1/devices/", Effect::LoseAnswer).method("PATCH");
    stage.flightctl.faults().add(rule.times(1));
    see(&stage, "it gave way", || {
        stage.applications("device-1").len() == 19
    })
    .await;
    for _ in 0..80 {
        crate::pass_ms(100).await;
        assert_eq!(stage.applications("device-1").len(), 19);
    }
    all_run(&stage, 20).await;
    assert!(stage.events("bad", "ChangedByOthers").is_empty());
    undisturbed(&journal(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_bad_update_that_is_taken_back_leaves_the_old_one_its_variables() {
    let stage = stage().await;
    let map = |value: &str| -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": {"name": "settings", "namespace": "default"}, "data": {"KEY": value},
        }))
        .unwrap()
    };
    // Too long for a line of a unit.
    stage.cluster.create(&map(&"x".repeat(3000))).unwrap();
    let mut one = pod("one", NODE, "nginx:alpine");
    one["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    stage.create(one);
    stage.ready("one").await;
    let config = || {
        let device = stage.flightctl.device_value("device-1").unwrap();
        device["spec"]["config"].clone()
    };
    let before = config();
    let name = before[0]["name"].as_str().unwrap();
    assert!(name.ends_with("-env"), "{name}");
    let mut shorter: ConfigMap = stage.cluster.get("default", "settings").unwrap();
    shorter.data = map("short").data;
    stage.cluster.update(&shorter).unwrap();
    stage.devices[0].script(Script::image(BAD).pull(Pull::NotFound));
    set_image(&stage, "one", "bad:1");
    see(&stage, "the new one has them in its unit", || {
        config().as_array().is_none_or(Vec::is_empty)
    })
    .await;
    stage.event("one", "BackOff").await;
    pass(60).await;
    assert_eq!(config(), before);
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_keeps_nobody_out_that_may_not_be_to_blame() {
    let stage = stage().await;
    stage.devices[0].script(Script::image(BAD).generator_rejects());
    twenty(&stage, &["bad"]);
    for n in 0..75 {
        let name = format!("passing-{n}");
        stage.create(pod(&name, NODE, "nginx:alpine"));
        pass(4).await;
        delete(&stage, &name);
    }
    assert_eq!(running(&stage), 19);
}
