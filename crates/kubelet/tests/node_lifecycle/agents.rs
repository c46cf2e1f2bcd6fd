//! Pods that are made for machines: kube-proxy, network plugins, static pods.

use super::*;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use kube::api::PostParams;

/// A DaemonSet as clusters run kube-proxy.
async fn proxy(world: &World) {
    proxy_with(world, json!({})).await;
}

/// Its container has these fields as well.
async fn proxy_with(world: &World, more: serde_json::Value) {
    let mut container = more;
    container["name"] = json!("app");
    container["image"] = json!("proxy:1");
    let set = json!({
        "metadata": {"name": "kube-proxy", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "kube-proxy"}},
            "template": {
                "metadata": {"labels": {"app": "kube-proxy"}},
                "spec": {"tolerations": [{"operator": "Exists"}],
                    "containers": [container]},
            },
        },
    });
    let sets: Api<DaemonSet> = Api::namespaced(world.client.clone(), "default");
    let set = serde_json::from_value(set).unwrap();
    sets.create(&PostParams::default(), &set).await.unwrap();
}

/// The one pod of the set.
async fn agent(world: &World) -> Pod {
    let mut pods = world.labelled("app=kube-proxy").await;
    assert_eq!(pods.len(), 1, "{pods:?}");
    pods.remove(0)
}

fn told_of(cluster: &Cluster, name: &str) -> Vec<String> {
    let events = cluster.list::<Event>(Some("default"));
    let about = events
        .into_iter()
        .filter(|e| e.involved_object.name.as_deref() == Some(name));
    let ours = about.filter(|e| e.reporting_component.as_deref() == Some("vk-memory"));
    // Each as often as it was told.
    ours.flat_map(|e| {
        let count = e.series.and_then(|s| s.count).unwrap_or(1);
        vec![e.reason.unwrap(); usize::try_from(count).unwrap()]
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_the_clusters_machines_stays_pending_with_one_event() {
    let (mut world, cluster) = world().await;
    proxy(&world).await;
    sleep(minutes(30)).await;
    let pod = agent(&world).await;
    // Nothing but the phase: kubectl prints Pending.
    let status = pod.status.clone().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.container_statuses, None);
    let name = pod.metadata.name.clone().unwrap();
    assert_eq!(told_of(&cluster, &name), ["NotForThisNode"]);
    assert!(
        world.remote.calls().is_empty(),
        "{:?}",
        world.remote.calls()
    );
    // A mirror of a static pod is no other; a pod of a user's own is.
    let mut mirror = world.pod("mirror", "Always");
    let mark = ("kubernetes.io/config.mirror".to_owned(), "hash".to_owned());
    mirror.metadata.annotations = Some([mark].into());
    world.create(&mirror).await;
    let mut own = world.pod("own", "Always");
    own.spec.as_mut().unwrap().tolerations = pod.spec.unwrap().tolerations;
    world.create(&own).await;
    world.running("own").await;
    sleep(minutes(1)).await;
    assert_eq!(world.remote.ensures("mirror"), 0);
    assert_eq!(told_of(&cluster, "mirror"), ["NotForThisNode"]);
    // It goes like any other pod, and holds no node.
    let created = world.pods().get("mirror").await.unwrap();
    world.delete("mirror", Some(30)).await;
    let gone = created.metadata.uid.unwrap();
    world.gone("mirror", &gone).await;
    world.delete("own", None).await;
    world.emptied().await;
    world.remote.set_nodes(&[]);
    until(&cluster, "the node is removed", |c| {
        c.get::<Node>("", &world.node).is_none().then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_runs_where_it_is_asked_to() {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let process = Process::start(&cluster, &world.remote, &world.clock, true, |settings| {
        settings.run_agents = true;
    });
    proxy(&world).await;
    sleep(minutes(1)).await;
    let name = agent(&world).await.metadata.name.unwrap();
    world.running(&name).await;
    assert_eq!(world.remote.ensures(&name), 1);
    process.end().await;
}

/// A process that runs agents, in a world without another.
async fn running_agents() -> (World, Cluster, Process) {
    let (mut world, cluster) = world().await;
    world.stop().await;
    let (remote, clock) = (&world.remote, &world.clock);
    let process = Process::start(&cluster, remote, clock, true, |settings| {
        settings.run_agents = true;
    });
    (world, cluster, process)
}

/// The agent stays as it is for longer than any back-off, told of once.
async fn waits_for(world: &World, cluster: &Cluster, reason: &str) -> Pod {
    sleep(minutes(1)).await;
    let first = agent(world).await;
    sleep(minutes(30)).await;
    let pod = agent(world).await;
    assert_eq!(
        uid(&pod),
        uid(&first),
        "its set would make another for ever"
    );
    assert_eq!(phase(&pod), "Pending", "{:?}", pod.status);
    let name = pod.metadata.name.as_deref().unwrap();
    assert_eq!(told_of(cluster, name), [reason]);
    pod
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_to_run_and_is_refused_stays_pending_with_one_event() {
    let (world, cluster, process) = running_agents().await;
    let hook = json!({"postStart": {"exec": {"command": ["true"]}}});
    proxy_with(&world, json!({"lifecycle": hook})).await;
    let pod = waits_for(&world, &cluster, "Unsupported").await;
    let text = serde_json::to_string(&pod.status).unwrap();
    assert!(
        text.contains("spec.containers[0].lifecycle.postStart"),
        "{text}"
    );
    let name = pod.metadata.name.unwrap();
    assert_eq!(world.remote.ensures(&name), 0);
    // A mirror is nobody's to recreate: it says why, as any pod.
    let mut mirror = world.pod("mirror", "Always");
    let mark = ("kubernetes.io/config.mirror".to_owned(), "hash".to_owned());
    mirror.metadata.annotations = Some([mark].into());
    mirror.spec.as_mut().unwrap().containers[0].lifecycle =
        serde_json::from_value(json!({"postStart": {"exec": {"command": ["true"]}}})).unwrap();
    world.create(&mirror).await;
    let failed = |pod: &Pod| phase(pod) == "Failed";
    world.wait("mirror", "Failed", failed).await;
    assert_eq!(told_of(&cluster, "mirror"), ["Unsupported"]);
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_the_backend_refuses_stays_pending_with_one_event() {
    for refusal in [
        BackendError::Rejected {
            reason: "NotHere".into(),
            message: "no agents".into(),
        },
        BackendError::Unsupported {
            field: "spec.hostNetwork".into(),
            message: "no network".into(),
        },
    ] {
        let (world, cluster, process) = running_agents().await;
        let reason = match &refusal {
            BackendError::Rejected { reason, .. } => reason.to_string(),
            _ => "Unsupported".to_owned(),
        };
        for _ in 0..100 {
            world.remote.fail_next(refusal.clone());
        }
        proxy(&world).await;
        waits_for(&world, &cluster, &reason).await;
        process.end().await;
    }
}
