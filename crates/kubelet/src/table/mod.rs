//! The one table: every pod by UID, with what Kubernetes wants, what the remote
//! shows and what was asked of it. Synchronous; each method returns the UIDs to
//! look at again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing::error;
use vk_provider::quantity::Resources;
use vk_provider::{Heeds, Listing, PodFacts, PodKey, Reach, Uid};

use crate::desired::{Desired, heeded};
use crate::lean::LeanPod;
use crate::plan::{Absence, View};

mod confirm;
mod lookup;
mod record;

pub(crate) use lookup::Running;
pub use record::{BACK_OFF_FIRST, BACK_OFF_MAX, Failed, Place, Record, Stopping, Writes, back_off};

/// Pods that stay open: as many as are written at once, between a change and
/// what follows from it. Each takes 20 to 30 KB.
const OPEN: usize = 32;

/// The table; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    // Boxed: half of a table's places may be empty.
    records: HashMap<Uid, Box<Record>>,
    /// Sum of the requests of pods that take up room, by node.
    ledger: HashMap<Arc<str>, Resources>,
    /// Nodes we serve whose pods Kubernetes has not listed yet.
    unsynced: HashSet<Arc<str>>,
    /// Some node has been served: before that, "all are synced" says nothing.
    served: bool,
    /// The backend has listed completely once.
    listed: bool,
    /// Forgotten pods, with their node, that the watch has yet to show deleted:
    /// what it still says of them is old. Emptied by the watch itself.
    ghosts: HashMap<Uid, Arc<str>>,
    /// Pods that are open, in the order of their last change; one that changed
    /// twice stands there twice.
    opened: VecDeque<Uid>,
    /// How many complete listings there were.
    listings: u64,
    /// How many there had been when we began to serve a node.
    served_after: HashMap<Arc<str>, u64>,
    /// What the backend reads of the pods' metadata.
    heeds: Heeds,
}

impl Table {
    /// A table that knows what the backend reads of the pods' metadata.
    pub(crate) fn heeding(heeds: Heeds) -> Self {
        let table = Self::default();
        table.lock().heeds = heeds;
        table
    }

    /// A pod as the watch shows it. Older versions than the known one are ignored.
    pub(crate) fn apply(&self, pod: LeanPod) -> Option<Uid> {
        self.lock().apply(pod)
    }

    /// A pod as Kubernetes answered one of our writes. An answer may be
    /// overtaken by the delete that followed it, so it brings nothing back:
    /// only the watch does.
    pub(crate) fn refresh(&self, pod: LeanPod) -> Option<Uid> {
        let mut inner = self.lock();
        let uid = pod.key()?.uid;
        inner.records.get(&uid)?.api.as_ref()?;
        inner.apply(pod)
    }

    /// A pod that was read because the remote has it and no watch showed it.
    /// Ignored when a watch has told of its end meanwhile.
    pub(crate) fn adopt(&self, pod: LeanPod) -> Option<Uid> {
        let mut inner = self.lock();
        let uid = pod.key()?.uid;
        match inner.records.get(&uid)?.absence {
            Absence::Orphan { .. } => inner.apply(pod),
            Absence::Deleted => None,
        }
    }

    /// The watch shows that the pod is no longer in Kubernetes.
    pub fn deleted(&self, uid: &Uid) {
        self.gone(uid);
        let mut inner = self.lock();
        inner.ghosts.remove(uid);
        if let Some(record) = inner.records.get_mut(uid) {
            record.watched = true;
        }
    }

    /// The pod is no longer in Kubernetes, as an answer to a write says.
    pub fn gone(&self, uid: &Uid) {
        let mut inner = self.lock();
        if let Some(record) = inner.records.get_mut(uid) {
            record.interrupt();
            (record.api, record.open) = (None, None);
            if let Some(desired) = record.desired.take() {
                record.gone = Some(desired.node);
            }
            record.absence = Absence::Deleted;
        }
        inner.settle(uid);
    }

