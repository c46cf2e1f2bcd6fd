//! Agents that restart, and tell what was before they tell what is.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use vk_sandbox::flightctl::{DeviceSpec, Script};

use crate::stage::{Stage, condition, pod};
use crate::{NODE, pass, see};

/// A device that reports often enough to show the whole of a replay.
async fn told_again() -> Stage {
    let mut stage = Stage::empty();
    let mut spec = DeviceSpec::new("device-1");
    spec.cpu_cores = Some(4);
    spec.memory_kb = Some(8 << 20);
    spec.status_interval = Duration::from_secs(1);
    let device = stage.flightctl.add_device(spec);
    device.replays_after_restart();
    stage.devices = vec![device];
    stage.start_provider().await;
    stage
}

fn statuses(stage: &Stage) -> Vec<(Value, Value)> {
    let pods = stage.cluster.list_values("pods", Some("default"));
    pods.into_iter()
        .map(|mut pod| (pod["metadata"]["name"].take(), pod["status"].take()))
        .collect()
}

fn with(name: &str, policy: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod(name, NODE, "nginx:alpine");
    pod["spec"]["restartPolicy"] = policy.into();
    change(&mut pod["spec"]);
    pod
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_tells_again_is_no_restart_and_no_end() {
    let stage = told_again().await;
    let device = &stage.devices[0];
    let second = Duration::from_secs(1);
    device.script(
        Script::image("docker.io/library/crashed:1").exits_in_turn(vec![
            Some((second, 3)),
            Some((second, 0)),
            None,
        ]),
    );
    device.script(Script::image("docker.io/library/done:1").exits(second * 3, 0));
    device.script(Script::image("docker.io/library/init:1").exits(second, 0));
    let another = json!({"name": "another", "image": "nginx:alpine"});
    let both = |spec: &mut Value| {
        spec["containers"]
            .as_array_mut()
            .unwrap()
            .push(another.clone())
    };
    let image =
        |image: &'static str| move |spec: &mut Value| spec["containers"][0]["image"] = image.into();
    stage.create(with("one", "Always", |_| {}));
    stage.create(with("two", "Always", both));
    stage.create(with("crashed", "Always", image("crashed:1")));
    stage.create(with("begun", "Always", |spec| {
        spec["initContainers"] = json!([{"name": "init", "image": "init:1"}]);
    }));
    stage.create(with("updated", "OnFailure", |_| {}));
    stage.create(with("done", "Never", image("done:1")));
    stage.phase("done", "Succeeded").await;
    stage.ready("updated").await;
    let mut updated: Pod = stage.cluster.get("default", "updated").unwrap();
    updated.spec.as_mut().unwrap().containers[0].image = Some("nginx:2".into());
    stage.cluster.update(&updated).unwrap();
    pass(60).await;
    let before = statuses(&stage);
    let ready = before
        .iter()
        .filter(|(_, status)| condition(&json!({"status": status}), "Ready") == "True");
    assert_eq!(ready.count(), 5, "{before:#?}");
    let applications = stage.spec_applications("device-1");
    device.restart_agent();
    see(&stage, "what was", || {
        let shown = &stage.flightctl.device_value("device-1").unwrap()["status"]["applications"];
        let shown = shown.as_array().unwrap();
        shown.iter().any(|app| app["status"] == "Preparing")
    })
    .await;
    for _ in 0..90 {
        pass(1).await;
        for (now, before) in statuses(&stage).iter().zip(&before) {
            assert_eq!(now, before);
        }
    }
    assert_eq!(stage.spec_applications("device-1"), applications);
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_an_agent_tells_what_was_is_told_after_it() {
    let stage = told_again().await;
    let ends = Script::any().exits_in_turn(vec![Some((Duration::from_secs(60), 3)), None]);
    stage.devices[0].script(ends);
    stage.create(pod("late", NODE, "nginx:alpine"));
    stage.create(with("last", "Never", |_| {}));
    stage.ready("late").await;
    stage.ready("last").await;
    pass(45).await;
    stage.devices[0].restart_agent();
    stage.phase("last", "Failed").await;
    let late = stage.ready("late").await;
    assert_eq!(late["status"]["containerStatuses"][0]["restartCount"], 1);
}
