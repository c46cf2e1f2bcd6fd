//! Every way for a pod to go.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;
use vk_provider::{BackendError, ContainerState, Verdict};

use super::memory::Call;
use super::world::{World, eventually, phase, uid};

/// Far less than any grace or back-off here, and enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Deletes with this grace and sees the object go at once.
async fn goes_at_once(world: &World, pod: &Pod, grace: Option<u32>) {
    let name = pod.metadata.name.as_deref().unwrap();
    let begun = Instant::now();
    world.delete(name, grace).await;
    world.gone(name, &uid(pod)).await;
    let took = begun.elapsed();
    assert!(took < AT_ONCE, "took {took:?}");
    world.emptied().await;
}

pub async fn a_pod_that_waits_goes_at_once(world: &mut World) {
    world.remote.fail_next(BackendError::Waiting {
        reason: "DeviceOffline".into(),
        message: "not here yet".into(),
        retry: Some(Duration::from_secs(3600)),
    });
    let pod = world.create(&world.pod("patient", "Always")).await;
    let told = |pod: &Pod| {
        let text = serde_json::to_string(&pod.status).unwrap_or_default();
        phase(pod) == "Pending" && text.contains("DeviceOffline")
    };
    world.wait("patient", "waiting", told).await;
    goes_at_once(world, &pod, None).await;
    assert_eq!(world.remote.ensures("patient"), 1);
}

pub async fn a_pod_whose_ensure_is_in_flight_goes_and_never_runs(world: &mut World) {
    world.remote.hold_ensures(true);
    let pod = world.create(&world.pod("early", "Always")).await;
    eventually("ensure begins", || async {
        (world.remote.ensures("early") == 1).then_some(())
    })
    .await;
    goes_at_once(world, &pod, None).await;
    world.remote.hold_ensures(false);
    let next = world.create(&world.pod("next", "Always")).await;
    world.running("next").await;
    assert!(!world.remote.runs(&uid(&pod)));
    goes_at_once(world, &next, None).await;
}

pub async fn a_pod_that_has_finished_goes_whatever_its_grace(world: &mut World) {
    let pod = world.create(&world.pod("done", "Never")).await;
    world.running("done").await;
    world.remote.exit(&uid(&pod), 0);
    world
        .wait("done", "Succeeded", |p| phase(p) == "Succeeded")
        .await;
    goes_at_once(world, &pod, Some(600)).await;
    let calls = world.remote.calls();
    assert!(calls.contains(&Call::Release("done".into())), "{calls:?}");
}

pub async fn a_pod_the_backend_has_never_heard_of_goes(world: &mut World) {
    let pod = world.create(&world.pod("unheard", "Always")).await;
    world.running("unheard").await;
    world.remote.lose(&uid(&pod));
    goes_at_once(world, &pod, None).await;
    assert_eq!(
        world.remote.ensures("unheard"),
        1,
        "not started to be ended"
    );
}

pub async fn a_delete_gives_the_pods_own_grace(world: &mut World) {
    let mut pod = world.pod("graceful", "Always");
    pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(7);
    let pod = world.create(&pod).await;
    world.running("graceful").await;
    goes_at_once(world, &pod, None).await;
    let own = Call::Stop("graceful".into(), Duration::from_secs(7));
    let calls = world.remote.calls();
    assert!(calls.contains(&own), "{calls:?}");
}

/// Between two starts of a crash loop no container runs, and the pod does.
pub async fn a_pod_whose_containers_wait_is_given_its_grace_too(world: &mut World) {
    let pod = world.create(&world.pod("crashing", "Always")).await;
    world.running("crashing").await;
    world.remote.edit(&uid(&pod), |facts| {
        facts.containers[0].state = ContainerState::Waiting {
            reason: "CrashLoopBackOff".into(),
            message: String::new(),
        };
    });
    let waits = |pod: &Pod| !super::world::ready(pod);
    world.wait("crashing", "waiting", waits).await;
    world.remote.hold_stops(true);
    world.delete("crashing", Some(30)).await;
    super::stopped(world, "crashing", 30).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let there = world.pods().get("crashing").await.unwrap();
    assert_eq!(uid(&there), uid(&pod), "it has not ended yet");
    assert!(world.remote.runs(&uid(&pod)));
    world.remote.hold_stops(false);
    world.remote.exit(&uid(&pod), 1);
    world.gone("crashing", &uid(&pod)).await;
    world.emptied().await;
}

fn with_finalizer(world: &World, name: &str) -> Pod {
    let mut pod = world.pod(name, "Always");
    pod.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    pod
}

async fn without_finalizer(world: &World, name: &str) {
    let none = json!({"metadata": {"finalizers": null}});
    let params = PatchParams::default();
    let patch = Patch::Merge(&none);
    world.pods().patch(name, &params, &patch).await.unwrap();
}

