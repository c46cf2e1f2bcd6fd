//! What keeps pods running: Deployments, StatefulSets, DaemonSets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::memory::Call;
use super::world::{World, eventually, ready, uid};

/// A pod template whose pods belong on the world's node.
pub fn template(world: &World, app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {
        "nodeSelector": {"kubernetes.io/hostname": world.node},
        "automountServiceAccountToken": false,
        "containers": [{"name": "app", "image": "app:1"}]}})
}

fn workload(world: &World, name: &str, extra: &Value) -> Value {
    let mut spec =
        json!({"selector": {"matchLabels": {"app": name}}, "template": template(world, name)});
    for (field, value) in extra.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn second_image() -> Patch<Value> {
    Patch::Strategic(json!({"spec": {"template": {"spec": {
        "containers": [{"name": "app", "image": "app:2"}]}}}}))
}

/// These pods and no others: as many, of this image, ready and not going.
async fn all_ready(world: &World, selector: &str, count: usize, image: &str) -> Vec<Pod> {
    eventually(&format!("{count} pods of {image} are ready"), || async {
        let pods = world.labelled(selector).await;
        let good = pods.iter().filter(|p| serves(p) && is_of(p, image));
        (good.count() == count && pods.len() == count).then_some(pods)
    })
    .await
}

fn serves(pod: &Pod) -> bool {
    ready(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn is_of(pod: &Pod, image: &str) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|s| s.containers[0].image.as_deref() == Some(image))
}

/// Watches the pods; the least number that ever served at one time.
fn least_serving(world: &World, selector: &str) -> (Arc<AtomicUsize>, JoinHandle<()>) {
    let least = Arc::new(AtomicUsize::new(usize::MAX));
    let config = watcher::Config::default().labels(selector);
    let mut events = watcher(world.pods(), config).boxed();
    let noted = Arc::clone(&least);
    let task = tokio::spawn(async move {
        let mut pods = BTreeMap::new();
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed = false,
                Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                    pods.insert(uid(&pod), serves(&pod));
                }
                Ok(Event::Delete(pod)) => {
                    pods.remove(&uid(&pod));
                }
                Ok(Event::InitDone) => listed = true,
                Err(_) => {}
            }
            if listed {
                let now = pods.values().filter(|serves| **serves).count();
                noted.fetch_min(now, Ordering::Relaxed);
            }
        }
    });
    (least, task)
}

pub async fn a_deployment_rolls_without_losing_availability(world: &mut World) {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let extra = json!({"replicas": 3, "strategy": strategy});
    let made = serde_json::from_value(workload(world, "web", &extra)).unwrap();
    let params = PostParams::default();
    deployments.create(&params, &made).await.unwrap();
    all_ready(world, "app=web", 3, "app:1").await;

    let (least, watching) = least_serving(world, "app=web");
    eventually("the watch has begun", || async {
        (least.load(Ordering::Relaxed) == 3).then_some(())
    })
    .await;
    world.remote.hold_ensures(true);
    let params = PatchParams::default();
    deployments
        .patch("web", &params, &second_image())
        .await
        .unwrap();
    let of_second = async || {
        let pods = world.labelled("app=web").await;
        pods.into_iter().filter(|p| is_of(p, "app:2")).count()
    };
    eventually("the first new pod is there", || async {
        (of_second().await == 1).then_some(())
    })
    .await;
    // A new pod that has not started yet stands for none of the old ones.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(of_second().await, 1);
    world.remote.hold_ensures(false);
    all_ready(world, "app=web", 3, "app:2").await;
    assert_eq!(least.load(Ordering::Relaxed), 3, "fewer served");
    watching.abort();

    let params = DeleteParams::background();
    deployments.delete("web", &params).await.unwrap();
    world.emptied().await;
}

/// What the backend was asked to begin and to end, in order.
fn begun_and_ended(world: &World) -> Vec<String> {
    let mut calls: Vec<String> = world
        .remote
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Ensure(name) => Some(format!("begin {name}")),
            Call::Stop(name, _) => Some(format!("end {name}")),
            Call::Release(_) => None,
        })
        .collect();
    calls.dedup();
    calls
}

