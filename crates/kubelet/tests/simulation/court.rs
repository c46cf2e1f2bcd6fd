//! What must hold at each step. The court sees every change of a pod in
//! Kubernetes, knows who made it, and hears from the remote what ran; it notes
//! what breaks a rule.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::Response;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;
use tokio::time::Instant;
use vk_sandbox::kubernetes::Cluster;

use crate::life::Life;
use crate::remote::{ELSEWHERE, LOST_PLACE};
use crate::world::{NODE, REFUSED};

/// A condition that is not ours.
pub const FOREIGN: &str = "example.com/checked";
/// Requests of one process that no run comes near to: it never rests.
const RESTLESS: usize = 20_000;
/// A renewal lets its holder write for this long.
const HELD: Duration = Duration::from_secs(30);
/// Failures of one pod's calls within a minute. The back-off begins with 10 s; a
/// pod that is changed, deleted or heard of meanwhile is asked for once more.
const HASTY: usize = 12;
/// Lines of the trace that a verdict shows.
const SHOWN: usize = 120;

/// Who changed something in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person or a controller: the simulation.
    User,
    /// The process under test.
    Us,
}

/// What really became of one pod.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// Containers started for it at the remote.
    pub starts: u32,
    /// Something of it runs or is about to.
    pub alive: bool,
    /// It ended at the remote, for good.
    pub ended: bool,
    /// The remote lost it.
    pub lost: bool,
    /// The remote gave it up, to be replaced.
    pub given_up: bool,
    /// A stop of it was taken.
    pub let_go: bool,
    /// How often a container that was shown to run lost its place.
    pub moves: u64,
    /// Kubernetes has shown that it ran.
    pub shown: bool,
    /// The process that lives now was told that it ran.
    pub known: bool,
    /// When a complete listing told the process of the loss.
    pub missed: Option<Instant>,
    /// When the process under test was told that it ended.
    pub told: Option<Instant>,
    /// When calls of the process that lives now found no remote.
    failures: VecDeque<Instant>,
    start_time: Option<String>,
    terminal: Option<String>,
}

impl Fate {
    /// It was given up, and is no longer what the remote is to run.
    fn is_let_go(&self) -> bool {
        self.given_up && (self.let_go || self.lost)
    }
}

/// Method and path of a write, and the UID that it is for.
pub type Write = (String, Option<String>);

#[derive(Debug)]
struct Inner {
    seen: BTreeMap<String, Value>,
    fates: HashMap<String, Fate>,
    /// When the process that lives now last began to renew its lease with success.
    held: Option<Instant>,
    /// Writes, by what they are and for which UID, that the server told to wait.
    waits: HashMap<Write, Instant>,
    /// `renewTime` of the node's lease, and when it last rose.
    renewed: Option<(Timestamp, Instant)>,
    trace: Vec<String>,
    wrongs: Vec<String>,
    begun: Instant,
}

/// Clones share one court.
#[derive(Clone, Debug)]
pub struct Court {
    inner: Arc<Mutex<Inner>>,
    cluster: Cluster,
    blind: bool,
}

