//! StatefulSets, small: pods `name-0…` one after the other, each when the one
//! before it is ready; down and through a rolling update from the last to the
//! first. Not here: Parallel, partitions, OnDelete, volume claims, rollback,
//! revisions as objects; a pod lost during a rollout comes back new at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::resource::{PODS, STATEFUL_SETS};
use super::store::Change;
use super::workloads::{
    all, create_pod, delete_pod, hash, pod_of, pods_of, ready, replicas, write_status,
};
use super::{Cluster, object};

const REVISION: &str = "controller-revision-hash";

/// The next step of one set.
#[derive(Debug, PartialEq)]
enum Step {
    /// All is as it should be, or waits for a pod.
    None,
    /// The pod of this ordinal is missing.
    Create(usize),
    /// This pod ended, is too many, or is of an older revision.
    Delete(usize),
}

pub(crate) fn concerns(change: &Change) -> bool {
    ["pods", "statefulsets"].contains(&change.resource.plural)
}

/// Brings every StatefulSet one step on.
pub(crate) fn pass(cluster: &Cluster) {
    let pods = all(cluster, &PODS);
    for set in all(cluster, &STATEFUL_SETS) {
        if !object::is_deleting(&set) {
            sync(cluster, &set, &pods_of(&pods, &set));
        }
    }
}

fn sync(cluster: &Cluster, set: &Value, pods: &[Arc<Value>]) {
    let (name, wanted) = (object::name(set), replicas(set));
    let revision = format!("{name}-{}", hash(set));
    let by_ordinal: BTreeMap<usize, Arc<Value>> = pods
        .iter()
        .filter_map(|pod| Some((ordinal(name, object::name(pod))?, Arc::clone(pod))))
        .collect();
    match next(&by_ordinal, wanted, &revision) {
        Step::None => {}
        Step::Create(index) => {
            create_pod(cluster, &STATEFUL_SETS, set, pod(set, index, &revision));
        }
        Step::Delete(index) => delete_pod(cluster, &STATEFUL_SETS, set, &by_ordinal[&index]),
    }
    let updated: Vec<_> = pods
        .iter()
        .filter(|pod| is_of(pod, &revision))
        .cloned()
        .collect();
    let done = updated.len() == wanted && pods.len() == wanted && ready(pods) == wanted;
    write_status(cluster, &STATEFUL_SETS, set, |status| {
        let first = object::text(status, "/currentRevision").is_empty();
        if first || done {
            status["currentRevision"] = json!(revision);
        }
        let current = object::text(status, "/currentRevision").to_owned();
        let old = pods.iter().filter(|pod| is_of(pod, &current));
        status["currentReplicas"] = json!(old.count());
        status["updateRevision"] = json!(revision);
        status["updatedReplicas"] = json!(updated.len());
        status["replicas"] = json!(pods.len());
        status["readyReplicas"] = json!(ready(pods));
        status["availableReplicas"] = json!(ready(pods));
    });
}

/// Never more than one pod at a time, and none while another is not ready.
fn next(pods: &BTreeMap<usize, Arc<Value>>, wanted: usize, revision: &str) -> Step {
    for index in 0..wanted {
        match pods.get(&index) {
            None => return Step::Create(index),
            Some(pod) if object::is_deleting(pod) => return Step::None,
            Some(pod) if object::is_finished(pod) => return Step::Delete(index),
            Some(pod) if !object::is_true(pod, "Ready") => return Step::None,
            Some(_) => {}
        }
    }
    let surplus = pods.range(wanted..).next_back();
    let old = pods.range(..wanted).rfind(|(_, pod)| !is_of(pod, revision));
    match surplus.or(old) {
        Some((index, pod)) if !object::is_deleting(pod) => Step::Delete(*index),
        _ => Step::None,
    }
}

fn is_of(pod: &Value, revision: &str) -> bool {
    pod["metadata"]["labels"][REVISION] == revision
}

fn ordinal(set: &str, pod: &str) -> Option<usize> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

fn pod(set: &Value, index: usize, revision: &str) -> Value {
    let mut pod = pod_of(&STATEFUL_SETS, set);
    let name = format!("{}-{index}", object::name(set));
    let labels = &mut pod["metadata"]["labels"];
    labels[REVISION] = json!(revision);
    labels["statefulset.kubernetes.io/pod-name"] = json!(name);
    labels["apps.kubernetes.io/pod-index"] = json!(index.to_string());
    pod["spec"]["hostname"] = json!(name);
    if let Some(service) = set["spec"].get("serviceName") {
        pod["spec"]["subdomain"] = service.clone();
    }
    pod["metadata"]["name"] = json!(name);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pods by revision and readiness: `a` ready, `A` not, `-` going, `.` none.
    fn pods(text: &str) -> BTreeMap<usize, Arc<Value>> {
        let pod = |c: char| {
            let ready = if c.is_lowercase() { "True" } else { "False" };
            let mut pod = json!({"metadata": {"labels": {REVISION: c.to_ascii_lowercase().to_string()}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            if c == '-' {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Arc::new(pod)
        };
        let there = text.chars().enumerate().filter(|(_, c)| *c != '.');
        there.map(|(index, c)| (index, pod(c))).collect()
    }

    #[test]
    fn one_pod_moves_at_a_time_upwards_to_begin_and_downwards_to_end() {
        for (have, step) in [
            ("", Step::Create(0)),
            ("A", Step::None),
            ("a", Step::Create(1)),
            ("a.a", Step::Create(1)),
            ("aaa", Step::None),
            ("aaaa", Step::Delete(3)),
            ("aAaa", Step::None),
            ("bbb", Step::Delete(2)),
            ("bba", Step::Delete(1)),
            ("bbA", Step::None),
            ("bb-", Step::None),
            ("baa", Step::Delete(0)),
        ] {
            assert_eq!(next(&pods(have), 3, "a"), step, "{have}");
        }
    }

    #[test]
    fn only_the_set_and_a_number_make_an_ordinal() {
        assert_eq!(ordinal("db", "db-12"), Some(12));
        assert_eq!(ordinal("db", "db-x"), None);
        assert_eq!(ordinal("db", "dbx-1"), None);
    }
}
