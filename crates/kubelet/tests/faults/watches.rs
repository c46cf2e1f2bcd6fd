//! Watches that repeat themselves, or tell things late and in another order.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

use crate::sandboxed::world;
use crate::suite::memory::Call;
use crate::suite::world::{World, uid};

/// A pod is begun, gets another image, and goes, with what a user does between.
async fn a_life(world: &mut World, cluster: &Cluster) {
    let created = world.create(&world.pod("told", "Always")).await;
    world.running("told").await;
    let image = json!({"spec": {"containers": [{"name": "app", "image": "app:2"}]}});
    let label = json!({"metadata": {"labels": {"color": "red"}}});
    for patch in [image, label] {
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        world.pods().patch("told", &params, &patch).await.unwrap();
        // Each is told by itself, not in one breath with the next.
        sleep(Duration::from_secs(20)).await;
        assert_eq!(world.remote.ensures("told"), 2, "the image, at once");
    }
    // What is told late has been told.
    sleep(Duration::from_secs(60)).await;
    let shown = world.running("told").await;
    assert_eq!(
        shown.spec.unwrap().containers[0].image.as_deref(),
        Some("app:2")
    );
    assert_eq!(
        world.remote.ensures("told"),
        2,
        "{:?}",
        world.remote.calls()
    );
    world.remote.hold_stops(true);
    world.delete("told", Some(30)).await;
    sleep(Duration::from_secs(10)).await;
    let image = Patch::Strategic(json!({"metadata": {"labels": {"color": "blue"}}}));
    let params = PatchParams::default();
    world.pods().patch("told", &params, &image).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    world.remote.exit(&uid(&created), 0);
    world.gone("told", &uid(&created)).await;
    world.emptied().await;
    sleep(Duration::from_secs(30)).await;
    let calls = world.remote.calls();
    let count = |wanted: &Call| calls.iter().filter(|call| *call == wanted).count();
    assert_eq!(world.remote.ensures("told"), 2, "{calls:?}");
    assert_eq!(
        count(&Call::Stop("told".into(), Duration::from_secs(30))),
        1
    );
    assert_eq!(count(&Call::Release("told".into())), 1, "{calls:?}");
    let struck = cluster.faults().rules();
    assert!(!struck.is_empty(), "the fault was there to the end");
}

#[tokio::test(start_paused = true)]
async fn events_told_twice_and_old_versions_told_again_change_nothing() {
    let (mut world, cluster) = world().await;
    let repeat = Rule::always("", Effect::WatchRepeat);
    cluster.faults().add(repeat);
    Box::pin(a_life(&mut world, &cluster)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_told_long_before_their_node_are_run_all_the_same() {
    let (mut world, cluster) = world().await;
    let late = Rule::always("/nodes", Effect::WatchLag(7000));
    cluster.faults().add(late);
    Box::pin(a_life(&mut world, &cluster)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_told_long_after_their_node_are_run_all_the_same() {
    let (mut world, cluster) = world().await;
    let late = Rule::always("/pods", Effect::WatchLag(7000));
    cluster.faults().add(late);
    Box::pin(a_life(&mut world, &cluster)).await;
    world.stop().await;
}
