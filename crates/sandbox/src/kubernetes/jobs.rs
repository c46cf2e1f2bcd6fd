//! Jobs, small: completions, parallelism, backoffLimit, podFailurePolicy. Not
//! here: indexed Jobs, suspending, deadlines, success policies, counting
//! restarts of `OnFailure`, clean-up after a time.
//!
//! Every pod carries the tracking finalizer until its end is counted, as in a
//! real cluster: a pod that is deleted first is not lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resource::{JOBS, PODS};
use super::store::Change;
use super::update::Part;
use super::workloads::{
    all, condition, count, create_pod, delete_pod, pod_of, pods_of, ready, write_status,
};
use super::{Cluster, object};

const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The wait before a failed pod is replaced, doubled for each failure in a row.
const BACK_OFF: Duration = Duration::from_secs(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(600);

/// Failures in a row, and the last one, by Job.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    failures: HashMap<String, (u32, Timestamp)>,
}

/// What the failure policy says about a failed pod.
#[derive(Debug, PartialEq)]
enum Verdict {
    Count,
    Ignore,
    FailJob(String),
}

pub(crate) fn concerns(change: &Change) -> bool {
    ["pods", "jobs"].contains(&change.resource.plural)
}

impl Jobs {
    /// Brings every Job one step on. Returns when to look again, if a
    /// replacement has to wait.
    pub(crate) fn pass(&mut self, cluster: &Cluster) -> Option<Duration> {
        let (pods, jobs) = (all(cluster, &PODS), all(cluster, &JOBS));
        let live: HashMap<&str, &Arc<Value>> = jobs
            .iter()
            .filter(|job| !object::is_deleting(job) && !is_over(job))
            .map(|job| (object::uid(job), job))
            .collect();
        self.failures
            .retain(|uid, _| live.contains_key(uid.as_str()));
        for pod in pods.iter().filter(|pod| is_tracked(pod)) {
            let owner = object::controller(pod).map(|owner| object::text(owner, "/uid"));
            if owner.is_none_or(|uid| !live.contains_key(uid)) {
                untrack(cluster, pod);
            }
        }
        let waits = live
            .values()
            .filter_map(|job| self.sync(cluster, job, &pods_of(&pods, job)));
        waits.min()
    }