    /// All pods of a node were listed: what is not among `seen` was deleted
    /// while nobody watched.
    pub fn synced(&self, node: &str, seen: &HashSet<Uid>) -> Vec<Uid> {
        let vanished: Vec<Uid> = {
            let mut inner = self.lock();
            inner.unsynced.remove(node);
            inner
                .ghosts
                .retain(|uid, on| &**on != node || seen.contains(uid));
            for record in inner.records.values_mut() {
                record.watched |= record.gone.as_deref() == Some(node);
            }
            let on_node = |r: &Record| r.desired.as_ref().is_some_and(|d| &*d.node == node);
            inner
                .records
                .iter()
                .filter(|(uid, record)| on_node(record) && !seen.contains(*uid))
                .map(|(uid, _)| uid.clone())
                .collect()
        };
        for uid in &vanished {
            self.deleted(uid);
        }
        vanished
    }

    /// A node is served from now on: until its pods are listed, nothing at the
    /// remote counts as an orphan.
    pub fn serve(&self, node: &str) {
        let mut inner = self.lock();
        inner.served = true;
        inner.unsynced.insert(node.into());
        let listings = inner.listings;
        inner.served_after.insert(node.into(), listings);
        for record in inner.records.values_mut() {
            if let Absence::Orphan { confirmed } = &mut record.absence {
                *confirmed = false;
                record.orphaned = None;
            }
        }
    }

    /// Whether all pods of a node that is served were listed.
    pub fn is_synced(&self, node: &str) -> bool {
        !self.lock().unsynced.contains(node)
    }

    /// Another process serves the node: its pods are none of ours. What is asked
    /// of the remote for them stops being asked. Answers which they were.
    pub fn disown(&self, node: &str) -> Vec<Uid> {
        let mut inner = self.lock();
        inner.unsynced.remove(node);
        inner.ghosts.retain(|_, on| &**on != node);
        let bound = inner.bound(node);
        for uid in &bound {
            if let Some(record) = inner.records.get_mut(uid) {
                record.interrupt();
                record.desired = None;
            }
            inner.settle(uid);
            inner.records.remove(uid);
        }
        bound
    }

    /// The pods of a node are worth another look, whatever they waited for.
    pub fn wake(&self, node: &str) -> Vec<Uid> {
        let mut inner = self.lock();
        let bound = inner.bound(node);
        for uid in &bound {
            if let Some(record) = inner.records.get_mut(uid) {
                record.reset_back_off();
            }
        }
        bound
    }

    /// The node that a pod is for.
    pub fn place(&self, uid: &Uid) -> Option<Place> {
        self.lock().records.get(uid)?.place()
    }

    /// Every node that some pod is for.
    pub fn nodes(&self) -> HashSet<Arc<str>> {
        let inner = self.lock();
        let places = inner.records.values().filter_map(|record| record.place());
        places.map(|place| place.node().clone()).collect()
    }

    /// The node is no longer served.
    pub fn leave(&self, node: &str) {
        let mut inner = self.lock();
        inner.unsynced.remove(node);
        inner.ghosts.retain(|_, on| &**on != node);
    }

    /// New facts of one pod, heard of at `at`; older ones than the known are ignored.
    pub fn observe(&self, facts: PodFacts, at: Instant) -> Option<Uid> {
        let mut inner = self.lock();
        let uid = facts.key.uid.clone();
        inner.observe(facts, at).then_some(uid)
    }

    /// A listing of the remote. Only a complete one says that a pod is not there.
    pub fn listing(&self, listing: Listing) -> Vec<Uid> {
        if !listing.complete {
            return listing
                .pods
                .into_iter()
                .filter_map(|f| self.observe(f, listing.as_of))
                .collect();
        }
        self.lock().confirm(listing)
    }

