//! How little is written to Kubernetes: each write costs the API server as much
//! as a pod's whole start should cost us.

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

use sandboxed::world;
use suite::world::uid;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

/// More than any of these tests should need.
const COUNTED: u32 = 100;

/// Counts requests by a fault that does no harm.
fn count(cluster: &Cluster, method: &str) {
    let rule = Rule::always("/pods/quick", Effect::Latency(0));
    cluster.faults().add(rule.method(method).times(COUNTED));
}

fn counted(cluster: &Cluster) -> Vec<u32> {
    let rules = cluster.faults().rules();
    rules.iter().map(|r| COUNTED - r.times.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_at_once_costs_one_write_and_its_end_two() {
    let (mut world, cluster) = world().await;
    count(&cluster, "PATCH");
    let created = world.create(&world.pod("quick", "Always")).await;
    world.running("quick").await;
    tokio::time::sleep(suite::world::PATIENCE).await;
    assert_eq!(counted(&cluster), [1], "one status");

    count(&cluster, "DELETE");
    world.delete("quick", Some(30)).await;
    world.gone("quick", &uid(&created)).await;
    world.emptied().await;
    tokio::time::sleep(suite::world::PATIENCE).await;
    assert_eq!(
        counted(&cluster),
        [2, 2],
        "the last status; the user's delete and the final one"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_takes_its_time_is_shown_meanwhile() {
    let (mut world, cluster) = world().await;
    let created = world.create(&world.pod("quick", "Always")).await;
    world.running("quick").await;
    world.remote.hold_stops(true);
    count(&cluster, "PATCH");
    world.delete("quick", Some(30)).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(
        counted(&cluster),
        [1],
        "the generation that it was told to end"
    );
    world.remote.exit(&uid(&created), 0);
    world.gone("quick", &uid(&created)).await;
    world.stop().await;
}
