//! The framework while the Kubernetes API fails in every way the sandbox knows.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/connections.rs"]
mod connections;
#[path = "faults/outages.rs"]
mod outages;
#[path = "suite/sandboxed.rs"]
mod sandboxed;
mod suite;
#[path = "faults/watches.rs"]
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use kube::api::{Patch, PatchParams};
use kube::client::middleware::BaseUriLayer;
use sandboxed::world;
use serde_json::json;
use suite::memory::{Call, JOURNALS};
use suite::world::{World, uid};
use tower::{Layer, ServiceExt};
use vk_provider::BackendError;
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

#[tokio::test(start_paused = true)]
async fn a_delete_behind_a_watch_of_bookmarks_only_is_found() {
    a_delete_is_not_lost(Effect::WatchBookmarksOnly, Some(1)).await;
}

/// Kubernetes answers one status PATCH with this code, for no reason of the pod's.
async fn one_odd_answer_ends_nothing(code: u16) {
    let (mut world, cluster) = world().await;
    let created = world.create(&world.pod("victim", "Always")).await;
    world.running("victim").await;
    let rule = Rule::always("/pods/victim/status", Effect::Status(code));
    cluster.faults().add(rule.method("PATCH").times(1));
    world.remote.readdress(&uid(&created));
    world
        .wait("victim", "readdressed", |pod| {
            pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()) == Some("10.0.0.9")
        })
        .await;
    let stops = |call: &Call| matches!(call, Call::Stop(..));
    assert!(!world.remote.calls().iter().any(stops));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_a_webhook_made_ends_no_workload() {
    one_odd_answer_ends_nothing(409).await;
}

#[tokio::test(start_paused = true)]
async fn a_404_that_a_proxy_made_ends_no_workload() {
    one_odd_answer_ends_nothing(404).await;
}

#[tokio::test(start_paused = true)]
async fn more_journals_at_once_than_writes_may_be_under_way_do_not_block_each_other() {
    let (mut world, cluster) = world().await;
    let slow = Rule::always("/pods/journal", Effect::Latency(700));
    cluster.faults().add(slow.method("PATCH"));
    let name = |i: usize| format!("journal-{i}");
    for i in 0..80 {
        let mut pod = world.pod(&name(i), "Always");
        pod.metadata.annotations = Some([(JOURNALS.to_owned(), "yes".to_owned())].into());
        pod.spec.as_mut().unwrap().containers[0].resources = None;
        world.create(&pod).await;
    }
    for i in 0..80 {
        world.running(&name(i)).await;
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_says_again_at_once_is_not_asked_without_pause() {
    let (mut world, _cluster) = world().await;
    for _ in 0..5 {
        world.remote.fail_next(BackendError::Waiting {
            reason: "Busy".into(),
            message: "at once, please".into(),
            retry: Some(Duration::ZERO),
        });
    }
    let begun = tokio::time::Instant::now();
    world.create(&world.pod("hasty", "Always")).await;
    world.running("hasty").await;
    assert!(begun.elapsed() >= Duration::from_secs(5));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_call_costs_one_try_of_one_pod() {
    let (mut world, _cluster) = world().await;
    world.remote.panic_next();
    let created = world.create(&world.pod("unlucky", "Always")).await;
    world.running("unlucky").await;
    world.delete("unlucky", Some(30)).await;
    world.gone("unlucky", &uid(&created)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_became_terminal_while_we_were_away_is_stopped() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("given-up", "Always")).await;
    world.running("given-up").await;
    world.stop().await;
    let failed = json!({"status": {"phase": "Failed", "reason": "DeviceTimeout"}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(failed));
    let pods = world.pods();
    pods.patch_status("given-up", &params, &patch)
        .await
        .unwrap();
    world.remote.hold_stops(false);
    world.start().await;
    let begun = tokio::time::Instant::now();
    while !world.remote.ended(&uid(&created)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it runs on");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_field_that_kubernetes_does_not_keep_is_not_written_without_pause() {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    let cluster = Cluster::new(vk_sandbox::clock::Clock::stepped(start));
    let writes = Arc::new(AtomicU32::new(0));
    let client = forgetful(cluster.endpoint().connector(), writes.clone());
    let mut world = World::new(client, vk_provider::Clock::stepped(start), "default").await;
    world.create(&world.pod("loop", "Always")).await;
    world.running("loop").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let written = writes.load(Ordering::SeqCst);
    assert!(written < 25, "{written} status writes in ten minutes");
    world.stop().await;
}

/// A client behind which a webhook, or an API server that is older than the
/// field, drops `hostIPs`. Counts the status writes, and answers no more than
/// a thousand: without pauses they would keep the stepped clock from stepping.
fn forgetful(
    connector: vk_sandbox::transport::MemoryConnector,
    writes: Arc<AtomicU32>,
) -> kube::Client {
    let http: hyper_util::client::legacy::Client<_, kube::client::Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.test/")).layer(http);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (base, writes) = (base.clone(), writes.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let mut bytes = body.collect_bytes().await.unwrap().to_vec();
            if parts.method == "PATCH" && parts.uri.path().ends_with("/pods/loop/status") {
                if writes.fetch_add(1, Ordering::SeqCst) > 1000 {
                    std::future::pending::<()>().await;
                }
                let mut patch: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                patch["status"].as_object_mut().unwrap().remove("hostIPs");
                bytes = serde_json::to_vec(&patch).unwrap();
            }
            parts.headers.remove(http::header::CONTENT_LENGTH);
            base.oneshot(http::Request::from_parts(parts, bytes.into()))
                .await
        }
    });
    kube::Client::new(service, "default")
}