    /// Whether another listing would decide something now: the remote has pods
    /// that Kubernetes, fully known, does not have, and only one listing says so
    /// yet; or a pod that may run once was last seen there before we served it.
    pub fn wants_listing(&self) -> bool {
        let inner = self.lock();
        let doubtful = |r: &Record| r.absence == Absence::Orphan { confirmed: false };
        let synced = inner.served && inner.unsynced.is_empty();
        let mut records = inner.records.values();
        synced && records.any(|r| doubtful(r) || (inner.stale(r) && !r.ensured))
    }

    /// Whether the backend has listed completely once.
    pub(crate) fn is_listed(&self) -> bool {
        self.lock().listed
    }

    /// What `plan` needs to know; `None` for an unknown pod.
    pub fn view(&self, uid: &Uid) -> Option<View> {
        let inner = self.lock();
        let record = inner.records.get(uid)?;
        let now = Instant::now();
        let mut desired = record.desired.clone();
        if let Some(desired) = &mut desired {
            desired.ran |= record.ran;
        }
        Some(View {
            desired,
            absence: record.absence,
            listed: inner.listed,
            stale: inner.stale(record),
            present: record.facts.is_some(),
            accepted: record.accepted.clone(),
            ensured: record.ensured,
            outdated: false,
            unheeded: record
                .desired
                .as_ref()
                .is_some_and(|d| d.heeded != record.heeded),
            admitted: record.admitted,
            left: record.left,
            failed: record.verdict.is_some(),
            evicted: record.verdict.as_ref().is_some_and(|f| f.graceful),
            replaced: record.is_replaced(),
            stopping: record.stopping.map(|stop| stop.grace),
            stop_again: record
                .stopping
                .map(|stop| stop.again.saturating_duration_since(now)),
            stopped: record.stopped,
            restart: record.restart_wait(now),
            expires: record
                .expires
                .map(|(_, at)| at.saturating_duration_since(now)),
            unreachable: record
                .facts
                .as_ref()
                .is_some_and(|f| f.reach != Reach::Reachable),
            back_off: record.retry_at.filter(|at| *at > now).map(|at| at - now),
        })
    }

    /// Reads or changes one record; the node's ledger follows.
    pub fn with<T>(&self, uid: &Uid, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let mut inner = self.lock();
        let result = inner.records.get_mut(uid).map(|record| change(record));
        inner.settle(uid);
        result
    }

    /// What the pods of a node request that were admitted or are at the remote,
    /// and have not ended or failed.
    pub fn requested(&self, node: &str) -> Resources {
        self.lock().ledger.get(node).cloned().unwrap_or_default()
    }

    /// Drops a record.
    pub fn forget(&self, uid: &Uid) {
        let mut inner = self.lock();
        if let Some(record) = inner.records.get_mut(uid) {
            record.desired = None;
        }
        inner.settle(uid);
        if let Some(record) = inner.records.remove(uid)
            && let Some(node) = record.gone
            && !record.watched
        {
            inner.ghosts.insert(uid.clone(), node);
        }
    }

    /// How many pods are known.
    pub fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// Whether no pod is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any pod is bound to this node, or was and is not ended yet. Those
    /// that are left to themselves hold no node.
    pub fn has_pods(&self, node: &str) -> bool {
        self.lock().of_node(node).any(|record| !record.left)
    }