    fn sync(&mut self, cluster: &Cluster, job: &Value, pods: &[Arc<Value>]) -> Option<Duration> {
        let spec = &job["spec"];
        let number = |at: &str| count(object::int(job, at));
        let (mut succeeded, mut failed) = (number("/status/succeeded"), number("/status/failed"));
        let mut ending = ending(job);
        let only_failed = spec["podReplacementPolicy"] == "Failed";
        for pod in pods.iter().filter(|pod| is_tracked(pod)) {
            if object::text(pod, "/status/phase") == "Succeeded" {
                succeeded += 1;
                self.failures.remove(object::uid(job));
            } else if object::is_finished(pod) || object::is_deleting(pod) && !only_failed {
                match judge(&spec["podFailurePolicy"], pod) {
                    Verdict::Ignore => {}
                    Verdict::Count => failed += 1,
                    Verdict::FailJob(message) => {
                        failed += 1;
                        ending.get_or_insert(("FailureTarget", "PodFailurePolicy", message));
                    }
                }
                let start = (0, Timestamp::UNIX_EPOCH);
                let record = self
                    .failures
                    .entry(object::uid(job).into())
                    .or_insert(start);
                *record = (record.0 + 1, cluster.now());
            } else {
                continue;
            }
            untrack(cluster, pod);
        }
        let running: Vec<_> = pods
            .iter()
            .filter(|pod| !object::is_finished(pod))
            .cloned()
            .collect();
        let (terminating, active): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|pod| object::is_deleting(pod));
        let completions = object::int(spec, "/completions").map(|n| count(Some(n)));
        let complete = match completions {
            Some(completions) => succeeded >= completions,
            None => succeeded > 0 && active.is_empty(),
        };
        if ending.is_none() && failed > number("/spec/backoffLimit") {
            let message = "Job has reached the specified backoff limit";
            ending = Some(("FailureTarget", "BackoffLimitExceeded", message.into()));
        } else if ending.is_none() && complete {
            let message = "Reached expected number of succeeded pods";
            ending = Some(("SuccessCriteriaMet", "CompletionsReached", message.into()));
        }
        let wait = self.back_off(cluster, job);
        let mut present = active.len();
        let wanted = match (&ending, completions) {
            (Some(_), _) => 0,
            (None, Some(completions)) => number("/spec/parallelism").min(completions - succeeded),
            (None, None) if succeeded > 0 => active.len(),
            (None, None) => number("/spec/parallelism"),
        };
        for pod in active.iter().skip(wanted) {
            delete_pod(cluster, &JOBS, job, pod);
            present -= 1;
        }
        let held = if only_failed { terminating.len() } else { 0 };
        let missing = wanted.saturating_sub(present + held);
        if wait.is_none() {
            for _ in 0..missing {
                present += usize::from(create_pod(cluster, &JOBS, job, pod(job)));
            }
        }
        let over = active.is_empty() && terminating.is_empty();
        let now = object::seconds(cluster.now());
        write_status(cluster, &JOBS, job, |status| {
            if status["startTime"].is_null() {
                status["startTime"] = json!(now);
            }
            status["active"] = json!(present);
            status["ready"] = json!(ready(&active));
            status["terminating"] = json!(terminating.len());
            status["succeeded"] = json!(succeeded);
            status["failed"] = json!(failed);
            if let Some((target, reason, message)) = &ending {
                conclude(status, target, reason, message, &now);
                let last = if *target == "FailureTarget" {
                    "Failed"
                } else {
                    "Complete"
                };
                if over {
                    conclude(status, last, reason, message, &now);
                    if last == "Complete" {
                        status["completionTime"] = json!(now);
                    }
                }
            }
        });
        wait.filter(|_| missing > 0)
    }

    /// What is left of the wait after a failure.
    fn back_off(&self, cluster: &Cluster, job: &Value) -> Option<Duration> {
        let (failures, at) = self.failures.get(object::uid(job))?;
        let doubled = BACK_OFF.saturating_mul(1 << (failures - 1).min(16));
        let passed = cluster.now().duration_since(*at).unsigned_abs();
        let left = doubled.min(BACK_OFF_MAX).saturating_sub(passed);
        (!left.is_zero()).then_some(left)
    }
}

fn is_over(job: &Value) -> bool {
    object::is_true(job, "Complete") || object::is_true(job, "Failed")
}

/// The end that an earlier pass has decided on.
fn ending(job: &Value) -> Option<(&'static str, &'static str, String)> {
    [
        ("FailureTarget", "PodFailurePolicy"),
        ("FailureTarget", "BackoffLimitExceeded"),
        ("SuccessCriteriaMet", "CompletionsReached"),
    ]
    .into_iter()
    .find_map(|(kind, reason)| {
        let found = object::condition(job, kind).filter(|c| c["reason"] == reason)?;
        Some((kind, reason, object::text(found, "/message").to_owned()))
    })
}

fn conclude(status: &mut Value, kind: &str, reason: &str, message: &str, now: &str) {
    condition(status, kind, true, reason, now);
    let all = status["conditions"].as_array_mut().into_iter().flatten();
    for mine in all.filter(|c| c["type"] == kind) {
        mine["message"] = json!(message);
    }
}

fn is_tracked(pod: &Value) -> bool {
    object::items(pod, "/metadata/finalizers").contains(&json!(TRACKING))
}

fn untrack(cluster: &Cluster, pod: &Value) {
    let at = (object::namespace(pod), object::name(pod));
    // Gone meanwhile: then nothing holds it.
    let _ = cluster.revise(&PODS, at, Part::Main, |old| {
        let mut new = old.clone();
        if let Some(all) = new["metadata"]["finalizers"].as_array_mut() {
            all.retain(|finalizer| finalizer != TRACKING);
        }
        Ok(new)
    });
}

