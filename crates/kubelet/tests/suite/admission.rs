//! What is let in, and in which words the rest is refused.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::time::timeout;

use super::world::{PATIENCE, World, phase};

pub async fn what_does_not_fit_is_rejected_as_a_kubelet_rejects(world: &mut World) {
    let asks = |what: &str, much: &str| {
        json!({"containers": [{"name": "app", "image": "app:1",
        "resources": {"requests": {what: much}}}]})
    };
    // Another pod is there, so that what is used is told, too.
    world.create(&world.pod("first", "Always")).await;
    world.running("first").await;
    let short =
        |what: &str, numbers: &str| format!("Node didn't have enough resource: {what}, {numbers}");
    for (name, spec, reason, words) in [
        (
            "big",
            asks("cpu", "100"),
            "OutOfcpu",
            short("cpu", "requested: 100000, used: 1000, capacity: 8000"),
        ),
        (
            "fat",
            asks("memory", "100Gi"),
            "OutOfmemory",
            short(
                "memory",
                "requested: 107374182400, used: 0, capacity: 17179869184",
            ),
        ),
        (
            "foreign",
            json!({"os": {"name": "windows"}}),
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS".into(),
        ),
    ] {
        let mut pod = serde_json::to_value(world.pod(name, "Always")).unwrap();
        for (field, value) in spec.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        world.create(&serde_json::from_value(pod).unwrap()).await;
        rejected(world, name, reason, &words).await;
    }
    // A node that has room for one more pod, and then for none.
    world.remote.set_room(2);
    let nodes: Api<Node> = Api::all(world.client.clone());
    let two = |node: Option<&Node>| {
        let status = node.and_then(|n| n.status.as_ref());
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        allocatable.is_some_and(|all| all["pods"].0 == "2")
    };
    let shown = await_condition(nodes, &world.node, two);
    timeout(PATIENCE, shown).await.expect("shown").unwrap();
    world.create(&world.pod("second", "Always")).await;
    world.running("second").await;
    world.create(&world.pod("third", "Always")).await;
    let words = short("pods", "requested: 1, used: 2, capacity: 2");
    rejected(world, "third", "OutOfpods", &words).await;
    world.delete("first", None).await;
    world.delete("second", None).await;
    world.emptied().await;
}

async fn rejected(world: &World, name: &str, reason: &str, words: &str) {
    let pod = world.wait(name, "Failed", |p| phase(p) == "Failed").await;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some(reason));
    let told = world.told(reason).await.message.unwrap();
    assert_eq!(told, words);
    let shown = status.message.unwrap();
    assert_eq!(shown, format!("Pod was rejected: {words}"));
    assert_eq!(world.remote.ensures(name), 0);
    world.delete(name, None).await;
}

pub async fn a_refused_field_fails_the_pod_and_is_named(world: &mut World) {
    let mut pod = world.pod("hooked", "Always");
    let containers = &mut pod.spec.as_mut().unwrap().containers;
    let mut second = containers[0].clone();
    second.name = "second".into();
    second.lifecycle =
        serde_json::from_value(json!({"postStart": {"exec": {"command": ["true"]}}})).unwrap();
    containers.push(second);
    world.create(&pod).await;
    let pod = world
        .wait("hooked", "Failed", |p| phase(p) == "Failed")
        .await;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Unsupported"));
    let message = status.message.unwrap();
    assert!(
        message.contains("spec.containers[1].lifecycle.postStart is not supported"),
        "{message}"
    );
    assert_eq!(world.remote.ensures("hooked"), 0);
    world.delete("hooked", None).await;
}

pub async fn a_selector_counts_labels_of_others_too(world: &mut World) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let label = json!({"metadata": {"labels": {"theirs": "yes"}}});
    nodes
        .patch(&world.node, &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    for (name, value) in [("chosen", "yes"), ("elsewhere", "no")] {
        let mut pod = world.pod(name, "Always");
        pod.spec.as_mut().unwrap().node_selector =
            Some([("theirs".to_owned(), value.to_owned())].into());
        world.create(&pod).await;
    }
    world.running("chosen").await;
    let pod = world
        .wait("elsewhere", "Failed", |p| phase(p) == "Failed")
        .await;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NodeAffinity"));
    assert_eq!(
        status.message.as_deref(),
        Some(
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        )
    );
    assert_eq!(world.remote.ensures("elsewhere"), 0);
    world.delete("chosen", None).await;
    world.delete("elsewhere", None).await;
    world.emptied().await;
}
