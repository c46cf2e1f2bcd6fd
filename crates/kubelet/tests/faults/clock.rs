//! Someone sets the wall clock of the machine while pods run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep};

use crate::sandboxed::world;
use crate::suite::memory::Call;
use crate::suite::world::{World, eventually, phase, uid};

/// Two listings of the remote, and a little.
const LISTINGS: Duration = Duration::from_secs(150);

fn started(pod: &Pod) -> String {
    let time = pod.status.as_ref().and_then(|s| s.start_time.as_ref());
    time.unwrap().0.to_string()
}

/// Waits for longer than [`eventually`] would.
async fn within(limit: Duration, what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "never: {what}");
        sleep(Duration::from_secs(1)).await;
    }
}

async fn nothing_is_lost_or_run_twice(seconds: i64) {
    let (mut world, _cluster) = world().await;
    let kept = world.create(&world.pod("kept", "Always")).await;
    let lost = world.create(&world.pod("lost", "Always")).await;
    let (before, _) = (world.running("kept").await, world.running("lost").await);
    // One is begun and one is ended while the clock jumps.
    world.remote.hold_ensures(true);
    world.remote.hold_stops(true);
    world.create(&world.pod("begun", "Never")).await;
    let ending = world.create(&world.pod("ending", "Always")).await;
    within(Duration::from_secs(60), "two are begun", || {
        world.remote.ensures("begun") + world.remote.ensures("ending") == 2
    })
    .await;
    world.clock.jump(seconds);
    world.remote.hold_ensures(false);
    world.running("begun").await;
    world.running("ending").await;
    world.delete("ending", Some(30)).await;
    sleep(Duration::from_secs(5)).await;
    world.remote.exit(&uid(&ending), 0);
    world.gone("ending", &uid(&ending)).await;
    world.remote.hold_stops(false);
    // Only listings tell this one's fate, and they still decide.
    world.remote.lose(&uid(&lost));
    within(LISTINGS, "the lost one is begun again", || {
        world.remote.ensures("lost") == 2
    })
    .await;
    world.remote.readdress(&uid(&kept));
    let after = world
        .wait("kept", "readdressed", |pod| {
            pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()) == Some("10.0.0.9")
        })
        .await;
    assert_eq!(started(&before), started(&after), "startTime never moves");
    // As many listings again deny nobody.
    sleep(LISTINGS).await;
    for name in ["kept", "begun"] {
        world.running(name).await;
        assert_eq!(world.remote.ensures(name), 1, "{:?}", world.remote.calls());
    }
    let ended: Vec<_> = world.remote.calls();
    let ended = ended.iter().filter_map(|call| match call {
        Call::Stop(name, _) => Some(name.as_str()),
        _ => None,
    });
    assert!(ended.into_iter().all(|name| name == "ending"));
    all_go(&world).await;
    world.stop().await;
}

async fn all_go(world: &World) {
    for name in ["kept", "lost", "begun"] {
        world.delete(name, Some(5)).await;
    }
    world.emptied().await;
    eventually("no pod is left", || async {
        let left = world.pods().list(&Default::default()).await.unwrap().items;
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_an_hour_ahead_loses_nothing_and_runs_nothing_twice() {
    Box::pin(nothing_is_lost_or_run_twice(3600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_an_hour_back_loses_nothing_and_runs_nothing_twice() {
    Box::pin(nothing_is_lost_or_run_twice(-3600)).await;
}

async fn a_deadline_counts_the_time_that_passed(seconds: i64) {
    let (mut world, _cluster) = world().await;
    let mut pod = world.pod("timed", "Always");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(600);
    let created = world.create(&pod).await;
    world.running("timed").await;
    world.clock.jump(seconds);
    // News, so that the pod is looked at with the new time.
    world.remote.readdress(&uid(&created));
    sleep(Duration::from_secs(500)).await;
    assert_eq!(phase(&world.running("timed").await), "Running");
    sleep(Duration::from_secs(80)).await;
    let failed = world
        .wait("timed", "Failed", |p| phase(p) == "Failed")
        .await;
    let reason = failed.status.unwrap().reason;
    assert_eq!(reason.as_deref(), Some("DeadlineExceeded"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_ahead_brings_no_deadline_nearer() {
    Box::pin(a_deadline_counts_the_time_that_passed(3600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_puts_no_deadline_off() {
    Box::pin(a_deadline_counts_the_time_that_passed(-3600)).await;
}
