//! The lifecycle suite: what the framework promises about pods and nodes. The
//! sandbox and a real control plane pass the same functions.

pub mod admission;
pub mod deletions;
pub mod gaps;
pub mod gate;
pub mod jobs;
pub mod memory;
pub mod nodes;
pub mod updates;
pub mod workloads;
pub mod world;

// Test binaries without the macro below use none of them.
#[allow(unused_imports, reason = "for the macro")]
pub use admission::*;
#[allow(unused_imports, reason = "for the macro")]
pub use deletions::*;
#[allow(unused_imports, reason = "for the macro")]
pub use gaps::*;
#[allow(unused_imports, reason = "for the macro")]
pub use jobs::*;
#[allow(unused_imports, reason = "for the macro")]
pub use nodes::*;
#[allow(unused_imports, reason = "for the macro")]
pub use updates::*;
#[allow(unused_imports, reason = "for the macro")]
pub use workloads::*;

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use vk_provider::{BackendError, PodFacts, PodKey};

use memory::Call;
use world::{World, phase, ready, uid};

pub async fn a_pod_runs_and_goes(world: &mut World) {
    let created = world.create(&world.pod("simple", "Always")).await;
    let pod = world.running("simple").await;
    let status = pod.status.as_ref().unwrap();
    assert!(status.start_time.is_some());
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    world.delete("simple", None).await;
    world.gone("simple", &uid(&created)).await;
    world.emptied().await;
    assert_eq!(
        world.remote.ensures("simple"),
        1,
        "{:?}",
        world.remote.calls()
    );
}

pub async fn a_job_like_pod_ends_and_stays_ended(world: &mut World) {
    let created = world.create(&world.pod("once", "Never")).await;
    world.running("once").await;
    world.remote.exit(&uid(&created), 3);
    let pod = world.wait("once", "Failed", |p| phase(p) == "Failed").await;
    assert!(!ready(&pod));
    let state = &pod.status.unwrap().container_statuses.unwrap()[0].state;
    assert_eq!(
        state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code,
        3
    );
    assert_eq!(world.remote.ensures("once"), 1);
    world.delete("once", None).await;
    world.emptied().await;
}

pub async fn a_finished_pod_does_not_wait_for_its_grace(world: &mut World) {
    let created = world.create(&world.pod("quick", "Always")).await;
    world.running("quick").await;
    let begun = tokio::time::Instant::now();
    world.delete("quick", Some(30)).await;
    world.gone("quick", &uid(&created)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begun.elapsed()
    );
    world.emptied().await;
}

pub async fn grace_is_given_and_can_be_shortened(world: &mut World) {
    let created = world.create(&world.pod("slow", "Always")).await;
    world.running("slow").await;
    world.remote.hold_stops(true);
    world.delete("slow", Some(30)).await;
    world
        .wait("slow", "terminating", |p| {
            p.metadata.deletion_timestamp.is_some()
        })
        .await;
    stopped(world, "slow", 30).await;
    assert!(world.remote.runs(&uid(&created)), "still within its grace");
    world.delete("slow", Some(1)).await;
    stopped(world, "slow", 1).await;
    world.remote.hold_stops(false);
    world.remote.exit(&uid(&created), 0);
    world.gone("slow", &uid(&created)).await;
    world.emptied().await;
}

