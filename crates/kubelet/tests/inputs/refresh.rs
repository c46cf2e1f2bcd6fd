//! Changes while containers run.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;
use tokio::time::sleep;
use vk_provider::BackendError;

use super::*;

/// Long enough for any repeat.
const LONG: Duration = Duration::from_secs(900);

fn of_map(name: &str) -> Value {
    json!({"configMap": {"name": name}})
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_reaches_the_files_of_a_running_pod_and_restarts_nothing() {
    let (mut world, cluster) = world().await;
    secret(&cluster, "keys", json!({"k": "old"}));
    let app = json!({
        "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}],
        "volumeMounts": [
            {"name": "files", "mountPath": "/files"},
            {"name": "files", "mountPath": "/single", "subPath": "k"},
        ],
    });
    let volumes = json!({"volumes": [{"name": "files", "secret": {"secretName": "keys"}}]});
    let created = world.create(&pod(&world, "fresh", app, volumes)).await;
    let before = world.running("fresh").await;
    change::<Secret>(&cluster, "keys", json!({"stringData": {"k": "new"}}));
    let took = until_file(&world, &created, "/files/k", "new").await;
    assert!(took < SOON, "{took:?}");
    sleep(LONG).await;
    let given = given(&world, &created);
    assert_eq!(given.files["app"]["/single"], "old", "a sub-path stays");
    assert_eq!(given.environment["app"]["K"], "old");
    assert_eq!((given.starts, given.refreshes), (1, 1));
    assert_eq!(world.remote.ensures("fresh"), 2, "once for one change");
    let after = world.pods().get("fresh").await.unwrap();
    assert_eq!(after.status, before.status);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_read_at_a_start_alone_and_what_no_file_shows_triggers_nothing() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "env", json!({"a": "1"}));
    config_map(&cluster, "files", json!({"a": "1"}));
    let mut pod = files_of(&world, "calm", of_map("files"));
    let from = json!([{"configMapRef": {"name": "env"}}]);
    pod.spec.as_mut().unwrap().containers[0].env_from = serde_json::from_value(from).unwrap();
    world.create(&pod).await;
    world.running("calm").await;
    change::<ConfigMap>(&cluster, "env", json!({"data": {"a": "2"}}));
    let labels = json!({"metadata": {"labels": {"a": "2"}}});
    change::<ConfigMap>(&cluster, "files", labels.clone());
    change::<Pod>(&cluster, "calm", labels);
    sleep(LONG).await;
    assert_eq!(world.remote.ensures("calm"), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn labels_and_annotations_reach_the_files_that_show_them() {
    let (mut world, cluster) = world().await;
    let item = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let items = [
        item("labels", "metadata.labels"),
        item("note", "metadata.annotations['note']"),
    ];
    let volume = json!({"downwardAPI": {"items": items}});
    let created = world.create(&files_of(&world, "shown", volume)).await;
    world.running("shown").await;
    let metadata = json!({"labels": {"a": "b"}, "annotations": {"note": "hello"}});
    change::<Pod>(&cluster, "shown", json!({"metadata": metadata}));
    let took = until_file(&world, &created, "/files/labels", "a=\"b\"").await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(
        file(&world, &created, "/files/note").as_deref(),
        Some("hello")
    );
    sleep(LONG).await;
    assert_eq!(world.remote.ensures("shown"), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_leaves_running_pods_alone_until_another_has_its_name() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "files", json!({"a": "1"}));
    let created = world
        .create(&files_of(&world, "calm", of_map("files")))
        .await;
    world.running("calm").await;
    cluster
        .delete::<ConfigMap>("default", "files", None)
        .unwrap();
    // Looked at for another reason, too.
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    change::<Pod>(&cluster, "calm", labels);
    sleep(LONG).await;
    assert_eq!(world.remote.ensures("calm"), 1);
    assert_eq!(file(&world, &created, "/files/a").as_deref(), Some("1"));
    assert_eq!(warnings(&world).await, []);
    config_map(&cluster, "files", json!({"a": "1"}));
    sleep(LONG).await;
    assert_eq!(world.remote.ensures("calm"), 1, "back as it was");
    cluster
        .delete::<ConfigMap>("default", "files", None)
        .unwrap();
    config_map(&cluster, "files", json!({"a": "2"}));
    let took = until_file(&world, &created, "/files/a", "2").await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(given(&world, &created).starts, 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_beside_a_deleted_object_is_tried_once_and_again_when_it_is_back() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "a", json!({"a": "1"}));
    config_map(&cluster, "b", json!({"b": "1"}));
    let sources = json!([{"configMap": {"name": "a"}}, {"configMap": {"name": "b"}}]);
    let volume = json!({"projected": {"sources": sources}});
    let created = world.create(&files_of(&world, "half", volume)).await;
    world.running("half").await;
    cluster.delete::<ConfigMap>("default", "a", None).unwrap();
    change::<ConfigMap>(&cluster, "b", json!({"data": {"b": "2"}}));
    world.told("FailedMount").await;
    sleep(LONG).await;
    assert_eq!(world.remote.ensures("half"), 2, "no storm");
    assert_eq!(warnings(&world).await.len(), 1);
    assert_eq!(file(&world, &created, "/files/b").as_deref(), Some("1"));
    let shown = world.pods().get("half").await.unwrap();
    assert_eq!(suite::world::phase(&shown), "Running");
    config_map(&cluster, "a", json!({"a": "1"}));
    until_file(&world, &created, "/files/b", "2").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_while_we_were_away_reaches_the_files_and_nothing_else() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "files", json!({"a": "1"}));
    config_map(&cluster, "env", json!({"e": "1"}));
    let mut pod = files_of(&world, "kept", of_map("files"));
    let from = json!([{"configMapRef": {"name": "env"}}]);
    pod.spec.as_mut().unwrap().containers[0].env_from = serde_json::from_value(from).unwrap();
    let created = world.create(&pod).await;
    let before = world.running("kept").await;
    world.stop().await;
    change::<ConfigMap>(&cluster, "files", json!({"data": {"a": "2"}}));
    change::<ConfigMap>(&cluster, "env", json!({"data": {"e": "2"}}));
    world.start().await;
    until_file(&world, &created, "/files/a", "2").await;
    sleep(LONG).await;
    let given = given(&world, &created);
    assert_eq!((given.starts, given.refreshes), (1, 1));
    assert_eq!(given.environment["app"]["e"], "1");
    let after = world.pods().get("kept").await.unwrap();
    assert_eq!(
        after.metadata.resource_version, before.metadata.resource_version,
        "nothing is written"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_repeated_until_the_files_are_new() {
    let (mut world, cluster) = world().await;
    config_map(&cluster, "files", json!({"a": "1"}));
    let created = world
        .create(&files_of(&world, "slow", of_map("files")))
        .await;
    world.running("slow").await;
    for _ in 0..2 {
        world.remote.fail_next(BackendError::Unavailable {
            message: "no answer".into(),
            retry: None,
        });
    }
    change::<ConfigMap>(&cluster, "files", json!({"data": {"a": "2"}}));
    let took = until_file(&world, &created, "/files/a", "2").await;
    assert!(took >= Duration::from_secs(30), "10 s and 20 s: {took:?}");
    assert_eq!(world.remote.ensures("slow"), 4);
    world.stop().await;
}
