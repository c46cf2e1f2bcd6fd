//! Nodes: registered, leased, and back when someone deletes them.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::wait::await_condition;
use tokio::time::timeout;

use super::world::{PATIENCE, World};

pub async fn the_node_is_registered_leased_and_comes_back(world: &mut World) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let is_ready = |node: Option<&Node>| {
        node.and_then(|n| n.status.as_ref())
            .into_iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| c.type_ == "Ready" && c.status == "True")
    };
    timeout(
        PATIENCE,
        await_condition(nodes.clone(), &world.node, is_ready),
    )
    .await
    .expect("node is Ready")
    .unwrap();
    let node = nodes.get(&world.node).await.unwrap();
    let labels = node.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["type"], "virtual-kubelet");
    assert_eq!(labels["kubernetes.io/os"], "linux");
    assert_eq!(labels["kubernetes.io/arch"], "amd64");
    assert_eq!(labels["kubernetes.io/hostname"], world.node);
    let status = node.status.as_ref().unwrap();
    assert_eq!(status.allocatable.as_ref().unwrap()["cpu"].0, "8");
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-node-lease");
    let leased = |lease: Option<&Lease>| {
        lease.is_some_and(|l| {
            l.spec
                .as_ref()
                .is_some_and(|s| s.lease_duration_seconds == Some(40))
        })
    };
    timeout(PATIENCE, await_condition(leases, &world.node, leased))
        .await
        .expect("leased")
        .unwrap();

    let old = node.metadata.uid.clone().unwrap();
    nodes
        .delete(&world.node, &DeleteParams::default())
        .await
        .unwrap();
    let again = move |n: Option<&Node>| {
        n.is_some_and(|n| n.metadata.uid.as_deref() != Some(&old)) && is_ready(n)
    };
    timeout(PATIENCE, await_condition(nodes, &world.node, again))
        .await
        .expect("registers again")
        .unwrap();
}

pub async fn nodes_come_and_go(world: &mut World) {
    let second = format!("{}-two", world.node);
    world.remote.set_nodes(&[&world.node, &second]);
    let nodes: Api<Node> = Api::all(world.client.clone());
    let there = |n: Option<&Node>| n.is_some();
    timeout(PATIENCE, await_condition(nodes.clone(), &second, there))
        .await
        .expect("comes")
        .unwrap();
    world.remote.set_nodes(&[&world.node]);
    let gone = |n: Option<&Node>| n.is_none();
    timeout(PATIENCE, await_condition(nodes, &second, gone))
        .await
        .expect("goes")
        .unwrap();
}
