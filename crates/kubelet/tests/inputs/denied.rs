//! Objects that we may not read.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tokio::time::sleep;
use vk_sandbox::faults::{Effect, Rule};

use super::*;
use suite::world::eventually;

/// What the API server says, and what is missing.
const WORDS: &str = r#"secrets "keys" is forbidden: User "admin" cannot list resource "secrets" in API group "" in the namespace "default"; a RoleBinding in namespace "default" that lets this provider list and watch secrets is missing"#;

fn forbid(cluster: &Cluster) {
    for verb in ["get", "list", "watch"] {
        cluster.forbid(verb, "secrets", Some("default"));
    }
}

fn allow(cluster: &Cluster) {
    for verb in ["get", "list", "watch"] {
        cluster.allow(verb, "secrets", Some("default"));
    }
}

fn volume() -> Value {
    json!({"secret": {"secretName": "keys"}})
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_named_with_the_binding_that_is_missing() {
    let (mut world, cluster) = world().await;
    secret(&cluster, "keys", json!({"k": "v"}));
    forbid(&cluster);
    let env = json!({"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}]});
    world.create(&pod(&world, "env", env, json!({}))).await;
    let shown = waiting_for(&world, "env", "CreateContainerConfigError").await;
    assert_eq!(shown, WORDS);
    let told = world.told("Failed").await.message.unwrap();
    assert_eq!(told, format!("Error: {WORDS}"));

    world.create(&files_of(&world, "files", volume())).await;
    let told = world.told("FailedMount").await.message.unwrap();
    let words = format!("MountVolume.SetUp failed for volume \"files\" : {WORDS}");
    assert_eq!(told, words);
    assert_eq!(waiting_for(&world, "files", "ContainerCreating").await, "");
    assert_eq!(world.remote.calls(), [], "no backend sees them");
    allow(&cluster);
    world.running("env").await;
    world.running("files").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_for_pulls_that_is_forbidden_stops_nothing() {
    let (mut world, cluster) = world().await;
    forbid(&cluster);
    let secrets = json!({"imagePullSecrets": [{"name": "keys"}]});
    world
        .create(&pod(&world, "public", json!({}), secrets))
        .await;
    world.running("public").await;
    let of_the_secret = |(reason, message): (String, String)| {
        (reason == "FailedToRetrieveImagePullSecret").then_some(message)
    };
    let told = eventually("the binding is named", async || {
        let all = warnings(&world).await.into_iter();
        let all: Vec<_> = all.filter_map(of_the_secret).collect();
        (all.len() == 2).then_some(all)
    });
    assert!(told.await.contains(&WORDS.to_owned()));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_is_told_of_pods_that_run() {
    let (mut world, cluster) = world().await;
    secret(&cluster, "keys", json!({"k": "old"}));
    let created = world.create(&files_of(&world, "kept", volume())).await;
    world.running("kept").await;
    forbid(&cluster);
    cluster
        .faults()
        .add(Rule::always("/secrets", Effect::WatchClose).times(1));
    let told = world.told("FailedMount").await.message.unwrap();
    // It was being watched, and was not listed anew.
    let words = WORDS.replace("cannot list", "cannot watch");
    assert_eq!(
        told,
        format!("{words}; what containers have of it stays as it is")
    );
    assert_eq!(file(&world, &created, "/files/k").as_deref(), Some("old"));
    assert_eq!(given(&world, &created).starts, 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_runs_is_handed_over_without_what_is_forbidden_and_runs_on() {
    let (mut world, cluster) = world().await;
    secret(&cluster, "keys", json!({"k": "old"}));
    let created = world.create(&files_of(&world, "kept", volume())).await;
    let before = world.running("kept").await;
    world.stop().await;
    forbid(&cluster);
    // Two processes at one instant would give their events one name.
    sleep(Duration::from_secs(1)).await;
    world.start().await;
    world.told("FailedMount").await;
    assert_eq!(world.remote.ensures("kept"), 2, "handed over");
    let after = world.pods().get("kept").await.unwrap();
    assert_eq!(after.status, before.status);
    assert_eq!(file(&world, &created, "/files/k").as_deref(), Some("old"));
    allow(&cluster);
    change::<Secret>(&cluster, "keys", json!({"stringData": {"k": "new"}}));
    until_file(&world, &created, "/files/k", "new").await;
    assert_eq!(given(&world, &created).starts, 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_forbidden_is_asked_for_ever_more_rarely() {
    let (mut world, cluster) = world().await;
    forbid(&cluster);
    world.create(&files_of(&world, "held", volume())).await;
    world.told("FailedMount").await;
    let rule = Rule::always("/secrets", Effect::Latency(0)).times(1000);
    cluster.faults().add(rule);
    sleep(Duration::from_secs(900)).await;
    let left = cluster.faults().rules()[0].times.unwrap();
    assert!((1000 - left) <= 40, "{} times in 15 minutes", 1000 - left);
    assert!(left < 1000, "but asked for");
    world.stop().await;
}
