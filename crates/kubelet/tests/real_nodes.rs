//! Nodes through long times, on a real control plane whose patience is short.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "real_nodes/drained.rs"]
mod drained;
#[path = "real_nodes/frozen.rs"]
mod frozen;
#[path = "../../../tests/real/harness/mod.rs"]
mod harness;
#[path = "real_nodes/mock.rs"]
mod mock;
#[path = "real_nodes/outage.rs"]
mod outage;
#[path = "real_nodes/restricted.rs"]
mod restricted;
mod suite;

use std::sync::Arc;

use harness::all_end_well;
use harness::control_plane::{ControlPlane, Flags};
use tokio::task::JoinHandle;

/// A tenth of an ordinary cluster's: there a silent node is NotReady after 50 s,
/// and its pods are evicted 300 s later; here after 20 s (a lease is renewed
/// every 10 s) and 5 s later, as the tests' pods tolerate it.
const SHORT: &[&str] = &[
    "--node-monitor-period=1s",
    "--node-monitor-grace-period=20s",
    "--node-startup-grace-period=20s",
];

#[tokio::test(flavor = "multi_thread")]
async fn nodes_hold_on_a_real_control_plane_whose_patience_is_short() {
    let flags = Flags {
        apiserver: &[restricted::PLUGIN],
        controller_manager: SHORT,
        audit: true,
    };
    let Some(plane) = harness::control_plane(flags).await else {
        return;
    };
    let plane = Arc::new(plane);
    mock::allow(&plane);
    let scenes = [
        (
            "a backend away for long costs no pod",
            play(&plane, outage::costs_no_pod, &[]),
        ),
        (
            "a node with a kubelet's credential comes up without the labels it may not set",
            play(
                &plane,
                restricted::comes_up_without_the_labels_it_may_not_set,
                &[restricted::NODE],
            ),
        ),
        (
            "a process frozen beyond its lease writes nothing when it goes on",
            play(&plane, frozen::writes_nothing, &[frozen::NODE]),
        ),
        (
            "a drain moves the pods as their budget allows and removes the node",
            play(&plane, drained::respects_budgets, &[drained::STAYING]),
        ),
        (
            "a drain that may not end a pod gives up in time and keeps both",
            play(&plane, drained::times_out, &[drained::STUCK]),
        ),
    ];
    all_end_well(scenes).await;
}

/// A scene beside others. The nodes that it leaves behind go with it: three that
/// nobody keeps, and more than half of all, are taken for a failing zone, in which
/// nobody is evicted and [`outage`] has no witness (the node lifecycle controller's
/// `unhealthy-zone-threshold`).
fn play<F: Future<Output = ()> + Send + 'static>(
    plane: &Arc<ControlPlane>,
    scene: fn(Arc<ControlPlane>) -> F,
    leaves: &'static [&'static str],
) -> JoinHandle<()> {
    let (plane, scene) = (plane.clone(), scene(plane.clone()));
    tokio::spawn(async move {
        scene.await;
        for node in leaves {
            let deleted = plane.kubectl_apart(&["delete", "node", node]).await;
            assert!(deleted.success, "{}", deleted.text);
        }
    })
}
