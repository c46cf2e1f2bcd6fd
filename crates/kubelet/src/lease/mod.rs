//! The heartbeat of a node, and who may write for it: its Lease in
//! `kube-node-lease`.
//!
//! # Guarantees
//! Renewed every [`RENEW_EVERY`] on a client of its own; an attempt that hangs is
//! given up after [`ATTEMPT_DEADLINE`], a failed one is repeated soon, so that
//! several fit into the [`DURATION`] after which Kubernetes calls the node lost.
//! A conflict is read again and resolved at once. The lease belongs to the Node
//! object: it names the Node's present UID as owner, also after the node was
//! registered anew.
//!
//! Its holder is one process. Another one that finds it held and not run out
//! writes nothing and waits; the end of a process gives the lease up.
//! [`crate::leadership`] is told how it stands.

mod claim;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::cause::chain;
use crate::leadership::Role;
use crate::node::{NodeTask, Registration};
use crate::pace::named_pause;
use claim::{Claim, Observed, released, renewed};

/// Where Kubernetes looks for the leases of nodes.
pub(crate) const NAMESPACE: &str = "kube-node-lease";
/// The kubelet's lease duration.
pub(crate) const DURATION: Duration = Duration::from_secs(40);
/// A quarter of it, as the kubelet.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Three attempts with their pauses fit between two missed renewals and the end.
pub(crate) const ATTEMPT_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after a failed attempt.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A conflict or a lease that came or went is resolved by reading again, this
/// often in a row before it counts as a failure.
const AT_ONCE: usize = 3;
/// A standby looks at a lease this often, so that one that was given up is taken
/// over at once; with many nodes each less often, see [`standby_pause`].
const STANDBY_LOOK: Duration = Duration::from_secs(2);
/// Leases that a standby reads in a second at most.
const STANDBY_READS: u32 = 10;
/// At its end a process has 5 s for everything.
const RELEASE_DEADLINE: Duration = Duration::from_secs(1);

/// How an attempt ended.
enum Outcome {
    Held,
    /// Another process's.
    Other {
        holder: String,
    },
}

struct Keeper<'a> {
    task: &'a NodeTask,
    api: Api<Lease>,
    known: Option<Lease>,
    observed: Option<Observed>,
}

/// Keeps the lease of a node until `stop`, as soon as the node is known to be
/// nobody else's; then gives it up.
pub(crate) async fn keep_lease(task: &NodeTask, stop: CancellationToken) {
    let mut keeper = Keeper {
        task,
        api: Api::namespaced(task.lease_client.clone(), NAMESPACE),
        known: None,
        observed: None,
    };
    keeper.run(&stop).await;
    keeper.release().await;
}

