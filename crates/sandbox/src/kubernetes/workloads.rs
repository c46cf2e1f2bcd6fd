//! Deployments and ReplicaSets, small: scaling, rolling updates, status. Not
//! here: adoption, minReadySeconds, proportional scaling, pausing, rollback.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::delete::DeleteOptions;
use super::names::letters;
use super::resource::{DEPLOYMENTS, PODS, REPLICA_SETS, Resource};
use super::store::Change;
use super::update::Part;
use super::{Cluster, object};

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Letters of the template's hash.
const HASH: usize = 10;
/// A ReplicaSet whose pods fail at once replaces them at this pace; the real
/// one is held back by its client's rate limit only.
pub(crate) const FAILED_PACE: Duration = Duration::from_secs(1);

pub(crate) fn concerns(change: &Change) -> bool {
    ["pods", "replicasets", "deployments"].contains(&change.resource.plural)
}

/// Pods that run or will, by the UID of their ReplicaSet.
type Owned = HashMap<String, Vec<Arc<Value>>>;

/// Brings every Deployment and ReplicaSet one step on. Returns when to look
/// again, if something waits for time alone.
pub(crate) fn pass(cluster: &Cluster) -> Option<Duration> {
    let all = |resource| all(cluster, resource);
    let mut owned = Owned::new();
    let mut failing: HashMap<String, Timestamp> = HashMap::new();
    for pod in all(&PODS) {
        let Some(owner) = object::controller(&pod) else {
            continue;
        };
        let owner = object::text(owner, "/uid").to_owned();
        if object::is_finished(&pod) {
            let at = object::text(&pod, "/metadata/creationTimestamp")
                .parse()
                .unwrap_or_default();
            let last = failing.entry(owner).or_insert(at);
            *last = at.max(*last);
        } else if !object::is_deleting(&pod) {
            owned.entry(owner).or_default().push(pod);
        }
    }
    let sets = all(&REPLICA_SETS);
    for deployment in all(&DEPLOYMENTS) {
        if !object::is_deleting(&deployment) {
            let sets = sets.iter().filter(|set| {
                object::controller(set).is_some_and(|o| o["uid"] == deployment["metadata"]["uid"])
            });
            roll(cluster, &deployment, &sets.collect::<Vec<_>>(), &owned);
        }
    }
    let mut again = None;
    for set in sets.iter().filter(|set| !object::is_deleting(set)) {
        let pods = owned.remove(object::uid(set)).unwrap_or_default();
        let failed_now = failing
            .get(object::uid(set))
            .is_some_and(|at| cluster.now().duration_since(*at).unsigned_abs() < FAILED_PACE);
        if failed_now {
            again = Some(FAILED_PACE);
        }
        replicate(cluster, set, pods, !failed_now);
    }
    again
}

/// All objects of a kind.
pub(crate) fn all(cluster: &Cluster, resource: &'static Resource) -> Vec<Arc<Value>> {
    cluster.store().read(|state| {
        let found = state.list(resource, None);
        found.map(|(_, object)| Arc::clone(object)).collect()
    })
}

/// The name of a template's content.
pub(crate) fn hash(workload: &Value) -> String {
    let text = workload["spec"]["template"].to_string();
    letters(&Sha256::digest(text.as_bytes()), HASH)
}

/// A pod from a workload's template, without a name, of one owner.
pub(crate) fn pod_of(resource: &Resource, workload: &Value) -> Value {
    let template = &workload["spec"]["template"];
    let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["ownerReferences"] = json!([object::owned_by(resource, workload)]);
    pod
}

/// Creates a pod for a workload, and says so.
pub(crate) fn create_pod(
    cluster: &Cluster,
    resource: &'static Resource,
    workload: &Value,
    pod: Value,
) -> bool {
    let (kind, reason, text) = match cluster.create_object(&PODS, object::namespace(workload), pod)
    {
        Ok(pod) => {
            let text = format!("Created pod: {}", object::name(&pod));
            ("Normal", "SuccessfulCreate", text)
        }
        Err(error) => {
            let text = format!("Error creating: {error}");
            ("Warning", "FailedCreate", text)
        }
    };
    let component = format!("{}-controller", resource.singular);
    cluster.event(resource, workload, (kind, reason), &text, &component);
    kind == "Normal"
}

/// Deletes a pod of a workload with its own grace, and says so.
pub(crate) fn delete_pod(
    cluster: &Cluster,
    resource: &'static Resource,
    workload: &Value,
    pod: &Value,
) {
    let (ns, name) = (object::namespace(pod), object::name(pod));
    // Refused only if it is gone already.
    if cluster
        .delete_object(&PODS, ns, name, &DeleteOptions::default())
        .is_ok()
    {
        let text = format!("Deleted pod: {name}");
        let about = ("Normal", "SuccessfulDelete");
        let component = format!("{}-controller", resource.singular);
        cluster.event(resource, workload, about, &text, &component);
    }
}

