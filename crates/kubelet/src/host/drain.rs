//! Leaving for good: the pods of a node are evicted, then the node is removed.
//!
//! # Flow
//! For each node that this process leads, all at once: the node is cordoned;
//! its pods are evicted, and whatever comes meanwhile, too; each goes the way of
//! every deletion, until neither Kubernetes nor the remote has any. Then the
//! Node is removed, its Lease goes with it, and last the pods of DaemonSets,
//! which an eviction would only have brought back, are deleted: left behind,
//! they would run at the remote with nobody to end them.
//!
//! # Guarantees
//! Nothing is deleted past a PodDisruptionBudget. A Node with pods on it is
//! kept, cordoned, and the pods are named. All of it ends with [`Drain::within`].
//! Nodes that another process serves are left alone.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    DeleteOptions, ObjectMeta, Preconditions, Status,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vk_provider::{PodKey, Uid};

use super::tend::Tended;
use crate::desired::Desired;
use crate::leadership::{Leadership, Role};
use crate::node::{CALL_DEADLINE, Registration, remove_node};
use crate::pace::named_pause;
use crate::table::Table;

/// How long a drain takes at most where nobody says otherwise: pods have 30 s of
/// grace by default, and the replacements that a budget waits for have to start.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(300);
/// Between looks at what is left.
const LOOK: Duration = Duration::from_millis(500);
/// Before a pod is asked for again, as `kubectl drain` does.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Longest pause that the API server may ask for: budgets change any time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Evictions under way at once: each reads and writes a budget, and two of one
/// budget conflict.
const EVICTIONS_AT_ONCE: usize = 16;
/// Pods and nodes that an error names; the log names all.
const NAMED: usize = 10;

/// What becomes of nodes and pods when the process ends.
#[derive(Clone, Debug, Default)]
pub enum Shutdown {
    /// They stay as they are, for the next process.
    #[default]
    Keep,
    /// They go.
    Drain(Drain),
}

/// How nodes are drained.
#[derive(Clone, Debug)]
pub struct Drain {
    /// All of it ends within this.
    pub within: Duration,
    /// Ends it now, with what is done.
    pub at_once: CancellationToken,
}

/// Nodes that were kept, because the drain did not come to its end.
#[derive(Debug, thiserror::Error)]
pub struct Undrained {
    /// Each with what is left.
    pub nodes: Vec<KeptNode>,
}

/// A node that was not drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNode {
    /// Its name.
    pub node: String,
    /// Why, if not for its pods.
    pub why: Option<String>,
    /// The pods on it, each with the reason.
    pub pods: Vec<(PodKey, String)>,
}

impl fmt::Display for Undrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the drain is not complete")?;
        let mut words = self.nodes.iter().flat_map(|kept| {
            let of_node = kept.why.iter().map(|why| format!("{}: {why}", kept.node));
            let of_pods = kept.pods.iter();
            of_node.chain(of_pods.map(|(pod, why)| format!("{} keeps {pod}: {why}", kept.node)))
        });
        for word in words.by_ref().take(NAMED) {
            write!(f, "; {word}")?;
        }
        match words.count() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// When a drain ends.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    until: Instant,
    at_once: CancellationToken,
}

impl Limit {
    pub(super) fn new(drain: &Drain) -> Self {
        Self {
            until: Instant::now() + drain.within,
            at_once: drain.at_once.clone(),
        }
    }

    /// `None` when the time is over first.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.at_once.cancelled() => None,
            () = sleep_until(self.until) => None,
            done = work => Some(done),
        }
    }
}

/// What the drains of all nodes share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) table: Table,
    pub(super) leadership: Leadership,
    evictions: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(client: Client, table: Table, leadership: Leadership) -> Self {
        Self {
            client,
            table,
            leadership,
            evictions: Arc::new(Semaphore::new(EVICTIONS_AT_ONCE)),
        }
    }
}

/// Drains one node and removes it; what cannot be is given back.
pub(super) async fn drain(
    shared: Shared,
    name: String,
    mut node: Box<Tended>,
    limit: Limit,
) -> Result<(), (Box<Tended>, KeptNode)> {
    let mut emptying = Emptying {
        shared: &shared,
        name: &name,
        cordoned: None,
        asked: HashMap::new(),
    };
    if let Role::Standby { holder } = &*node.role.borrow() {
        info!(
            node = name,
            holder, "another process serves the node; not drained"
        );
        return Ok(());
    }
    if *node.registration.borrow() == Registration::Foreign {
        return Ok(());
    }
    let emptied = limit.within(emptying.run(&node, Part::Evicted)).await;
    if emptied.is_none() {
        let kept = emptying.kept(Part::Evicted);
        return Err((node, kept));
    }
    // First, or it would be registered again.
    node.unregister().await;
    if limit.within(remove(&shared, &name)).await.is_none() {
        let why = Some("it is empty, and could not be removed".to_owned());
        let mut kept = emptying.kept(Part::Daemon);
        kept.why = why;
        return Err((node, kept));
    }
    info!(node = name, "node drained and removed");
    if limit
        .within(emptying.run(&node, Part::Daemon))
        .await
        .is_none()
    {
        let mut kept = emptying.kept(Part::Daemon);
        kept.why = Some("the node is removed, pods of DaemonSets are left".to_owned());
        return Err((node, kept));
    }
    node.end_work().await.end().await;
    Ok(())
}

