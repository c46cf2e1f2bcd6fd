//! One pod in the table, and the rhythm of its retries.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vk_provider::quantity::Resources;
use vk_provider::{ContainerState, PodFacts, PodKey, Revision, Verdict};

use crate::desired::Desired;
use crate::inputs::Seen;
use crate::lean::PodText;
use crate::plan::Absence;
use crate::restart::{self, Rounds};
use crate::status::{self, Waiting};

/// First wait after a failed call, doubled up to [`BACK_OFF_MAX`]: the kubelet's
/// own pod back-off, so that users see the rhythm they know.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait between two tries; retries never give up.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// Doublings of the first wait; as many go beyond the longest.
const DOUBLINGS: u32 = 5;
/// Shortest wait, whatever a remote names: a zero would spin.
const BACK_OFF_LEAST: Duration = Duration::from_secs(1);
/// A stop that has not ended the pod this long after its grace is asked for
/// again: the remote may have lost it, or someone may have undone it.
const STOP_AGAIN: Duration = Duration::from_secs(60);

/// Stands for what is beyond the runtime's clock: no process lives that long.
const FAR: Duration = Duration::from_secs(30 * 366 * 24 * 3600);

/// The wait after so many failures in a row before this one.
pub fn back_off(failures: u32) -> Duration {
    let wait = BACK_OFF_FIRST.saturating_mul(1 << failures.min(DOUBLINGS));
    wait.min(BACK_OFF_MAX)
}

/// Everything about one pod.
#[derive(Debug)]
pub struct Record {
    /// Identity.
    pub key: PodKey,
    /// The API object, newest known; `None` when it is not in Kubernetes.
    pub(super) api: Option<PodText>,
    /// The same, opened: while it is one of the last that changed.
    pub(super) open: Option<Arc<Pod>>,
    /// The same, read.
    pub desired: Option<Desired>,
    /// The node it was bound to, also when it is no longer in Kubernetes.
    pub node: Option<Arc<str>>,
    /// Why it is not in Kubernetes.
    pub absence: Absence,
    /// What the remote shows; `None` when it is not there.
    pub facts: Option<Arc<PodFacts>>,
    /// The remote has shown that something of it ran; Kubernetes may not have
    /// been told yet.
    pub(super) ran: bool,
    /// Accepted by the remote.
    pub accepted: Option<Revision>,
    /// The update that was told last: a remote may take it back and be asked for it
    /// again.
    pub told: Option<Revision>,
    /// When it was last known to be at the remote: an older listing cannot deny it.
    pub seen: Option<Instant>,
    /// It was in Kubernetes, on this node, and is no longer.
    pub(super) gone: Option<Arc<str>>,
    /// The watch has shown that, too: it says nothing more about this UID.
    pub(super) watched: bool,
    /// `status.startTime` as it was sent first.
    pub started_at: Option<Time>,
    /// The last complete listing that showed it, by its number.
    pub(super) listing: u64,
    /// The backend was given this pod since this process started.
    pub ensured: bool,
    /// Counts in the node's ledger.
    pub admitted: bool,
    /// Left to itself: it is not for a node like ours.
    pub left: bool,
    /// Failed as a whole.
    pub verdict: Option<Failed>,
    /// Why it does not run yet. Boxed, as of few pods.
    pub waiting: Option<Box<Waiting>>,
    /// What the backend was given of its inputs, with success, last. Boxed: most
    /// backends want none.
    pub given: Option<Box<Seen>>,
    /// What the backend was given of its metadata last, as a fingerprint.
    pub heeded: Option<NonZeroU64>,
    /// The last stop that the backend took.
    pub stopping: Option<Stopping>,
    /// Nothing of it runs.
    pub stopped: bool,
    /// Its starts and ends, for a remote that does not restart it.
    pub rounds: Rounds,
    /// Failed calls in a row, and when to try again.
    pub failures: u32,
    /// No call to the backend before.
    pub retry_at: Option<Instant>,
    /// The rhythm of our writes to Kubernetes.
    pub writes: Writes,
    /// Cancels the `ensure` in flight.
    pub in_flight: Option<CancellationToken>,
    /// When the first complete listing began that showed it while Kubernetes,
    /// fully known, did not.
    pub(super) orphaned: Option<Instant>,
    /// When its `activeDeadlineSeconds` pass: as Kubernetes dates it, and on the
    /// clock that nobody sets.
    pub(super) expires: Option<(Timestamp, Instant)>,
    /// What the node's ledger holds for this pod: exactly this is taken away
    /// again, whatever became of the pod meanwhile.
    pub(super) counted: Option<(Arc<str>, Arc<Resources>)>,
}

/// Why a pod is Failed as a whole, and how it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// `reason` of its condition `DisruptionTarget`, if it gets one.
    pub disruption: Option<String>,
    /// Its containers get their grace.
    pub graceful: bool,
    /// Its object goes, so that its controller replaces it.
    pub replace: bool,
}

