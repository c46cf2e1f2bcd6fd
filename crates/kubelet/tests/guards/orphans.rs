//! What the remote has and no watch shows.

use vk_provider::{PodFacts, PodKey, Revision};

use crate::rig::{Rig, seconds};
use crate::suite::world::uid;

#[tokio::test(start_paused = true)]
async fn a_workload_whose_pod_is_on_a_node_that_is_not_served_is_left_alone() {
    let mut rig = Rig::stopped().await;
    let mut pod = rig.world.pod("elsewhere", "Always");
    pod.spec.as_mut().unwrap().node_name = Some("elsewhere".into());
    let created = rig.world.create(&pod).await;
    let uid = uid(&created);
    let key = PodKey::new(&rig.world.namespace, "elsewhere", &uid);
    let mut facts = PodFacts::new(key, "elsewhere".into(), 1);
    facts.accepted = Some(Revision::of(created.spec.as_ref().unwrap()));
    rig.world.remote.plant(facts);
    rig.start(rig.world.client.clone());
    seconds(300).await;
    assert!(rig.backend.listings() > 4);
    assert!(rig.backend.stops().is_empty(), "{:?}", rig.backend.stops());
    assert!(rig.world.remote.runs(&uid));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_orphan_is_not_stopped_before_the_second_listing() {
    let mut rig = Rig::stopped().await;
    let nobody = "00000000-0000-0000-0000-00000000aaaa";
    let key = PodKey::new(&rig.world.namespace, "orphan", nobody);
    let facts = PodFacts::new(key, rig.world.node.as_str().into(), 1);
    rig.world.remote.plant(facts);
    rig.start(rig.world.client.clone());
    rig.world.emptied().await;
    let (_, _, listings) = rig.backend.stops()[0];
    assert!(listings >= 2, "stopped after {listings} listings");
    rig.stop().await;
}
