//! What runs beside the API.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use vk_sandbox::kubernetes::Cluster;

use super::{LONG, client, cluster, node, on_node, pod, refusal, status};

#[tokio::test(start_paused = true)]
async fn the_scheduler_says_why_a_pod_waits_and_binds_it_when_it_can() {
    let cluster = cluster();
    let _controllers = cluster.start_controllers();
    let demanding = pod(
        "web",
        &json!({"spec": {"containers": [
        {"name": "app", "image": "nginx", "resources": {"requests": {"cpu": "2"}}}]}}),
    );
    cluster.create(&node("small", "1")).unwrap();
    cluster.create(&demanding).unwrap();
    let condition = timeout(
        LONG,
        cluster.until(|cluster| {
            let pod = cluster.get::<Pod>("default", "web")?;
            let conditions = pod.status?.conditions?;
            conditions.into_iter().find(|c| {
                c.type_ == "PodScheduled"
                    && c.message
                        .as_ref()
                        .is_some_and(|m| m.contains("Insufficient cpu"))
            })
        }),
    )
    .await
    .unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_deref()),
        ("False", Some("Unschedulable"))
    );
    cluster.create(&node("large", "4")).unwrap();
    let bound = timeout(
        LONG,
        cluster.until(|cluster| {
            let pod = cluster.get::<Pod>("default", "web")?;
            pod.spec.as_ref()?.node_name.clone().map(|node| (node, pod))
        }),
    )
    .await
    .unwrap();
    assert_eq!(bound.0, "large");
    let reasons = |cluster: &Cluster| -> Vec<String> {
        cluster
            .list::<Event>(None)
            .into_iter()
            .filter_map(|e| e.reason)
            .collect()
    };
    let reasons = timeout(
        LONG,
        cluster.until(|cluster| {
            let reasons = reasons(cluster);
            reasons.contains(&"Scheduled".to_owned()).then_some(reasons)
        }),
    )
    .await
    .unwrap();
    assert!(
        reasons.contains(&"FailedScheduling".to_owned()),
        "{reasons:?}"
    );
}

/// Plays the kubelet: every bound pod becomes ready, every marked one ends.
async fn play_kubelet(cluster: Cluster) {
    let mut news = cluster.changes();
    loop {
        news.mark_unchanged();
        for pod in cluster.list::<Pod>(None) {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let ready = pod
                .status
                .iter()
                .any(|s| s.conditions.iter().flatten().any(|c| c.type_ == "Ready"));
            if pod.metadata.deletion_timestamp.is_some() {
                let _ = cluster.delete::<Pod>("default", &name, Some(0));
            } else if pod.spec.is_some_and(|s| s.node_name.is_some()) && !ready {
                let status = json!({"status": {"phase": "Running", "conditions": [
                    {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]}});
                let _ = cluster.patch_status::<Pod>("default", &name, &status);
            }
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_spreads_rolls_scales_and_goes() {
    let cluster = cluster();
    let _controllers = cluster.start_controllers();
    let kubelet = tokio::spawn(play_kubelet(cluster.clone()));
    for name in ["a", "b", "c"] {
        cluster.create(&node(name, "4")).unwrap();
    }
    let ready = |image: &'static str, replicas: i32| {
        move |cluster: &Cluster| {
            let status = cluster.get::<Deployment>("default", "web")?.status?;
            let pods = cluster.list::<Pod>(Some("default"));
            let images = pods.iter().filter(|p| {
                p.spec
                    .as_ref()
                    .is_some_and(|s| s.containers[0].image.as_deref() == Some(image))
            });
            let done = status.available_replicas == Some(replicas)
                && status.replicas == Some(replicas)
                && images.count() == pods.len();
            done.then_some(pods)
        }
    };
    // The nodes are taken in before pods come, so that spreading shows.
    timeout(
        LONG,
        cluster.until(|c| {
            c.list::<Node>(None)
                .iter()
                .all(|n| {
                    n.spec
                        .as_ref()
                        .is_some_and(|s| s.taints.as_ref().is_none_or(Vec::is_empty))
                })
                .then_some(())
        }),
    )
    .await
    .unwrap();
    let deployment: Deployment = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "nginx:1"}]}}}}))
    .unwrap();
    cluster.create(&deployment).unwrap();
    let pods = timeout(LONG, cluster.until(ready("nginx:1", 3)))
        .await
        .unwrap();
    let mut nodes: Vec<_> = pods
        .iter()
        .filter_map(|p| p.spec.as_ref()?.node_name.clone())
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["a", "b", "c"]);

    let api: Api<Deployment> = Api::default_namespaced(client(&cluster));
    let image = Patch::Strategic(
        json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "nginx:2"}]}}}}),
    );
    api.patch("web", &PatchParams::default(), &image)
        .await
        .unwrap();
    timeout(LONG, cluster.until(ready("nginx:2", 3)))
        .await
        .unwrap();
    assert_eq!(cluster.list::<ReplicaSet>(None).len(), 2);

    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    api.patch_scale("web", &PatchParams::default(), &scale)
        .await
        .unwrap();
    timeout(LONG, cluster.until(ready("nginx:2", 1)))
        .await
        .unwrap();

    api.delete("web", &DeleteParams::default()).await.unwrap();
    timeout(
        LONG,
        cluster.until(|c| {
            (c.list::<Pod>(None).is_empty() && c.list::<ReplicaSet>(None).is_empty()).then_some(())
        }),
    )
    .await
    .unwrap();
    kubelet.abort();
}

