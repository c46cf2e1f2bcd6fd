//! A user who is a node, held by the admission plugin NodeRestriction.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, Node};
use kube::Api;
use kube::api::ListParams;
use virtual_kubelet::connect::connect;
use virtual_kubelet::metrics::Metrics;
use vk_provider::Clock;

use crate::harness::control_plane::ControlPlane;
use crate::harness::reached_as_node;
use crate::mock;
use crate::suite::world::{World, eventually};

/// The plugin of every ordinary cluster, which the API server alone leaves out.
pub const PLUGIN: &str = "--enable-admission-plugins=NodeRestriction";
const NAMESPACE: &str = "restricted";
pub const NODE: &str = "vk-restricted";
const USER: &str = "system:node:vk-restricted";

pub async fn comes_up_without_the_labels_it_may_not_set(plane: Arc<ControlPlane>) {
    mock::make_namespace(&plane, NAMESPACE).await;
    // A node of its own may list its own pods only; ours are listed together.
    let (role, user) = ("--clusterrole=cluster-admin", format!("--user={USER}"));
    plane.ok(&["create", "clusterrolebinding", NAMESPACE, role, &user]);
    let node = reached_as_node(plane.kubeconfig(), USER).await;
    let line = connect(node, &Metrics::default()).unwrap();
    let mut world = World::new(line, Clock::live(), NAMESPACE).await;
    // Pods are made by others than nodes.
    world.client = mock::client(&plane).await;
    world.create(&world.pod("runs", "Always")).await;
    world.running("runs").await;

    let nodes: Api<Node> = Api::all(world.client.clone());
    let labels = nodes
        .get(&world.node)
        .await
        .unwrap()
        .metadata
        .labels
        .unwrap();
    assert_eq!(labels["type"], "virtual-kubelet");
    assert_eq!(labels["kubernetes.io/os"], "linux");
    let forbidden = ["kubernetes.io/role", "node-role.kubernetes.io/agent"];
    let told = eventually("the labels are told", async || {
        let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
        let events = events.list(&ListParams::default()).await.unwrap();
        let mut events = events.into_iter();
        events.find(|e| e.reason.as_deref() == Some("LabelsForbidden"))
    })
    .await;
    let message = told.message.unwrap();
    for label in forbidden {
        assert!(!labels.contains_key(label), "{labels:?}");
        assert!(message.contains(label), "{message}");
    }
    world.delete("runs", None).await;
    world.emptied().await;
    world.stop().await;
}
