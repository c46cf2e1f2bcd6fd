//! Carries out the steps that [`crate::plan`] decides: one task per pod at
//! work, never two for one pod. Concurrency is bounded where it costs: by the
//! backend per remote place, by [`crate::publish`] towards Kubernetes.

mod calls;
mod decide;
mod lacking;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};
use vk_provider::{Backend, Clock, NodeFacts, PodKey, Uid};

use crate::events::Recorder;
use crate::inputs;
use crate::leadership::Gate;
use crate::metrics::Metrics;
use crate::plan::{Absence, Step, plan};
use crate::publish::{NOT_LEADING, Publisher};
use crate::queue::Queue;
use crate::table::Table;

/// At shutdown, writes under way may finish within this; SIGTERM allows 5 s.
const DRAIN: Duration = Duration::from_secs(3);

/// The nodes that are served, with their present facts.
pub(crate) type Nodes = Arc<RwLock<HashMap<String, NodeFacts>>>;

/// News that does not come within this does not hold a status back.
const QUICK: Duration = Duration::from_millis(500);

/// When a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    /// Now.
    Now,
    /// After the step that comes next, at once.
    Later,
    /// A call was just accepted, and the remote may say at once what came of
    /// it: one status instead of two. After [`QUICK`] without news what is
    /// known is written.
    Soon,
}

/// Everything a step needs.
pub(crate) struct Actor {
    /// The state.
    pub table: Table,
    /// What to look at.
    pub queue: Queue,
    /// Writes to Kubernetes.
    pub publisher: Publisher,
    /// What pods refer to.
    pub inputs: inputs::Store,
    /// Events.
    pub events: Recorder,
    /// Counters.
    pub metrics: Metrics,
    /// Time.
    pub clock: Clock,
    /// Served nodes.
    pub nodes: Nodes,
    /// What this process may write.
    pub gate: Gate,
    /// Admission is one at a time, so that two pods never share the last core.
    pub admission: Mutex<()>,
    /// Agents of the cluster's machines run like any pod.
    pub run_agents: bool,
    /// The remote.
    pub backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actor")
            .field("pods", &self.table.len())
            .finish_non_exhaustive()
    }
}

/// Works the queue until `stop`; then lets writes under way finish, briefly.
pub(crate) async fn act(actor: Arc<Actor>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let uid = tokio::select! {
            () = stop.cancelled() => break,
            uid = actor.queue.next() => uid,
        };
        let (actor, abort) = (actor.clone(), abort.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                pass = AssertUnwindSafe(actor.pass(&uid)).catch_unwind() => {
                    if pass.is_err() {
                        actor.panicked(&uid);
                    }
                }
            }
            actor.queue.done(&uid);
        });
    }
    tasks.close();
    if timeout(DRAIN, tasks.wait()).await.is_err() {
        abort.cancel();
    }
}

impl Actor {
    /// One look at one pod: the next step, then its status.
    async fn pass(&self, uid: &Uid) {
        while let Some((key, say)) = self.step(uid).await {
            match say {
                // What was decided is carried out in the same pass.
                Say::Later => continue,
                Say::Now => self.publish(&key).await,
                Say::Soon => self.queue.mark_after(uid, QUICK),
            }
            return;
        }
    }

    /// The next step; `None` when there is nothing to be said after it.
    async fn step(&self, uid: &Uid) -> Option<(PodKey, Say)> {
        let key = self.table.with(uid, |record| {
            record.anchor(self.clock.now());
            record.key.clone()
        });
        if key.is_none() {
            self.inputs.let_go(uid);
        }
        let (key, mut view) = key.zip(self.table.view(uid))?;
        if !self.gate.pod(uid) {
            // Only pods that we never saw in Kubernetes are shown by listings anew.
            if view.desired.is_some() || view.absence == Absence::Deleted {
                self.queue.mark_after(uid, NOT_LEADING);
            }
            return None;
        }
        if self.backend.capabilities().restarts {
            view.restart = None;
        }
        self.look_at_inputs(&key, &mut view);
        let started = Instant::now();
        let step = plan(&view);
        debug!(pod = %key, ?step, "planned");
        let name = step_name(&step);
        let mut say = Say::Now;
        match step {
            Step::Idle => {}
            Step::Later(wait) => self.queue.mark_after(uid, wait),
            Step::Admit => say = self.admit(&key, &view).await,
            Step::Ensure(change) => say = self.ensure(&key, change).await,
            Step::Fail(why) => {
                let (reason, message) = why.words();
                self.fail(&key, reason, message);
            }
            Step::Stop(grace) => say = self.stop(&key, &view, grace).await,
            Step::Delete => self.delete(&key).await,
            Step::Release => self.release(&key, &view).await,
            Step::Forget => self.table.forget(uid),
        }
        if name != "idle" {
            self.metrics.observe_step(name, started.elapsed());
        }
        Some((key, say))
    }

    /// A fault of the backend's (or ours) in one pod stays with that pod, which
    /// is tried again like after any failed call.
    fn panicked(&self, uid: &Uid) {
        error!(%uid, "panic while working on a pod, repeating");
        self.table.with(uid, |record| {
            record.in_flight = None;
            record.failed(None);
        });
        self.queue.mark(uid);
    }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Idle | Step::Later(_) => "idle",
        Step::Admit => "admit",
        Step::Ensure(_) => "ensure",
        Step::Fail(_) => "fail",
        Step::Stop(_) => "stop",
        Step::Delete => "delete",
        Step::Release => "release",
        Step::Forget => "forget",
    }
}
