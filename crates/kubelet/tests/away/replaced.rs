//! Pods that their controllers replace because nobody can tell what became of them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::sleep;
use vk_provider::Verdict;
use vk_sandbox::faults::{Effect, Rule};
use vk_sandbox::kubernetes::Cluster;

use super::{condition, reason};
use crate::process::Process;
use crate::sandboxed::{idle, world};
use crate::suite::memory::{Call, Remote};
use crate::suite::world::{World, eventually, phase, uid};

fn timeout() -> Verdict {
    Verdict::Fail {
        reason: "DeviceTimeout".into(),
        message: "device d1 has not answered for 5 min".into(),
        disruption: Some("DeviceTimeout".into()),
        replace: true,
    }
}

/// A pod that runs, and whose place says nothing from now on.
async fn lost(world: &World, name: &str) -> String {
    let created = world.create(&world.pod(name, "Always")).await;
    world.running(name).await;
    world.remote.silence(&uid(&created));
    let unknown = |pod: &Pod| phase(pod) == "Unknown";
    world.wait(name, "Unknown", unknown).await;
    uid(&created)
}

fn stops(remote: &Remote, name: &str) -> usize {
    let stop = Call::Stop(name.into(), Duration::ZERO);
    remote.calls().iter().filter(|call| **call == stop).count()
}

fn fail(cluster: &Cluster, method: &str) {
    let rule = Rule::always("/pods/", Effect::Status(503));
    cluster.faults().add(rule.method(method));
}

/// The way out of it is ordered: no replacement while the remote is to run the
/// old one, no delete before its status says why.
#[tokio::test(start_paused = true)]
async fn a_pod_to_be_replaced_is_stopped_then_failed_then_deleted() {
    let (world, cluster) = idle();
    let process = Process::start(&cluster, &world.remote, &world.clock, true, |_| {});
    let lost = lost(&world, "web").await;
    let before = process.line.writes().len();
    world.remote.judge(&lost, timeout());
    world.gone("web", &lost).await;
    let of_pod = |write: &String| write.contains("web");
    let writes: Vec<String> = process.line.writes()[before..].to_vec();
    let writes: Vec<&String> = writes.iter().filter(|write| of_pod(write)).collect();
    let pods = "/api/v1/namespaces/default/pods/web";
    assert_eq!(
        writes,
        [
            "stop web",
            &format!("PATCH {pods}/status"),
            &format!("DELETE {pods}")
        ]
    );
    assert!(world.remote.runs(&lost), "nobody knows better");
    process.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_replaced_is_released_when_its_end_is_seen_and_not_before() {
    let (mut world, _cluster) = world().await;
    let lost = lost(&world, "web").await;
    world.remote.judge(&lost, timeout());
    world.gone("web", &lost).await;
    sleep(Duration::from_secs(600)).await;
    let released = Call::Release("web".into());
    assert!(!world.remote.calls().contains(&released), "it may run");
    assert!(stops(&world.remote, "web") > 5, "asked for again and again");
    world.remote.exit(&lost, 0);
    world.emptied().await;
    assert!(world.remote.calls().contains(&released));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn its_status_says_why_and_that_it_was_no_fault_of_its_own() {
    let (mut world, cluster) = world().await;
    let lost = lost(&world, "web").await;
    fail(&cluster, "DELETE");
    world.remote.judge(&lost, timeout());
    let failed = world.wait("web", "Failed", |p| phase(p) == "Failed").await;
    assert_eq!(reason(&failed), Some("DeviceTimeout"));
    let disrupted = condition(&failed, "DisruptionTarget");
    assert_eq!(disrupted, Some(("True", "DeviceTimeout")));
    cluster.faults().clear();
    world.gone("web", &lost).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_does_not_take_the_stop_holds_the_replacement_back() {
    let (mut world, _cluster) = world().await;
    let lost = lost(&world, "web").await;
    world.remote.refuse_stops(true);
    world.remote.judge(&lost, timeout());
    sleep(Duration::from_secs(60)).await;
    let held = world.pods().get("web").await.unwrap();
    assert_eq!((phase(&held), reason(&held)), ("Unknown", None));
    world.remote.refuse_stops(false);
    world.gone("web", &lost).await;
    world.stop().await;
}

/// Controllers make the next one when the old one is Failed.
#[tokio::test(start_paused = true)]
async fn a_replica_set_replaces_it_after_the_remote_was_told_to_let_go() {
    let (mut world, _cluster) = world().await;
    let template = world.pod("any", "Always");
    let set: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": world.namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template.spec},
        },
    }))
    .unwrap();
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    sets.create(&PostParams::default(), &set).await.unwrap();
    let runs = async || {
        let pods = world.labelled("app=web").await;
        pods.into_iter().find(|pod| phase(pod) == "Running")
    };
    let first = eventually("the first runs", runs).await;
    world.remote.silence(&uid(&first));
    let name = first.metadata.name.clone().unwrap();
    world
        .wait(&name, "Unknown", |p| phase(p) == "Unknown")
        .await;
    world.remote.judge(&uid(&first), timeout());
    let second = eventually("the second runs", runs).await;
    assert_ne!(uid(&second), uid(&first));
    world.gone(&name, &uid(&first)).await;
    let calls = world.remote.calls();
    let stop = calls
        .iter()
        .position(|c| matches!(c, Call::Stop(of, _) if *of == name));
    let other = second.metadata.name.clone().unwrap();
    let start = calls.iter().position(|c| *c == Call::Ensure(other.clone()));
    assert!(stop.unwrap() < start.unwrap(), "{calls:?}");
    assert_eq!(world.labelled("app=web").await.len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ignores_disruptions_does_not_count_it() {
    let (mut world, _cluster) = world().await;
    let template = world.pod("any", "Never");
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "batch", "namespace": world.namespace},
        "spec": {
            "backoffLimit": 0,
            "podFailurePolicy": {"rules": [{
                "action": "Ignore",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            }]},
            "template": {"spec": template.spec},
        },
    }))
    .unwrap();
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    jobs.create(&PostParams::default(), &job).await.unwrap();
    let runs = async || {
        let pods = world.labelled("job-name=batch").await;
        pods.into_iter().find(|pod| phase(pod) == "Running")
    };
    let first = eventually("the first runs", runs).await;
    world.remote.silence(&uid(&first));
    world.remote.judge(&uid(&first), timeout());
    world
        .gone(first.metadata.name.as_deref().unwrap(), &uid(&first))
        .await;
    let second = eventually("the second runs", runs).await;
    world.remote.exit(&uid(&second), 0);
    eventually("the job is complete", async || {
        let status = jobs.get("batch").await.unwrap().status?;
        (status.succeeded == Some(1)).then_some(())
    })
    .await;
    world.stop().await;
}

