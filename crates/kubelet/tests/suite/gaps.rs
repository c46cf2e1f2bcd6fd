//! What happened while nobody told us, or was undone by others.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::world::{World, eventually, ready, uid};

pub async fn a_delete_missed_in_a_watch_gap_is_carried_out(world: &mut World) {
    let created = world.create(&world.pod("unheard-of", "Always")).await;
    world.running("unheard-of").await;
    world.gate.cut();
    world.delete("unheard-of", Some(0)).await;
    world.gone("unheard-of", &uid(&created)).await;
    assert!(world.remote.runs(&uid(&created)));
    world.gate.mend();
    world.emptied().await;
}

pub async fn a_successor_that_came_in_a_watch_gap_is_another_pod(world: &mut World) {
    let first = world.create(&world.pod("folded", "Always")).await;
    world.running("folded").await;
    world.gate.cut();
    world.delete("folded", Some(0)).await;
    world.gone("folded", &uid(&first)).await;
    let second = world.create(&world.pod("folded", "Always")).await;
    world.gate.mend();
    assert_eq!(uid(&world.running("folded").await), uid(&second));
    eventually("the first has ended", || async {
        (!world.remote.runs(&uid(&first))).then_some(())
    })
    .await;
    assert!(world.remote.runs(&uid(&second)));
    assert_eq!(world.remote.ensures("folded"), 2, "one start of each");
    world.delete("folded", None).await;
    world.emptied().await;
}

pub async fn a_pod_that_is_being_deleted_at_the_start_is_ended(world: &mut World) {
    let created = world.create(&world.pod("leaving", "Always")).await;
    world.running("leaving").await;
    world.stop().await;
    world.delete("leaving", Some(30)).await;
    let marked = world.pods().get("leaving").await.unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    world.start().await;
    world.gone("leaving", &uid(&created)).await;
    world.emptied().await;
}

/// As the node controller does when it has not heard of a node for a while.
pub async fn a_pod_that_others_call_not_ready_is_ready_again(world: &mut World) {
    world.create(&world.pod("doubted", "Always")).await;
    world.running("doubted").await;
    let doubt = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let (params, doubt) = (PatchParams::default(), Patch::Strategic(&doubt));
    let pods = world.pods();
    let doubted = pods.patch_status("doubted", &params, &doubt).await.unwrap();
    assert!(!ready(&doubted));
    world.running("doubted").await;
    world.delete("doubted", None).await;
    world.emptied().await;
}

pub async fn a_readiness_gate_decides_readiness(world: &mut World) {
    let mut pod = world.pod("gated", "Always");
    pod.spec.as_mut().unwrap().readiness_gates =
        serde_json::from_value(json!([{"conditionType": "example.com/open"}])).unwrap();
    world.create(&pod).await;
    let closed = |pod: &Pod| {
        let mut conditions = pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        conditions
            .any(|c| c.type_ == "Ready" && c.reason.as_deref() == Some("ReadinessGatesNotReady"))
    };
    world.wait("gated", "behind its gate", closed).await;
    let open = json!({"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}});
    let (params, open) = (PatchParams::default(), Patch::Strategic(&open));
    let pods = world.pods();
    pods.patch_status("gated", &params, &open).await.unwrap();
    world.running("gated").await;
    world.delete("gated", None).await;
    world.emptied().await;
}
