//! Before, while and after a pod is started.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::Instant;
use vk_provider::{Admission, BackendError, PodKey};

use crate::rig::{Rig, seconds};
use crate::suite::workloads::template;
use crate::suite::world::{eventually, phase, uid};

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_a_pod_before_the_first_listing_after_a_restart() {
    let mut rig = Rig::running().await;
    rig.world.create(&rig.world.pod("kept", "Always")).await;
    let before = rig.world.running("kept").await;
    rig.stop().await;
    rig.backend = crate::around::Around::new(rig.world.remote.backend(), vk_provider::Grace::Exact);
    rig.backend.lists.send_replace(false);
    rig.start(rig.world.client.clone());
    seconds(60).await;
    let version = || async {
        let pod = rig.world.pods().get("kept").await.unwrap();
        pod.metadata.resource_version
    };
    assert_eq!(rig.backend.listings(), 0);
    assert_eq!(version().await, before.metadata.resource_version);
    rig.backend.lists.send_replace(true);
    seconds(60).await;
    assert_eq!(version().await, before.metadata.resource_version);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_does_not_hold_the_first_status_back() {
    let mut rig = Rig::running().await;
    rig.backend
        .tell(|told| told.ensure_takes = Duration::from_secs(30));
    let created = rig.world.create(&rig.world.pod("slow", "Always")).await;
    let begun = Instant::now();
    let shown = |pod: &k8s_openapi::api::core::v1::Pod| {
        pod.status.as_ref().is_some_and(|s| s.start_time.is_some())
    };
    rig.world.wait("slow", "shown", shown).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(!rig.world.remote.runs(&uid(&created)));
    rig.world.running("slow").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_look_that_the_backend_asks_for_ends_the_back_off() {
    let mut rig = Rig::running().await;
    rig.world.remote.fail_next(BackendError::Waiting {
        reason: "Busy".into(),
        message: "later".into(),
        retry: Some(Duration::from_secs(300)),
    });
    let created = rig
        .world
        .create(&rig.world.pod("looked-at", "Always"))
        .await;
    seconds(5).await;
    assert_eq!(rig.world.remote.ensures("looked-at"), 1);
    rig.backend.look(PodKey::of(&created).unwrap());
    seconds(2).await;
    assert_eq!(rig.world.remote.ensures("looked-at"), 2);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_too_large_fails_the_pod_and_is_not_written() {
    let mut rig = Rig::running().await;
    rig.backend.tell(|told| told.journal = Some(4097));
    rig.world.create(&rig.world.pod("verbose", "Always")).await;
    let over = |pod: &k8s_openapi::api::core::v1::Pod| phase(pod) == "Failed";
    let failed = rig.world.wait("verbose", "Failed", over).await;
    assert_eq!(
        failed.status.unwrap().reason.as_deref(),
        Some("JournalTooLarge")
    );
    assert_eq!(failed.metadata.annotations, None);
    rig.backend.tell(|told| told.journal = Some(4096));
    rig.world.create(&rig.world.pod("terse", "Always")).await;
    rig.world.running("terse").await;
    rig.stop().await;
}

/// The remote's ids, for instance: the Go library's providers lose them.
#[tokio::test(start_paused = true)]
async fn what_a_backend_wrote_down_is_given_to_the_next_process() {
    let mut rig = Rig::running().await;
    rig.backend.tell(|told| told.journal = Some(3));
    rig.world.create(&rig.world.pod("noted", "Always")).await;
    rig.world.running("noted").await;
    rig.stop().await;
    rig.backend = crate::around::Around::new(rig.world.remote.backend(), vk_provider::Grace::Exact);
    rig.start(rig.world.client.clone());
    seconds(30).await;
    let given = rig.backend.seen.lock().unwrap().journals.clone();
    assert_eq!(given, [Some("jjj".into())]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_before_its_nodes_facts_is_admitted_after_them() {
    let mut rig = Rig::running().await;
    rig.world.create(&rig.world.pod("holds", "Always")).await;
    rig.world.running("holds").await;
    rig.world.remote.set_nodes(&[]);
    seconds(1).await;
    rig.world.create(&rig.world.pod("early", "Always")).await;
    seconds(5).await;
    assert_eq!(rig.world.remote.ensures("early"), 0);
    let node = rig.world.node.clone();
    rig.world.remote.set_nodes(&[&node]);
    seconds(3).await;
    assert_eq!(rig.world.remote.ensures("early"), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restarts_are_counted_on_by_the_process_that_takes_over() {
    let (mut world, _cluster) = crate::sandboxed::world().await;
    world.remote.restart_nothing();
    let created = world.create(&world.pod("counted", "Always")).await;
    let restarted = |count: i32| {
        move |pod: &k8s_openapi::api::core::v1::Pod| {
            let all = pod
                .status
                .iter()
                .flat_map(|s| s.container_statuses.iter().flatten());
            phase(pod) == "Running" && all.map(|c| c.restart_count).eq([count])
        }
    };
    world.running("counted").await;
    world.remote.exit(&uid(&created), 3);
    world.wait("counted", "restarted", restarted(1)).await;
    world.stop().await;
    world.start().await;
    seconds(30).await;
    world.remote.exit(&uid(&created), 3);
    world.wait("counted", "restarted again", restarted(2)).await;
    world.stop().await;
}

/// Failed, its controller would replace it for ever.
#[tokio::test(start_paused = true)]
async fn a_pod_of_a_daemon_set_that_is_refused_stays_pending_until_it_is_not() {
    let mut rig = Rig::running().await;
    rig.backend.tell(|told| {
        told.admission = Some(Admission::Reject {
            reason: "NotHere".into(),
            message: "no room for agents".into(),
            event: None,
        });
    });
    let set: DaemonSet = serde_json::from_value(json!({
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": template(&rig.world, "agent"),
        },
    }))
    .unwrap();
    let sets: Api<DaemonSet> = Api::namespaced(rig.world.client.clone(), "default");
    sets.create(&PostParams::default(), &set).await.unwrap();
    let pods = || rig.world.labelled("app=agent");
    let first = eventually("the pod is shown waiting", async || {
        let pod = pods().await.into_iter().next()?;
        let status = pod.status.as_ref()?;
        status.start_time.is_some().then_some(pod)
    })
    .await;
    seconds(200).await;
    let [pod] = &pods().await[..] else {
        panic!("one pod");
    };
    assert_eq!((phase(pod), uid(pod)), ("Pending", uid(&first)));
    assert_eq!(rig.events("NotHere").await, 1);
    rig.backend.tell(|told| told.admission = None);
    let name = first.metadata.name.as_deref().unwrap();
    seconds(300).await;
    assert_eq!(uid(&rig.world.running(name).await), uid(&first));
    rig.stop().await;
}
