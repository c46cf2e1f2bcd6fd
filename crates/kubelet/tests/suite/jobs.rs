//! Jobs run to their end.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use vk_provider::Verdict;

use super::workloads::template;
use super::world::{World, eventually, phase, uid};

const NAME: &str = "work";
const PODS: &str = "job-name=work";

fn jobs(world: &World) -> Api<Job> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

async fn begin(world: &World, mut spec: Value) {
    spec["template"] = template(world, NAME);
    spec["template"]["spec"]["restartPolicy"] = json!("Never");
    let job = json!({"metadata": {"name": NAME}, "spec": spec});
    let job = serde_json::from_value(job).unwrap();
    let params = PostParams::default();
    jobs(world).create(&params, &job).await.unwrap();
}

/// A running pod that was not seen before.
async fn fresh(world: &World, seen: &mut Vec<String>) -> Pod {
    let known: &[String] = seen;
    let pod = eventually("another pod of the job runs", || async {
        let pods = world.labelled(PODS).await;
        pods.into_iter()
            .find(|p| phase(p) == "Running" && !known.contains(&uid(p)))
    })
    .await;
    seen.push(uid(&pod));
    pod
}

/// Waits for this condition; the job's status and the condition's reason.
async fn ends(world: &World, condition: &str) -> (Job, String) {
    eventually(&format!("the job is {condition}"), || async {
        let job = jobs(world).get(NAME).await.unwrap();
        let conditions = job.status.as_ref()?.conditions.as_ref()?;
        let found = conditions
            .iter()
            .find(|c| c.type_ == condition && c.status == "True")?;
        let reason = found.reason.clone().unwrap_or_default();
        Some((job, reason))
    })
    .await
}

async fn remove(world: &World) {
    let params = DeleteParams::background();
    jobs(world).delete(NAME, &params).await.unwrap();
    world.emptied().await;
}

pub async fn a_job_runs_until_all_its_completions_are_there(world: &mut World) {
    begin(world, json!({"completions": 3, "parallelism": 2})).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let pod = fresh(world, &mut seen).await;
        let pods = world.labelled(PODS).await;
        let active = pods
            .iter()
            .filter(|p| matches!(phase(p), "Pending" | "Running"));
        assert!(active.count() <= 2, "more at once than parallelism");
        world.remote.exit(&uid(&pod), 0);
    }
    let (job, _) = ends(world, "Complete").await;
    assert_eq!(job.status.unwrap().succeeded, Some(3));
    assert_eq!(world.labelled(PODS).await.len(), 3);
    remove(world).await;
}

pub async fn a_job_fails_after_as_many_pods_as_its_limit_allows(world: &mut World) {
    begin(world, json!({"backoffLimit": 1})).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let pod = fresh(world, &mut seen).await;
        world.remote.exit(&uid(&pod), 1);
    }
    let (job, reason) = ends(world, "Failed").await;
    assert_eq!(reason, "BackoffLimitExceeded");
    assert_eq!(job.status.unwrap().failed, Some(2));
    let pods = world.labelled(PODS).await;
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert_eq!(world.remote.ensures(&pod.metadata.name.unwrap()), 1);
    }
    remove(world).await;
}

pub async fn a_failure_policy_ends_a_job_at_an_exit_code(world: &mut World) {
    let rule = json!({"action": "FailJob",
        "onExitCodes": {"containerName": "app", "operator": "In", "values": [42]}});
    begin(world, json!({"podFailurePolicy": {"rules": [rule]}})).await;
    let pod = fresh(world, &mut Vec::new()).await;
    world.remote.exit(&uid(&pod), 42);
    let (job, reason) = ends(world, "Failed").await;
    assert_eq!(reason, "PodFailurePolicy");
    assert_eq!(job.status.unwrap().failed, Some(1));
    assert_eq!(world.labelled(PODS).await.len(), 1);
    remove(world).await;
}

/// A Job that does not count pods which end by a disruption, and its first pod.
async fn begin_forgiving(world: &World, seen: &mut Vec<String>) -> Pod {
    let rule = json!({"action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    begin(
        world,
        json!({"backoffLimit": 0, "podFailurePolicy": {"rules": [rule]}}),
    )
    .await;
    fresh(world, seen).await
}

/// The pod that follows ends well, and the Job with it.
async fn completes_uncounted(world: &World, seen: &mut Vec<String>) {
    let second = fresh(world, seen).await;
    world.remote.exit(&uid(&second), 0);
    let (job, _) = ends(world, "Complete").await;
    let status = job.status.unwrap();
    assert_eq!(status.succeeded, Some(1));
    assert_eq!(status.failed.unwrap_or_default(), 0, "it is not counted");
    remove(world).await;
}

pub async fn a_failure_policy_ignores_a_disruption(world: &mut World) {
    let mut seen = Vec::new();
    let pod = begin_forgiving(world, &mut seen).await;
    // As an eviction leaves it; the end is reported by us, and keeps it. Without
    // its time it counts as stale, and the control plane takes it back.
    let now = world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let disrupted = json!({"status": {"conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "lastTransitionTime": now.to_string()}]}});
    let params = PatchParams::default();
    let name = pod.metadata.name.as_deref().unwrap();
    let patch = Patch::Strategic(&disrupted);
    world
        .pods()
        .patch_status(name, &params, &patch)
        .await
        .unwrap();
    world.remote.exit(&uid(&pod), 1);
    completes_uncounted(world, &mut seen).await;
}

pub async fn a_failure_policy_ignores_an_eviction(world: &mut World) {
    let mut seen = Vec::new();
    let pod = begin_forgiving(world, &mut seen).await;
    let eviction = Verdict::Evict {
        reason: "SpotInterrupted".into(),
        message: "the instance is taken back".into(),
    };
    world.remote.judge(&uid(&pod), eviction);
    completes_uncounted(world, &mut seen).await;
}