#[tokio::test(start_paused = true)]
async fn pods_that_fail_at_once_are_replaced_at_a_pace_that_lets_time_pass() {
    let cluster = cluster();
    let _controllers = cluster.start_controllers();
    let set: ReplicaSet = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"nodeName": "edge", "containers": [{"name": "app", "image": "nginx"}]}}}}))
    .unwrap();
    cluster.create(&set).unwrap();
    let start = Instant::now();
    timeout(
        LONG,
        cluster.until(|cluster| {
            let pods = cluster.list::<Pod>(None);
            for pod in &pods {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let _ = cluster.patch_status::<Pod>(
                    "default",
                    name,
                    &json!({"status": {"phase": "Failed"}}),
                );
            }
            (pods.len() >= 4).then_some(())
        }),
    )
    .await
    .unwrap();
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_tainted_and_its_lease_goes_with_it() {
    let cluster = cluster();
    let mut fresh = node("edge", "1");
    fresh.status.as_mut().unwrap().conditions = None;
    let made = cluster.create(&fresh).unwrap();
    assert_eq!(
        made.spec.unwrap().taints.unwrap()[0].key,
        "node.kubernetes.io/not-ready"
    );
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "edge", "namespace": "kube-node-lease", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "edge", "uid": made.metadata.uid}]},
        "spec": {"holderIdentity": "edge", "leaseDurationSeconds": 40}}))
    .unwrap();
    let made = cluster.create(&lease).unwrap();
    let api: Api<Lease> = Api::namespaced(client(&cluster), "kube-node-lease");
    assert_eq!(
        refusal(api.replace("edge", &PostParams::default(), &lease).await).0,
        422
    );
    let lease = api
        .replace("edge", &PostParams::default(), &made)
        .await
        .unwrap();
    let leases = api;

    let _controllers = cluster.start_controllers();
    let api: Api<Node> = Api::all(client(&cluster));
    let ready = status(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
    api.patch_status("edge", &PatchParams::default(), &ready)
        .await
        .unwrap();
    timeout(
        LONG,
        cluster.until(|c| {
            c.get::<Node>("", "edge")?
                .spec?
                .taints
                .is_none_or(|t| t.is_empty())
                .then_some(())
        }),
    )
    .await
    .unwrap();
    api.delete("edge", &DeleteParams::default()).await.unwrap();
    timeout(
        LONG,
        cluster.until(|c| c.list::<Lease>(None).is_empty().then_some(())),
    )
    .await
    .unwrap();
    let late = leases.replace("edge", &PostParams::default(), &lease).await;
    assert_eq!(refusal(late).0, 409, "a PUT makes new leases, not old ones");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_ends_when_its_last_pod_has() {
    let cluster = cluster();
    let namespaces: Api<Namespace> = Api::all(client(&cluster));
    let named: Namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &named)
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client(&cluster), "team");
    pods.create(&PostParams::default(), &on_node("web"))
        .await
        .unwrap();
    namespaces
        .delete("team", &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        pods.get("web")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    assert_eq!(
        refusal(pods.create(&PostParams::default(), &on_node("more")).await).0,
        403
    );
    assert!(cluster.list::<ConfigMap>(Some("team")).is_empty());
    pods.delete("web", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(refusal(namespaces.get("team").await).0, 404);
    assert_eq!(
        refusal(pods.create(&PostParams::default(), &on_node("more")).await).0,
        404
    );
}
