//! DaemonSets, small: a pod for every node that its selector, affinity and
//! tolerations allow, bound there by the scheduler through node affinity; the
//! rolling update goes by maxUnavailable. Not here: maxSurge, OnDelete,
//! minReadySeconds, rollback, revisions as objects.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::resource::{DAEMON_SETS, NODES, PODS};
use super::scheduler::{selected, tolerated};
use super::store::Change;
use super::workloads::{
    FAILED_PACE, all, create_pod, delete_pod, hash, pod_of, pods_of, share, write_status,
};
use super::{Cluster, object};

const REVISION: &str = "controller-revision-hash";

/// Conditions of a node that its daemons stand, by taint and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
];

pub(crate) fn concerns(change: &Change) -> bool {
    ["pods", "daemonsets", "nodes"].contains(&change.resource.plural)
}

/// The status of a new set.
pub(crate) fn nothing_yet() -> Value {
    json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0,
        "numberMisscheduled": 0, "numberReady": 0})
}

/// Brings every DaemonSet one step on. Returns when to look again, if a pod
/// failed just now.
pub(crate) fn pass(cluster: &Cluster) -> Option<Duration> {
    let (pods, nodes) = (all(cluster, &PODS), all(cluster, &NODES));
    let mut again = None;
    for set in all(cluster, &DAEMON_SETS) {
        if !object::is_deleting(&set) && sync(cluster, &set, &pods_of(&pods, &set), &nodes) {
            again = Some(FAILED_PACE);
        }
    }
    again
}

/// Whether failed pods wait for being replaced.
fn sync(cluster: &Cluster, set: &Value, pods: &[Arc<Value>], nodes: &[Arc<Value>]) -> bool {
    let revision = hash(set);
    let is_old = |pod: &Value| pod["metadata"]["labels"][REVISION] != revision.as_str();
    let (mut desired, mut current, mut astray) = (0, 0, 0);
    let mut waits = false;
    for node in nodes {
        let name = object::name(node);
        let pod = pod(set, name, &revision);
        let here: Vec<_> = pods.iter().filter(|pod| target(pod) == name).collect();
        let taints = object::items(node, "/spec/taints");
        let stands = |effects: &[&str]| {
            let mut blocking = taints
                .iter()
                .filter(|t| effects.contains(&object::text(t, "/effect")));
            blocking.all(|t| tolerated(t, object::items(&pod, "/spec/tolerations")))
        };
        let matches = matches(&set["spec"]["template"], node);
        if matches && stands(&["NoSchedule", "NoExecute"]) {
            desired += 1;
            current += usize::from(!here.is_empty());
            if here.is_empty() {
                create_pod(cluster, &DAEMON_SETS, set, pod);
            }
        } else if !(matches && stands(&["NoExecute"])) {
            astray += here.len();
            for pod in here.iter().filter(|pod| !object::is_deleting(pod)) {
                delete_pod(cluster, &DAEMON_SETS, set, pod);
            }
        }
        for pod in here
            .iter()
            .filter(|p| object::is_finished(p) && !object::is_deleting(p))
        {
            let made = object::text(pod, "/metadata/creationTimestamp");
            let age = cluster
                .now()
                .duration_since(made.parse().unwrap_or_default());
            if age.unsigned_abs() < FAILED_PACE {
                waits = true;
            } else {
                delete_pod(cluster, &DAEMON_SETS, set, pod);
            }
        }
    }
    let is_ready = |pod: &&Arc<Value>| object::is_true(pod, "Ready") && !object::is_deleting(pod);
    let ready = pods.iter().filter(is_ready).count();
    let may = share(
        &set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"],
        desired,
        true,
    );
    let spare = may.max(1).saturating_sub(desired.saturating_sub(ready));
    for pod in pods.iter().filter(|p| is_old(p) && is_ready(p)).take(spare) {
        delete_pod(cluster, &DAEMON_SETS, set, pod);
    }
    write_status(cluster, &DAEMON_SETS, set, |status| {
        status["desiredNumberScheduled"] = json!(desired);
        status["currentNumberScheduled"] = json!(current);
        status["numberMisscheduled"] = json!(astray);
        status["numberReady"] = json!(ready);
        status["numberAvailable"] = json!(ready);
        status["numberUnavailable"] = json!(desired.saturating_sub(ready));
        status["updatedNumberScheduled"] = json!(pods.iter().filter(|p| !is_old(p)).count());
    });
    waits
}

/// The node that a pod is on, or is meant for.
fn target(pod: &Value) -> &str {
    let meant = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
    match object::text(pod, "/spec/nodeName") {
        "" => object::text(pod, meant),
        bound => bound,
    }
}

fn matches(template: &Value, node: &Value) -> bool {
    let named = object::text(template, "/spec/nodeName");
    (named.is_empty() || named == object::name(node)) && selected(template, node)
}

fn pod(set: &Value, node: &str, revision: &str) -> Value {
    let mut pod = pod_of(&DAEMON_SETS, set);
    pod["metadata"]["generateName"] = json!(format!("{}-", object::name(set)));
    pod["metadata"]["labels"][REVISION] = json!(revision);
    let mut tolerations = object::items(&pod, "/spec/tolerations").to_vec();
    tolerations.extend(TOLERATED.map(|(key, effect)| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": effect})
    }));
    pod["spec"]["tolerations"] = json!(tolerations);
    let only = json!([{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
        only;
    pod
}
