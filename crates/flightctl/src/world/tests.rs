use super::*;
use std::time::Duration;

use serde_json::json;
use vk_provider::PodEvents;

use crate::device::tests::{device, request};
use crate::mapping::tests as mapped;
use crate::place::NoPlace;

fn world() -> World {
    World::new("cluster", crate::config::default_rules())
}

#[tokio::test]
async fn an_older_reading_is_ignored_but_not_a_device_made_anew() {
    let mut world = world();
    let mut view = device("a", &[]);
    view.version = 9;
    view.created = "2026-01-01T00:00:00Z".into();
    let now = Instant::now();
    world.read(vec![view.clone()], now, true);
    view.version = 8;
    view.summary = "Unknown".into();
    world.read(vec![view.clone()], now, false);
    assert_eq!(world.device("a").unwrap().summary, "Online");
    view.version = 1;
    view.created = "2026-01-02T00:00:00Z".into();
    world.read(vec![view.clone()], now, false);
    assert_eq!(world.device("a").unwrap().summary, "Unknown");
    view.version = 10;
    view.created = "2026-01-01T00:00:00Z".into();
    view.summary = "Online".into();
    world.read(vec![view], now, false);
    assert_eq!(
        world.device("a").unwrap().summary,
        "Unknown",
        "the one before"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_set_back_is_believed() {
    let mut world = world();
    let mut view = device("a", &[]);
    view.version = 9;
    world.read(vec![view.clone()], Instant::now(), true);
    let asked = Instant::now() + Duration::from_millis(1);
    tokio::time::advance(Duration::from_secs(1)).await;
    view.version = 3;
    view.summary = "Unknown".into();
    world.read(vec![view], asked, true);
    assert_eq!(world.device("a").unwrap().summary, "Unknown");
}

/// Nobody listens.
struct Unheard;

impl PodEvents for Unheard {
    fn normal(&self, _: &str, _: &str) {}
    fn warning(&self, _: &str, _: &str) {}
}

fn there(names: &[&str]) -> Vec<DeviceView> {
    names
        .iter()
        .map(|name| {
            let mut view = device(name, &[]);
            view.cpu_cores = Some(2);
            view
        })
        .collect()
}

/// A pod for the devices' node.
fn wants(name: &str, cpu: &str) -> vk_provider::PodRequest {
    let mut request = request(name, name, cpu, "1Mi");
    request.node = "vk-flightctl-node".into();
    request
}

fn reserve(world: &mut World, name: &str, cpu: &str) -> Result<String, NoPlace> {
    let app = format!("vk-{name}");
    world.reserve(&wants(name, cpu), &app, Arc::new(Unheard))
}

/// A device that holds a pod which was written for this cluster.
fn holding(cluster: &str) -> (DeviceView, Uid) {
    let pod = mapped::pod(json!({"containers": [{"name": "app", "image": "nginx"}]}));
    let mut view = there(&["a"]).remove(0);
    view.applications = vec![crate::mapping::tests::application(&pod, cluster).unwrap()];
    (view, pod.key.uid)
}

#[tokio::test]
async fn only_pods_of_our_cluster_are_adopted() {
    for (cluster, ours) in [("cluster", true), ("another", false)] {
        let mut world = world();
        let (view, uid) = holding(cluster);
        world.read(vec![view], Instant::now(), true);
        assert_eq!(world.pod(&uid).is_some(), ours, "{cluster}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_pods_are_not_counted_yet_takes_none() {
    let mut world = world();
    world.read(vec![holding("cluster").0], Instant::now(), true);
    let early = reserve(&mut world, "p", "100m");
    assert!(
        matches!(&early, Err(NoPlace::NotNow(why)) if why.contains("being counted")),
        "{early:?}"
    );
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(reserve(&mut world, "p", "100m"), Ok("a".into()));
}

#[tokio::test]
async fn a_pod_that_is_gone_gives_its_room_back_and_one_that_leaves_does_not() {
    let mut world = world();
    world.read(there(&["a"]), Instant::now(), true);
    reserve(&mut world, "first", "1").unwrap();
    let uid = wants("first", "1").key.uid;
    for (stage, free) in [
        (
            Stage::Removed {
                version: Some(5),
                after: 4,
            },
            false,
        ),
        (Stage::Gone, true),
    ] {
        world.with_pod(&uid, |p| p.stage = stage.clone());
        let found = world.choose(&wants("second", "1"), false);
        assert_eq!(found.is_ok(), free, "{stage:?}");
    }
}

#[tokio::test]
async fn pods_that_wait_are_looked_at_when_a_device_opens() {
    let mut world = world();
    let mut view = there(&["a"]).remove(0);
    view.summary = "Unknown".into();
    world.read(vec![view.clone()], Instant::now(), true);
    reserve(&mut world, "p", "1").unwrap_err();
    while world.take_dirty().is_some() {}
    view.version = 2;
    view.summary = "Online".into();
    world.read(vec![view], Instant::now(), false);
    assert_eq!(world.take_dirty(), Some(wants("p", "1").key.uid));
}

#[tokio::test]
async fn what_a_rendered_document_tells_is_shown_at_once() {
    let mut world = world();
    let (mut view, uid) = holding("cluster");
    (view.rendered, view.reported) = (5, 5);
    world.read(vec![view.clone()], Instant::now(), true);
    while world.take_dirty().is_some() {}
    assert_eq!(world.pod(&uid).unwrap().applied(&view), None);
    let rendered = json!({
        "metadata": {"name": "a", "annotations": {"device-controller/renderedVersion": "5"}},
        "spec": {"applications": view.applications},
    });
    world.rendered("a", &rendered);
    assert!(world.pod(&uid).unwrap().applied(&view).is_some());
    assert_eq!(world.take_dirty(), Some(uid), "nobody else will look");
}

#[tokio::test]
async fn a_problem_of_grouping_is_told_when_it_is_new() {
    let mut rules = crate::config::default_rules();
    let fleet = |name: &str| crate::fleet::FleetRule {
        name: name.into(),
        selector: crate::select::parse("site=paris").unwrap(),
        sizes: rules.defaults.clone(),
        absence: rules.absence,
        taints: None,
        policy: Default::default(),
    };
    rules.fleets = vec![fleet("one"), fleet("two")];
    let mut world = World::new("cluster", rules);
    let (both, none) = (device("a", &[("site", "paris")]), device("a", &[]));
    for (version, view, told) in [(1, &both, 1), (2, &both, 0), (3, &none, 0), (4, &both, 1)] {
        let view = DeviceView {
            version,
            ..view.clone()
        };
        let changes = world.read(vec![view], Instant::now(), true);
        assert_eq!(changes.problems.len(), told, "{version}");
    }
}