impl Failed {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Fail {
                reason,
                message,
                disruption,
                replace,
            } => Self {
                reason: reason.clone(),
                message: message.clone(),
                disruption: disruption.clone(),
                graceful: false,
                replace: *replace,
            },
            Verdict::Evict { reason, message } => {
                let named = Some(reason).filter(|reason| !reason.is_empty());
                Self {
                    reason: status::EVICTED.into(),
                    message: message.clone(),
                    disruption: Some(named.map_or(status::BY_KUBELET, |r| r).into()),
                    graceful: true,
                    replace: false,
                }
            }
        }
    }
}

/// Which node a pod is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Kubernetes has bound it there.
    Bound(Arc<str>),
    /// Kubernetes does not have it, and was there or is so at the remote.
    Remote(Arc<str>),
}

impl Place {
    /// The node, either way.
    pub fn node(&self) -> &Arc<str> {
        let (Self::Bound(node) | Self::Remote(node)) = self;
        node
    }
}

/// A stop that the backend took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// The grace it was given.
    pub grace: Duration,
    /// When it was taken: only a listing that begins later can confirm it.
    pub taken: Instant,
    /// When to ask again.
    pub again: Instant,
}

/// The rhythm of our writes about one pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes {
    /// Kubernetes did not take a write: none before.
    pub not_before: Option<Instant>,
    /// Kubernetes does not keep what it takes: no status or label before.
    pub unkept_until: Option<Instant>,
    /// Writes after which there was still something to write.
    in_a_row: u32,
}

/// As many writes in a row are news upon news; more mean that Kubernetes does
/// not keep what it takes (a webhook, a field it does not know).
const WRITES_IN_A_ROW: u32 = 5;
/// Longest pause between writes that are not kept: 2⁶ s.
const UNKEPT_DOUBLINGS: u32 = 6;

impl Writes {
    /// Kubernetes took a write. Answers true the first time it seems not to
    /// keep them.
    pub fn taken(&mut self) -> bool {
        self.not_before = None;
        self.unkept_until = None;
        self.in_a_row = self.in_a_row.saturating_add(1);
        if let Some(more) = self.in_a_row.checked_sub(WRITES_IN_A_ROW) {
            let pause = BACK_OFF_LEAST * (1 << more.min(UNKEPT_DOUBLINGS));
            self.unkept_until = Some(Instant::now() + pause);
        }
        self.in_a_row == WRITES_IN_A_ROW
    }

    /// Kubernetes shows all there is to show.
    pub fn nothing_left(&mut self) {
        *self = Self::default();
    }

    /// Kubernetes did not take a write, and names a time or none.
    pub fn pause(&mut self, wait: Duration) -> Duration {
        let wait = wait.min(BACK_OFF_MAX);
        self.not_before = Some(Instant::now() + wait);
        wait
    }
}

impl Record {
    pub(super) fn new(key: PodKey) -> Self {
        Self {
            key,
            api: None,
            open: None,
            desired: None,
            node: None,
            absence: Absence::Deleted,
            facts: None,
            ran: false,
            accepted: None,
            told: None,
            seen: None,
            gone: None,
            watched: false,
            started_at: None,
            listing: 0,
            ensured: false,
            admitted: false,
            left: false,
            verdict: None,
            waiting: None,
            given: None,
            heeded: None,
            stopping: None,
            stopped: false,
            rounds: Rounds::default(),
            failures: 0,
            retry_at: None,
            writes: Writes::default(),
            in_flight: None,
            orphaned: None,
            expires: None,
            counted: None,
        }
    }

    /// The API object, newest known; `None` when it is not in Kubernetes.
    pub fn pod(&self) -> Option<Arc<Pod>> {
        if self.open.is_some() {
            return self.open.clone();
        }
        // The table takes only what it could read.
        self.api.as_ref()?.open().ok().map(Arc::new)
    }

    /// Whether it waits for what it refers to.
    pub fn lacks_inputs(&self) -> bool {
        self.waiting.as_ref().is_some_and(|w| w.for_inputs)
    }

