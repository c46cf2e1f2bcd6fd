//! Objects that are not there.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::*;

fn reads_setting(world: &World, name: &str) -> Pod {
    let env =
        json!({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}});
    let app = json!({"env": [env], "args": ["--a=$(A)"]});
    pod(world, name, app, json!({}))
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_leaves_the_pod_pending_in_the_kubelets_words_until_it_appears() {
    let (mut world, cluster) = world().await;
    let created = world.create(&reads_setting(&world, "early")).await;
    let words = waiting_for(&world, "early", "CreateContainerConfigError").await;
    assert_eq!(words, r#"configmap "settings" not found"#);
    let told = world.told("Failed").await;
    assert_eq!(
        told.message.as_deref(),
        Some(r#"Error: configmap "settings" not found"#)
    );
    // Its back-off is minutes by now.
    sleep(Duration::from_secs(400)).await;
    config_map(&cluster, "settings", json!({"a": "1"}));
    let begun = Instant::now();
    world.running("early").await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let given = given(&world, &created);
    assert_eq!(given.environment["app"]["A"], "1");
    assert_eq!(given.command_lines["app"], ["--a=1"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_volume_leaves_containers_creating_and_is_told_as_failed_mount() {
    let (mut world, cluster) = world().await;
    let volume = json!({"secret": {"secretName": "keys"}});
    let created = world.create(&files_of(&world, "early", volume)).await;
    let told = world.told("FailedMount").await;
    let words = r#"MountVolume.SetUp failed for volume "files" : secret "keys" not found"#;
    assert_eq!(told.message.as_deref(), Some(words));
    assert_eq!(waiting_for(&world, "early", "ContainerCreating").await, "");
    sleep(Duration::from_secs(400)).await;
    secret(&cluster, "keys", json!({"k": "v"}));
    let begun = Instant::now();
    world.running("early").await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(file(&world, &created, "/files/k").as_deref(), Some("v"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_container_that_cannot_be_made_shows_why() {
    let (mut world, _cluster) = world().await;
    let mut two = reads_setting(&world, "two");
    let containers = &mut two.spec.as_mut().unwrap().containers;
    let mut other = containers[0].clone();
    (other.name, other.env, other.args) = ("other".into(), None, None);
    containers.push(other);
    world.create(&two).await;
    waiting_for(&world, "two", "CreateContainerConfigError").await;
    let shown = world.pods().get("two").await.unwrap();
    assert_eq!(waits(&shown, "other").unwrap().0, "ContainerCreating");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_optional_object_that_is_missing_is_silent() {
    let (mut world, _cluster) = world().await;
    let from = json!([{"configMapRef": {"name": "nothing", "optional": true}}]);
    let mut optional = files_of(
        &world,
        "content",
        json!({"secret": {"secretName": "nothing", "optional": true}}),
    );
    let app = &mut optional.spec.as_mut().unwrap().containers[0];
    app.env_from = serde_json::from_value(from).unwrap();
    world.create(&optional).await;
    world.running("content").await;
    assert_eq!(warnings(&world).await, []);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_appears_vanishes_and_appears_starts_the_pod_when_it_fits() {
    let (mut world, cluster) = world().await;
    world.create(&reads_setting(&world, "patient")).await;
    waiting_for(&world, "patient", "CreateContainerConfigError").await;
    config_map(&cluster, "settings", json!({"b": "1"}));
    let no_key = "couldn't find key a in ConfigMap default/settings";
    let shown = |pod: &Pod| waits(pod, "app").is_some_and(|(_, why)| why == no_key);
    world.wait("patient", no_key, shown).await;
    cluster
        .delete::<ConfigMap>("default", "settings", None)
        .unwrap();
    let gone = |pod: &Pod| waits(pod, "app").is_some_and(|(_, why)| why.ends_with("not found"));
    world.wait("patient", "without it", gone).await;
    config_map(&cluster, "settings", json!({"a": "1"}));
    let begun = Instant::now();
    world.running("patient").await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_for_pulls_that_is_missing_is_told_and_stops_nothing() {
    let (mut world, _cluster) = world().await;
    let secrets = json!({"imagePullSecrets": [{"name": "registry"}]});
    world
        .create(&pod(&world, "public", json!({}), secrets))
        .await;
    world.running("public").await;
    let told = world.told("FailedToRetrieveImagePullSecret").await;
    let words = "Unable to retrieve some image pull secrets (registry); attempting to pull the image may not succeed.";
    assert_eq!(told.message.as_deref(), Some(words));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_for_pulls_that_is_none_is_named_and_stops_nothing() {
    let (mut world, cluster) = world().await;
    // The API server takes any JSON.
    let odd = json!({"metadata": {"name": "odd", "namespace": "default"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": r#"{"auths": "planted"}"#}});
    let odd: Secret = serde_json::from_value(odd).unwrap();
    cluster.create(&odd).unwrap();
    let secrets = json!({"imagePullSecrets": [{"name": "odd"}]});
    world
        .create(&pod(&world, "public", json!({}), secrets))
        .await;
    world.running("public").await;
    let told = world.told("FailedToRetrieveImagePullSecret").await;
    let message = told.message.unwrap();
    let begin = "Unable to use some image pull secrets (odd";
    assert!(message.starts_with(begin), "{message}");
    assert!(!message.contains("planted"), "{message}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_comes_while_the_backend_answers_is_not_waited_for() {
    let (mut world, cluster) = world().await;
    world.remote.hold_ensures(true);
    world.create(&reads_setting(&world, "racing")).await;
    waiting_for(&world, "racing", "ContainerCreating").await;
    // The backend has been handed the pod without it.
    assert_eq!(world.remote.ensures("racing"), 1);
    config_map(&cluster, "settings", json!({"a": "1"}));
    sleep(Duration::from_secs(1)).await;
    world.remote.hold_ensures(false);
    let begun = Instant::now();
    world.running("racing").await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    world.stop().await;
}