impl Keeper<'_> {
    async fn run(&mut self, stop: &CancellationToken) {
        let leadership = &self.task.leadership;
        let role = leadership.contend(&self.task.settings.name);
        let mut registered = self.task.registration.subscribe();
        let mut taken_over = leadership.taken_over();
        loop {
            let owner = match registered.borrow_and_update().clone() {
                Registration::Absent => Some(None),
                Registration::Ours(uid) => Some(Some(uid)),
                Registration::Unknown => None,
                Registration::Foreign => {
                    leadership.lost(&self.task.settings.name, None);
                    None
                }
            };
            let due = match owner {
                None => None,
                Some(owner) => tokio::select! {
                    () = stop.cancelled() => return,
                    due = self.attempt(owner.as_deref()) => Some(due),
                },
            };
            taken_over.mark_unchanged();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = registered.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                // Where one lease was given up, the others are, too.
                () = freed(&mut taken_over, &role) => {}
            }
        }
    }

    /// One attempt; when the next is due.
    async fn attempt(&mut self, owner: Option<&str>) -> Instant {
        let (task, started) = (self.task, Instant::now());
        let (node, leadership) = (&task.settings.name, &task.leadership);
        if !leadership.may_write(node) {
            // After so long it may be another's: looked at before it is written.
            self.known = None;
        }
        match timeout(ATTEMPT_DEADLINE, self.renew(owner)).await {
            Ok(Ok(Outcome::Held)) => {
                debug!(node, "lease renewed");
                leadership.renewed(node, started);
                if let Some(metrics) = &task.settings.metrics {
                    metrics.lease_renewed(task.clock.now());
                }
                started + RENEW_EVERY
            }
            Ok(Ok(Outcome::Other { holder })) => {
                self.stand_by(&holder);
                Instant::now() + standby_pause(leadership.len())
            }
            Ok(Err(error)) => {
                warn!(node, error = chain(&error), "lease not renewed");
                if let Some(metrics) = &task.settings.metrics {
                    metrics.api_error("lease", &error);
                }
                Instant::now() + pause(&error)
            }
            Err(_) => {
                // The write may have arrived: what is known may be old.
                self.known = None;
                warn!(node, "lease not renewed: no answer");
                Instant::now() + RETRY_AFTER
            }
        }
    }

    async fn renew(&mut self, owner: Option<&str>) -> kube::Result<Outcome> {
        let settings = &self.task.settings;
        let (node, identity) = (&settings.name, settings.holder());
        let params = PostParams::default();
        let mut result = Ok(Outcome::Held);
        let was_there = self.known.is_some();
        for _ in 0..AT_ONCE {
            if self.known.is_none() {
                self.known = self.api.get_opt(node).await?;
                if was_there && self.known.is_none() {
                    self.task.doubt.notify_one();
                }
            }
            let now = self.task.clock.now();
            if let Some(lease) = &self.known {
                let seen = Observed::again(self.observed.take(), lease, Instant::now());
                let claim = seen.claim(&identity, now, Instant::now());
                self.observed = Some(seen);
                if let Claim::Held(holder) = claim {
                    self.known = None;
                    return Ok(Outcome::Other { holder });
                }
                if let Claim::RunOut(holder) = claim {
                    info!(
                        node,
                        holder, "taking the lease over from a process that no longer renews it"
                    );
                }
            }
            let next = renewed(self.known.as_ref(), node, owner, &identity, now);
            let written = match self.known {
                Some(_) => self.api.replace(node, &params, &next).await,
                None => self.api.create(&params, &next).await,
            };
            match written {
                Ok(lease) => {
                    self.known = Some(lease);
                    return Ok(Outcome::Held);
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    self.known = None;
                    result = Err(kube::Error::Api(status));
                }
                Err(error) => {
                    self.known = None;
                    return Err(error);
                }
            }
        }
        result
    }

    /// Says so once per holder.
    fn stand_by(&self, holder: &str) {
        let (settings, leadership) = (&self.task.settings, &self.task.leadership);
        let node = &settings.name;
        let known = leadership.standby();
        leadership.lost(node, Some(holder));
        if known.iter().any(|(n, h)| **n == **node && h == holder) {
            return;
        }
        warn!(node, holder, "another process serves the node; standing by");
        if let Some(events) = &settings.events {
            let message = format!(
                "{} stands by: {holder} serves the node; it takes over when that one's lease ends",
                settings.holder()
            );
            events.for_node_of_another(node).normal("Standby", &message);
        }
    }

    /// Gives the lease up, so that a standby need not wait until it runs out.
    async fn release(&mut self) {
        let (settings, leadership) = (&self.task.settings, &self.task.leadership);
        let led = leadership.may_write(&settings.name);
        leadership.lost(&settings.name, None);
        if !led {
            return;
        }
        match timeout(RELEASE_DEADLINE, self.give_up()).await {
            Ok(Ok(())) => debug!(node = settings.name, "lease given up"),
            Ok(Err(error)) => warn!(node = settings.name, %error, "lease not given up"),
            Err(_) => warn!(node = settings.name, "lease not given up: no answer"),
        }
    }

    async fn give_up(&mut self) -> kube::Result<()> {
        let settings = &self.task.settings;
        let params = PostParams::default();
        let ours = |lease: &Lease| {
            let spec = lease.spec.as_ref();
            spec.and_then(|s| s.holder_identity.as_deref()) == Some(&*settings.holder())
        };
        let mut result = Ok(());
        for _ in 0..AT_ONCE {
            let known = match self.known.take() {
                None => self.api.get_opt(&settings.name).await?,
                known => known,
            };
            let Some(known) = known.filter(ours) else {
                break;
            };
            let next = released(known, self.task.clock.now());
            match self.api.replace(&settings.name, &params, &next).await {
                // A renewal may have been under way when the end came.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    result = Err(kube::Error::Api(status));
                }
                other => return other.map(drop),
            }
        }
        result
    }
}

/// Completes when another node is taken over, while this one is another's.
async fn freed(taken_over: &mut watch::Receiver<u64>, role: &watch::Receiver<Role>) {
    let standby = matches!(&*role.borrow(), Role::Standby { .. });
    if !standby || taken_over.changed().await.is_err() {
        std::future::pending().await
    }
}

fn standby_pause(nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    (Duration::from_secs(1) * nodes / STANDBY_READS).clamp(STANDBY_LOOK, RENEW_EVERY)
}

fn pause(error: &kube::Error) -> Duration {
    // One answer that names an hour must not cost the node.
    named_pause(error).map_or(RETRY_AFTER, |named| named.clamp(RETRY_AFTER, RENEW_EVERY))
}
