//! A process that is stopped for longer than its lease, and goes on.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::harness::control_plane::ControlPlane;
use crate::mock::{self, Mock};
use crate::suite::world::{eventually, phase};

pub const NODE: &str = "frozen-0";
/// Half as much again as the lease's duration.
const FROZEN: Duration = Duration::from_secs(60);

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
        "nodeName": NODE,
        "automountServiceAccountToken": false,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "app", "image": "app:1"}]}}))
    .unwrap()
}

pub async fn writes_nothing(plane: Arc<ControlPlane>) {
    let client = mock::client(&plane).await;
    mock::make_namespace(&plane, "frozen").await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "frozen");
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let holder = || async {
        let lease = leases.get_opt(NODE).await.ok()??;
        lease.spec?.holder_identity
    };
    let params = PostParams::default();
    let runs = |name: &'static str| {
        let pods = &pods;
        eventually("it runs", move || async move {
            let pod = pods.get_opt(name).await.ok()??;
            (phase(&pod) == "Running").then_some(())
        })
    };

    let first = Mock::start(&plane, "first", "frozen", &[]);
    let of_first = eventually("the first holds the lease", holder).await;
    for name in ["one", "two"] {
        pods.create(&params, &pod(name)).await.unwrap();
        runs(name).await;
    }
    let second = Mock::start(&plane, "second", "frozen", &[]);
    second.says(&of_first).await;

    first.process.signal("-STOP");
    let stopped = Instant::now();
    let taken = || async { holder().await.filter(|holder| *holder != of_first) };
    let of_second = eventually("the second takes over", taken).await;
    // What the first learns now would have it write a lot.
    pods.create(&params, &pod("three")).await.unwrap();
    runs("three").await;
    let delete = DeleteParams::default();
    pods.delete("one", &delete).await.unwrap();
    eventually("the second ends a pod of the first", || async {
        pods.get_opt("one").await.unwrap().is_none().then_some(())
    })
    .await;
    sleep_until(stopped + FROZEN).await;
    let before = first.asked(&plane).len();

    first.process.signal("-CONT");
    first.says(&of_second).await;
    pods.delete("two", &delete).await.unwrap();
    pods.create(&params, &pod("four")).await.unwrap();
    runs("four").await;
    // Longer than anything it repeats: a renewal, a status, a listing.
    sleep(Duration::from_secs(15)).await;
    let asked = first.asked(&plane).split_off(before);
    assert!(!asked.is_empty(), "it is alive, and looks");
    let writes: Vec<_> = asked.iter().filter(|a| a.is_write()).collect();
    let others = writes.iter().filter(|a| !a.what.contains("/events"));
    assert_eq!(others.count(), 0, "{writes:#?}");
    assert!(
        writes.len() <= 1,
        "one event, that it stands by: {writes:#?}"
    );
    assert_eq!(holder().await, Some(of_second));
}
