//! What to do next about one pod: a pure function of what Kubernetes wants,
//! what the remote shows and what was already asked of it.

use std::time::Duration;

use vk_provider::{PodChange, Revision};

use crate::desired::Desired;

/// Everything the decision depends on.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The pod in Kubernetes, if it is there.
    pub desired: Option<Desired>,
    /// Why it is not there.
    pub absence: Absence,
    /// Every pod at the remote has been listed once since the start.
    pub listed: bool,
    /// What the remote shows of a pod that may run once is from before we
    /// served its node.
    pub stale: bool,
    /// The remote shows the pod.
    pub present: bool,
    /// The revision that the remote has durably accepted.
    pub accepted: Option<Revision>,
    /// The backend was given this pod since this process started.
    pub ensured: bool,
    /// What running containers see of its inputs is not what the backend was
    /// given last.
    pub outdated: bool,
    /// What the backend reads of its metadata is not what it was given last.
    pub unheeded: bool,
    /// Admission has let it in (or the remote has it).
    pub admitted: bool,
    /// It is not for a node like ours, and was told so.
    pub left: bool,
    /// It is Failed by our or the backend's verdict.
    pub failed: bool,
    /// The same, and its containers get their grace.
    pub evicted: bool,
    /// Its controller is to replace it, and its status says why.
    pub replaced: bool,
    /// Grace of the last stop that the backend took.
    pub stopping: Option<Duration>,
    /// How long until that stop is asked for again, zero when it is time.
    pub stop_again: Option<Duration>,
    /// Nothing of it runs, for certain.
    pub stopped: bool,
    /// It ended, its policy wants it again, and the remote does not do that by
    /// itself: how long until then.
    pub restart: Option<Duration>,
    /// How long until its `activeDeadlineSeconds` have passed.
    pub expires: Option<Duration>,
    /// The place it runs at does not answer.
    pub unreachable: bool,
    /// A call failed: nothing before this much time has passed.
    pub back_off: Option<Duration>,
}

/// How an object that is not in Kubernetes came to be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absence {
    /// It was there, and was seen to go or found gone after a watch gap.
    #[default]
    Deleted,
    /// The remote has it and Kubernetes was never seen to have it.
    Orphan {
        /// Two complete listings show it, both since the pods of all nodes are
        /// synced, the second begun after the first.
        confirmed: bool,
    },
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until something changes.
    Idle,
    /// Nothing until this much time has passed.
    Later(Duration),
    /// Ask whether the node takes it.
    Admit,
    /// Bring the remote to the present revision.
    Ensure(PodChange),
    /// It is over, whatever the remote says.
    Fail(Failure),
    /// End it.
    Stop(Duration),
    /// Remove the object from Kubernetes.
    Delete,
    /// Free everything at the remote.
    Release,
    /// Drop the record.
    Forget,
}

/// Why a pod is failed without the backend's asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The remote lost a pod that may run at most once and did run.
    Lost,
    /// Its `activeDeadlineSeconds` have passed.
    DeadlineExceeded,
}

impl Failure {
    /// `status.reason` and `status.message`, the kubelet's where it has them.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Lost => (
                "PodLost",
                "The remote no longer has this pod, and restartPolicy Never lets it run only once",
            ),
            Self::DeadlineExceeded => (
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            ),
        }
    }
}

/// The next step about a pod.
pub(crate) fn plan(view: &View) -> Step {
    let step = wanted(view);
    let Some(left) = active_deadline(view) else {
        return held_back(view, step);
    };
    if left.is_zero() {
        return Step::Fail(Failure::DeadlineExceeded);
    }
    match held_back(view, step) {
        Step::Idle => Step::Later(left),
        Step::Later(wait) => Step::Later(wait.min(left)),
        step => step,
    }
}

/// What is left of `activeDeadlineSeconds`, where it counts. A pod that cannot
/// be reached cannot be ended: it fails when it is back, not beside itself.
fn active_deadline(view: &View) -> Option<Duration> {
    let desired = view.desired.as_ref()?;
    let over = desired.terminal || desired.deletion.is_some() || view.failed;
    view.expires.filter(|_| !over && !view.unreachable)
}

fn held_back(view: &View, step: Step) -> Step {
    match (&step, view.back_off) {
        (Step::Idle | Step::Forget | Step::Later(_), _) | (_, None) => step,
        (_, Some(wait)) => Step::Later(wait),
    }
}

fn wanted(view: &View) -> Step {
    let Some(desired) = &view.desired else {
        return absent(view);
    };
    if view.replaced {
        return match stop(view, Duration::ZERO) {
            // Out of what the remote is to run: nobody waits for a place that is
            // away, not even who deleted it meanwhile.
            Step::Later(_) => Step::Delete,
            _ if view.stopped => Step::Delete,
            step => step,
        };
    }
    if let Some(grace) = desired.deletion {
        return match (view.stopped, desired.terminal) {
            (true, true) => Step::Delete,
            // The terminal status is being written; that brings us back here.
            (true, false) => Step::Idle,
            (false, _) => stop(view, grace),
        };
    }
    if view.failed || desired.terminal {
        // Whatever ended it, what it left running has to end: a place that was
        // away when the pod was given up comes back with it.
        let runs = view.present || view.accepted.is_some();
        let grace = if view.evicted {
            desired.grace
        } else {
            Duration::ZERO
        };
        return if runs && !view.stopped {
            stop(view, grace)
        } else {
            Step::Idle
        };
    }
    if !view.listed {
        return Step::Idle;
    }
    match &view.accepted {
        // It has ended for good: another image does not make it run again.
        Some(_) if view.stopped && !desired.always && view.restart.is_none() => Step::Idle,
        Some(revision) if *revision != desired.revision => Step::Ensure(PodChange::Image),
        Some(_) if view.ensured => match view.restart {
            Some(Duration::ZERO) => Step::Ensure(PodChange::Restart),
            None if view.outdated => Step::Ensure(PodChange::Payload),
            _ if view.unheeded => Step::Ensure(PodChange::Metadata),
            None => Step::Idle,
            Some(wait) => Step::Later(wait),
        },
        Some(_) if view.stale => Step::Idle,
        // Found again after a restart: the backend learns the pod, and finds
        // that there is nothing to do.
        Some(_) => Step::Ensure(PodChange::First),
        None if desired.ran && desired.at_most_once => Step::Fail(Failure::Lost),
        None if view.present => Step::Ensure(PodChange::Repeat),
        None if view.left => Step::Idle,
        // What has run was let in once, and is not refused for room that its lost
        // place no longer gives.
        None if !view.admitted && !desired.ran => Step::Admit,
        None => Step::Ensure(PodChange::First),
    }
}

/// Not in Kubernetes: end it, free it, forget it.
fn absent(view: &View) -> Step {
    match view.absence {
        // Also when it has ended: its pod may not have been listed yet, and then
        // the remote is the only one to know how it ended.
        Absence::Orphan { confirmed: false } if view.present => Step::Idle,
        // Gone from the remote before it was confirmed: nothing of ours to do.
        Absence::Orphan { .. } if !view.present => Step::Forget,
        _ if view.stopped => Step::Release,
        Absence::Orphan { .. } | Absence::Deleted => stop(view, Duration::ZERO),
    }
}

/// Stop, unless the same or a shorter grace already runs and still may end it.
fn stop(view: &View, grace: Duration) -> Step {
    match (view.stopping, view.stop_again) {
        (Some(asked), Some(wait)) if asked <= grace && !wait.is_zero() => Step::Later(wait),
        _ => Step::Stop(grace),
    }
}

#[cfg(test)]
mod tests;
