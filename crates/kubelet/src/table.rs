//! The one table: every pod by UID, with what Kubernetes wants, what the remote
//! shows and what was asked of it. Synchronous; each method returns the UIDs to
//! look at again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vk_provider::quantity::Resources;
use vk_provider::{Listing, PodFacts, PodKey, Revision, Uid, Verdict};

use crate::desired::Desired;
use crate::plan::{Absence, View};

/// First wait after a failed call, doubled up to [`BACK_OFF_MAX`]: the kubelet's
/// own pod back-off, so that users see the rhythm they know.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait between two tries; retries never give up.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// Everything about one pod.
#[derive(Debug)]
pub struct Record {
    /// Identity.
    pub key: PodKey,
    /// The API object, newest known; `None` when it is not in Kubernetes.
    pub api: Option<Arc<Pod>>,
    /// The same, read.
    pub desired: Option<Desired>,
    /// Why it is not in Kubernetes.
    pub absence: Absence,
    /// It was in Kubernetes and is no longer.
    gone: bool,
    /// What the remote shows; `None` when it is not there.
    pub facts: Option<Arc<PodFacts>>,
    /// Accepted by the remote.
    pub accepted: Option<Revision>,
    /// When it was last known to be at the remote: an older listing cannot deny it.
    pub seen: Timestamp,
    /// The backend was given this pod since this process started.
    pub ensured: bool,
    /// Counts in the node's ledger.
    pub admitted: bool,
    /// Failed, with reason and message.
    pub verdict: Option<(String, String)>,
    /// Why it does not run yet: reason and message.
    pub waiting: Option<(String, String)>,
    /// Grace of the last accepted stop.
    pub stopping: Option<Duration>,
    /// Nothing of it runs.
    pub stopped: bool,
    /// Failed calls in a row, and when to try again.
    pub failures: u32,
    /// Not before.
    pub retry_at: Option<Instant>,
    /// Cancels the `ensure` in flight.
    pub in_flight: Option<CancellationToken>,
    /// What the node's ledger holds for this pod: exactly this is taken away
    /// again, whatever became of the pod meanwhile.
    counted: Option<(Arc<str>, Resources)>,
}

impl Record {
    fn new(key: PodKey) -> Self {
        Self {
            key,
            api: None,
            desired: None,
            absence: Absence::Deleted,
            gone: false,
            facts: None,
            accepted: None,
            seen: Timestamp::MIN,
            ensured: false,
            admitted: false,
            verdict: None,
            waiting: None,
            stopping: None,
            stopped: false,
            failures: 0,
            retry_at: None,
            in_flight: None,
            counted: None,
        }
    }

    /// The next try waits; `retry` where the remote named a time.
    pub fn failed(&mut self, retry: Option<Duration>) {
        let doubled = BACK_OFF_FIRST.saturating_mul(1 << self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + retry.unwrap_or(doubled.min(BACK_OFF_MAX)));
    }

    /// The last call worked, or something changed: no reason to wait.
    pub fn reset_back_off(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// What was wanted is no longer: what is being asked stops being asked.
    fn interrupt(&mut self) {
        if let Some(token) = self.in_flight.take() {
            token.cancel();
        }
        self.reset_back_off();
    }
}

/// The table; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<Uid, Record>,
    /// Sum of the requests of admitted pods, by node.
    ledger: HashMap<Arc<str>, Resources>,
    /// Nodes we serve whose pods Kubernetes has not listed yet.
    unsynced: HashSet<Arc<str>>,
    /// The backend has listed completely once.
    listed: bool,
}

impl Table {
    /// A pod as Kubernetes shows it. Older versions than the known one are ignored.
    pub fn apply(&self, pod: Arc<Pod>) -> Option<Uid> {
        let desired = Desired::of(&pod)?;
        let uid = desired.key.uid.clone();
        let mut inner = self.lock();
        let record = inner
            .records
            .entry(uid.clone())
            .or_insert_with(|| Record::new(desired.key.clone()));
        // A UID never comes back: what says otherwise is an answer that was late.
        let late = record.gone
            || record
                .api
                .as_deref()
                .is_some_and(|known| newer(known, &pod));
        if late {
            return None;
        }
        if let Some(before) = &record.desired
            && (before.deletion != desired.deletion || before.revision != desired.revision)
        {
            record.interrupt();
        }
        record.absence = Absence::Deleted;
        record.api = Some(pod);
        record.desired = Some(desired);
        inner.settle(&uid);
        Some(uid)
    }