    /// The next try waits; `retry` where the remote named a time.
    pub fn failed(&mut self, retry: Option<Duration>) {
        let wait = retry.unwrap_or(back_off(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + wait.clamp(BACK_OFF_LEAST, BACK_OFF_MAX));
    }

    /// The last call worked, or something changed: no reason to wait.
    pub fn reset_back_off(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// How long until the ended pod is to be started again, if it is.
    pub fn restart_wait(&self, now: Instant) -> Option<Duration> {
        let desired = self.desired.as_ref()?;
        let facts = self.facts.as_ref()?;
        self.rounds
            .wait(now)
            .filter(|_| restart::wanted(desired, facts))
    }

    /// The backend took an `ensure`; `again` after an end, which facts from
    /// before then tell no more.
    pub fn started(&mut self, again: bool) {
        self.rounds.started(Instant::now(), again);
        if again && let Some(facts) = &mut self.facts {
            Arc::make_mut(facts).ended = false;
        }
    }

    /// Fixes when its deadline passes, once: a wall clock that is set later
    /// neither ends it early nor lets it live on.
    pub fn anchor(&mut self, wall: Timestamp) {
        let expires = self.desired.as_ref().and_then(|desired| desired.expires);
        if self.expires.map(|(at, _)| at) == expires {
            return;
        }
        self.expires = expires.map(|at| {
            let left = Duration::try_from(at.duration_since(wall)).unwrap_or_default();
            let now = Instant::now();
            (at, now.checked_add(left).unwrap_or(now + FAR))
        });
    }

    /// Whether its object is to go because Kubernetes shows by now why it failed
    /// and that its controller is to replace it.
    pub fn is_replaced(&self) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        let shown = desired.failed_as.as_deref();
        let failed = self.verdict.as_ref().filter(|failed| failed.replace);
        desired.replaced || failed.is_some_and(|failed| shown == Some(&*failed.reason))
    }

    /// Whether its failure is not to be shown yet: its controller would make the
    /// replacement while the remote is still to run this one. Who deletes it has
    /// it replaced already, and waits for its end to be confirmed.
    pub fn is_withheld(&self) -> bool {
        let (Some(failed), Some(desired)) = (&self.verdict, &self.desired) else {
            return false;
        };
        let there = self.facts.is_some() || self.accepted.is_some();
        // What ended by itself for good before that is shown as it ended.
        let told = self.stopping.is_some() || (self.stopped && desired.always);
        failed.replace && !self.is_replaced() && (desired.deletion.is_some() || (there && !told))
    }

    /// The backend took a stop with this grace.
    pub fn stop_taken(&mut self, grace: Duration) {
        let (now, wait) = (Instant::now(), grace.min(BACK_OFF_MAX) + STOP_AGAIN);
        self.stopping = Some(Stopping {
            grace,
            taken: now,
            again: now + wait,
        });
        self.reset_back_off();
    }

    /// Whether facts are the known ones, seen again.
    pub(super) fn says_nothing_new(&self, facts: &PodFacts) -> bool {
        let Some(known) = &self.facts else {
            return false;
        };
        let PodFacts {
            key: _,
            node,
            seq: _,
            applied,
            reach,
            accepted,
            containers,
            init,
            pod_ips,
            host_ips,
            labels,
            annotations,
            verdict,
            ended,
        } = facts;
        let accepted_as_known = self.accepted == *accepted;
        accepted_as_known
            && known.node == *node
            && known.applied == *applied
            && known.accepted == *accepted
            && known.reach == *reach
            && known.containers == *containers
            && known.init == *init
            && known.pod_ips == *pod_ips
            && known.host_ips == *host_ips
            && known.labels == *labels
            && known.annotations == *annotations
            && known.verdict == *verdict
            && known.ended == *ended
    }

    /// Takes newer facts, heard of at `at`; answers whether they were.
    pub(super) fn observe(&mut self, facts: PodFacts, at: Instant) -> bool {
        let newer = |known: &Arc<PodFacts>| known.seq > facts.seq;
        if self.facts.as_ref().is_some_and(newer) {
            return false;
        }
        self.seen = self.seen.max(Some(at));
        self.accepted.clone_from(&facts.accepted);
        if facts.accepted.is_some() {
            self.waiting = None;
        }
        self.ran |= has_run(&facts);
        self.rounds.observe(facts.ended, Instant::now());
        if facts.ended {
            self.stopped = true;
        } else if self.stopped && facts.accepted.is_some() {
            // It is back: started again by a reboot, or restored by someone.
            self.stopped = false;
            self.stopping = None;
        }
        if self.verdict.is_none() {
            self.verdict = facts.verdict.as_ref().map(Failed::of);
        }
        self.facts = Some(Arc::new(facts));
        true
    }

    pub(super) fn place(&self) -> Option<Place> {
        if let Some(desired) = &self.desired {
            return Some(Place::Bound(desired.node.clone()));
        }
        let facts = self.facts.as_ref().map(|facts| &facts.node);
        facts.or(self.node.as_ref()).cloned().map(Place::Remote)
    }

    /// What was wanted is no longer: what is being asked stops being asked.
    pub(super) fn interrupt(&mut self) {
        if let Some(token) = self.in_flight.take() {
            token.cancel();
        }
        self.reset_back_off();
    }
}

fn has_run(facts: &PodFacts) -> bool {
    facts.init.iter().chain(&facts.containers).any(|container| {
        let state = &container.state;
        matches!(
            state,
            ContainerState::Running { .. } | ContainerState::Terminated(_)
        ) || container.last.is_some()
            || container.restarts.is_some_and(|count| count > 0)
    })
}
