//! The API server or the remote is away, slow, or late with its news.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep};
use vk_provider::{BackendError, PodFacts, PodKey};
use vk_sandbox::faults::{Effect, Rule};

use crate::sandboxed::world;
use crate::suite::memory::Call;
use crate::suite::world::{phase, uid};

#[tokio::test(start_paused = true)]
async fn five_minutes_without_the_api_server_lose_nothing_and_run_nothing_twice() {
    let (mut world, cluster) = world().await;
    for (name, policy) in [("kept", "Always"), ("ends", "Never"), ("goes", "Always")] {
        world.create(&world.pod(name, policy)).await;
    }
    let _ = world.running("kept").await;
    let (ends, goes) = (world.running("ends").await, world.running("goes").await);
    cluster
        .faults()
        .add(Rule::always("", Effect::DropConnection));
    cluster.faults().add(Rule::always("", Effect::WatchClose));
    sleep(Duration::from_secs(60)).await;
    world.remote.exit(&uid(&ends), 3);
    cluster.delete::<Pod>("default", "goes", Some(0)).unwrap();
    cluster.create(&world.pod("new", "Always")).unwrap();
    sleep(Duration::from_secs(240)).await;
    assert!(world.remote.runs(&uid(&goes)), "nobody could have told");
    assert_eq!(world.remote.ensures("new"), 0);
    cluster.faults().clear();
    let begun = Instant::now();
    let ended = world.wait("ends", "Failed", |p| phase(p) == "Failed").await;
    let status = &ended.status.unwrap().container_statuses.unwrap()[0];
    let end = status.state.as_ref().unwrap().terminated.as_ref();
    assert_eq!(end.unwrap().exit_code, 3);
    world.running("new").await;
    world.running("kept").await;
    while !world.remote.ended(&uid(&goes)) {
        sleep(Duration::from_secs(1)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "it runs on");
    }
    for name in ["kept", "ends", "goes", "new"] {
        assert_eq!(world.remote.ensures(name), 1, "{:?}", world.remote.calls());
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_given_up_and_repeated() {
    let (mut world, _cluster) = world().await;
    world.remote.hold_ensures(true);
    let created = world.create(&world.pod("slow", "Always")).await;
    // Longer than the deadline of the call, and its back-off.
    sleep(Duration::from_secs(75)).await;
    assert!(
        world.remote.ensures("slow") >= 2,
        "{:?}",
        world.remote.calls()
    );
    assert!(!world.remote.runs(&uid(&created)));
    world.remote.hold_ensures(false);
    world.running("slow").await;
    world.delete("slow", None).await;
    world.gone("slow", &uid(&created)).await;
    world.emptied().await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn late_news_of_an_old_uid_does_not_touch_its_successor() {
    let (mut world, _cluster) = world().await;
    let old = world.create(&world.pod("twin", "Always")).await;
    world.running("twin").await;
    world.delete("twin", Some(0)).await;
    world.gone("twin", &uid(&old)).await;
    world.emptied().await;
    let new = world.create(&world.pod("twin", "Always")).await;
    world.running("twin").await;
    let key = PodKey::new("default", "twin", &uid(&old));
    let mut late = PodFacts::new(key, world.node.as_str().into(), 1);
    late.ended = true;
    world.remote.plant(late);
    sleep(Duration::from_secs(5)).await;
    world.remote.lose(&uid(&old));
    sleep(Duration::from_secs(150)).await;
    let shown = world.running("twin").await;
    assert_eq!(uid(&shown), uid(&new));
    assert!(world.remote.runs(&uid(&new)));
    let stops = world.remote.calls();
    let stops = stops.iter().filter(|c| matches!(c, Call::Stop(..))).count();
    assert_eq!(stops, 1, "the forced delete's");
    assert_eq!(world.remote.ensures("twin"), 2);
    world.stop().await;
}

/// The Go library forgets a pod after its twentieth failure, and fails one that
/// may run once at the first.
#[tokio::test(start_paused = true)]
async fn after_hours_of_failures_a_pod_is_still_asked_for() {
    const FAILURES: usize = 25;
    for policy in ["Always", "Never"] {
        let (mut world, _cluster) = world().await;
        for _ in 0..FAILURES {
            world.remote.fail_next(BackendError::Unavailable {
                message: "no answer".into(),
                retry: None,
            });
        }
        world.create(&world.pod("patient", policy)).await;
        let mut asked = 0;
        while asked <= FAILURES {
            // The longest pause between two tries.
            sleep(Duration::from_secs(301)).await;
            let now = world.remote.ensures("patient");
            assert!(now > asked, "not asked again after {asked} failures");
            asked = now;
        }
        world.running("patient").await;
        world.stop().await;
    }
}
