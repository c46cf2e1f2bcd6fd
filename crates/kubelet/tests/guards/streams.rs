//! A backend's streams break off.

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use crate::around::Break;
use crate::rig::{Rig, seconds};
use crate::suite::world::{eventually, phase, uid};

const BREAKS: [Break; 3] = [Break::AtOnce, Break::Ends, Break::Panics];

#[tokio::test(start_paused = true)]
async fn nodes_come_and_go_after_their_stream_broke() {
    for how in BREAKS {
        let mut rig = Rig::stopped().await;
        rig.backend.tell(|told| told.nodes = Some(how));
        rig.start(rig.world.client.clone());
        seconds(20).await;
        rig.world.remote.set_nodes(&[&rig.world.node, "another"]);
        let nodes: Api<Node> = Api::all(rig.world.client.clone());
        eventually(&format!("another node, {how:?}"), async || {
            nodes.get_opt("another").await.unwrap()
        })
        .await;
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_followed_after_the_stream_of_changes_broke() {
    for how in BREAKS {
        let mut rig = Rig::stopped().await;
        rig.backend.tell(|told| told.changes = Some(how));
        rig.start(rig.world.client.clone());
        let created = rig.world.create(&rig.world.pod("followed", "Never")).await;
        rig.world.running("followed").await;
        seconds(20).await;
        // The first one, and another for what may be lost.
        assert_eq!(rig.backend.listings(), 2, "{how:?}");
        // The changes alone tell of the end.
        rig.backend.lists.send_replace(false);
        seconds(1).await;
        rig.world.remote.exit(&uid(&created), 0);
        seconds(5).await;
        let pod = rig.world.pods().get("followed").await.unwrap();
        assert_eq!(phase(&pod), "Succeeded", "{how:?}");
        rig.backend.lists.send_replace(true);
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_remote_is_listed_on_after_its_stream_of_changes_broke() {
    let mut rig = Rig::stopped().await;
    rig.backend.tell(|told| told.changes = Some(Break::AtOnce));
    rig.start(rig.world.client.clone());
    seconds(310).await;
    assert!(rig.backend.listings() >= 5);
    rig.stop().await;
}
