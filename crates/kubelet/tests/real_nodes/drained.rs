//! A process that is told to leave for good, with the provider's own rights.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::control_plane::ControlPlane;
use crate::mock::{self, Mock};
use crate::suite::world::{PATIENCE, eventually, phase, ready};

const LEAVING: &str = "leaving-0";
pub const STAYING: &str = "staying-0";
pub const STUCK: &str = "stuck-0";
const SPACE: &str = "drained";

async fn make<K>(client: &Client, space: &str, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), space);
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

/// Waits for the process; whether it ended well.
async fn end_of(mock: &mut Mock) -> bool {
    let begun = Instant::now();
    loop {
        if let Some(well) = mock.process.ended() {
            return well;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", mock.process.log());
        sleep(Duration::from_millis(100)).await;
    }
}

/// A budget that never lets go, and a drain that has only so much time.
pub async fn times_out(plane: Arc<ControlPlane>) {
    const WITHIN: Duration = Duration::from_secs(15);
    let client = mock::client(&plane).await;
    let space = "undrained";
    mock::make_namespace(&plane, space).await;
    let seconds = WITHIN.as_secs().to_string();
    let drain = ["--on-shutdown", "drain", "--drain-timeout", &seconds];
    let mut stuck = Mock::start(&plane, "stuck", "stuck", &drain);
    let app = json!({"metadata": {"name": "guarded", "labels": {"app": "guarded"}}, "spec": {
        "nodeName": STUCK,
        "automountServiceAccountToken": false,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "app", "image": "app:1"}]}});
    make::<Pod>(&client, space, app).await;
    let budget = json!({"metadata": {"name": "guarded"}, "spec": {
        "minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}});
    make::<PodDisruptionBudget>(&client, space, budget).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), space);
    let runs = async || {
        let pod = pods.get_opt("guarded").await.ok()??;
        (phase(&pod) == "Running" && ready(&pod)).then_some(pod)
    };
    let before = eventually("it runs", runs).await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), space);
    eventually("the budget counts it", || async {
        let status = budgets.get("guarded").await.ok()?.status?;
        (status.current_healthy == Some(1)).then_some(())
    })
    .await;

    stuck.process.signal("-TERM");
    let begun = Instant::now();
    let well = end_of(&mut stuck).await;
    let took = begun.elapsed();
    assert!(took >= WITHIN && took < 2 * WITHIN, "{took:?}");
    let log = stuck.process.log();
    assert!(!well, "a drain that is not complete is no success: {log}");
    let named = format!("{STUCK} keeps {space}/guarded: ");
    assert!(log.contains(&named) && log.contains("(429)"), "{log}");
    let asked = stuck.asked(&plane);
    assert!(
        asked
            .iter()
            .any(|a| a.what.contains("/guarded/eviction") && a.code == 429)
    );
    let deletes = asked.iter().filter(|a| a.verb == "delete");
    assert_eq!(
        deletes.count(),
        0,
        "neither the pod nor its node: {asked:#?}"
    );
    let after = pods.get("guarded").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        before.metadata.resource_version
    );
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get(STUCK).await.unwrap();
    assert_eq!(
        node.spec.unwrap().unschedulable,
        Some(true),
        "cordoned, as kubectl leaves it"
    );
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = leases.get(STUCK).await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity, None, "free for the next process");

    // Which finds everything, and ends the pod when it is told to.
    let _next = Mock::start(&plane, "next", "stuck", &[]);
    eventually("the next process has the node", || async {
        let lease = leases.get(STUCK).await.ok()?.spec?;
        lease.holder_identity
    })
    .await;
    pods.delete("guarded", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the pod goes", || async {
        pods.get_opt("guarded")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

pub async fn respects_budgets(plane: Arc<ControlPlane>) {
    let client = mock::client(&plane).await;
    mock::make_namespace(&plane, SPACE).await;
    let drain = ["--on-shutdown", "drain", "--drain-timeout", "90"];
    let mut leaving = Mock::start(&plane, "leaving", "leaving", &drain);
    let app = workload("app", &[LEAVING, STAYING]);
    let mut app_of_two = app;
    app_of_two["spec"]["replicas"] = json!(2);
    make::<Deployment>(&client, SPACE, app_of_two).await;
    make::<DaemonSet>(&client, SPACE, workload("daemon", &[LEAVING])).await;
    let budget = json!({"metadata": {"name": "app"}, "spec": {
        "minAvailable": 2, "selector": {"matchLabels": {"app": "app"}}}});
    make::<PodDisruptionBudget>(&client, SPACE, budget).await;
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
    let ended = end_of(&mut leaving).await;
    assert!(ended, "{}", leaving.process.log());
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
