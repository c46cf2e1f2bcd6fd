//! Pods that are run in another place and keep their object.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep};
use vk_provider::{BackendError, PodChange};

use super::{app, condition, reason, version};
use crate::sandboxed::world;
use crate::suite::world::{phase, uid};

fn nowhere(retry: Duration) -> BackendError {
    BackendError::Waiting {
        reason: "DeviceTimeout".into(),
        message: "device d1 is lost and no other has room".into(),
        retry: Some(retry),
    }
}

fn waits(pod: &Pod) -> bool {
    phase(pod) == "Pending" && reason(pod) == Some("DeviceTimeout")
}

fn runs_again(pod: &Pod) -> bool {
    phase(pod) == "Running" && app(pod).restart_count == 1
}

#[tokio::test(start_paused = true)]
async fn a_pod_keeps_its_object_and_runs_elsewhere_one_restart_later() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("bare", "Always")).await;
    let first = world.running("bare").await;
    world.remote.silence(&uid(&created));
    let lost = world
        .wait("bare", "Unknown", |p| phase(p) == "Unknown")
        .await;
    let away = condition(&lost, "Ready");
    assert_eq!(away, Some(("Unknown", "DeviceDisconnected")));
    assert_eq!(reason(&lost), None);

    world.remote.fail_next(nowhere(Duration::from_secs(60)));
    world.remote.displace(&uid(&created));
    let waiting = world.wait("bare", "Pending", waits).await;
    let unready = condition(&waiting, "Ready");
    assert_eq!(unready, Some(("False", "ContainersNotReady")));
    let told = world.told("DeviceTimeout").await;
    assert_eq!(told.type_.as_deref(), Some("Warning"));
    // Nothing is written while nothing changes.
    let before = version(&world, "bare").await;
    sleep(Duration::from_secs(50)).await;
    assert_eq!(version(&world, "bare").await, before);

    let again = world.wait("bare", "Running again", runs_again).await;
    assert_eq!(uid(&again), uid(&created));
    assert_eq!(reason(&again), None);
    assert_ne!(app(&again).container_id, app(&first).container_id);
    let last = app(&again).last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(last.reason.as_deref(), Some("ContainerStatusUnknown"));
    let asked = world.remote.asked("bare");
    assert_eq!(
        asked,
        [PodChange::First, PodChange::Repeat, PodChange::Repeat]
    );
    let start = |pod: &Pod| pod.status.as_ref().unwrap().start_time.clone();
    assert_eq!(start(&again), start(&first));
    world.delete("bare", None).await;
    world.emptied().await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_process_finds_it_waiting_and_asks_for_it() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("bare", "Always")).await;
    world.running("bare").await;
    for _ in 0..50 {
        world.remote.fail_next(nowhere(Duration::from_secs(10)));
    }
    world.remote.displace(&uid(&created));
    world.wait("bare", "Pending", waits).await;
    world.stop().await;
    world.start().await;
    sleep(Duration::from_secs(60)).await;
    assert!(waits(&world.pods().get("bare").await.unwrap()));
    world.remote.succeed();
    world.wait("bare", "Running again", runs_again).await;
    world.stop().await;
}

/// The remote tells of nothing at all: what was shown is from another life.
#[tokio::test(start_paused = true)]
async fn a_pod_that_the_remote_has_no_more_is_shown_waiting_and_not_running() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("bare", "Always")).await;
    world.running("bare").await;
    world.stop().await;
    world.remote.lose(&uid(&created));
    for _ in 0..50 {
        world.remote.fail_next(nowhere(Duration::from_secs(10)));
    }
    world.start().await;
    world.wait("bare", "Pending", waits).await;
    world.remote.succeed();
    world.wait("bare", "Running again", runs_again).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_a_place_goes_at_once() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("bare", "Always")).await;
    world.running("bare").await;
    world.remote.fail_next(nowhere(Duration::from_secs(300)));
    world.remote.displace(&uid(&created));
    world.wait("bare", "Pending", waits).await;
    let begun = Instant::now();
    world.delete("bare", None).await;
    world.gone("bare", &uid(&created)).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    world.emptied().await;
    world.stop().await;
}
