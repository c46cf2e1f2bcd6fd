//! A process that is told to leave for good, with the provider's own rights.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::control_plane::ControlPlane;
use crate::mock::{self, Mock};
use crate::suite::world::eventually;

const LEAVING: &str = "leaving-0";
const STAYING: &str = "staying-0";
const SPACE: &str = "drained";

async fn make<K>(client: &Client, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), SPACE);
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// A workload for these nodes.
fn workload(app: &str, nodes: &[&str]) -> Value {
    json!({"metadata": {"name": app}, "spec": {
        "selector": {"matchLabels": {"app": app}},
        "template": {"metadata": {"labels": {"app": app}}, "spec": {
            "automountServiceAccountToken": false,
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname",
                    "operator": "In", "values": nodes}]}]}}},
            "containers": [{"name": "app", "image": "app:1"}]}}}})
}

/// The running pods of an app, by node.
async fn running(client: &Client, app: &str, node: &str) -> usize {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SPACE);
    let params = ListParams::default()
        .labels(&format!("app={app}"))
        .fields(&format!("spec.nodeName={node},status.phase=Running"));
    pods.list(&params).await.unwrap().items.len()
}

pub async fn respects_budgets(plane: Arc<ControlPlane>) {
    let client = mock::client(&plane).await;
    mock::make_namespace(&plane, SPACE).await;
    let drain = ["--on-shutdown", "drain", "--drain-timeout", "90"];
    let mut leaving = Mock::start(&plane, "leaving", "leaving", &drain);
    let app = workload("app", &[LEAVING, STAYING]);
    let mut app_of_two = app;
    app_of_two["spec"]["replicas"] = json!(2);
    make::<Deployment>(&client, app_of_two).await;
    make::<DaemonSet>(&client, workload("daemon", &[LEAVING])).await;
    let budget = json!({"metadata": {"name": "app"}, "spec": {
        "minAvailable": 2, "selector": {"matchLabels": {"app": "app"}}}});
    make::<PodDisruptionBudget>(&client, budget).await;
    eventually("all run on the one node there is", || async {
        let both = running(&client, "app", LEAVING).await == 2;
        (both && running(&client, "daemon", LEAVING).await == 1).then_some(())
    })
    .await;

    leaving.process.signal("-TERM");
    eventually("the budget refuses an eviction", || async {
        let asked = leaving.asked(&plane);
        let refused = |a: &mock::Asked| a.what.contains("/eviction") && a.code == 429;
        asked.iter().any(refused).then_some(())
    })
    .await;
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get(LEAVING).await.unwrap();
    assert_eq!(node.spec.unwrap().unschedulable, Some(true));
    assert_eq!(
        running(&client, "app", LEAVING).await,
        2,
        "none was deleted"
    );
    assert_eq!(leaving.process.ended(), None, "it waits");

    // A place to go, and a budget that allows it.
    let _staying = Mock::start(&plane, "staying", "staying", &[]);
    let patch = [
        "patch",
        "pdb",
        "app",
        "-n",
        SPACE,
        "-p",
        "{\"spec\":{\"minAvailable\":1}}",
    ];
    plane.ok(&patch);
    let mut ended = None;
    let begun = tokio::time::Instant::now();
    while ended.is_none() && begun.elapsed() < crate::suite::world::PATIENCE {
        ended = leaving.process.ended();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(ended, Some(true), "{}", leaving.process.log());
    assert!(nodes.get_opt(LEAVING).await.unwrap().is_none());
    let pods: Api<Pod> = Api::namespaced(client.clone(), SPACE);
    let there = ListParams::default().fields(&format!("spec.nodeName={LEAVING}"));
    let left = pods.list(&there).await.unwrap().items;
    assert!(left.is_empty(), "{left:#?}");
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    eventually("the lease goes with its node", || async {
        leases
            .get_opt(LEAVING)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    eventually("the pods run on the other node", || async {
        (running(&client, "app", STAYING).await == 2).then_some(())
    })
    .await;
    let asked = leaving.asked(&plane);
    let refused: Vec<_> = asked.iter().filter(|a| a.code == 403).collect();
    assert!(
        refused.is_empty(),
        "config/rbac.yaml suffices: {refused:#?}"
    );
}