/// The pods whose controller this is.
pub(crate) fn pods_of(pods: &[Arc<Value>], workload: &Value) -> Vec<Arc<Value>> {
    let owner = &workload["metadata"]["uid"];
    let owned = |pod: &&Arc<Value>| object::controller(pod).is_some_and(|o| o["uid"] == *owner);
    pods.iter().filter(owned).cloned().collect()
}

pub(crate) fn replicas(workload: &Value) -> usize {
    count(object::int(workload, "/spec/replicas"))
}

pub(crate) fn count(number: Option<i64>) -> usize {
    number
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or_default()
}

pub(crate) fn ready(pods: &[Arc<Value>]) -> usize {
    pods.iter()
        .filter(|pod| object::is_true(pod, "Ready"))
        .count()
}

/// Creates what is missing, deletes what is too many, writes the status.
fn replicate(cluster: &Cluster, set: &Value, mut pods: Vec<Arc<Value>>, may_create: bool) {
    let (name, wanted) = (object::name(set), replicas(set));
    if may_create {
        for _ in pods.len()..wanted {
            let mut pod = pod_of(&REPLICA_SETS, set);
            pod["metadata"]["generateName"] = json!(format!("{name}-"));
            if !create_pod(cluster, &REPLICA_SETS, set, pod) {
                break;
            }
        }
    }
    // Those nobody would miss go first: not placed, not ready, newest.
    pods.sort_by_key(|pod| {
        let placed = !object::text(pod, "/spec/nodeName").is_empty();
        let age = std::cmp::Reverse(object::text(pod, "/metadata/creationTimestamp").to_owned());
        (placed, object::is_true(pod, "Ready"), age)
    });
    let surplus = pods.len().saturating_sub(wanted);
    for pod in pods.iter().take(surplus) {
        delete_pod(cluster, &REPLICA_SETS, set, pod);
    }
    let ready = ready(&pods);
    write_status(cluster, &REPLICA_SETS, set, |status| {
        status["replicas"] = json!(pods.len());
        status["fullyLabeledReplicas"] = json!(pods.len());
        status["readyReplicas"] = json!(ready);
        status["availableReplicas"] = json!(ready);
    });
}

pub(crate) fn write_status(
    cluster: &Cluster,
    resource: &'static Resource,
    workload: &Value,
    fill: impl Fn(&mut Value),
) {
    let at = (object::namespace(workload), object::name(workload));
    // Gone meanwhile: nothing to write then.
    let _ = cluster.revise(resource, at, Part::Status, |old| {
        let mut new = old.clone();
        if !new["status"].is_object() {
            new["status"] = json!({});
        }
        fill(&mut new["status"]);
        new["status"]["observedGeneration"] = workload["metadata"]["generation"].clone();
        Ok(new)
    });
}

fn scale(cluster: &Cluster, set: &Value, to: usize) {
    if replicas(set) == to {
        return;
    }
    let _ = cluster.revise(
        &REPLICA_SETS,
        (object::namespace(set), object::name(set)),
        Part::Main,
        |old| {
            let mut new = old.clone();
            new["spec"]["replicas"] = json!(to);
            Ok(new)
        },
    );
}

/// `25%` or `1` of so many.
pub(crate) fn share(amount: &Value, of: usize, round_up: bool) -> usize {
    match amount {
        Value::String(text) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or_default();
            let exact = percent * of;
            if round_up {
                exact.div_ceil(100)
            } else {
                exact / 100
            }
        }
        other => count(other.as_i64()),
    }
}

/// One step of a rollout.
fn roll(cluster: &Cluster, deployment: &Value, sets: &[&Arc<Value>], owned: &Owned) {
    let wanted = replicas(deployment);
    let hash = hash(deployment);
    let is_new = |set: &Value| object::text(set, &format!("/metadata/labels/{HASH_LABEL}")) == hash;
    let new = sets.iter().find(|set| is_new(set)).copied();
    let old: Vec<&Arc<Value>> = sets.iter().filter(|set| !is_new(set)).copied().collect();
    let pods = |set: &Value| owned.get(object::uid(set)).map_or(&[][..], Vec::as_slice);

    let strategy = &deployment["spec"]["strategy"];
    let recreate = strategy["type"] == "Recreate";
    let surge = share(&strategy["rollingUpdate"]["maxSurge"], wanted, true);
    let mut unavailable = share(&strategy["rollingUpdate"]["maxUnavailable"], wanted, false);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    let old_total: usize = old.iter().map(|set| replicas(set)).sum();
    let old_pods: usize = old.iter().map(|set| pods(set).len()).sum();
    let room = if recreate {
        if old_pods == 0 && old_total == 0 {
            wanted
        } else {
            0
        }
    } else {
        (wanted + surge).saturating_sub(old_total)
    };
    match new {
        None => create_set(cluster, deployment, &hash, wanted.min(room), sets),
        Some(set) => scale(cluster, set, wanted.min(replicas(set).max(room))),
    }
    let new_size = new.map_or(0, |set| replicas(set));
    let new_ready = new.map_or(0, |set| ready(pods(set)));
    let old_ready: usize = old.iter().map(|set| ready(pods(set))).sum();
    if recreate {
        for set in &old {
            scale(cluster, set, 0);
        }
    } else {
        let least = wanted.saturating_sub(unavailable);
        let held = least + new_size.saturating_sub(new_ready);
        let budget = (old_total + new_size).saturating_sub(held);
        let spare = (old_ready + new_ready).saturating_sub(least);
        shrink(cluster, &old, budget, spare, |set| ready(pods(set)));
    }
    let least = if recreate {
        wanted
    } else {
        wanted.saturating_sub(unavailable)
    };
    let new_pods = new.map_or(0, |set| pods(set).len());
    let done = new_ready == wanted && old_pods == 0 && old_total == 0;
    let now = object::seconds(cluster.now());
    write_status(cluster, &DEPLOYMENTS, deployment, |status| {
        let available = new_ready + old_ready;
        let missing = (new_size + old_total).saturating_sub(available);
        status["replicas"] = json!(new_pods + old_pods);
        status["updatedReplicas"] = json!(new_pods);
        status["readyReplicas"] = json!(available);
        status["availableReplicas"] = json!(available);
        status["unavailableReplicas"] = json!(missing);
        let enough = available >= least;
        let reason = if enough {
            "MinimumReplicasAvailable"
        } else {
            "MinimumReplicasUnavailable"
        };
        condition(status, "Available", enough, reason, &now);
        let reason = if done {
            "NewReplicaSetAvailable"
        } else {
            "ReplicaSetUpdated"
        };
        condition(status, "Progressing", true, reason, &now);
    });
}