async fn stopped(world: &World, name: &str, grace: u64) {
    let wanted = Call::Stop(name.into(), Duration::from_secs(grace));
    for _ in 0..600 {
        if world.remote.calls().contains(&wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no {wanted:?} in {:?}", world.remote.calls());
}

pub async fn a_forced_delete_still_stops_the_workload(world: &mut World) {
    let created = world.create(&world.pod("forced", "Always")).await;
    world.running("forced").await;
    world.delete("forced", Some(0)).await;
    world.gone("forced", &uid(&created)).await;
    world.emptied().await;
    assert!(
        world
            .remote
            .calls()
            .contains(&Call::Release("forced".into()))
    );
}

pub async fn a_restart_finds_everything_and_writes_nothing(world: &mut World) {
    world.create(&world.pod("kept", "Always")).await;
    let before = world.running("kept").await;
    world.stop().await;
    world.start().await;
    // A second listing and any write it would cause have happened by then.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let after = world.pods().get("kept").await.unwrap();
    assert_eq!(
        before.metadata.resource_version,
        after.metadata.resource_version
    );
    assert!(world.remote.runs(&uid(&after)));
    world.delete("kept", None).await;
    world.emptied().await;
}

pub async fn a_delete_while_we_were_away_is_carried_out(world: &mut World) {
    let created = world.create(&world.pod("missed", "Always")).await;
    world.running("missed").await;
    world.stop().await;
    world.delete("missed", Some(0)).await;
    assert!(world.remote.runs(&uid(&created)));
    world.start().await;
    world.emptied().await;
}

pub async fn an_orphan_goes_only_after_two_listings(world: &mut World) {
    let key = PodKey::new(
        &world.namespace,
        "orphan",
        "00000000-0000-0000-0000-00000000aaaa",
    );
    let facts = PodFacts::new(key, world.node.as_str().into(), 1);
    world.remote.plant(facts);
    world.emptied().await;
}

pub async fn the_same_name_may_come_back_at_once(world: &mut World) {
    let first = world.create(&world.pod("reborn", "Always")).await;
    world.running("reborn").await;
    world.delete("reborn", Some(0)).await;
    world.gone("reborn", &uid(&first)).await;
    let second = world.create(&world.pod("reborn", "Always")).await;
    world.running("reborn").await;
    assert!(world.remote.runs(&uid(&second)));
    world.delete("reborn", None).await;
    world.emptied().await;
}

pub async fn an_image_update_replaces_the_container_in_its_place(world: &mut World) {
    let created = world.create(&world.pod("updated", "Always")).await;
    world.running("updated").await;
    updates::change(world, "updated", &updates::second_image()).await;
    let pod = world
        .wait("updated", "replaced", updates::is_replaced)
        .await;
    assert_eq!(uid(&pod), uid(&created));
    assert!(pod.metadata.deletion_timestamp.is_none());
    assert_eq!(world.remote.ensures("updated"), 2);
    assert_eq!(world.remote.calls().len(), 2, "{:?}", world.remote.calls());
    let killing = world.told("Killing").await;
    assert_eq!(
        killing.message.as_deref(),
        Some("Container app definition changed, will be restarted")
    );
    world.delete("updated", None).await;
    world.emptied().await;
}

pub async fn a_backend_that_fails_is_asked_again_for_ever(world: &mut World) {
    for _ in 0..3 {
        world.remote.fail_next(BackendError::Unavailable {
            message: "no answer".into(),
            retry: Some(Duration::from_millis(200)),
        });
    }
    world.create(&world.pod("stubborn", "Always")).await;
    world.running("stubborn").await;
    assert_eq!(world.remote.ensures("stubborn"), 4);
    world.delete("stubborn", None).await;
    world.emptied().await;
}

pub async fn what_the_remote_loses_is_started_again(world: &mut World) {
    let created = world.create(&world.pod("lost", "Always")).await;
    world.running("lost").await;
    world.remote.lose(&uid(&created));
    for _ in 0..1200 {
        if world.remote.runs(&uid(&created)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        world.remote.runs(&uid(&created)),
        "{:?}",
        world.remote.calls()
    );
    world.delete("lost", None).await;
    world.emptied().await;
}

pub async fn status_keeps_conditions_and_labels_of_others(world: &mut World) {
    let created = world.create(&world.pod("shared", "Always")).await;
    world.running("shared").await;
    let patch = json!({"status": {"conditions": [{"type": "example.com/Gate", "status": "True"}]}});
    let params = PatchParams::default();
    world
        .pods()
        .patch_status("shared", &params, &Patch::Strategic(&patch))
        .await
        .unwrap();
    let label = json!({"metadata": {"labels": {"mine": "yes"}}});
    world
        .pods()
        .patch("shared", &params, &Patch::Merge(&label))
        .await
        .unwrap();
    world.remote.exit(&uid(&created), 0);
    let pod = world.wait("shared", "not ready", |p| !ready(p)).await;
    let conditions = pod.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|c| c.type_ == "example.com/Gate"));
    assert_eq!(pod.metadata.labels.unwrap()["mine"], "yes");
    world.delete("shared", None).await;
    world.emptied().await;
}

/// Every check by name, so that both tiers run the same list.
#[macro_export]
macro_rules! lifecycle_suite {
    ($run:ident) => {
        $crate::lifecycle_suite!(@list @each $run);
    };
    (@all $run:ident) => {
        $crate::lifecycle_suite!(@list @once $run);
    };
    (@list @$how:ident $run:ident) => {
        $crate::lifecycle_suite!(@$how $run,
            a_pod_runs_and_goes,
            a_job_like_pod_ends_and_stays_ended,
            a_finished_pod_does_not_wait_for_its_grace,
            grace_is_given_and_can_be_shortened,
            a_forced_delete_still_stops_the_workload,
            a_restart_finds_everything_and_writes_nothing,
            a_delete_while_we_were_away_is_carried_out,
            an_orphan_goes_only_after_two_listings,
            the_same_name_may_come_back_at_once,
            an_image_update_replaces_the_container_in_its_place,
            what_does_not_fit_is_rejected_as_a_kubelet_rejects,
            a_refused_field_fails_the_pod_and_is_named,
            a_selector_counts_labels_of_others_too,
            a_backend_that_fails_is_asked_again_for_ever,
            what_the_remote_loses_is_started_again,
            status_keeps_conditions_and_labels_of_others,
            the_node_is_registered_leased_and_comes_back,
            nodes_come_and_go,
            an_update_that_fails_leaves_what_runs_as_it_is,
            an_update_that_is_taken_back_and_tried_again_is_told_once,
            labels_and_annotations_reach_nothing_that_runs,
            a_resize_is_answered_infeasible_and_changes_nothing,
            an_ephemeral_container_is_refused_aloud_and_ends_nothing,
            a_delete_missed_in_a_watch_gap_is_carried_out,
            a_successor_that_came_in_a_watch_gap_is_another_pod,
            a_pod_that_is_being_deleted_at_the_start_is_ended,
            a_pod_that_others_call_not_ready_is_ready_again,
            a_readiness_gate_decides_readiness,
            a_pod_that_waits_goes_at_once,
            a_pod_whose_ensure_is_in_flight_goes_and_never_runs,
            a_pod_that_has_finished_goes_whatever_its_grace,
            a_pod_the_backend_has_never_heard_of_goes,
            a_delete_gives_the_pods_own_grace,
            a_pod_whose_containers_wait_is_given_its_grace_too,
            a_finalizer_holds_the_object_and_not_the_workload,
            a_forced_delete_behind_a_finalizer_stops_the_workload,
            a_namespace_goes_with_its_running_pods,
            a_node_that_a_person_removes_comes_back_and_keeps_its_pods,
            a_job_runs_until_all_its_completions_are_there,
            a_job_fails_after_as_many_pods_as_its_limit_allows,
            a_failure_policy_ends_a_job_at_an_exit_code,
            a_failure_policy_ignores_a_disruption,
            a_failure_policy_ignores_an_eviction,
            an_eviction_gives_the_grace_then_fails_the_pod_and_keeps_it,
            a_deployment_rolls_without_losing_availability,
            a_stateful_set_keeps_order_and_identity,
            a_daemon_set_runs_once_on_every_node_it_tolerates,
        );
    };
    (@each $run:ident, $($check:ident),* $(,)?) => {
        $( $run!($check); )*
    };
    (@once $run:ident, $($check:ident),* $(,)?) => {
        $run!($($check),*);
    };
}