/// Whatever the process before had done of it: told the remote, told Kubernetes.
#[tokio::test(start_paused = true)]
async fn the_next_process_goes_on_where_the_last_one_ended() {
    for held in ["PATCH", "DELETE"] {
        let (mut world, cluster) = world().await;
        let lost = lost(&world, "web").await;
        fail(&cluster, held);
        world.remote.judge(&lost, timeout());
        sleep(Duration::from_secs(20)).await;
        assert!(stops(&world.remote, "web") > 0);
        world.stop().await;
        let left = world.pods().get("web").await.unwrap();
        let expected = if held == "PATCH" { "Unknown" } else { "Failed" };
        assert_eq!(phase(&left), expected);
        cluster.faults().clear();
        world.start().await;
        world.gone("web", &lost).await;
        world.remote.exit(&lost, 0);
        world.emptied().await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_delete_in_the_middle_of_it_does_not_hold_it_up() {
    let (mut world, cluster) = world().await;
    let lost = lost(&world, "web").await;
    fail(&cluster, "DELETE");
    world.remote.judge(&lost, timeout());
    world.wait("web", "Failed", |p| phase(p) == "Failed").await;
    cluster.faults().clear();
    // As `kubectl delete` does: with a grace.
    world.delete("web", Some(3600)).await;
    world.gone("web", &lost).await;
    assert!(world.remote.runs(&lost));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_forced_delete_in_the_middle_of_it_leaves_the_end_to_be_seen() {
    let (mut world, cluster) = world().await;
    let lost = lost(&world, "web").await;
    fail(&cluster, "DELETE");
    world.remote.judge(&lost, timeout());
    world.wait("web", "Failed", |p| phase(p) == "Failed").await;
    cluster.faults().clear();
    world.delete("web", Some(0)).await;
    world.gone("web", &lost).await;
    sleep(Duration::from_secs(120)).await;
    assert!(!world.remote.calls().contains(&Call::Release("web".into())));
    world.remote.exit(&lost, 0);
    world.emptied().await;
    world.stop().await;
}

/// They asked for its end, and get it confirmed or use force.
#[tokio::test(start_paused = true)]
async fn a_pod_that_was_deleted_before_waits_for_its_end_all_the_same() {
    let (mut world, _cluster) = world().await;
    let lost = lost(&world, "web").await;
    world.delete("web", None).await;
    sleep(Duration::from_secs(5)).await;
    world.remote.judge(&lost, timeout());
    sleep(Duration::from_secs(600)).await;
    let waits = world.pods().get("web").await.unwrap();
    assert_eq!(phase(&waits), "Unknown");
    world.remote.exit(&lost, 0);
    world.gone("web", &lost).await;
    world.emptied().await;
    world.stop().await;
}

/// It ended before its place was lost: its status is someone's to read.
#[tokio::test(start_paused = true)]
async fn a_pod_that_had_ended_is_not_deleted_for_it() {
    let (mut world, _cluster) = world().await;
    let created = world.create(&world.pod("once", "Never")).await;
    world.running("once").await;
    world.remote.exit(&uid(&created), 3);
    world.wait("once", "Failed", |p| phase(p) == "Failed").await;
    world.remote.silence(&uid(&created));
    world.remote.judge(&uid(&created), timeout());
    sleep(Duration::from_secs(120)).await;
    let kept = world.pods().get("once").await.unwrap();
    assert_eq!(uid(&kept), uid(&created));
    assert_eq!(reason(&kept), None);
    world.stop().await;
}

/// A verdict without it: the object is kept for someone to look at.
#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_to_be_replaced_stays_failed() {
    let (mut world, _cluster) = world().await;
    let lost = lost(&world, "once").await;
    world.remote.judge(
        &lost,
        Verdict::Fail {
            reason: "DeviceLost".into(),
            message: "device d1 has not answered for 5 min".into(),
            disruption: None,
            replace: false,
        },
    );
    world.wait("once", "Failed", |p| phase(p) == "Failed").await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(uid(&world.pods().get("once").await.unwrap()), lost);
    world.stop().await;
}
