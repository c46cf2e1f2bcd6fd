//! The framework while the Kubernetes API fails in every way the sandbox knows.

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

use sandboxed::world;
use suite::world::uid;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

/// A watch that says nothing is given up after its own time-out of five minutes.
const STALL: Duration = Duration::from_secs(900);

async fn survives(effect: Effect, times: u32) {
    let (mut world, cluster) = world().await;
    let fail = |method: &str| {
        Rule::always("/pods/flaky", effect.clone())
            .method(method)
            .times(times)
    };
    cluster.faults().add(fail("PATCH"));
    let created = world.create(&world.pod("flaky", "Always")).await;
    world.running("flaky").await;
    assert_eq!(
        world.remote.ensures("flaky"),
        1,
        "the workload is started once"
    );
    struck(&cluster, times);
    // The user's own delete must not be the one that fails.
    world.remote.hold_stops(true);
    world.delete("flaky", Some(60)).await;
    cluster.faults().add(fail("DELETE"));
    cluster.faults().add(fail("PATCH"));
    world.remote.exit(&uid(&created), 0);
    world.gone("flaky", &uid(&created)).await;
    world.emptied().await;
    struck(&cluster, times);
    world.stop().await;
}

/// Every fault struck at least once; what is left of them ends.
fn struck(cluster: &Cluster, times: u32) {
    let rules = cluster.faults().rules();
    let unspent = rules.iter().filter(|r| r.times == Some(times)).count();
    assert_eq!(unspent, 0, "every fault struck: {rules:?}");
    cluster.faults().clear();
}

#[tokio::test(start_paused = true)]
async fn slow_answers() {
    survives(Effect::Latency(3000), 3).await;
}

#[tokio::test(start_paused = true)]
async fn server_errors() {
    survives(Effect::Status(503), 3).await;
}

#[tokio::test(start_paused = true)]
async fn too_many_requests() {
    survives(Effect::TooManyRequests(2), 3).await;
}

#[tokio::test(start_paused = true)]
async fn dropped_connections() {
    survives(Effect::DropConnection, 3).await;
}

#[tokio::test(start_paused = true)]
async fn answers_lost_after_the_write() {
    survives(Effect::LoseAnswer, 3).await;
}

/// A pod is deleted by force while the watch is in this state.
async fn a_delete_is_not_lost(effect: Effect, times: Option<u32>) {
    let (mut world, cluster) = world().await;
    let created = world.create(&world.pod("watched", "Always")).await;
    world.running("watched").await;
    let mut rule = Rule::always("/pods", effect);
    rule.times = times;
    cluster.faults().add(rule);
    world.delete("watched", Some(0)).await;
    cluster.compact();
    let begun = tokio::time::Instant::now();
    while world.remote.runs(&uid(&created)) {
        assert!(begun.elapsed() < STALL, "the delete was lost");
        tokio::time::sleep(Duration::from_secs(1)).await;
        if begun.elapsed() > Duration::from_secs(60) {
            cluster.faults().clear();
        }
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_while_the_watch_was_closed_is_found() {
    a_delete_is_not_lost(Effect::WatchClose, Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_behind_410_gone_is_found() {
    a_delete_is_not_lost(Effect::WatchGone, Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_behind_a_stalled_watch_is_found() {
    a_delete_is_not_lost(Effect::WatchStall, Some(1)).await;
}
