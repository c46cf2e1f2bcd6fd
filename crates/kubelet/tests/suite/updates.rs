//! Every way for a pod to change while it lives.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use vk_provider::{BackendError, PodFacts};

use super::world::{PATIENCE, World, eventually, phase, ready, uid};

pub(super) async fn change(world: &World, name: &str, patch: &Value) -> Pod {
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    world.pods().patch(name, &params, &patch).await.unwrap()
}

async fn change_by(world: &World, subresource: &str, name: &str, patch: &Value) -> Pod {
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    let pods = world.pods();
    let changed = pods.patch_subresource(subresource, name, &params, &patch);
    changed.await.unwrap()
}

pub(super) fn second_image() -> Value {
    json!({"spec": {"containers": [{"name": "app", "image": "app:2"}]}})
}

/// Runs the second image, in the place of the first.
pub(super) fn is_replaced(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref());
    ready(pod) && statuses.is_some_and(|all| all[0].image == "app:2" && all[0].restart_count == 1)
}

pub async fn an_update_that_fails_leaves_what_runs_as_it_is(world: &mut World) {
    let soon = Some(Duration::from_secs(1));
    world.create(&world.pod("shaky", "Always")).await;
    world.running("shaky").await;
    world.remote.fail_next(BackendError::Unavailable {
        message: "no answer".into(),
        retry: soon,
    });
    world.remote.fail_next(BackendError::Waiting {
        reason: "Busy".into(),
        message: "later".into(),
        retry: soon,
    });
    change(world, "shaky", &second_image()).await;
    let begun = tokio::time::Instant::now();
    while world.remote.ensures("shaky") < 4 {
        let pod = world.pods().get("shaky").await.unwrap();
        assert!(phase(&pod) == "Running" && ready(&pod), "{pod:#?}");
        assert!(begun.elapsed() < PATIENCE, "never asked again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.wait("shaky", "replaced", is_replaced).await;
    world.delete("shaky", None).await;
    world.emptied().await;
}

pub async fn an_update_that_is_taken_back_and_tried_again_is_told_once(world: &mut World) {
    let created = world.create(&world.pod("torn", "Always")).await;
    world.running("torn").await;
    let mut before = None;
    world
        .remote
        .edit(&uid(&created), |facts| before = Some(facts.clone()));
    let before = before.unwrap();
    world.remote.apply_nothing(true);
    change(world, "torn", &second_image()).await;
    for tries in 2..6 {
        eventually("the second image is tried", async || {
            (world.remote.ensures("torn") >= tries).then_some(())
        })
        .await;
        world.remote.apply_nothing(tries < 5);
        // It was accepted, and then the place where the pod runs did not take it.
        world.remote.edit(&uid(&created), |facts| {
            *facts = PodFacts {
                seq: facts.seq,
                ..before.clone()
            };
        });
    }
    let runs_it = |pod: &Pod| {
        let shown = pod.status.as_ref();
        let shown = shown.and_then(|s| s.container_statuses.as_ref());
        ready(pod) && shown.is_some_and(|all| all[0].image == "app:2")
    };
    world.wait("torn", "replaced", runs_it).await;
    // Events are sent after what they tell of.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    let killing = events.items.iter().filter(|e| {
        let said = e.message.as_deref().unwrap_or_default();
        said.contains("will be restarted")
    });
    let times: i32 = killing
        .map(|e| e.series.as_ref().and_then(|s| s.count).or(e.count))
        .map(|count| count.unwrap_or(1))
        .sum();
    assert_eq!(times, 1);
    world.delete("torn", None).await;
    world.emptied().await;
}

pub async fn labels_and_annotations_reach_nothing_that_runs(world: &mut World) {
    world.create(&world.pod("renamed", "Always")).await;
    let before = world.running("renamed").await;
    let named = json!({"metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}}});
    change(world, "renamed", &named).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.remote.calls().len(), 1, "{:?}", world.remote.calls());
    let after = world.pods().get("renamed").await.unwrap();
    assert_eq!(after.status, before.status);
    assert_eq!(after.metadata.labels.unwrap()["a"], "1");
    assert_eq!(after.metadata.annotations.unwrap()["b"], "2");
    world.delete("renamed", None).await;
    world.emptied().await;
}

/// Whether a resize is answered, and how.
fn resize(pod: &Pod) -> Option<&str> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let pending = conditions.find(|c| c.type_ == "PodResizePending")?;
    (pending.status == "True").then_some(pending.reason.as_deref()?)
}

pub async fn a_resize_is_answered_infeasible_and_changes_nothing(world: &mut World) {
    world.create(&world.pod("grown", "Always")).await;
    world.running("grown").await;
    let sized = |cpu: &str| json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": cpu}}}]}});
    change_by(world, "resize", "grown", &sized("2")).await;
    let infeasible = |pod: &Pod| resize(pod) == Some("Infeasible");
    let pod = world.wait("grown", "answered", infeasible).await;
    assert!(ready(&pod));
    let status = &pod.status.unwrap().container_statuses.unwrap()[0];
    let has = status
        .resources
        .as_ref()
        .unwrap()
        .requests
        .as_ref()
        .unwrap();
    assert_eq!(has["cpu"].0, "1", "what it was started with");
    world.told("ResizeInfeasible").await;
    change_by(world, "resize", "grown", &sized("1")).await;
    world
        .wait("grown", "as it was", |pod| resize(pod).is_none())
        .await;
    assert_eq!(world.remote.calls().len(), 1, "{:?}", world.remote.calls());
    world.delete("grown", None).await;
    world.emptied().await;
}

pub async fn an_ephemeral_container_is_refused_aloud_and_ends_nothing(world: &mut World) {
    world.create(&world.pod("looked-into", "Always")).await;
    world.running("looked-into").await;
    // As `kubectl debug` does.
    let debug = json!({"spec": {"ephemeralContainers": [
        {"name": "debug", "image": "busybox", "targetContainerName": "app"}]}});
    change_by(world, "ephemeralcontainers", "looked-into", &debug).await;
    let answered = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.is_some_and(|s| s.ephemeral_container_statuses.is_some())
    };
    let pod = world.wait("looked-into", "answered", answered).await;
    assert!(phase(&pod) == "Running" && ready(&pod));
    let statuses = pod.status.unwrap().ephemeral_container_statuses.unwrap();
    let state = statuses[0].state.as_ref().unwrap();
    let waiting = state.waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("Unsupported"));
    let told = world.told("EphemeralContainersUnsupported").await;
    assert!(told.message.unwrap().contains("debug"));
    eventually("it goes on", || async {
        let pod = world.pods().get("looked-into").await.ok()?;
        ready(&pod).then_some(())
    })
    .await;
    assert_eq!(world.remote.calls().len(), 1, "{:?}", world.remote.calls());
    world.delete("looked-into", None).await;
    world.emptied().await;
}