impl Court {
    pub fn new(cluster: Cluster) -> Self {
        let inner = Inner {
            seen: BTreeMap::new(),
            fates: HashMap::new(),
            held: None,
            waits: HashMap::new(),
            renewed: None,
            trace: Vec::new(),
            wrongs: Vec::new(),
            begun: Instant::now(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            cluster,
            blind: false,
        }
    }

    /// One that never looks: looking takes time for every pod there is.
    pub fn blind(cluster: Cluster) -> Self {
        Self {
            blind: true,
            ..Self::new(cluster)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, what: impl Into<String>) {
        self.lock().note(&what.into());
    }

    /// A rule is broken.
    pub fn wrong(&self, what: impl Into<String>) {
        self.lock().wrong(what.into());
    }

    pub fn is_broken(&self) -> bool {
        !self.lock().wrongs.is_empty()
    }

    /// The broken rules and what led to them.
    pub fn verdict(&self) -> Option<String> {
        let inner = self.lock();
        if inner.wrongs.is_empty() {
            return None;
        }
        let from = inner.trace.len().saturating_sub(SHOWN);
        Some(format!(
            "{}\n  {}",
            inner.wrongs.join("\n"),
            inner.trace[from..].join("\n  ")
        ))
    }

    pub fn fate(&self, uid: &str) -> Fate {
        self.lock().fates.get(uid).cloned().unwrap_or_default()
    }

    pub fn fated<T>(&self, uid: &str, change: impl FnOnce(&mut Fate) -> T) -> T {
        change(self.lock().fates.entry(uid.into()).or_default())
    }

    /// A process that asks for ever without time passing would never be found.
    pub fn watch_over(&self, life: &Life) {
        if !self.blind && life.calls() > RESTLESS && !life.is_dead() {
            self.wrong("the process never comes to rest");
            life.kill();
        }
    }

    /// A complete listing has reached the process: it knows what was lost.
    pub fn listed(&self) {
        for fate in self.lock().fates.values_mut() {
            if fate.lost {
                fate.missed.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Another process begins: it knows what Kubernetes shows.
    pub fn begins(&self) {
        for fate in self.lock().fates.values_mut() {
            fate.known = false;
            fate.failures.clear();
        }
        let mut inner = self.lock();
        inner.held = None;
        inner.waits.clear();
    }

    /// The lease was renewed by a request that began then, or was given up.
    pub fn held(&self, since: Option<Instant>) {
        self.lock().held = since;
    }

    /// A write leaves: the process has to hold its node.
    pub fn may_write(&self, what: &str) {
        if self.blind {
            return;
        }
        let age = self.lock().held.map(|at| at.elapsed());
        if age.is_none_or(|age| age >= HELD) {
            self.wrong(format!("{what}: its lease was renewed {age:?} ago"));
        }
    }

    /// A write of a pod leaves: not before the time that the server named.
    pub fn write(&self, write: &Write) {
        let waits = self.lock().waits.get(write).copied();
        if let Some(left) = waits.and_then(|at| at.checked_duration_since(Instant::now()))
            && !left.is_zero()
        {
            let what = &write.0;
            self.wrong(format!("{what} is repeated {left:?} before it may be"));
        }
    }

    /// Notes the time that an answer names, if it does.
    pub fn told_to_wait(&self, write: Write, answer: &Response) {
        let named = answer.headers().get(http::header::RETRY_AFTER);
        let named = named.and_then(|n| n.to_str().ok()?.parse().ok());
        let wait = Duration::from_secs(named.unwrap_or_default());
        self.lock().waits.insert(write, Instant::now() + wait);
    }

    /// A call about a pod found no remote.
    pub fn failed(&self, uid: &str, what: &str) {
        let now = Instant::now();
        let often = self.fated(uid, |fate| {
            fate.failures.push_back(now);
            fate.failures
                .retain(|at| *at + Duration::from_secs(60) > now);
            fate.failures.len()
        });
        if often > HASTY {
            self.wrong(format!("{what} failed {often} times within a minute"));
        }
    }

    /// The pod of this UID as Kubernetes has it now.
    pub fn pod(&self, uid: &str) -> Option<Value> {
        let pods = self.cluster.list_values("pods", None);
        pods.into_iter().find(|pod| self::uid(pod) == uid)
    }

    /// Whether Kubernetes wants this pod to run or be kept.
    pub fn wants(&self, uid: &str) -> bool {
        self.pod(uid)
            .is_some_and(|pod| !is_deleting(&pod) && !is_terminal(phase(&pod)))
    }

    /// The lease as the node controller takes it: it heeds a renewal only when
    /// `renewTime` is later than the one before.
    pub fn look_at_lease(&self) {
        let lease = self.cluster.get::<Lease>("kube-node-lease", NODE);
        let Some(at) = lease.and_then(|lease| lease.spec?.renew_time) else {
            return;
        };
        let mut inner = self.lock();
        if inner.renewed.is_none_or(|(before, _)| before < at.0) {
            inner.renewed = Some((at.0, Instant::now()));
        }
    }

    /// When the node's lease was last renewed, on the clock that nobody sets.
    pub fn renewed(&self) -> Option<Instant> {
        self.lock().renewed.map(|(_, at)| at)
    }

    /// Looks at what changed in Kubernetes since the last look; `by` did it.
    pub fn look(&self, by: Actor) {
        if self.blind {
            return;
        }
        let now: BTreeMap<String, Value> = self
            .cluster
            .list_values("pods", None)
            .into_iter()
            .map(|pod| (text(&pod, "/metadata/name").to_owned(), pod))
            .collect();
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.seen, now.clone());
        for (name, old) in &before {
            match now.get(name) {
                Some(new) if uid(new) == uid(old) => {
                    if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
                        inner.changed(by, old, new);
                    }
                }
                _ => inner.removed(by, old),
            }
        }
        for (name, new) in &now {
            if before.get(name).map(uid) != Some(uid(new)) {
                inner.note(&format!("{by:?} created {}", called(new)));
                if by == Actor::Us {
                    inner.wrong(format!("we created {}", called(new)));
                }
            }
        }
    }
}

impl Inner {
    fn note(&mut self, what: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        self.trace.push(format!("{at:9.3} {what}"));
    }

    fn wrong(&mut self, what: String) {
        self.note(&format!("!!! {what}"));
        self.wrongs.push(what);
    }

    fn removed(&mut self, by: Actor, old: &Value) {
        self.note(&format!("{by:?} removed {}", called(old)));
        if by == Actor::User {
            return;
        }
        let fate = self.fates.get(uid(old)).cloned().unwrap_or_default();
        // Given up, shown so, and no longer what the remote is to run.
        let replaced = fate.is_let_go() && is_given_up(old);
        if !is_deleting(old) && !replaced {
            self.wrong(format!("we deleted {} that nobody deleted", called(old)));
        }
        if fate.alive && !replaced {
            self.wrong(format!("we deleted {} while it runs", called(old)));
        }
    }

    fn changed(&mut self, by: Actor, old: &Value, new: &Value) {
        let (was, is) = (phase(old), phase(new));
        let deleting = if is_deleting(new) { ", deleting" } else { "" };
        let state = &new["status"]["containerStatuses"][0]["state"];
        self.note(&format!(
            "{by:?} changed {} {was}→{is}{deleting} {state}",
            called(new)
        ));
        if by == Actor::User {
            return;
        }
        let fate = self.fates.get(uid(new)).cloned().unwrap_or_default();
        let replaced = fate.is_let_go() && is_given_up(old);
        if is_deleting(new) && !is_deleting(old) && !replaced {
            self.wrong(format!("we marked {} deleted", called(new)));
        }
        if new["spec"] != old["spec"] {
            self.wrong(format!("we changed the spec of {}", called(new)));
        }
        for mine in ["labels", "annotations", "finalizers", "ownerReferences"] {
            if others(&new["metadata"][mine]) != others(&old["metadata"][mine]) {
                self.wrong(format!("we changed the {mine} of {}", called(new)));
            }
        }
        for condition in foreign(old) {
            if !foreign(new).any(|kept| kept == condition) {
                self.wrong(format!("we lost {condition} of {}", called(new)));
            }
        }
        self.status(new);
    }

    fn status(&mut self, new: &Value) {
        let is = phase(new).to_owned();
        let fate = self.fates.entry(uid(new).into()).or_default();
        let mut wrongs = Vec::new();
        let start = text(new, "/status/startTime").to_owned();
        let known = fate.start_time.get_or_insert_with(|| start.clone());
        if *known != start {
            wrongs.push(format!("startTime moved from {known} to {start} at"));
        }
        if let Some(ended) = &fate.terminal
            && *ended != is
        {
            wrongs.push(format!("phase {ended} became {is} at"));
        }
        if is_terminal(&is) && fate.terminal.is_none() {
            fate.terminal = Some(is.clone());
            let given_up = fate.given_up && is_given_up(new);
            if fate.alive && !given_up {
                wrongs.push(format!("phase {is} is shown while a container runs at"));
            }
            if given_up && !fate.is_let_go() {
                wrongs.push("shown as given up while the remote is to run it:".into());
            }
            let target = disruption(new) == Some(LOST_PLACE);
            if given_up && !target {
                wrongs.push("given up, and not said to be disrupted:".into());
            }
            if new["status"]["reason"] == "PodLost" && !fate.lost {
                wrongs.push("called lost, and is not:".into());
            }
        }
        if is_agent(new) && !is_deleting(new) && is != "Pending" {
            wrongs.push(format!("an agent is shown {is}:"));
        }
        if new["status"]["reason"] == "Unsupported"
            && !text(new, "/status/message").contains(REFUSED)
        {
            wrongs.push("refused without the field's path:".into());
        }
        if is == "Running" && fate.starts == 0 {
            wrongs.push("Running is shown and nothing ever ran at".into());
        }
        for status in new["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let id = status["containerID"].as_str().unwrap_or_default();
            if !id.is_empty() && !id.contains(uid(new)) {
                wrongs.push(format!("container {id} of another pod is shown at"));
            }
            let ran = !status["state"]["running"].is_null()
                || !status["state"]["terminated"].is_null()
                || !status["lastState"]["terminated"].is_null();
            fate.shown |= ran;
        }
        for wrong in wrongs {
            self.wrong(format!("{wrong} {}", called(new)));
        }
    }
}

/// Whether it is shown as given up.
pub fn is_given_up(pod: &Value) -> bool {
    phase(pod) == "Failed" && pod["status"]["reason"] == LOST_PLACE
}

fn disruption(pod: &Value) -> Option<&str> {
    let mut all = pod["status"]["conditions"].as_array()?.iter();
    all.find(|c| c["type"] == "DisruptionTarget")?["reason"].as_str()
}

/// Labels or annotations (or a list) without what the remote may write.
fn others(marks: &Value) -> Value {
    let mut marks = marks.clone();
    if let Some(all) = marks.as_object_mut() {
        all.remove(ELSEWHERE);
    }
    match &marks {
        Value::Object(all) if all.is_empty() => Value::Null,
        _ => marks,
    }
}

/// The conditions that someone else put there.
fn foreign(pod: &Value) -> impl Iterator<Item = &Value> {
    let all = pod["status"]["conditions"].as_array();
    all.into_iter().flatten().filter(|c| c["type"] == FOREIGN)
}

pub fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object
        .pointer(at)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub fn uid(pod: &Value) -> &str {
    text(pod, "/metadata/uid")
}

pub fn phase(pod: &Value) -> &str {
    text(pod, "/status/phase")
}

pub fn is_deleting(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Made for machines, not for such nodes as ours.
pub fn is_agent(pod: &Value) -> bool {
    pod["metadata"]["ownerReferences"].is_array()
}

/// Name and the end of the UID, for people.
pub fn called(pod: &Value) -> String {
    let uid = uid(pod);
    format!(
        "{}/{}",
        text(pod, "/metadata/name"),
        &uid[uid.len().saturating_sub(4)..]
    )
}
