//! Tokens of service accounts.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use serde_json::json;
use tokio::time::sleep;
use vk_sandbox::faults::{Effect, Rule};

use super::*;

/// The shortest life that the API server takes.
const LIFE: u64 = 600;

fn opted_in() -> InputSettings {
    InputSettings {
        token_namespaces: ["default".to_owned()].into(),
        ..InputSettings::default()
    }
}

fn holder(world: &World, name: &str) -> Pod {
    let source = json!({"serviceAccountToken": {
        "audience": "vault", "expirationSeconds": LIFE, "path": "token"}});
    files_of(world, name, json!({"projected": {"sources": [source]}}))
}

async fn review(world: &World, token: &str) -> TokenReviewStatus {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.into(),
            audiences: Some(vec!["vault".into()]),
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(world.client.clone());
    let reviewed = api.create(&PostParams::default(), &review).await.unwrap();
    reviewed.status.unwrap()
}

fn token(world: &World, pod: &Pod) -> String {
    file(world, pod, "/files/token").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_bound_to_the_pod_and_for_the_audience_that_it_asks_for() {
    let (mut world, _cluster) = world_with(opted_in()).await;
    let created = world.create(&holder(&world, "holder")).await;
    world.running("holder").await;
    let status = review(&world, &token(&world, &created)).await;
    assert_eq!(status.authenticated, Some(true), "{status:?}");
    assert_eq!(status.audiences, Some(vec!["vault".to_owned()]));
    let extra = status.user.unwrap().extra.unwrap();
    assert_eq!(
        extra["authentication.kubernetes.io/pod-uid"],
        [uid(&created)]
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_at_four_fifths_of_its_life_and_restarts_nothing() {
    let (mut world, _cluster) = world_with(opted_in()).await;
    let created = world.create(&holder(&world, "holder")).await;
    world.running("holder").await;
    let first = token(&world, &created);
    sleep(Duration::from_secs(LIFE * 4 / 5 - 10)).await;
    assert_eq!(token(&world, &created), first, "not before");
    sleep(Duration::from_secs(20)).await;
    let second = token(&world, &created);
    assert_ne!(second, first);
    let status = review(&world, &second).await;
    assert_eq!(status.authenticated, Some(true), "{status:?}");
    sleep(Duration::from_secs(LIFE)).await;
    assert_ne!(token(&world, &created), second, "and again");
    let given = given(&world, &created);
    assert_eq!((given.starts, given.refreshes), (1, 2));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_kept_while_its_renewal_fails() {
    let (mut world, cluster) = world_with(opted_in()).await;
    let created = world.create(&holder(&world, "holder")).await;
    world.running("holder").await;
    let first = token(&world, &created);
    cluster.forbid("create", "serviceaccounts/token", Some("default"));
    sleep(Duration::from_secs(LIFE)).await;
    assert_eq!(token(&world, &created), first);
    assert_eq!(world.remote.ensures("holder"), 1);
    let told = world.told("FailedMount").await.message.unwrap();
    for part in [
        "serviceaccounts \"default\" is forbidden",
        "a RoleBinding in namespace \"default\" that lets this provider create serviceaccounts/token is missing",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let counted = "api_errors_total{operation=\"token\",code=\"403\"}";
    assert!(world.metrics.text().contains(counted));
    cluster.allow("create", "serviceaccounts/token", Some("default"));
    sleep(Duration::from_secs(300)).await;
    assert_ne!(token(&world, &created), first);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn tokens_that_do_not_come_in_time_after_a_restart_come_later_for_every_pod() {
    let (mut world, cluster) = world_with(opted_in()).await;
    // More than are asked for at once, so that some requests are never sent in time.
    let name = |number: usize| format!("holder-{number}");
    let mut pods = Vec::new();
    for number in 0..20 {
        pods.push(world.create(&holder(&world, &name(number))).await);
        world.running(&name(number)).await;
    }
    for effect in [Effect::Latency(60_000), Effect::Status(403)] {
        let before: Vec<_> = pods.iter().map(|pod| token(&world, pod)).collect();
        world.stop().await;
        cluster.faults().add(Rule::always("/token", effect.clone()));
        // Two processes at one instant would give their events one name.
        sleep(Duration::from_secs(1)).await;
        world.start().await;
        sleep(Duration::from_secs(60)).await;
        cluster.faults().clear();
        sleep(Duration::from_secs(LIFE)).await;
        for (pod, before) in pods.iter().zip(&before) {
            assert_ne!(token(&world, pod), *before, "{effect:?}: it would expire");
            assert_eq!(given(&world, pod).starts, 1);
        }
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_token_and_says_what_is_missing() {
    let (mut world, cluster) = world_with(opted_in()).await;
    cluster.forbid("create", "serviceaccounts/token", Some("default"));
    let created = world.create(&holder(&world, "holder")).await;
    let told = world.told("FailedMount").await.message.unwrap();
    let words = "MountVolume.SetUp failed for volume \"files\" : failed to fetch token: serviceaccounts \"default\" is forbidden";
    assert!(told.starts_with(words), "{told}");
    assert!(told.contains("RoleBinding in namespace \"default\""));
    assert_eq!(waiting_for(&world, "holder", "ContainerCreating").await, "");
    sleep(Duration::from_secs(60)).await;
    let told = warnings(&world).await;
    let kept = |(_, message): &(String, String)| message.contains("is kept");
    assert!(!told.iter().any(kept), "there is none to keep: {told:?}");
    cluster.allow("create", "serviceaccounts/token", Some("default"));
    world.running("holder").await;
    assert!(!token(&world, &created).is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_withheld_where_its_namespace_has_not_opted_in() {
    let (mut world, cluster) = world().await;
    // Nobody may even ask for one.
    cluster.forbid("create", "serviceaccounts/token", None);
    let mut injected = pod(&world, "injected", json!({}), json!({}));
    injected
        .spec
        .as_mut()
        .unwrap()
        .automount_service_account_token = None;
    let injected = world.create(&injected).await;
    let volumes = injected.spec.as_ref().unwrap().volumes.as_ref();
    assert!(volumes.is_some_and(|all| all[0].name.starts_with("kube-api-access-")));
    world.running("injected").await;
    assert_eq!(given(&world, &injected).files["app"], [].into());
    world.create(&holder(&world, "holder")).await;
    let failed = world
        .wait("holder", "Failed", |pod| {
            suite::world::phase(pod) == "Failed"
        })
        .await;
    let message = failed.status.unwrap().message.unwrap();
    let path = "spec.volumes[0].projected.sources[0].serviceAccountToken";
    assert!(message.contains(path), "{message}");
    assert!(!world.metrics.text().contains("operation=\"token\""));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_pod_that_is_gone_is_not_renewed() {
    let (mut world, cluster) = world_with(opted_in()).await;
    let created = world.create(&holder(&world, "holder")).await;
    world.running("holder").await;
    world.delete("holder", None).await;
    world.gone("holder", &uid(&created)).await;
    cluster.forbid("create", "serviceaccounts/token", None);
    sleep(Duration::from_secs(10 * LIFE)).await;
    assert!(!world.metrics.text().contains("operation=\"token\""));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn certificates_of_the_api_server_are_those_that_workloads_outside_need() {
    let (mut world, cluster) = world_with(InputSettings {
        api_server_ca: Some("outside".into()),
        ..opted_in()
    })
    .await;
    let inside = json!({"data": {"ca.crt": "inside"}});
    change::<ConfigMap>(&cluster, "kube-root-ca.crt", inside);
    config_map(&cluster, "other", json!({"ca.crt": "inside"}));
    let sources = json!([
        {"configMap": {"name": "kube-root-ca.crt"}},
        {"configMap": {"name": "other", "items": [{"key": "ca.crt", "path": "other.crt"}]}},
    ]);
    let volume = json!({"projected": {"sources": sources}});
    let created = world.create(&files_of(&world, "client", volume)).await;
    world.running("client").await;
    let read = |path: &str| file(&world, &created, path);
    assert_eq!(read("/files/ca.crt").as_deref(), Some("outside"));
    assert_eq!(read("/files/other.crt").as_deref(), Some("inside"));
    world.stop().await;
}
