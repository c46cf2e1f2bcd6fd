//! The lifecycle suite against a real control plane.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../tests/real/harness/mod.rs"]
mod harness;
#[path = "real/kubectl.rs"]
mod kubectl;
#[path = "real/kubectl_streams.rs"]
mod kubectl_streams;
mod suite;

use std::sync::Arc;

use harness::control_plane::{ControlPlane, Flags};
use harness::{all_end_well, reached};
use kube::Client;
use suite::world::World;
use vk_provider::Clock;

macro_rules! spawned {
    ($($check:ident),* $(,)?) => {
        fn checks(plane: &ControlPlane) -> Vec<(&'static str, tokio::task::JoinHandle<()>)> {
            let mut tasks = Vec::new();
            $(
                let namespace = stringify!($check).replace('_', "-");
                plane.ok(&["create", "namespace", &namespace]);
                let kubeconfig = plane.kubeconfig();
                tasks.push((stringify!($check), tokio::spawn(async move {
                    let client = client(&kubeconfig).await;
                    let mut world = World::new(client, Clock::live(), &namespace).await;
                    suite::$check(&mut world).await;
                    world.stop().await;
                })));
            )*
            tasks
        }
    };
}

lifecycle_suite!(@all spawned);

async fn client(kubeconfig: &std::path::Path) -> Client {
    Client::try_from(reached(kubeconfig).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lifecycle_suite_holds_on_a_real_control_plane() {
    let Some(plane) = harness::control_plane(Flags::default()).await else {
        return;
    };
    let plane = Arc::new(plane);
    let mut tasks = checks(&plane);
    tasks.push((
        "kubectl_reaches_into_pods_of_a_node_with_a_certificate_of_the_cluster",
        tokio::spawn(kubectl::reaches_into_pods(plane.clone())),
    ));
    all_end_well(tasks).await;
}
