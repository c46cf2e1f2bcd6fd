//! What is read and watched, and how often.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use tokio::time::{sleep, timeout};
use vk_provider::environment::ApiServer;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::{OpenWatch, UnnamedReads};

use super::*;
use suite::world::{eventually, phase};

const PATIENCE: Duration = Duration::from_secs(600);

fn of(name: &str) -> OpenWatch {
    OpenWatch {
        namespace: Some("default".into()),
        name: Some(name.into()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_pods_on_one_config_map_are_one_watch_that_is_closed_with_the_last() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "files", json!({"a": "1"}));
    let name = |number: usize| format!("many-{number}");
    let volume = || json!({"configMap": {"name": "files"}});
    let pods: Vec<_> = (0..1000)
        .map(|number| files_of(&world, &name(number), volume()))
        .collect();
    for pod in &pods {
        cluster.create(pod).unwrap();
    }
    let all_run = || {
        cluster
            .list::<Pod>(None)
            .iter()
            .all(|p| phase(p) == "Running")
    };
    eventually("all run", async || all_run().then_some(())).await;
    assert_eq!(cluster.open_watches("configmaps"), [of("files")]);
    assert!(
        world.metrics.text().contains("watched_objects 2"),
        "with that of services"
    );
    change::<ConfigMap>(&cluster, "files", json!({"data": {"a": "2"}}));
    sleep(SOON).await;
    for number in [0, 999] {
        let pod = world.pods().get(&name(number)).await.unwrap();
        assert_eq!(file(&world, &pod, "/files/a").as_deref(), Some("2"));
    }
    for number in 0..999 {
        cluster
            .delete::<Pod>("default", &name(number), None)
            .unwrap();
    }
    let left = || cluster.list::<Pod>(None).len();
    eventually("all but one go", async || (left() == 1).then_some(())).await;
    assert_eq!(cluster.open_watches("configmaps"), [of("files")]);
    cluster.delete::<Pod>("default", &name(999), None).unwrap();
    let closed = cluster.until_watches("configmaps", <[_]>::is_empty);
    timeout(PATIENCE, closed).await.unwrap();
    assert_eq!(cluster.unnamed_reads("configmaps"), UnnamedReads::default());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_names_too_many_objects_is_refused_and_none_is_watched() {
    let (mut world, cluster) = world().await;
    let many = |number: usize| {
        let from = (0..number)
            .map(|n| json!({"configMapRef": {"name": format!("map-{n}"), "optional": true}}));
        json!({"envFrom": from.collect::<Vec<_>>(), "env": []})
    };
    let no_links = || json!({"enableServiceLinks": false});
    // One more is the service of the API server.
    world
        .create(&pod(&world, "greedy", many(1000), no_links()))
        .await;
    let failed = |pod: &Pod| phase(pod) == "Failed";
    let shown = world.wait("greedy", "it is refused", failed).await;
    let status = shown.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Unsupported"));
    let words = "spec: the pod names 1001 ConfigMaps, Secrets and Services, and at most 1000";
    let message = status.message.unwrap();
    assert!(message.contains(words), "{message}");
    assert_eq!(cluster.open_watches("configmaps"), []);
    world
        .create(&pod(&world, "large", many(999), no_links()))
        .await;
    world.running("large").await;
    assert_eq!(cluster.open_watches("configmaps").len(), 999);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn secrets_are_never_listed_as_a_whole() {
    let (mut world, cluster) = world().await;
    secret(&cluster, "keys", json!({"k": "v"}));
    let volume = json!({"secret": {"secretName": "keys"}});
    let mut odd = files_of(&world, "odd", volume);
    // A name that would make another selector.
    let from = json!([{"secretRef": {"name": "a,metadata.name!=b", "optional": true}}]);
    odd.spec.as_mut().unwrap().containers[0].env_from = serde_json::from_value(from).unwrap();
    let odd = cluster.create(&odd).ok();
    world
        .create(&files_of(
            &world,
            "even",
            json!({"secret": {"secretName": "keys"}}),
        ))
        .await;
    world.running("even").await;
    if odd.is_some() {
        world.running("odd").await;
    }
    cluster
        .faults()
        .add(Rule::always("/secrets", Effect::WatchGone).times(3));
    world.stop().await;
    world.start().await;
    sleep(Duration::from_secs(900)).await;
    assert_eq!(cluster.open_watches("secrets"), [of("keys")]);
    assert_eq!(cluster.unnamed_reads("secrets"), UnnamedReads::default());
    world.stop().await;
    let closed = cluster.until_watches("secrets", <[_]>::is_empty);
    timeout(PATIENCE, closed)
        .await
        .expect("closed with the process");
}

#[tokio::test(start_paused = true)]
async fn services_are_one_watch_for_each_namespace_and_none_where_the_api_server_is_outside() {
    let (mut world, cluster) = world().await;
    world
        .create(&pod(&world, "linked", json!({}), json!({})))
        .await;
    let alone = json!({"enableServiceLinks": false});
    world.create(&pod(&world, "alone", json!({}), alone)).await;
    world.running("linked").await;
    world.running("alone").await;
    let all = OpenWatch {
        namespace: Some("default".into()),
        name: None,
    };
    assert_eq!(cluster.open_watches("services"), [all, of("kubernetes")]);
    world.stop().await;

    let outside = ApiServer {
        host: "api.example.com".into(),
        port: 6443,
    };
    let (mut world, cluster) = world_with(InputSettings {
        api_server: Some(outside),
        ..InputSettings::default()
    })
    .await;
    let created = world
        .create(&pod(&world, "out", json!({}), json!({})))
        .await;
    world.running("out").await;
    assert_eq!(cluster.open_watches("services"), []);
    let environment = &given(&world, &created).environment["app"];
    assert_eq!(environment["KUBERNETES_SERVICE_HOST"], "api.example.com");
    assert_eq!(environment["KUBERNETES_SERVICE_PORT"], "6443");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_wants_nothing_watches_nothing() {
    let (mut world, cluster) = sandboxed::world().await;
    config_map(&cluster, "files", json!({"a": "1"}));
    let volume = json!({"configMap": {"name": "files"}});
    world.create(&files_of(&world, "plain", volume)).await;
    world.running("plain").await;
    for plural in ["configmaps", "secrets", "services"] {
        assert_eq!(cluster.open_watches(plural), [], "{plural}");
        assert_eq!(cluster.unnamed_reads(plural), UnnamedReads::default());
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_api_server_holds_a_new_pod_and_says_so() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "files", json!({"a": "1"}));
    cluster
        .faults()
        .add(Rule::always("/configmaps", Effect::Status(503)));
    let volume = json!({"configMap": {"name": "files"}});
    world.create(&files_of(&world, "held", volume)).await;
    let told = world.told("FailedMount").await.message.unwrap();
    assert!(told.contains("failed to sync configmap cache"), "{told}");
    assert_eq!(waiting_for(&world, "held", "ContainerCreating").await, "");
    assert_eq!(world.remote.ensures("held"), 0, "nothing is known of it");
    cluster.faults().clear();
    world.running("held").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_it_waits_for_answers_goes_at_once() {
    let (mut world, cluster) = world().await;
    cluster
        .faults()
        .add(Rule::always("/configmaps", Effect::Status(503)));
    let volume = json!({"configMap": {"name": "files"}});
    let created = world.create(&files_of(&world, "short", volume)).await;
    sleep(Duration::from_secs(1)).await;
    world.delete("short", None).await;
    let uid = uid(&created);
    let gone = world.gone("short", &uid);
    timeout(Duration::from_secs(3), gone)
        .await
        .expect("at once");
    cluster.faults().clear();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.open_watches("configmaps"), []);
    assert!(world.metrics.text().contains("watched_objects 0"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_pods_of_another_process_refer_to_is_let_go_of() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "files", json!({"a": "1"}));
    let volume = json!({"configMap": {"name": "files"}});
    world.create(&files_of(&world, "lost", volume)).await;
    world.running("lost").await;
    assert_eq!(cluster.open_watches("configmaps"), [of("files")]);
    let holder =
        json!({"spec": {"holderIdentity": "another", "renewTime": "2026-01-01T00:01:00.000000Z"}});
    cluster
        .patch::<Lease>("kube-node-lease", &world.node, &holder)
        .unwrap();
    let closed = cluster.until_watches("configmaps", <[_]>::is_empty);
    timeout(PATIENCE, closed).await.unwrap();
    world.stop().await;
}
