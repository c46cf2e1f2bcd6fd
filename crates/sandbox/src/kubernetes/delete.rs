//! Deleting: grace, preconditions, finalizers, collections and namespaces.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::resource::{ALL, NAMESPACES, PODS, Resource};
use super::status::ApiError;
use super::store::State;
use super::{Cluster, object};

/// `metav1.DeleteOptions`, as far as it is honoured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    #[serde(default)]
    pub(crate) preconditions: Option<Preconditions>,
    #[serde(default)]
    pub(crate) propagation_policy: Option<String>,
    #[serde(default)]
    pub(crate) orphan_dependents: Option<bool>,
    #[serde(default)]
    pub(crate) dry_run: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// What a delete left.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// Still there, marked; or a pod, which is answered as it was.
    Object(Arc<Value>),
    /// Gone at once.
    Gone { uid: String },
}

/// The new deletion metadata of an object.
#[derive(Debug, PartialEq)]
enum Step {
    /// Nothing changes: a longer grace period than the pending one.
    Pending,
    /// Marked with this time and grace.
    Mark { at: Timestamp, grace: i64 },
    /// Gone, unless finalizers hold it.
    Remove,
}

impl Cluster {
    pub(crate) fn delete_object(
        &self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        // As the real server: a Job's pods outlive it unless told otherwise.
        let default = if resource.plural == "jobs" {
            "Orphan"
        } else {
            "Background"
        };
        let policy = options.propagation_policy.as_deref().unwrap_or(default);
        if policy != "Background" || options.orphan_dependents == Some(true) {
            let verb = format!("delete with propagationPolicy {policy}");
            return Err(ApiError::not_implemented(&verb, &resource.qualified()));
        }
        let now = self.now();
        self.store()
            .write(|state| delete(state, resource, ns, name, options, now))
    }
}

