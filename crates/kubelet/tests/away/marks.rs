//! What a backend writes on pods, and what people tell it there and on nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vk_provider::{BackendError, PodChange};

use super::version;
use crate::sandboxed::{idle, world};
use crate::suite::memory::HEEDED;
use crate::suite::world::{World, eventually, uid};

const OWN: &str = "test/may-still-run-on";

async fn mark(world: &World, name: &str, metadata: Value) {
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let params = PatchParams::default();
    world.pods().patch(name, &params, &patch).await.unwrap();
}

fn own(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(OWN)
}

#[tokio::test(start_paused = true)]
async fn annotations_of_the_backend_come_change_and_go_and_others_stay() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("bare", "Always")).await;
    world.running("bare").await;
    mark(&world, "bare", json!({"annotations": {"mine": "yes"}})).await;
    let say = |value: Option<&str>| {
        let value = value.map(str::to_owned);
        world.remote.edit(&uid(&created), |facts| {
            facts.annotations.insert(OWN.into(), value);
        });
    };
    for value in ["d1", "d2"] {
        say(Some(value));
        let is = move |pod: &Pod| own(pod).is_some_and(|own| own == value);
        world.wait("bare", "annotated", is).await;
    }
    let before = version(&world, "bare").await;
    sleep(Duration::from_secs(130)).await;
    assert_eq!(version(&world, "bare").await, before, "written once");
    say(None);
    let pod = world.wait("bare", "bare", |pod| own(pod).is_none()).await;
    assert_eq!(pod.metadata.annotations.unwrap()["mine"], "yes");
    let before = version(&world, "bare").await;
    sleep(Duration::from_secs(130)).await;
    assert_eq!(version(&world, "bare").await, before, "taken away once");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_reads_of_a_pod_is_told_when_it_changes_and_nothing_else_is() {
    let (mut world, _cluster) = idle();
    world.remote.read_metadata();
    world.start().await;
    let created = world.create(&world.pod("bare", "Always")).await;
    let first = world.running("bare").await;
    let told = |times: usize| {
        let mut asked = vec![PodChange::First];
        asked.extend(vec![PodChange::Metadata; times]);
        asked
    };
    for (number, metadata) in [
        json!({"annotations": {HEEDED: "a"}}),
        json!({"labels": {HEEDED: "a"}}),
        json!({"annotations": {HEEDED: null}}),
    ]
    .into_iter()
    .enumerate()
    {
        mark(&world, "bare", metadata).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(world.remote.asked("bare"), told(number + 1));
    }
    let others = json!({"annotations": {"o": "1"}, "labels": {"o": "1"}});
    mark(&world, "bare", others).await;
    world.remote.edit(&uid(&created), |facts| {
        facts.annotations.insert(OWN.into(), Some("d1".into()));
    });
    sleep(Duration::from_secs(130)).await;
    assert_eq!(world.remote.asked("bare"), told(3));
    let now = world.pods().get("bare").await.unwrap();
    assert_eq!(super::app(&now), super::app(&first), "nothing restarts");
    world.stop().await;
    world.start().await;
    sleep(Duration::from_secs(130)).await;
    let asked = world.remote.asked("bare");
    assert_eq!(asked[4..], [PodChange::First], "told with all the rest");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_is_asked_for_at_once_when_people_say_otherwise() {
    let (mut world, _cluster) = idle();
    world.remote.read_metadata();
    world.start().await;
    world.remote.fail_next(BackendError::Waiting {
        reason: "DeviceTimeout".into(),
        message: "its device is lost".into(),
        retry: Some(Duration::from_secs(300)),
    });
    world.create(&world.pod("pinned", "Always")).await;
    world.told("DeviceTimeout").await;
    let begun = Instant::now();
    let lost = json!({"annotations": {HEEDED: "d1"}});
    mark(&world, "pinned", lost).await;
    world.running("pinned").await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    world.stop().await;
}

/// Its answer was lost, so that it is told again.
#[tokio::test(start_paused = true)]
async fn metadata_that_the_remote_did_not_take_is_told_again() {
    let (mut world, _cluster) = idle();
    world.remote.read_metadata();
    world.start().await;
    world.create(&world.pod("bare", "Always")).await;
    world.running("bare").await;
    world.remote.fail_next(BackendError::Unavailable {
        message: "no answer".into(),
        retry: None,
    });
    mark(&world, "bare", json!({"annotations": {HEEDED: "a"}})).await;
    sleep(Duration::from_secs(30)).await;
    let asked = world.remote.asked("bare");
    assert_eq!(asked[1..], [PodChange::Metadata, PodChange::Metadata]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_annotated_on_a_node_reaches_the_backend() {
    let (mut world, _cluster) = world().await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"resume": "now"}}}));
    let params = PatchParams::default();
    nodes.patch(&world.node, &params, &patch).await.unwrap();
    let resume = BTreeMap::from([("resume".to_owned(), "now".to_owned())]);
    eventually("it is heard of", async || {
        let heard = world.remote.heard(&world.node);
        (heard == [BTreeMap::new(), resume.clone()]).then_some(())
    })
    .await;
    world.stop().await;
    world.start().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.remote.heard(&world.node)[2..], [resume]);
    world.stop().await;
}
