//! Nodes through everything that happens to them, in the sandbox.

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
use tokio::time::sleep;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

/// More than any well-behaved client asks for while a test looks.
const PLENTY: u32 = 5000;

/// How often a rule with [`PLENTY`] struck.
fn struck(cluster: &Cluster) -> u32 {
    PLENTY - cluster.faults().rules()[0].times.unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[tokio::test(start_paused = true)]
async fn watches_that_the_server_closes_cleanly_are_opened_again_ever_more_rarely() {
    for path in ["/pods", "/nodes"] {
        let (mut world, cluster) = world().await;
        sleep(minutes(1)).await;
        let rule = Rule::always(path, Effect::WatchClose).times(PLENTY);
        cluster.faults().add(rule);
        sleep(minutes(5)).await;
        // 0.8 s doubled up to 30 s: six, and two a minute.
        let opened = struck(&cluster);
        assert!((6..=20).contains(&opened), "{path}: {opened} watches");
        cluster.faults().clear();
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_wait_as_long_as_the_server_asks_in_either_form() {
    for effect in [
        Effect::TooManyRequests(30),
        Effect::PlainTooManyRequests(30),
    ] {
        let (mut world, cluster) = world().await;
        world.stop().await;
        let rule = Rule::always("/api/v1/pods?", effect).times(PLENTY);
        cluster.faults().add(rule);
        world.start().await;
        sleep(minutes(1)).await;
        let asked = struck(&cluster);
        assert!((2..=4).contains(&asked), "{asked} lists in a minute");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_fail_are_repeated_ever_more_rarely() {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let rule = Rule::always("/api/v1/pods?", Effect::Status(500)).times(PLENTY);
    cluster.faults().add(rule);
    world.start().await;
    sleep(minutes(5)).await;
    let asked = struck(&cluster);
    assert!((8..=20).contains(&asked), "{asked} lists in five minutes");
    world.stop().await;
}