    /// The pod is no longer in Kubernetes.
    pub fn gone(&self, uid: &Uid) {
        let mut inner = self.lock();
        if let Some(record) = inner.records.get_mut(uid) {
            record.interrupt();
            record.gone = true;
            record.api = None;
            record.desired = None;
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
            let on_node = |r: &Record| r.desired.as_ref().is_some_and(|d| &*d.node == node);
            inner
                .records
                .iter()
                .filter(|(uid, record)| on_node(record) && !seen.contains(*uid))
                .map(|(uid, _)| uid.clone())
                .collect()
        };
        for uid in &vanished {
            self.gone(uid);
        }
        vanished
    }

    /// A node is served from now on: until its pods are listed, nothing at the
    /// remote counts as an orphan.
    pub fn serve(&self, node: &str) {
        self.lock().unsynced.insert(node.into());
    }

    /// The node is no longer served.
    pub fn leave(&self, node: &str) {
        self.lock().unsynced.remove(node);
    }

    /// New facts of one pod, heard of at `at`; older ones than the known are ignored.
    pub fn observe(&self, facts: PodFacts, at: Timestamp) -> Option<Uid> {
        let mut inner = self.lock();
        let uid = facts.key.uid.clone();
        inner.observe(facts, at).then_some(uid)
    }

    /// A complete listing of the remote, `now` being the present time.
    pub fn listing(&self, listing: Listing) -> Vec<Uid> {
        if !listing.complete {
            return listing
                .pods
                .into_iter()
                .filter_map(|f| self.observe(f, listing.as_of))
                .collect();
        }
        let mut inner = self.lock();
        let first = !inner.listed;
        let all_synced = inner.unsynced.is_empty();
        inner.listed = true;
        let mut changed = Vec::new();
        let mut seen = HashSet::new();
        for facts in listing.pods {
            let uid = facts.key.uid.clone();
            seen.insert(uid.clone());
            let known = inner.records.contains_key(&uid);
            inner.observe(facts, listing.as_of);
            if let Some(record) = inner.records.get_mut(&uid)
                && known
                && let Absence::Orphan { confirmed } = &mut record.absence
                && record.desired.is_none()
            {
                *confirmed = all_synced && !first;
            }
            changed.push(uid);
        }
        let Inner { records, .. } = &mut *inner;
        for (uid, record) in records.iter_mut() {
            if seen.contains(uid) {
                continue;
            }
            // A listing that is older than what we know cannot deny it.
            if record.seen >= listing.as_of {
                continue;
            }
            let was = record.facts.take().is_some() | record.accepted.take().is_some();
            let ended = record.stopping.is_some() && !record.stopped;
            record.stopped |= ended;
            if was || ended {
                changed.push(uid.clone());
            }
        }
        if first {
            changed = records.keys().cloned().collect();
        }
        for uid in &changed {
            inner.settle(uid);
        }
        changed
    }

    /// What [`crate::plan::plan`] needs to know; `None` for an unknown pod.
    pub fn view(&self, uid: &Uid) -> Option<View> {
        let inner = self.lock();
        let record = inner.records.get(uid)?;
        let now = Instant::now();
        Some(View {
            desired: record.desired.clone(),
            absence: record.absence,
            listed: inner.listed,
            present: record.facts.is_some(),
            accepted: record.accepted.clone(),
            ensured: record.ensured,
            admitted: record.admitted,
            failed: record.verdict.is_some(),
            stopping: record.stopping,
            stopped: record.stopped,
            back_off: record.retry_at.filter(|at| *at > now).map(|at| at - now),
        })
    }

    /// Reads or changes one record; the node's ledger follows.
    pub fn with<T>(&self, uid: &Uid, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let mut inner = self.lock();
        let result = inner.records.get_mut(uid).map(change);
        inner.settle(uid);
        result
    }

