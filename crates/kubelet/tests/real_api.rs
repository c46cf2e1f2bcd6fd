//! What a node's kubelet API is good for on real parts: how the API server streams
//! to it, and what metrics-server makes of its measurements.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "real_api/able.rs"]
mod able;
#[path = "real_api/declared.rs"]
mod declared;
#[path = "../../../tests/real/harness/mod.rs"]
mod harness;
mod suite;
#[path = "real_api/top.rs"]
mod top;

use std::sync::Arc;

use harness::all_end_well;
use harness::control_plane::{Flags, KUBELET_CLIENT};

/// The API server passes requests on to metrics-server, and shows a certificate
/// there too.
const AGGREGATOR: &[&str] = &[
    "--requestheader-client-ca-file=ca.crt",
    "--requestheader-allowed-names=kube-apiserver-kubelet-client",
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    "--proxy-client-cert-file=kubelet-client.crt",
    "--proxy-client-key-file=kubelet-client.key",
];
/// An autoscaler that looks often, and at pods that have just begun.
const AUTOSCALER: &[&str] = &[
    "--horizontal-pod-autoscaler-sync-period=2s",
    "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_api_serves_the_cluster_on_a_real_control_plane() {
    let flags = Flags {
        apiserver: AGGREGATOR,
        controller_manager: AUTOSCALER,
        audit: false,
    };
    let Some(plane) = harness::control_plane(flags).await else {
        return;
    };
    let plane = Arc::new(plane);
    let (role, user) = (
        "--clusterrole=system:kubelet-api-admin",
        format!("--user={KUBELET_CLIENT}"),
    );
    plane.ok(&["create", "clusterrolebinding", KUBELET_CLIENT, role, &user]);
    let scenes = [
        (
            "a node that streams is sent WebSockets as they are, and another is not",
            tokio::spawn(declared::websockets(plane.clone())),
        ),
        (
            "kubectl top and an autoscaler see what the backend measures",
            tokio::spawn(top::measured(plane.clone())),
        ),
    ];
    all_end_well(scenes).await;
}
