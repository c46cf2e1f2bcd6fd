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

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use sandboxed::world;
use serde_json::json;
use suite::world::{phase, uid};
use tokio::time::{Instant, sleep};
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

/// The Go library caches all of the cluster.
#[tokio::test(start_paused = true)]
async fn no_secret_and_no_config_map_is_ever_asked_for() {
    let (mut world, cluster) = world().await;
    for path in ["/secrets", "/configmaps"] {
        let rule = Rule::always(path, Effect::Latency(0));
        cluster.faults().add(rule.times(COUNTED));
    }
    let mut pod = world.pod("curious", "Always");
    pod.spec.as_mut().unwrap().containers[0].env_from = serde_json::from_value(
        json!([{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}]),
    )
    .unwrap();
    world.create(&pod).await;
    world.running("curious").await;
    world.stop().await;
    world.start().await;
    sleep(suite::world::PATIENCE).await;
    assert_eq!(counted(&cluster), [0, 0]);
    world.stop().await;
}

async fn within(limit: Duration, cluster: &Cluster, met: impl Fn(&[Pod]) -> bool) {
    let begun = Instant::now();
    while !met(&cluster.list::<Pod>(None)) {
        assert!(begun.elapsed() < limit, "too late");
        sleep(Duration::from_millis(250)).await;
    }
}

/// The Go library's client sends 5 requests per second, its queues take 10 pods.
#[tokio::test(start_paused = true)]
async fn five_hundred_pods_start_and_go_at_once_and_leave_nothing_behind() {
    const PODS: usize = 500;
    const AT_ONCE: Duration = Duration::from_secs(5);
    let (mut world, cluster) = world().await;
    let table = world.table.clone().unwrap();
    for round in 0..2 {
        for number in 0..PODS {
            let mut pod = world.pod(&format!("many-{round}-{number}"), "Always");
            pod.spec.as_mut().unwrap().containers[0].resources = None;
            cluster.create(&pod).unwrap();
        }
        let all_run = |pods: &[Pod]| pods.iter().all(|pod| phase(pod) == "Running");
        within(AT_ONCE, &cluster, all_run).await;
        assert_eq!(table.len(), PODS);
        for number in 0..PODS {
            let name = format!("many-{round}-{number}");
            cluster.delete::<Pod>("default", &name, None).unwrap();
        }
        within(AT_ONCE, &cluster, <[Pod]>::is_empty).await;
        world.emptied().await;
        sleep(Duration::from_secs(180)).await;
        assert_eq!(table.len(), 0, "nothing is remembered of pods that went");
    }
    world.stop().await;
}