fn uids(pods: &[Pod]) -> BTreeMap<String, String> {
    let named = |pod: &Pod| (pod.metadata.name.clone().unwrap(), uid(pod));
    pods.iter().map(named).collect()
}

pub async fn a_stateful_set_keeps_order_and_identity(world: &mut World) {
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let extra = json!({"replicas": 3, "serviceName": "db"});
    let made = serde_json::from_value(workload(world, "db", &extra)).unwrap();
    sets.create(&PostParams::default(), &made).await.unwrap();
    let first = uids(&all_ready(world, "app=db", 3, "app:1").await);
    let upwards = ["begin db-0", "begin db-1", "begin db-2"];
    assert_eq!(begun_and_ended(world), upwards);

    let params = PatchParams::default();
    sets.patch("db", &params, &second_image()).await.unwrap();
    let second = uids(&all_ready(world, "app=db", 3, "app:2").await);
    let downwards = [
        "end db-2",
        "begin db-2",
        "end db-1",
        "begin db-1",
        "end db-0",
        "begin db-0",
    ];
    assert_eq!(begun_and_ended(world)[upwards.len()..], downwards);
    assert!(first.keys().eq(second.keys()), "the same names");
    assert!(
        first
            .values()
            .all(|old| !second.values().any(|new| new == old))
    );

    world.delete("db-1", None).await;
    world.gone("db-1", &second["db-1"]).await;
    let pods = all_ready(world, "app=db", 3, "app:2").await;
    let third = uids(&pods);
    assert_ne!(third["db-1"], second["db-1"]);
    assert_eq!(
        (&third["db-0"], &third["db-2"]),
        (&second["db-0"], &second["db-2"])
    );
    for pod in pods {
        assert_eq!(pod.spec.unwrap().hostname, pod.metadata.name);
    }
    sets.delete("db", &DeleteParams::background())
        .await
        .unwrap();
    world.emptied().await;
}

pub async fn a_daemon_set_runs_once_on_every_node_it_tolerates(world: &mut World) {
    let both = [world.node.clone(), format!("{}-two", world.node)];
    world.remote.set_nodes(&[&both[0], &both[1]]);
    world.remote.taint_nodes("example.com/edge");
    let nodes: Api<Node> = Api::all(world.client.clone());
    eventually("both nodes show the taint", || async {
        for name in &both {
            let spec = nodes.get_opt(name).await.unwrap()?.spec?;
            let taints = spec.taints?;
            taints.iter().find(|t| t.key == "example.com/edge")?;
        }
        Some(())
    })
    .await;
    let here = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": both}]}]}}});
    let sets: Api<DaemonSet> = Api::namespaced(world.client.clone(), &world.namespace);
    for name in ["shy", "bold"] {
        let mut set = workload(world, name, &json!({}));
        let spec = &mut set["spec"]["template"]["spec"];
        spec["nodeSelector"] = json!(null);
        spec["affinity"] = here.clone();
        if name == "bold" {
            spec["tolerations"] = json!([{"key": "example.com/edge", "operator": "Exists"}]);
        }
        let set = serde_json::from_value(set).unwrap();
        sets.create(&PostParams::default(), &set).await.unwrap();
    }
    let pods = all_ready(world, "app=bold", 2, "app:1").await;
    let on: BTreeSet<_> = pods
        .iter()
        .filter_map(|p| p.spec.as_ref()?.node_name.clone())
        .collect();
    assert_eq!(on, BTreeSet::from(both.clone()));
    let counted = |name: &'static str| {
        let sets = &sets;
        eventually("the set's status is there", move || async move {
            let status = sets.get(name).await.unwrap().status?;
            status.observed_generation?;
            Some(status)
        })
    };
    assert_eq!(counted("shy").await.desired_number_scheduled, 0);
    assert_eq!(counted("bold").await.desired_number_scheduled, 2);
    assert!(world.labelled("app=shy").await.is_empty());
    for name in ["shy", "bold"] {
        let params = DeleteParams::background();
        sets.delete(name, &params).await.unwrap();
    }
    world.emptied().await;
    world.remote.set_nodes(&[&both[0]]);
}
