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
use harness::control_plane::Flags;

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
            tokio::spawn(outage::costs_no_pod(plane.clone())),
        ),
        (
            "a node with a kubelet's credential comes up without the labels it may not set",
            tokio::spawn(restricted::comes_up_without_the_labels_it_may_not_set(
                plane.clone(),
            )),
        ),
        (
            "a process frozen beyond its lease writes nothing when it goes on",
            tokio::spawn(frozen::writes_nothing(plane.clone())),
        ),
        (
            "a drain moves the pods as their budget allows and removes the node",
            tokio::spawn(drained::respects_budgets(plane.clone())),
        ),
        (
            "a drain that may not end a pod gives up in time and keeps both",
            tokio::spawn(drained::times_out(plane.clone())),
        ),
    ];
    all_end_well(scenes).await;
}
