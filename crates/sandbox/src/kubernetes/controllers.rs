//! The controllers beside the API: one task each, woken by the store's bell
//! and ended when [`Controllers`] is dropped.
//!
//! | task | what it does |
//! |---|---|
//! | scheduler | binds pods to nodes |
//! | workloads | Deployments and ReplicaSets |
//! | statefulsets, daemonsets, jobs | what their names say |
//! | nodes | the not-ready taint follows the Ready condition |
//! | garbage | what all owners left is deleted |

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::create::NOT_READY_TAINT;
use super::delete::DeleteOptions;
use super::jobs::Jobs;
use super::resource::{ALL, NODES, Resource};
use super::scheduler::{self, Scheduler};
use super::store::{Change, State};
use super::update::Part;
use super::{Cluster, daemonsets, jobs, object, statefulsets, workloads};

/// The controllers run while this lives.
#[derive(Debug)]
#[must_use = "the controllers stop when this is dropped"]
pub struct Controllers {
    _running: DropGuard,
}

impl Cluster {
    /// Starts the scheduler, the controllers of workloads, the not-ready taint
    /// and the garbage collection, on the current runtime.
    pub fn start_controllers(&self) -> Controllers {
        let stop = CancellationToken::new();
        let mut placing = Scheduler::default();
        tokio::spawn(run(
            self.clone(),
            stop.clone(),
            scheduler::concerns,
            move |cluster| {
                placing.pass(cluster);
                None
            },
        ));
        tokio::spawn(run(
            self.clone(),
            stop.clone(),
            workloads::concerns,
            workloads::pass,
        ));
        tokio::spawn(run(
            self.clone(),
            stop.clone(),
            statefulsets::concerns,
            |cluster| {
                statefulsets::pass(cluster);
                None
            },
        ));
        tokio::spawn(run(
            self.clone(),
            stop.clone(),
            daemonsets::concerns,
            daemonsets::pass,
        ));
        let mut jobs = Jobs::default();
        tokio::spawn(run(
            self.clone(),
            stop.clone(),
            jobs::concerns,
            move |cluster| jobs.pass(cluster),
        ));
        let about_nodes = |change: &Change| change.resource.plural == "nodes" && !change.deleted;
        tokio::spawn(run(self.clone(), stop.clone(), about_nodes, |cluster| {
            taint_nodes(cluster);
            None
        }));
        // Also what is new: its owner may have gone while it was made.
        let about_owners = |change: &Change| {
            let owned = !object::items(&change.new, "/metadata/ownerReferences").is_empty();
            change.old.is_none() && owned || change.deleted && change.resource.plural != "events"
        };
        tokio::spawn(run(self.clone(), stop.clone(), about_owners, |cluster| {
            collect(cluster);
            None
        }));
        Controllers {
            _running: stop.drop_guard(),
        }
    }
}

/// Calls `pass` at the start, after every change that concerns it, and when
/// the time it asked for has come.
async fn run(
    cluster: Cluster,
    stop: CancellationToken,
    concerns: impl Fn(&Change) -> bool,
    mut pass: impl FnMut(&Cluster) -> Option<Duration>,
) {
    let mut news = cluster.store().changes();
    let (mut seen, mut look) = (0, true);
    loop {
        news.mark_unchanged();
        let (revision, changes) = cluster
            .store()
            .read(|state| (state.revision(), state.since(seen)));
        // A history that does not reach back hides changes: look at all.
        look |= changes.map_or(true, |changes| changes.iter().any(|c| concerns(c)));
        seen = revision;
        let again = if look { pass(&cluster) } else { None };
        look = false;
        let later = async {
            match again {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            end = news.changed() => if end.is_err() { return },
            () = later => look = true,
        }
        // A pass that waits for time is not forgotten when news comes first.
        look |= again.is_some();
    }
}

/// The taint that the real node lifecycle controller keeps in step with Ready.
fn taint_nodes(cluster: &Cluster) {
    let nodes: Vec<_> = cluster.store().read(|state| {
        state
            .list(&NODES, None)
            .map(|(_, node)| node.clone())
            .collect()
    });
    for node in nodes {
        let ready = object::is_true(&node, "Ready");
        let is_ours =
            |taint: &Value| taint["key"] == NOT_READY_TAINT && taint["effect"] == "NoSchedule";
        let tainted = object::items(&node, "/spec/taints").iter().any(is_ours);
        if ready != tainted {
            continue;
        }
        // The node may be gone by now; then there is nothing to taint.
        let _ = cluster.revise(&NODES, ("", object::name(&node)), Part::Main, |old| {
            let mut new = old.clone();
            let mut taints = object::items(old, "/spec/taints").to_vec();
            taints.retain(|taint| !is_ours(taint));
            if !ready {
                taints.push(json!({"key": NOT_READY_TAINT, "effect": "NoSchedule"}));
            }
            new["spec"]["taints"] = json!(taints);
            Ok(new)
        });
    }
}

/// Deletes what has owners, all of them gone.
fn collect(cluster: &Cluster) {
    let orphans: Vec<(&'static Resource, String, String)> = cluster.store().read(|state| {
        ALL.into_iter()
            .flat_map(|resource| {
                state
                    .list(resource, None)
                    .filter(|(_, object)| is_orphan(state, object))
                    .map(move |(key, _)| (resource, key.0.clone(), key.1.clone()))
            })
            .collect()
    });
    for (resource, ns, name) in orphans {
        // Somebody else may have been faster.
        let _ = cluster.delete_object(resource, &ns, &name, &DeleteOptions::default());
    }
}

fn is_orphan(state: &State, object: &Value) -> bool {
    let owners = object::items(object, "/metadata/ownerReferences");
    !owners.is_empty()
        && !object::is_deleting(object)
        && owners.iter().all(|owner| {
            let kind = object::text(owner, "/kind");
            // An owner of a kind that is not served here cannot be looked up: it
            // counts as there.
            ALL.into_iter()
                .find(|r| r.kind == kind)
                .is_some_and(|resource| {
                    let ns = if resource.namespaced {
                        object::namespace(object)
                    } else {
                        ""
                    };
                    let found = state.get(resource, ns, object::text(owner, "/name"));
                    found.is_none_or(|found| owner["uid"] != found["metadata"]["uid"])
                })
        })
}