/// The first rule that matches decides.
fn judge(policy: &Value, pod: &Value) -> Verdict {
    for (index, rule) in object::items(policy, "/rules").iter().enumerate() {
        let Some(what) = by_exit_code(&rule["onExitCodes"], pod)
            .or_else(|| by_condition(object::items(rule, "/onPodConditions"), pod))
        else {
            continue;
        };
        return match object::text(rule, "/action") {
            "Ignore" => Verdict::Ignore,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn by_exit_code(rule: &Value, pod: &Value) -> Option<String> {
    let only = object::text(rule, "/containerName");
    let values = rule["values"].as_array()?;
    let is_in = rule["operator"] == "In";
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .flat_map(|list| object::items(pod, list))
        .filter(|status| only.is_empty() || status["name"] == only)
        .find_map(|status| {
            let code = object::int(status, "/state/terminated/exitCode").filter(|c| *c != 0)?;
            (values.contains(&json!(code)) == is_in).then(|| {
                let (ns, name) = (object::namespace(pod), object::name(pod));
                let container = object::text(status, "/name");
                format!("Container {container} for pod {ns}/{name} failed with exit code {code}")
            })
        })
}

fn by_condition(patterns: &[Value], pod: &Value) -> Option<String> {
    let found = patterns.iter().find(|pattern| {
        let have = object::condition(pod, object::text(pattern, "/type"));
        have.is_some_and(|c| c["status"] == *pattern.get("status").unwrap_or(&json!("True")))
    })?;
    let (ns, name) = (object::namespace(pod), object::name(pod));
    let kind = object::text(found, "/type");
    Some(format!("Pod {ns}/{name} has condition {kind}"))
}

fn pod(job: &Value) -> Value {
    let mut pod = pod_of(&JOBS, job);
    let (name, uid) = (object::name(job), object::uid(job));
    for (label, value) in [("job-name", name), ("controller-uid", uid)] {
        pod["metadata"]["labels"][label] = json!(value);
        pod["metadata"]["labels"][format!("batch.kubernetes.io/{label}")] = json!(value);
    }
    pod["metadata"]["finalizers"] = json!([TRACKING]);
    pod["metadata"]["generateName"] = json!(format!("{name}-"));
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i64) -> Value {
        json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"phase": "Failed",
            "conditions": [{"type": "DisruptionTarget", "status": "True"}],
            "containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": code}}}]}})
    }

    fn rules(rules: &Value) -> Value {
        json!({"rules": rules})
    }

    #[test]
    fn the_first_rule_that_matches_a_failed_pod_decides() {
        let exit = |operator: &str, container: &str| {
            json!({"action": "FailJob", "onExitCodes":
                {"containerName": container, "operator": operator, "values": [42]}})
        };
        let message =
            "Container app for pod n/p failed with exit code 42 matching FailJob rule at index 0";
        let fail = Verdict::FailJob(message.into());
        assert_eq!(
            judge(&rules(&json!([exit("In", "app")])), &failed(42)),
            fail
        );
        assert_eq!(
            judge(&rules(&json!([exit("In", "app")])), &failed(1)),
            Verdict::Count
        );
        assert_eq!(
            judge(&rules(&json!([exit("NotIn", "app")])), &failed(42)),
            Verdict::Count
        );
        assert_eq!(
            judge(&rules(&json!([exit("In", "other")])), &failed(42)),
            Verdict::Count
        );
        let ignore = json!({"action": "Ignore", "onPodConditions":
            [{"type": "DisruptionTarget", "status": "True"}]});
        let both = rules(&json!([ignore, exit("In", "")]));
        assert_eq!(judge(&both, &failed(42)), Verdict::Ignore);
        assert_eq!(judge(&Value::Null, &failed(42)), Verdict::Count);
    }

    #[test]
    fn a_container_that_succeeded_matches_no_exit_code() {
        let any =
            json!([{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [42]}}]);
        assert_eq!(judge(&rules(&any), &failed(0)), Verdict::Count);
    }
}
