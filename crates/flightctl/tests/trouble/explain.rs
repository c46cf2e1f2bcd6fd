//! `explain POD`, beside a provider that has placed pods.

use vk_flightctl::explain::{Answer, Question, explain};

use crate::stage::{Stage, pod};
use crate::{NODE, pass};

fn question(stage: &Stage, name: &str) -> Question {
    Question {
        kube: stage.kube(),
        flightctl: stage.client(),
        rules: stage.rules.clone(),
        privileged: Default::default(),
        namespace: "default".into(),
        pod: name.into(),
    }
}

async fn answer(stage: &Stage, name: &str) -> Answer {
    explain(question(stage, name)).await.unwrap()
}

fn sized(name: &str, cpu: &str) -> serde_json::Value {
    let mut made = pod(name, NODE, "nginx:alpine");
    made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu.into();
    made
}

fn line<'a>(answer: &'a Answer, device: &str) -> &'a str {
    let mut lines = answer.text.lines();
    lines
        .find(|line| line.starts_with(device))
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_is_told_of_each_device_why() {
    let stage = Stage::new(3, 0, 3).await;
    for name in ["one", "two"] {
        stage.create(sized(name, "3"));
        stage.ready(name).await;
    }
    stage.devices[2].disconnect();
    pass(600).await;
    stage.create(sized("late", "2"));
    let told = stage.event("late", "FailedScheduling").await;
    let said = answer(&stage, "late").await;
    assert!(!said.fits);
    assert!(
        line(&said, "device-1").contains("no room now: cpu 750m of 2"),
        "{}",
        said.text
    );
    assert!(line(&said, "device-3").contains("offline"), "{}", said.text);
    // What the pod's event says and what is explained is one thing.
    assert!(said.text.contains(&told), "{told} is not in {}", said.text);
    let running = answer(&stage, "one").await;
    assert!(running.fits);
    assert!(
        line(&running, "device-1").contains("has it now; the best"),
        "{}",
        running.text
    );
    let all = stage.pod("late").unwrap();
    assert_eq!(all["status"]["phase"], "Pending", "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_refused_everywhere_says_why_and_one_that_is_not_there_too() {
    let stage = Stage::new(1, 0, 1).await;
    let mut made = pod("p", NODE, "nginx:alpine");
    made["spec"]["volumes"] = serde_json::json!([{"name": "v", "hostPath": {"path": "/"}}]);
    stage.create(made);
    let said = answer(&stage, "p").await;
    assert!(!said.fits);
    assert!(
        said.text.contains("Refused whatever the device: "),
        "{}",
        said.text
    );
    assert!(said.text.contains("hostPath"), "{}", said.text);
    let error = explain(question(&stage, "nobody")).await.unwrap_err();
    assert!(error.to_string().contains("-n"), "{error:#}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_scheduler_has_not_bound_is_looked_at_on_every_node() {
    let stage = Stage::new(2, 1, 1).await;
    let mut made = sized("p", "1");
    made["spec"].as_object_mut().unwrap().remove("nodeName");
    made["spec"]["schedulerName"] = "nobody".into();
    stage.create(made);
    let said = answer(&stage, "p").await;
    assert!(said.fits);
    for words in [
        "bound to no node",
        "Node vk-flightctl-edge-fleet-1",
        "Node vk-flightctl-node",
    ] {
        assert!(said.text.contains(words), "{words}: {}", said.text);
    }
}