/// What is done with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is evicted.
    Evicted,
    /// Its DaemonSet would bring it back while there is a node.
    Daemon,
    /// Nothing: it mirrors another.
    Mirror,
}

/// As `kubectl drain --ignore-daemonsets --force --delete-emptydir-data` has it.
fn part(pod: Option<&Desired>) -> Part {
    match pod {
        Some(pod) if pod.mirror => Part::Mirror,
        Some(pod) if pod.daemon => Part::Daemon,
        _ => Part::Evicted,
    }
}

/// What became of asking for a pod's end.
struct Asked {
    why: Option<String>,
    again: Instant,
}

/// A node on its way to emptiness.
struct Emptying<'a> {
    shared: &'a Shared,
    name: &'a str,
    /// The Node that was cordoned, by its UID.
    cordoned: Option<String>,
    asked: HashMap<Uid, Asked>,
}

impl Emptying<'_> {
    /// Until no pod of this part is left.
    async fn run(&mut self, node: &Tended, part: Part) {
        loop {
            let ready = part == Part::Daemon || self.cordon(node).await;
            let left = self.left(part);
            if ready && left.is_empty() && self.shared.table.is_synced(self.name) {
                return;
            }
            if ready {
                self.ask(left, part).await;
            }
            sleep(LOOK).await;
        }
    }

    fn may_write(&self) -> bool {
        self.shared.leadership.may_write(self.name)
    }

    fn left(&self, wanted: Part) -> Vec<(PodKey, Option<Desired>)> {
        let mut left = self.shared.table.pods_of(self.name);
        left.retain(|(_, pod)| part(pod.as_ref()) == wanted);
        left
    }

    /// Keeps the scheduler away; whether that is done. A Node that someone
    /// deleted meanwhile is another one now.
    async fn cordon(&mut self, node: &Tended) -> bool {
        let Registration::Ours(uid) = node.registration.borrow().clone() else {
            return false;
        };
        if self.cordoned.as_ref() == Some(&uid) {
            return true;
        }
        if !self.may_write() {
            return false;
        }
        let api: Api<Node> = Api::all(self.shared.client.clone());
        let patch =
            Patch::Merge(json!({"metadata": {"uid": uid}, "spec": {"unschedulable": true}}));
        let params = PatchParams::default();
        match timeout(CALL_DEADLINE, api.patch(self.name, &params, &patch)).await {
            Ok(Ok(_)) => {
                info!(node = self.name, "node cordoned, to be drained");
                self.cordoned = Some(uid);
                true
            }
            Ok(Err(error)) => {
                warn!(node = self.name, %error, "node not cordoned, trying again");
                false
            }
            Err(_) => {
                warn!(node = self.name, "node not cordoned: no answer");
                false
            }
        }
    }

    /// Asks for the end of those that nobody has asked for.
    async fn ask(&mut self, left: Vec<(PodKey, Option<Desired>)>, part: Part) {
        let now = Instant::now();
        let due = left.into_iter().filter_map(|(key, pod)| {
            let pod = pod?;
            let waits = self.asked.get(&key.uid).is_some_and(|a| a.again > now);
            (!waits && pod.deletion.is_none()).then_some(key)
        });
        let due: Vec<PodKey> = due.collect();
        let asking = due.into_iter().map(|key| self.ask_one(key, part));
        for (key, asked) in futures::future::join_all(asking).await {
            let known = self.asked.get(&key.uid).and_then(|a| a.why.as_ref());
            if let Some(why) = asked.why.as_ref().filter(|why| known != Some(why)) {
                warn!(node = self.name, pod = %key, why, "pod not evicted, trying again");
            }
            self.asked.insert(key.uid, asked);
        }
    }

    async fn ask_one(&self, key: PodKey, part: Part) -> (PodKey, Asked) {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &key.namespace);
        let call = async {
            // Closed never.
            let _permit = self.shared.evictions.acquire().await;
            if !self.may_write() {
                return Some(Err((
                    "this process does not hold the node's lease".to_owned(),
                    None,
                )));
            }
            let call = async {
                match part {
                    Part::Evicted => evict(&api, &key).await,
                    _ => delete(&api, &key).await,
                }
            };
            let ended = timeout(CALL_DEADLINE, call).await.ok()?;
            Some(ended.map_err(|error| (words(&error), named_pause(&error))))
        };
        let (why, pause) = match call.await {
            Some(Ok(())) => (None, None),
            Some(Err((why, pause))) => (Some(why), pause),
            None => (Some("no answer from the API server".to_owned()), None),
        };
        let pause = pause.unwrap_or_default().clamp(ASK_AGAIN, LONGEST_PAUSE);
        let again = Instant::now() + pause;
        (key, Asked { why, again })
    }

    /// What is left when the time is over.
    fn kept(&self, part: Part) -> KeptNode {
        let pods = self.left(part).into_iter().map(|(key, pod)| {
            let asked = self.asked.get(&key.uid).and_then(|a| a.why.clone());
            let why = match pod {
                None => "gone from Kubernetes, and not known to have ended".into(),
                Some(pod) if pod.deletion.is_some() => "it is being deleted".into(),
                Some(_) => asked.unwrap_or_else(|| "its eviction was not asked for yet".into()),
            };
            warn!(node = self.name, pod = %key, why, "pod not drained");
            (key, why)
        });
        let pods = pods.collect();
        let unknown = part == Part::Evicted
            && (self.cordoned.is_none() || !self.shared.table.is_synced(self.name));
        let why = "it could not be cordoned, or its pods are not known";
        KeptNode {
            node: self.name.to_owned(),
            why: unknown.then(|| why.to_owned()),
            pods,
        }
    }
}