    /// The pods of this node, with what Kubernetes wants where it still has them.
    pub(crate) fn pods_of(&self, node: &str) -> Vec<(PodKey, Option<Desired>)> {
        let inner = self.lock();
        inner
            .of_node(node)
            .map(|record| (record.key.clone(), record.desired.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What may run only once and was seen at the remote before we served its
    /// node may be gone from there since: starting it again would be a second run.
    fn stale(&self, record: &Record) -> bool {
        record.desired.as_ref().is_some_and(|d| {
            d.at_most_once
                && (d.ran || record.ran)
                && record.facts.is_some()
                && self
                    .served_after
                    .get(&d.node)
                    .is_some_and(|n| record.listing <= *n)
        })
    }

    fn of_node(&self, node: &str) -> impl Iterator<Item = &Record> {
        let is_here = move |place: &Place| &**place.node() == node;
        let records = self.records.values().map(|record| &**record);
        records.filter(move |record| record.place().as_ref().is_some_and(is_here))
    }

    fn bound(&self, node: &str) -> Vec<Uid> {
        let records = self.records.iter();
        let bound = records.filter(|(_, record)| match &record.desired {
            Some(desired) => &*desired.node == node,
            None => false,
        });
        bound.map(|(uid, _)| uid.clone()).collect()
    }

    fn apply(&mut self, pod: LeanPod) -> Option<Uid> {
        let key = pod.key()?;
        let uid = key.uid.clone();
        if self.ghosts.contains_key(&uid) {
            return None;
        }
        let text = pod.into_text();
        let known = self.records.get(&uid);
        if known.is_some_and(|record| record.gone.is_some()) {
            // A UID does not come back: this is from before its end.
            return None;
        }
        let before = known.and_then(|record| record.api.as_ref());
        // The watch shows what the answer to a write of ours showed already, or
        // something older.
        if before.is_some_and(|before| *before == text || before.later_than(&text)) {
            return None;
        }
        let open = match text.open() {
            Ok(open) => Arc::new(open),
            Err(error) => {
                error!(pod = %key, %error, "a pod that cannot be read is left as it is");
                return None;
            }
        };
        let same_spec = before.is_some_and(|before| before.same_spec(&text));
        let before = known.and_then(|r| r.desired.as_ref()).filter(|_| same_spec);
        let mut desired = Desired::after(&open, before)?;
        desired.heeded = heeded(&open, self.heeds);
        let shown = desired.failed_as.as_deref();
        desired.replaced = shown.is_some_and(|reason| self.heeds.replaced.contains(&reason));
        let record = self
            .records
            .entry(uid.clone())
            .or_insert_with(|| Box::new(Record::new(key)));
        if let Some(before) = &record.desired
            && (before.revision != desired.revision
                || before.heeded != desired.heeded
                // Our own final delete sets the grace to 0 before the pod goes.
                || (before.deletion != desired.deletion
                    && !record.stopped
                    && !record.is_replaced()))
        {
            record.interrupt();
        }
        if record.api.is_none() {
            record.rounds.shown(&open);
        }
        record.absence = Absence::Deleted;
        record.orphaned = None;
        (record.api, record.open) = (Some(text), Some(open));
        record.node = Some(desired.node.clone());
        record.desired = Some(desired);
        self.settle(&uid);
        self.keep_open(uid.clone());
        Some(uid)
    }

    /// What has just changed is about to be worked on; the oldest of those rests.
    fn keep_open(&mut self, uid: Uid) {
        self.opened.push_back(uid);
        if self.opened.len() > OPEN
            && let Some(rests) = self.opened.pop_front()
            && let Some(record) = self.records.get_mut(&rests)
        {
            record.open = None;
        }
    }

    fn observe(&mut self, facts: PodFacts, at: Instant) -> bool {
        let uid = facts.key.uid.clone();
        let record = self.records.entry(uid.clone()).or_insert_with(|| {
            let mut record = Record::new(facts.key.clone());
            record.absence = Absence::Orphan { confirmed: false };
            Box::new(record)
        });
        let newer = record.observe(facts, at);
        self.settle(&uid);
        newer
    }

    /// Keeps the node's ledger in step with one record.
    fn settle(&mut self, uid: &Uid) {
        let Some(record) = self.records.get_mut(uid) else {
            return;
        };
        let counts = record.verdict.is_none() && (record.admitted || record.facts.is_some());
        let wanted = record
            .desired
            .as_ref()
            .filter(|d| counts && !d.terminal)
            .map(|d| (d.node.clone(), d.requests.clone()));
        if record.counted == wanted {
            return;
        }
        let before = std::mem::replace(&mut record.counted, wanted.clone());
        if let Some((node, requests)) = before
            && let Some(sum) = self.ledger.get_mut(&node)
        {
            *sum = sum.minus(&requests);
        }
        if let Some((node, requests)) = wanted {
            self.ledger.entry(node).or_default().add(&requests);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