    /// Requests of the other admitted pods of a node.
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
        inner.records.remove(uid);
    }

    /// How many pods are known.
    pub fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// Whether no pod is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any pod is bound to this node.
    pub fn has_pods(&self, node: &str) -> bool {
        self.lock()
            .records
            .values()
            .any(|r| r.desired.as_ref().is_some_and(|d| &*d.node == node))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn observe(&mut self, facts: PodFacts, at: Timestamp) -> bool {
        let uid = facts.key.uid.clone();
        let record = self.records.entry(uid.clone()).or_insert_with(|| {
            let mut record = Record::new(facts.key.clone());
            record.absence = Absence::Orphan { confirmed: false };
            record
        });
        if record
            .facts
            .as_ref()
            .is_some_and(|known| known.seq > facts.seq)
        {
            return false;
        }
        record.seen = record.seen.max(at);
        record.accepted.clone_from(&facts.accepted);
        if facts.accepted.is_some() {
            record.waiting = None;
        }
        record.stopped |= facts.ended;
        if let Some(Verdict::Fail { reason, message }) = &facts.verdict
            && record.verdict.is_none()
        {
            record.verdict = Some((reason.clone(), message.clone()));
        }
        record.facts = Some(Arc::new(facts));
        self.settle(&uid);
        true
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

/// Whether `known` is a later version than `pod`. Resource versions compare as
/// numbers (promised since Kubernetes 1.35, true before).
fn newer(known: &Pod, pod: &Pod) -> bool {
    let version = |p: &Pod| p.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    matches!((version(known), version(pod)), (Some(a), Some(b)) if a > b)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    pub(crate) fn pod(name: &str, uid: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                uid: Some(uid.into()),
                resource_version: Some("1".into()),
                ..Default::default()
            },
            spec: Some(PodSpec {
                node_name: Some("node".into()),
                containers: vec![Container {
                    name: "app".into(),
                    image: Some("app:1".into()),
                    resources: Some(ResourceRequirements {
                        requests: Some([("cpu".to_owned(), Quantity("1".into()))].into()),
                        ..Default::default()
                    }),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            status: None,
        }
    }

    fn facts(uid: &str, seq: u64) -> PodFacts {
        let mut facts = PodFacts::new(PodKey::new("default", "a", uid), "node".into(), seq);
        facts.accepted = Some(Revision::of(pod("a", uid).spec.as_ref().unwrap()));
        facts
    }

    fn listing(pods: Vec<PodFacts>, as_of: i64) -> Listing {
        Listing {
            pods,
            complete: true,
            as_of: Timestamp::from_second(as_of).unwrap(),
        }
    }

    fn uid(text: &str) -> Uid {
        Uid::new(text)
    }

    #[test]
    fn a_delete_missed_in_a_watch_gap_is_found_at_the_next_list() {
        let table = Table::default();
        table.apply(Arc::new(pod("a", "1")));
        table.apply(Arc::new(pod("b", "2")));
        let gone = table.synced("node", &HashSet::from([uid("1")]));
        assert_eq!(gone, [uid("2")]);
        assert!(table.view(&uid("2")).unwrap().desired.is_none());
        assert!(table.view(&uid("1")).unwrap().desired.is_some());
    }

    #[test]
    fn an_answer_that_comes_after_the_delete_brings_no_pod_back() {
        let table = Table::default();
        table.apply(Arc::new(pod("a", "1")));
        table.gone(&uid("1"));
        assert!(table.apply(Arc::new(pod("a", "1"))).is_none());
        assert!(table.view(&uid("1")).unwrap().desired.is_none());
    }

    #[test]
    fn a_pod_that_vanishes_while_it_is_stopped_has_stopped() {
        let table = Table::default();
        table.listing(listing(vec![], 1));
        table.apply(Arc::new(pod("a", "1")));
        table.with(&uid("1"), |r| r.stopping = Some(Duration::ZERO));
        assert_eq!(table.listing(listing(vec![], 2)), [uid("1")]);
        assert!(table.view(&uid("1")).unwrap().stopped);
    }

    #[test]
    fn a_listing_older_than_what_was_heard_does_not_deny_it() {
        let table = Table::default();
        table.observe(facts("1", 1), Timestamp::from_second(10).unwrap());
        table.listing(listing(vec![], 9));
        assert!(table.view(&uid("1")).unwrap().present);
        table.listing(listing(vec![], 11));
        assert!(!table.view(&uid("1")).unwrap().present);
    }

    #[test]
    fn the_same_name_with_a_new_uid_is_another_pod() {
        let table = Table::default();
        table.apply(Arc::new(pod("a", "1")));
        table.apply(Arc::new(pod("a", "2")));
        table.gone(&uid("1"));
        assert!(table.view(&uid("1")).unwrap().desired.is_none());
        assert!(table.view(&uid("2")).unwrap().desired.is_some());
    }

    #[test]
    fn older_facts_and_older_objects_are_ignored() {
        let table = Table::default();
        table.observe(facts("1", 5), Timestamp::MIN);
        assert!(table.observe(facts("1", 4), Timestamp::MIN).is_none());
        let mut new = pod("a", "1");
        new.metadata.resource_version = Some("10".into());
        table.apply(Arc::new(new));
        let mut old = pod("a", "1");
        old.metadata.resource_version = Some("9".into());
        assert!(table.apply(Arc::new(old)).is_none());
    }

    #[test]
    fn an_orphan_needs_two_listings_and_synced_pods() {
        let table = Table::default();
        table.serve("node");
        let confirmed = || {
            matches!(
                table.view(&uid("1")).unwrap().absence,
                Absence::Orphan { confirmed: true }
            )
        };
        table.listing(listing(vec![facts("1", 1)], 10));
        table.listing(listing(vec![facts("1", 2)], 20));
        assert!(!confirmed(), "pods are not synced");
        table.synced("node", &HashSet::new());
        assert!(!confirmed());
        table.listing(listing(vec![facts("1", 3)], 30));
        assert!(confirmed());
    }

    #[test]
    fn a_listing_older_than_the_acceptance_does_not_deny_it() {
        let table = Table::default();
        table.listing(listing(vec![], 1));
        table.apply(Arc::new(pod("a", "1")));
        let revision = Revision::from_text("r");
        let at = Timestamp::from_second(10).unwrap();
        table.with(&uid("1"), |r| {
            r.accepted = Some(revision);
            r.seen = at;
        });
        table.listing(listing(vec![], 9));
        assert!(table.view(&uid("1")).unwrap().accepted.is_some());
        assert_eq!(table.listing(listing(vec![], 11)), [uid("1")]);
        assert!(table.view(&uid("1")).unwrap().accepted.is_none());
    }

    #[test]
    fn an_incomplete_listing_denies_nothing() {
        let table = Table::default();
        table.listing(listing(vec![facts("1", 1)], 1));
        let partial = Listing {
            complete: false,
            ..listing(vec![], 5)
        };
        table.listing(partial);
        assert!(table.view(&uid("1")).unwrap().present);
    }

    #[test]
    fn the_ledger_returns_to_nothing() {
        let table = Table::default();
        table.apply(Arc::new(pod("a", "1")));
        assert_eq!(table.requested("node"), Resources::new());
        table.with(&uid("1"), |r| r.admitted = true);
        assert_eq!(
            table.requested("node").get("cpu"),
            vk_provider::quantity::Amount::units(1)
        );
        table.gone(&uid("1"));
        assert_eq!(
            table.requested("node").get("cpu"),
            vk_provider::quantity::Amount::ZERO
        );
        table.forget(&uid("1"));
        assert!(table.is_empty());
    }

    #[tokio::test]
    async fn back_off_doubles_from_ten_seconds_to_five_minutes() {
        let mut record = Record::new(PodKey::new("default", "a", "1"));
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                record.failed(None);
                (record.retry_at.unwrap() - Instant::now())
                    .as_secs_f64()
                    .ceil() as u64
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_deletion_cancels_the_ensure_in_flight() {
        let table = Table::default();
        table.apply(Arc::new(pod("a", "1")));
        let token = CancellationToken::new();
        table.with(&uid("1"), |r| r.in_flight = Some(token.clone()));
        table.gone(&uid("1"));
        assert!(token.is_cancelled());
    }
}
