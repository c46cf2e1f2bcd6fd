//! What pods are given, on a real control plane, by a kubelet that has no more
//! rights than `config/` gives it.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "real_inputs/audited.rs"]
mod audited;
#[path = "real_inputs/everything.rs"]
mod everything;
#[path = "real_inputs/fresh.rs"]
mod fresh;
#[path = "../../../tests/real/harness/mod.rs"]
mod harness;
#[path = "real_inputs/rights.rs"]
mod rights;
#[path = "real_inputs/services.rs"]
mod services;
mod suite;
#[path = "real_inputs/tokens.rs"]
mod tokens;
#[path = "real_inputs/waiting.rs"]
mod waiting;

use harness::control_plane::{ControlPlane, Flags};
use suite::world::{World, eventually};
use virtual_kubelet::InputSettings;
use vk_provider::Clock;
use vk_provider::environment::ApiServer;

/// The namespace that is bound, and whose tokens may leave the cluster.
const SHOP: &str = "shop";
/// One that is neither.
const BARE: &str = "bare";
/// One with objects of the same names, and no pod on our node.
const APART: &str = "apart";
/// What stands for the API server's certificates outside.
const CA: &str = "certificates for devices\n";

// On one thread: there alone can time be stepped.
#[tokio::test]
async fn pods_are_given_what_a_kubelet_gives_and_what_config_allows() {
    let flags = Flags {
        audit: true,
        ..Flags::default()
    };
    let Some(plane) = harness::control_plane(flags).await else {
        return;
    };
    rights::grant(&plane);
    rights::bind(&plane, &[SHOP]);
    let mut world = kubelet(&plane).await;
    for namespace in [SHOP, BARE, APART] {
        // Every pod has it, and the controller takes its time.
        let map = ["get", "configmap", "kube-root-ca.crt", "-n", namespace];
        let there = async || plane.kubectl(&map).success.then_some(());
        eventually("kube-root-ca.crt is there", there).await;
        create(&plane, &everything::OBJECTS.replace(SHOP, namespace));
    }
    let pod = everything::is_given(&plane, &world).await;
    println!("a pod has what a kubelet gives, byte for byte ... ok");
    tokens::are_bound_to_the_pod(&world, &pod).await;
    println!("its tokens are for it and for whom it asks ... ok");
    fresh::reaches_the_files(&plane, &world, &pod).await;
    println!("changes reach its files and restart nothing ... ok");
    fresh::replaces_a_token(&world, &pod).await;
    tokens::are_bound_to_the_pod(&world, &pod).await;
    println!("a token is renewed and reaches its file ... ok");
    waiting::for_what_is_missing(&plane, &world).await;
    println!("a missing ConfigMap is told and starts its pod ... ok");
    waiting::for_what_is_forbidden(&plane, &world).await;
    println!("a missing RoleBinding is told and starts its pod ... ok");
    waiting::for_no_token(&plane, &world).await;
    println!("no token leaves a namespace that is not listed ... ok");
    world.stop().await;
    Box::pin(services::are_told(&plane)).await;
    println!("a pod is told of the services it is linked to ... ok");
    audited::single_objects_alone(&plane);
    println!("nothing was read but what pods name ... ok");
}

/// A kubelet with the provider's rights; the test itself has the administrator's.
async fn kubelet(plane: &ControlPlane) -> World {
    let own = plane.service_account_kubeconfig("default", rights::ACCOUNT);
    let mut world = World::idle(rights::client(&own).await, Clock::live(), SHOP);
    world.client = rights::client(&plane.kubeconfig()).await;
    world.remote.want_inputs();
    world.inputs = InputSettings {
        token_namespaces: [SHOP.to_owned()].into(),
        api_server: Some(ApiServer {
            host: "api.example.com".into(),
            port: 6443,
        }),
        api_server_ca: Some(CA.into()),
    };
    world.start().await;
    world
}

/// `kubectl create`: unlike `apply` it leaves no annotation.
fn create(plane: &ControlPlane, manifest: &str) {
    let path = plane.folder().join("manifest.yaml");
    std::fs::write(&path, manifest).unwrap();
    plane.ok(&["create", "-f", &path.display().to_string()]);
}

fn patch(plane: &ControlPlane, object: &str, merge: &str) {
    plane.ok(&[
        "patch", object, "-n", SHOP, "--type", "merge", "--patch", merge,
    ]);
}