impl Cluster {
    /// `pods/eviction`. There are no PodDisruptionBudgets here: a rule of
    /// [`crate::faults`] that answers POSTs to `/eviction` with 429 is one.
    pub(crate) fn evict(&self, ns: &str, name: &str, eviction: &Value) -> Result<(), ApiError> {
        let given = object::name(eviction);
        if !given.is_empty() && given != name {
            return Err(ApiError::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let options: DeleteOptions = match &eviction["deleteOptions"] {
            Value::Null => DeleteOptions::default(),
            options => serde_json::from_value(options.clone())
                .map_err(|error| ApiError::bad_request(format!("DeleteOptions: {error}")))?,
        };
        if options.dry_run.as_ref().is_some_and(|d| !d.is_empty()) {
            return Err(ApiError::not_implemented(
                "dry run of POST",
                "pods/eviction",
            ));
        }
        self.delete_object(&PODS, ns, name, &options).map(drop)
    }
}

pub(crate) fn delete(
    state: &mut State,
    resource: &'static Resource,
    ns: &str,
    name: &str,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Deleted, ApiError> {
    let old = state
        .get(resource, ns, name)
        .ok_or_else(|| ApiError::not_found(resource, name))?;
    let old = Arc::clone(old);
    check(resource, &old, options)?;
    if resource.plural == "namespaces" {
        return Ok(Deleted::Object(end_namespace(state, &old, now)));
    }
    let step = if resource.plural == "pods" {
        pod_step(&old, options.grace_period_seconds, now)
    } else {
        Step::Remove
    };
    let mut new = Value::clone(&old);
    match step {
        Step::Pending => Ok(Deleted::Object(old)),
        Step::Mark { at, grace } => {
            mark(&mut new, at, grace);
            Ok(Deleted::Object(state.put(resource, new)))
        }
        Step::Remove => {
            let held = !object::items(&old, "/metadata/finalizers").is_empty();
            let marked = object::is_deleting(&old)
                && object::int(&old, "/metadata/deletionGracePeriodSeconds") == Some(0);
            let last = if held && marked {
                old
            } else if held || resource.plural == "pods" {
                mark(&mut new, asked_at(&old, now), 0);
                if held {
                    state.put(resource, new)
                } else {
                    // As the real server: the last state shows grace 0.
                    state.put(resource, new);
                    remove(state, resource, ns, name).unwrap_or(old)
                }
            } else {
                remove(state, resource, ns, name).unwrap_or(old)
            };
            if held || shown_when_gone(resource) {
                Ok(Deleted::Object(last))
            } else {
                let uid = object::uid(&last).to_owned();
                Ok(Deleted::Gone { uid })
            }
        }
    }
}

fn check(resource: &Resource, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let Some(conditions) = &options.preconditions else {
        return Ok(());
    };
    let refuse = |what: &str, wanted: &str, is: &str, why: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {why}"
        );
        Err(ApiError::conflict(
            resource.kind,
            resource,
            object::name(object),
            &why,
        ))
    };
    let uid = object::uid(object);
    if let Some(wanted) = conditions.uid.as_deref().filter(|w| *w != uid) {
        return refuse("UID", wanted, uid, "deleted and then recreated");
    }
    let version = object::text(object, "/metadata/resourceVersion");
    if let Some(wanted) = conditions
        .resource_version
        .as_deref()
        .filter(|w| *w != version)
    {
        return refuse("ResourceVersion", wanted, version, "modified");
    }
    Ok(())
}

/// The kubelet's handshake, the API server's side of it.
fn pod_step(pod: &Value, asked: Option<i64>, now: Timestamp) -> Step {
    let asked = asked.map(|s| if s < 0 { 1 } else { s });
    if object::is_deleting(pod) {
        let pending = object::int(pod, "/metadata/deletionGracePeriodSeconds").unwrap_or_default();
        return match asked {
            _ if pending == 0 => Step::Remove,
            Some(0) => Step::Remove,
            Some(shorter) if shorter < pending => {
                let left = Duration::from_secs(shorter.unsigned_abs());
                Step::Mark {
                    at: asked_at(pod, now).checked_add(left).unwrap_or(now),
                    grace: shorter,
                }
            }
            _ => Step::Pending,
        };
    }
    let unscheduled = object::text(pod, "/spec/nodeName").is_empty();
    if unscheduled || object::is_finished(pod) {
        return Step::Remove;
    }
    let grace = asked
        .or(object::int(pod, "/spec/terminationGracePeriodSeconds"))
        .map_or(0, |s| if s < 0 { 1 } else { s });
    if grace == 0 {
        return Step::Remove;
    }
    let wait = Duration::from_secs(grace.unsigned_abs());
    Step::Mark {
        at: now.checked_add(wait).unwrap_or(Timestamp::MAX),
        grace,
    }
}

/// When the first delete was asked for: grace is counted from there.
fn asked_at(object: &Value, now: Timestamp) -> Timestamp {
    let pending = object::int(object, "/metadata/deletionGracePeriodSeconds").unwrap_or_default();
    object::text(object, "/metadata/deletionTimestamp")
        .parse::<Timestamp>()
        .ok()
        .and_then(|at| {
            at.checked_sub(Duration::from_secs(pending.unsigned_abs()))
                .ok()
        })
        .unwrap_or(now)
}

fn mark(object: &mut Value, at: Timestamp, grace: i64) {
    let first = !object::is_deleting(object);
    let metadata = &mut object["metadata"];
    metadata["deletionTimestamp"] = json!(object::seconds(at));
    metadata["deletionGracePeriodSeconds"] = json!(grace);
    if let Some(generation) = metadata["generation"].as_i64()
        && first
    {
        metadata["generation"] = json!(generation + 1);
    }
}

/// Removes an object, and its namespace when that was waiting for it.
pub(crate) fn remove(
    state: &mut State,
    resource: &'static Resource,
    ns: &str,
    name: &str,
) -> Option<Arc<Value>> {
    let last = state.remove(resource, ns, name);
    if resource.namespaced {
        finish_namespace(state, ns);
    }
    last
}

fn end_namespace(state: &mut State, namespace: &Value, now: Timestamp) -> Arc<Value> {
    let mut new = namespace.clone();
    if !object::is_deleting(namespace) {
        new["metadata"]["deletionTimestamp"] = json!(object::seconds(now));
        new["status"]["phase"] = json!("Terminating");
    }
    let name = object::name(namespace).to_owned();
    let stored = state.put(&NAMESPACES, new);
    for resource in ALL.into_iter().filter(|r| r.namespaced) {
        let names: Vec<String> = state
            .list(resource, Some(&name))
            .map(|(key, _)| key.1.clone())
            .collect();
        for each in names {
            // It was listed a moment ago under the same lock; it can only be
            // gone because its namespace is, which is what is wanted.
            let _ = delete(
                state,
                resource,
                &name,
                &each,
                &DeleteOptions::default(),
                now,
            );
        }
    }
    finish_namespace(state, &name);
    stored
}

fn finish_namespace(state: &mut State, name: &str) {
    let ending = state
        .get(&NAMESPACES, "", name)
        .is_some_and(|n| object::is_deleting(n));
    let empty = ALL
        .into_iter()
        .filter(|r| r.namespaced)
        .all(|r| state.list(r, Some(name)).next().is_none());
    if ending && empty {
        state.remove(&NAMESPACES, "", name);
    }
}

impl Deleted {
    /// The body of the answer.
    pub(crate) fn body(&self, resource: &Resource, name: &str) -> Value {
        match self {
            Self::Object(object) => Value::clone(object),
            Self::Gone { uid } => {
                let mut details = json!({"name": name, "kind": resource.plural, "uid": uid});
                if !resource.group.is_empty() {
                    details["group"] = json!(resource.group);
                }
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Success", "details": details})
            }
        }
    }
}

/// Whether a delete answers with the object's last state, not with a Status.
fn shown_when_gone(resource: &Resource) -> bool {
    matches!(resource.plural, "pods" | "serviceaccounts" | "services")
}

/// Whether the resource's objects may be deleted as a collection.
pub(crate) fn in_collections(resource: &Resource) -> bool {
    resource.plural != NAMESPACES.plural
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod(node: &str, phase: &str) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30},
            "status": {"phase": phase}})
    }

    #[test]
    fn pods_that_run_nowhere_go_at_once_whatever_grace_is_asked() {
        assert_eq!(pod_step(&pod("", "Pending"), Some(60), now()), Step::Remove);
        for phase in ["Failed", "Succeeded"] {
            assert_eq!(pod_step(&pod("n", phase), Some(60), now()), Step::Remove);
        }
        assert_eq!(pod_step(&pod("n", "Running"), Some(0), now()), Step::Remove);
    }

    #[test]
    fn a_second_delete_shortens_the_grace_and_never_extends_it() {
        let mut pod = pod("n", "Running");
        let Step::Mark { at, grace: 30 } = pod_step(&pod, None, now()) else {
            panic!("the pod's own grace period counts");
        };
        assert_eq!(object::seconds(at), "2026-01-01T00:00:30Z");
        mark(&mut pod, at, 30);
        assert_eq!(pod_step(&pod, Some(40), now()), Step::Pending);
        assert_eq!(pod_step(&pod, None, now()), Step::Pending);
        let Step::Mark { at, grace: 10 } = pod_step(&pod, Some(10), now()) else {
            panic!("ten is less than thirty");
        };
        assert_eq!(object::seconds(at), "2026-01-01T00:00:10Z");
        assert_eq!(pod_step(&pod, Some(0), now()), Step::Remove);
    }
}