pub async fn a_finalizer_holds_the_object_and_not_the_workload(world: &mut World) {
    let pod = world.create(&with_finalizer(world, "held")).await;
    world.running("held").await;
    world.delete("held", None).await;
    let ended = |p: &Pod| {
        matches!(phase(p), "Succeeded" | "Failed")
            && p.metadata.deletion_grace_period_seconds == Some(0)
    };
    world.wait("held", "ended, and only held", ended).await;
    without_finalizer(world, "held").await;
    world.gone("held", &uid(&pod)).await;
    world.emptied().await;
    assert_eq!(world.remote.ensures("held"), 1);
}

pub async fn a_forced_delete_behind_a_finalizer_stops_the_workload(world: &mut World) {
    let pod = world.create(&with_finalizer(world, "forced-held")).await;
    world.running("forced-held").await;
    world.delete("forced-held", Some(0)).await;
    let ended = |p: &Pod| matches!(phase(p), "Succeeded" | "Failed");
    world.wait("forced-held", "ended", ended).await;
    let stop = Call::Stop("forced-held".into(), Duration::ZERO);
    assert!(world.remote.calls().contains(&stop));
    without_finalizer(world, "forced-held").await;
    world.gone("forced-held", &uid(&pod)).await;
    world.emptied().await;
}

pub async fn a_namespace_goes_with_its_running_pods(world: &mut World) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let name = format!("{}-doomed", world.namespace);
    let doomed: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    namespaces
        .create(&PostParams::default(), &doomed)
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &name);
    let mut pod = world.pod("inside", "Always");
    pod.metadata.namespace = Some(name.clone());
    // The namespace controller looks again after half of this.
    pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(4);
    // Refused until the new namespace has its ServiceAccount.
    eventually("the pod is taken", || async {
        pods.create(&PostParams::default(), &pod).await.ok()
    })
    .await;
    eventually("it runs", || async {
        let pod = pods.get("inside").await.ok()?;
        (phase(&pod) == "Running").then_some(())
    })
    .await;
    namespaces
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    eventually("the namespace is gone", || async {
        let found = namespaces.get_opt(&name).await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    world.emptied().await;
    let asked = Call::Stop("inside".into(), Duration::from_secs(4));
    assert!(world.remote.calls().contains(&asked), "with its own grace");
}

pub async fn a_node_that_a_person_removes_comes_back_and_keeps_its_pods(world: &mut World) {
    let pod = world.create(&world.pod("steady", "Always")).await;
    world.running("steady").await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let old = nodes.get(&world.node).await.unwrap().metadata.uid;
    let params = DeleteParams::default();
    nodes.delete(&world.node, &params).await.unwrap();
    let begun = Instant::now();
    eventually("the node comes back", || async {
        let node = nodes.get_opt(&world.node).await.unwrap()?;
        (node.metadata.uid != old).then_some(())
    })
    .await;
    assert!(begun.elapsed() < AT_ONCE, "took {:?}", begun.elapsed());
    // The control plane collects pods of missing nodes every 20 s.
    tokio::time::sleep(Duration::from_secs(25)).await;
    let after = world.running("steady").await;
    assert_eq!(uid(&after), uid(&pod));
    assert!(after.metadata.deletion_timestamp.is_none());
    assert!(world.remote.runs(&uid(&pod)));
    assert_eq!(world.remote.calls(), [Call::Ensure("steady".into())]);
    goes_at_once(world, &pod, None).await;
}

/// As a kubelet evicts: the backend asks, the containers get their grace.
pub async fn an_eviction_gives_the_grace_then_fails_the_pod_and_keeps_it(world: &mut World) {
    let mut pod = world.pod("evicted", "Always");
    pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(20);
    let created = world.create(&pod).await;
    world.running("evicted").await;
    world.remote.hold_stops(true);
    let eviction = Verdict::Evict {
        reason: String::new(),
        message: "The device was low on memory".into(),
    };
    world.remote.judge(&uid(&created), eviction);
    let stop = Call::Stop("evicted".into(), Duration::from_secs(20));
    eventually("it is stopped with its own grace", || async {
        world.remote.calls().contains(&stop).then_some(())
    })
    .await;
    assert_eq!(phase(&world.running("evicted").await), "Running");
    world.remote.exit(&uid(&created), 143);
    let failed = world
        .wait("evicted", "Failed", |pod| phase(pod) == "Failed")
        .await;
    let status = failed.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    let message = "The device was low on memory";
    assert_eq!(status.message.as_deref(), Some(message));
    let mut conditions = status.conditions.into_iter().flatten();
    let disruption = conditions.find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(disruption.status, "True");
    assert_eq!(disruption.reason.as_deref(), Some("TerminationByKubelet"));
    assert!(disruption.last_transition_time.is_some());
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    eventually("the event", || async {
        let all = events.list(&Default::default()).await.unwrap().items;
        all.into_iter().find(|event| {
            event.reason.as_deref() == Some("Evicted")
                && event.message.as_deref() == Some(message)
                && event.involved_object.uid == created.metadata.uid
        })
    })
    .await;
    // Nobody has deleted it: it stays, and does not start again.
    let kept = world.pods().get("evicted").await.unwrap();
    assert_eq!(kept.metadata.deletion_timestamp, None);
    assert_eq!(world.remote.ensures("evicted"), 1);
    world.remote.hold_stops(false);
    goes_at_once(world, &created, None).await;
}
