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

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use sandboxed::world;
use suite::world::World;
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

/// Seconds since the lease was renewed.
fn lease_age(world: &World, cluster: &Cluster) -> i64 {
    let lease: Lease = cluster.get("kube-node-lease", &world.node).unwrap();
    let renewed = lease.spec.unwrap().renew_time.unwrap().0;
    world.clock.now().duration_since(renewed).as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_an_hour_loses_neither_lease_nor_node() {
    for effect in [
        Effect::TooManyRequests(3600),
        Effect::PlainTooManyRequests(3600),
    ] {
        let (mut world, cluster) = world().await;
        sleep(Duration::from_secs(15)).await;
        let lease = Rule::always("/leases", effect.clone()).times(1);
        cluster.faults().add(lease);
        let node = Rule::always("/api/v1/nodes", effect).method("POST").times(1);
        cluster.faults().add(node);
        cluster.delete::<Node>("", &world.node, None).unwrap();
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            assert!(lease_age(&world, &cluster) < 40);
        }
        assert!(cluster.get::<Node>("", &world.node).is_some());
        assert!(cluster.faults().rules().is_empty(), "both faults struck");
        world.stop().await;
    }
}
