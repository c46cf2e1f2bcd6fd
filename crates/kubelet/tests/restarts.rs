//! Restart policies and deadlines, for a remote that restarts nothing by itself.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "suite/sandboxed.rs"]
mod sandboxed;
mod suite;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use sandboxed::world;
use suite::world::{phase, uid};
use tokio::time::Instant;
use vk_provider::{ContainerState, Terminated};

fn app(pod: &Pod) -> &ContainerStatus {
    &pod.status
        .as_ref()
        .unwrap()
        .container_statuses
        .as_ref()
        .unwrap()[0]
}

fn waiting_reason(pod: &Pod) -> Option<&str> {
    let state = app(pod).state.as_ref()?;
    state.waiting.as_ref()?.reason.as_deref()
}

fn is_running(pod: &Pod, restarts: i32) -> bool {
    phase(pod) == "Running"
        && app(pod).restart_count == restarts
        && app(pod).state.as_ref().is_some_and(|s| s.running.is_some())
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off_and_shows_it() {
    let (mut world, _cluster) = world().await;
    world.remote.restart_nothing();
    let created = world.create(&world.pod("crash", "Always")).await;
    for (round, least) in [(1, 0), (2, 10), (3, 20)] {
        world.running("crash").await;
        world.remote.exit(&uid(&created), 3);
        let ended = Instant::now();
        if least > 0 {
            let waiting = world
                .wait("crash", "in its back-off", |pod| {
                    waiting_reason(pod) == Some("CrashLoopBackOff")
                })
                .await;
            assert_eq!(phase(&waiting), "Running");
            let last = app(&waiting).last_state.clone().unwrap();
            assert_eq!(last.terminated.unwrap().exit_code, 3);
        }
        let again = move |pod: &Pod| is_running(pod, round);
        world.wait("crash", "running again", again).await;
        assert!(ended.elapsed() >= Duration::from_secs(least));
        assert!(ended.elapsed() < Duration::from_secs(least + 2));
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn on_failure_starts_again_until_it_succeeds() {
    let (mut world, _cluster) = world().await;
    world.remote.restart_nothing();
    let created = world.create(&world.pod("job", "OnFailure")).await;
    world.running("job").await;
    world.remote.exit(&uid(&created), 1);
    world
        .wait("job", "running again", |pod| is_running(pod, 1))
        .await;
    world.remote.exit(&uid(&created), 0);
    let done = world.wait("job", "over", |p| phase(p) == "Succeeded").await;
    assert_eq!(app(&done).restart_count, 1);
    let starts = world.remote.ensures("job");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(world.remote.ensures("job"), starts, "a finished pod stays");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_past_its_active_deadline_fails_and_is_stopped() {
    let (mut world, _cluster) = world().await;
    let mut pod = world.pod("late", "Always");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(30);
    let created = world.create(&pod).await;
    world.running("late").await;
    let begun = Instant::now();
    let failed = world.wait("late", "failed", |p| phase(p) == "Failed").await;
    assert!(begun.elapsed() > Duration::from_secs(25));
    let status = failed.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert!(world.remote.ended(&uid(&created)));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_by_the_process_that_takes_over() {
    let (mut world, _cluster) = world().await;
    let mut pod = world.pod("late", "Always");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(100);
    world.create(&pod).await;
    world.running("late").await;
    world.stop().await;
    tokio::time::sleep(Duration::from_secs(80)).await;
    let begun = Instant::now();
    world.start().await;
    world.wait("late", "failed", |p| phase(p) == "Failed").await;
    assert!(begun.elapsed() < Duration::from_secs(25));
    world.stop().await;
}

/// The remote starts its containers again by itself, and says so.
#[tokio::test(start_paused = true)]
async fn what_the_remote_restarts_is_shown_and_not_asked_for() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("own", "Always")).await;
    world.running("own").await;
    for round in 1..=3 {
        let crashed = Terminated {
            exit_code: Some(7),
            ..Terminated::default()
        };
        world.remote.edit(&uid(&created), |facts| {
            let container = &mut facts.containers[0];
            container.last = Some(crashed);
            container.state = ContainerState::Waiting {
                reason: "CrashLoopBackOff".into(),
                message: "back-off".into(),
            };
        });
        let waits = |pod: &Pod| waiting_reason(pod) == Some("CrashLoopBackOff");
        let waiting = world.wait("own", "in its back-off", waits).await;
        assert_eq!(phase(&waiting), "Running");
        let last = app(&waiting).last_state.clone().unwrap();
        assert_eq!(last.terminated.unwrap().exit_code, 7);
        world.remote.edit(&uid(&created), |facts| {
            let container = &mut facts.containers[0];
            container.restarts = Some(round);
            container.state = ContainerState::Running { started_at: None };
        });
        let again = move |pod: &Pod| is_running(pod, round);
        world.wait("own", "running again", again).await;
    }
    // An end that the remote is about to undo is no end.
    world.remote.exit(&uid(&created), 7);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(phase(&world.pods().get("own").await.unwrap()), "Running");
    assert_eq!(world.remote.ensures("own"), 1, "it is not asked");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn never_is_never_whoever_restarts() {
    for asked in [true, false] {
        let (mut world, _cluster) = world().await;
        if asked {
            world.remote.restart_nothing();
        }
        let created = world.create(&world.pod("once", "Never")).await;
        world.running("once").await;
        world.remote.exit(&uid(&created), 1);
        let over = world.wait("once", "over", |p| phase(p) == "Failed").await;
        tokio::time::sleep(Duration::from_secs(1000)).await;
        assert_eq!(app(&over).restart_count, 0);
        assert_eq!(world.remote.ensures("once"), 1);
        world.stop().await;
    }
}