/// Takes replicas from the old sets: first those that are not ready anyway,
/// then as many ready ones as can be spared.
fn shrink(
    cluster: &Cluster,
    old: &[&Arc<Value>],
    mut budget: usize,
    mut spare: usize,
    ready: impl Fn(&Value) -> usize,
) {
    let mut sizes: Vec<usize> = old.iter().map(|set| replicas(set)).collect();
    for (set, size) in old.iter().zip(&mut sizes) {
        let broken = size.saturating_sub(ready(set)).min(budget);
        *size -= broken;
        budget -= broken;
    }
    spare = spare.min(budget);
    for (set, size) in old.iter().zip(&mut sizes) {
        let going = spare.min(*size);
        *size -= going;
        spare -= going;
        scale(cluster, set, *size);
    }
}

fn create_set(
    cluster: &Cluster,
    deployment: &Value,
    hash: &str,
    size: usize,
    sets: &[&Arc<Value>],
) {
    let (ns, name) = (object::namespace(deployment), object::name(deployment));
    let revision = |set: &Value| {
        let text = set["metadata"]["annotations"][REVISION]
            .as_str()
            .unwrap_or_default();
        text.parse::<u64>().unwrap_or_default()
    };
    let next = sets
        .iter()
        .map(|set| revision(set))
        .max()
        .unwrap_or_default()
        + 1;
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"][HASH_LABEL] = json!(hash);
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"][HASH_LABEL] = json!(hash);
    let set = json!({
        "metadata": {"name": format!("{name}-{hash}"), "labels": template["metadata"]["labels"],
            "annotations": {REVISION: next.to_string()},
            "ownerReferences": [object::owned_by(&DEPLOYMENTS, deployment)]},
        "spec": {"replicas": size, "selector": selector, "template": template},
    });
    let (kind, reason, text) = match cluster.create_object(&REPLICA_SETS, ns, set) {
        Ok(set) => {
            let _ = cluster.revise(&DEPLOYMENTS, (ns, name), Part::Main, |old| {
                let mut new = old.clone();
                new["metadata"]["annotations"][REVISION] = json!(next.to_string());
                Ok(new)
            });
            let text = format!(
                "Scaled up replica set {} from 0 to {size}",
                object::name(&set)
            );
            ("Normal", "ScalingReplicaSet", text)
        }
        Err(error) => ("Warning", "ReplicaSetCreateError", error.to_string()),
    };
    cluster.event(
        &DEPLOYMENTS,
        deployment,
        (kind, reason),
        &text,
        "deployment-controller",
    );
}

pub(crate) fn condition(status: &mut Value, kind: &str, is: bool, reason: &str, now: &str) {
    let value = if is { "True" } else { "False" };
    let holder = json!({"status": status});
    let before = object::condition(&holder, kind);
    let stamp = |field: &str, same: bool| {
        let old = before.filter(|_| same).and_then(|c| c.get(field)).cloned();
        old.unwrap_or_else(|| json!(now))
    };
    let same_value = before.is_some_and(|c| c["status"] == value);
    let same_all = same_value && before.is_some_and(|c| c["reason"] == reason);
    let fresh = json!({"type": kind, "status": value, "reason": reason,
        "lastTransitionTime": stamp("lastTransitionTime", same_value),
        "lastUpdateTime": stamp("lastUpdateTime", same_all)});
    let mut holder = json!({"status": status.take()});
    object::set_condition(&mut holder, fresh);
    *status = holder["status"].take();
}
