//! Lists, watches, and what faults do to them.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::time::{Instant, timeout};
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

use super::{LONG, cluster, kind, node, on_node, pods, refusal, revision};

/// Lets the other tasks run until every rule has struck.
async fn used_up(cluster: &Cluster) {
    while !cluster.faults().rules().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_objects_as_they_enter_and_leave_its_selector() {
    let cluster = cluster();
    let api = pods(&cluster);
    let params = WatchParams::default()
        .labels("app=web")
        .fields("spec.nodeName=edge");
    let mut watch = Box::pin(api.watch(&params, "0").await.unwrap());
    let labelled = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    api.create(&PostParams::default(), &on_node("a"))
        .await
        .unwrap();
    for value in ["web", "web", "api", "web"] {
        api.patch("a", &PatchParams::default(), &labelled(value))
            .await
            .unwrap();
    }
    api.delete("a", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(kind(
            &timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap(),
        ));
    }
    assert_eq!(seen, ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]);
    let unindexed = ListParams::default().fields("spec.dnsPolicy=Default");
    assert_eq!(refusal(api.list(&unindexed).await).0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_gets_a_bookmark_a_minute() {
    let cluster = cluster();
    let api = pods(&cluster);
    let at = revision(&api).await;
    let mut watch = Box::pin(api.watch(&WatchParams::default(), &at).await.unwrap());
    // A change elsewhere moves the revision.
    cluster.create(&node("edge", "1")).unwrap();
    let start = Instant::now();
    let Some(Ok(WatchEvent::Bookmark(bookmark))) = watch.next().await else {
        panic!("no bookmark");
    };
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_ne!(bookmark.metadata.resource_version, at);
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_history_is_gone() {
    let cluster = cluster();
    let api = pods(&cluster);
    let at = revision(&api).await;
    api.create(&PostParams::default(), &on_node("a"))
        .await
        .unwrap();
    cluster.compact();
    let mut watch = Box::pin(api.watch(&WatchParams::default(), &at).await.unwrap());
    let Some(Ok(WatchEvent::Error(gone))) = watch.next().await else {
        panic!("no error event");
    };
    assert_eq!((gone.code, gone.reason.as_str()), (410, "Expired"));
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn fault_rules_end_stall_and_expire_watches_that_are_open() {
    let cluster = cluster();
    let api = pods(&cluster);
    let open = || async {
        let watch = api.watch(&WatchParams::default(), "0").await.unwrap();
        Box::pin(watch)
    };
    let faults = cluster.faults();

    let mut closed = open().await;
    faults.add(Rule::always("/pods", Effect::WatchClose).times(1));
    assert!(timeout(LONG, closed.next()).await.unwrap().is_none());

    let mut gone = open().await;
    faults.add(Rule::always("/pods", Effect::WatchGone).times(1));
    assert!(matches!(gone.next().await, Some(Ok(WatchEvent::Error(e))) if e.code == 410));

    let mut stalled = open().await;
    faults.add(Rule::always("/pods", Effect::WatchStall).times(1));
    used_up(&cluster).await;
    api.create(&PostParams::default(), &on_node("a"))
        .await
        .unwrap();
    assert!(
        timeout(Duration::from_secs(600), stalled.next())
            .await
            .is_err()
    );

    faults.add(Rule::always("/pods", Effect::WatchClose));
    assert!(
        open().await.next().await.is_none(),
        "a rule in force holds for new watches"
    );
    faults.clear();
    assert!(matches!(
        open().await.next().await,
        Some(Ok(WatchEvent::Added(_)))
    ));
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_lost_after_the_write_took_effect() {
    let cluster = cluster();
    let api = pods(&cluster);
    cluster.faults().add(
        Rule::always("/pods", Effect::LoseAnswer)
            .method("POST")
            .times(1),
    );
    assert!(
        api.create(&PostParams::default(), &on_node("a"))
            .await
            .is_err()
    );
    assert!(cluster.get::<Pod>("default", "a").is_some());
    cluster
        .faults()
        .add(Rule::always("/pods", Effect::TooManyRequests(7)).times(1));
    let slow = Instant::now();
    // kube's client obeys Retry-After by itself when it retries; this one does not.
    assert_eq!(refusal(api.get("a").await).0, 429);
    assert!(slow.elapsed() < Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn pages_add_up_to_the_whole_list() {
    let cluster = cluster();
    let api = pods(&cluster);
    for index in 0..5 {
        cluster.create(&on_node(&format!("p{index}"))).unwrap();
    }
    let (mut params, mut names, mut left) =
        (ListParams::default().limit(2), Vec::new(), Vec::new());
    loop {
        let page = api.list(&params).await.unwrap();
        names.extend(page.items.into_iter().filter_map(|p| p.metadata.name));
        left.push(page.metadata.remaining_item_count);
        match page.metadata.continue_ {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
    assert_eq!(left, [Some(3), Some(1), None]);
    params.continue_token = Some("nonsense".into());
    assert_eq!(refusal(api.list(&params).await).0, 400);
}

#[tokio::test(start_paused = true)]
async fn kube_runtimes_watcher_lists_follows_and_recovers() {
    let cluster = cluster();
    cluster.create(&on_node("before")).unwrap();
    let mut seen = Box::pin(
        watcher(pods(&cluster), watcher::Config::default())
            .default_backoff()
            .applied_objects(),
    );
    let mut next = async || {
        let pod = timeout(LONG, seen.try_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        pod.metadata.name.unwrap()
    };
    assert_eq!(next().await, "before");
    cluster.create(&on_node("after")).unwrap();
    assert_eq!(next().await, "after");
    cluster
        .faults()
        .add(Rule::always("/pods", Effect::WatchClose).times(1));
    used_up(&cluster).await;
    cluster.create(&on_node("later")).unwrap();
    assert_eq!(next().await, "later");
}

/// The versions that a watch of all pods tells, until it has told so many.
async fn told(cluster: &Cluster, many: usize) -> Vec<String> {
    let api = pods(cluster);
    let mut watch = Box::pin(api.watch(&WatchParams::default(), "0").await.unwrap());
    let mut told = Vec::new();
    while told.len() < many {
        let event = timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap();
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
            told.push(pod.metadata.resource_version.unwrap());
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_watch_can_repeat_itself_lag_or_tell_bookmarks_only() {
    let cluster = cluster();
    let api = pods(&cluster);
    let rule = |effect| Rule::always("/pods", effect);
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    let params = PatchParams::default();
    cluster.faults().add(rule(Effect::WatchRepeat));
    let watching = cluster.clone();
    let watch = tokio::spawn(async move { told(&watching, 5).await });
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = api.create(&PostParams::default(), &on_node("a")).await;
    let second = api.patch("a", &params, &label("b")).await;
    let version = |pod: Pod| pod.metadata.resource_version.unwrap();
    let (first, second) = (version(first.unwrap()), version(second.unwrap()));
    let expected = [&first, &first, &second, &second, &first];
    assert_eq!(watch.await.unwrap().iter().collect::<Vec<_>>(), expected);

    cluster.faults().clear();
    cluster.faults().add(rule(Effect::WatchLag(5000)));
    let begun = Instant::now();
    let watching = cluster.clone();
    let watch = tokio::spawn(async move { told(&watching, 2).await });
    tokio::time::sleep(Duration::from_secs(6)).await;
    api.patch("a", &params, &label("c")).await.unwrap();
    watch.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(11));

    cluster.faults().clear();
    let before = revision(&api).await;
    cluster.faults().add(rule(Effect::WatchBookmarksOnly));
    let mut watch = Box::pin(api.watch(&WatchParams::default(), &before).await.unwrap());
    api.patch("a", &params, &label("d")).await.unwrap();
    let event = timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap();
    let WatchEvent::Bookmark(mark) = event else {
        panic!("{event:?}");
    };
    assert_eq!(mark.metadata.resource_version, before);
    cluster.faults().clear();
    let event = timeout(LONG, async {
        loop {
            if let WatchEvent::Modified(pod) = watch.next().await.unwrap().unwrap() {
                return pod;
            }
        }
    });
    assert_eq!(event.await.unwrap().metadata.labels.unwrap()["app"], "d");
}