/// Removes the Node, however often it takes.
async fn remove(shared: &Shared, name: &str) {
    loop {
        if shared.leadership.may_write(name) {
            match remove_node(shared.client.clone(), name).await {
                Ok(_) => return,
                Err(error) => warn!(node = name, %error, "could not remove the node, trying again"),
            }
        }
        sleep(ASK_AGAIN).await;
    }
}

async fn evict(api: &Api<Pod>, key: &PodKey) -> kube::Result<()> {
    // Not `Api::evict`, whose delete options have a name that the server drops.
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some(key.uid.to_string()),
                resource_version: None,
            }),
            ..DeleteOptions::default()
        }),
    };
    let params = PostParams::default();
    let _: Status = api
        .create_subresource("eviction", &key.name, &params, &eviction)
        .await?;
    Ok(())
}

async fn delete(api: &Api<Pod>, key: &PodKey) -> kube::Result<()> {
    let params = DeleteParams {
        preconditions: Some(kube::api::Preconditions {
            uid: Some(key.uid.to_string()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    api.delete(&key.name, &params).await.map(drop)
}

/// What the server said.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::MIRROR_ANNOTATION;
    use crate::table::tests::pod;

    #[test]
    fn daemons_and_mirrors_are_not_evicted_and_everything_else_is() {
        let of = |field: &str, value: serde_json::Value| {
            let mut pod = serde_json::to_value(pod("p", "u")).unwrap();
            pod["metadata"][field] = value;
            Desired::after(&serde_json::from_value(pod).unwrap(), None).unwrap()
        };
        let owned = |kind: &str, controller: bool| {
            let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u",
                "controller": controller});
            of("ownerReferences", json!([owner]))
        };
        let mirror = of("annotations", json!({MIRROR_ANNOTATION: "hash"}));
        assert_eq!(part(Some(&owned("DaemonSet", true))), Part::Daemon);
        assert_eq!(part(Some(&owned("DaemonSet", false))), Part::Evicted);
        assert_eq!(part(Some(&owned("ReplicaSet", true))), Part::Evicted);
        assert_eq!(part(Some(&of("labels", json!({})))), Part::Evicted);
        assert_eq!(part(Some(&mirror)), Part::Mirror);
        assert_eq!(part(None), Part::Evicted, "it still runs at the remote");
    }

    #[test]
    fn an_incomplete_drain_names_pods_and_counts_the_rest() {
        let pods = (0..12).map(|n| {
            let key = PodKey::new("default", &format!("p{n}"), "u");
            (key, "it is being deleted".to_owned())
        });
        let kept = KeptNode {
            node: "vk-1".into(),
            why: None,
            pods: pods.collect(),
        };
        let said = Undrained { nodes: vec![kept] }.to_string();
        assert!(
            said.contains("vk-1 keeps default/p9: it is being deleted"),
            "{said}"
        );
        assert!(said.ends_with("; and 2 more"), "{said}");
    }
}
