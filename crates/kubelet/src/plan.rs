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
    /// Admission has let it in (or the remote has it).
    pub admitted: bool,
    /// It is not for a node like ours, and was told so.
    pub left: bool,
    /// It is Failed by our or the backend's verdict.
    pub failed: bool,
    /// The same, and its containers get their grace.
    pub evicted: bool,
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
            None if view.outdated => Step::Ensure(PodChange::Payload),
            None => Step::Idle,
            Some(Duration::ZERO) => Step::Ensure(PodChange::Restart),
            Some(wait) => Step::Later(wait),
        },
        Some(_) if view.stale => Step::Idle,
        // Found again after a restart: the backend learns the pod, and finds
        // that there is nothing to do.
        Some(_) => Step::Ensure(PodChange::First),
        None if desired.ran && desired.at_most_once => Step::Fail(Failure::Lost),
        None if view.present => Step::Ensure(PodChange::Repeat),
        None if view.left => Step::Idle,
        None if !view.admitted => Step::Admit,
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
mod tests {
    use super::*;
    use crate::table::tests::pod;

    fn desired() -> Desired {
        Desired::after(&pod("a", "uid-a"), None).unwrap()
    }

    fn next(view: &View) -> Step {
        plan(view)
    }

    fn view() -> View {
        View {
            desired: Some(desired()),
            listed: true,
            ..View::default()
        }
    }

    #[test]
    fn a_new_pod_is_admitted_then_ensured_then_left_alone() {
        let mut view = view();
        assert_eq!(next(&view), Step::Admit);
        view.admitted = true;
        assert_eq!(next(&view), Step::Ensure(PodChange::First));
        view.accepted = Some(desired().revision);
        view.ensured = true;
        assert_eq!(next(&view), Step::Idle);
    }

    #[test]
    fn nothing_starts_before_the_remote_has_been_listed() {
        let view = View {
            listed: false,
            ..view()
        };
        assert_eq!(next(&view), Step::Idle);
    }

    #[test]
    fn an_explicit_delete_does_not_wait_for_the_listing() {
        let mut view = View {
            listed: false,
            ..view()
        };
        view.desired.as_mut().unwrap().deletion = Some(Duration::from_secs(30));
        assert_eq!(next(&view), Step::Stop(Duration::from_secs(30)));
    }

    #[test]
    fn a_pod_that_the_remote_already_runs_is_made_known_without_admission() {
        let mut view = View {
            present: true,
            accepted: Some(desired().revision),
            ..view()
        };
        assert_eq!(next(&view), Step::Ensure(PodChange::First));
        view.ensured = true;
        assert_eq!(next(&view), Step::Idle);
    }

    #[test]
    fn a_pod_that_may_run_once_is_looked_for_anew_before_it_is_made_known() {
        let mut view = View {
            present: true,
            accepted: Some(desired().revision),
            stale: true,
            ..view()
        };
        assert_eq!(next(&view), Step::Idle);
        view.stale = false;
        assert_eq!(next(&view), Step::Ensure(PodChange::First));
    }

    #[test]
    fn an_image_that_changed_while_we_were_away_is_ensured() {
        let view = View {
            present: true,
            accepted: Some(Revision::from_text("other")),
            ..view()
        };
        assert_eq!(next(&view), Step::Ensure(PodChange::Image));
    }

    #[test]
    fn deletion_stops_then_waits_for_the_terminal_status_then_deletes() {
        let mut view = view();
        let grace = Duration::from_secs(30);
        view.desired.as_mut().unwrap().deletion = Some(grace);
        assert_eq!(next(&view), Step::Stop(grace));
        view.stopping = Some(grace);
        view.stop_again = Some(grace);
        assert_eq!(next(&view), Step::Later(grace));
        view.desired.as_mut().unwrap().deletion = Some(Duration::from_secs(1));
        assert_eq!(next(&view), Step::Stop(Duration::from_secs(1)), "shortened");
        view.stopped = true;
        assert_eq!(next(&view), Step::Idle);
        view.desired.as_mut().unwrap().terminal = true;
        assert_eq!(next(&view), Step::Delete);
    }

    #[test]
    fn a_forced_delete_still_stops_and_frees_the_workload() {
        let mut view = View {
            desired: None,
            present: true,
            listed: true,
            ..View::default()
        };
        assert_eq!(next(&view), Step::Stop(Duration::ZERO));
        view.stopping = Some(Duration::ZERO);
        view.stop_again = Some(Duration::from_secs(9));
        assert_eq!(next(&view), Step::Later(Duration::from_secs(9)));
        view.stopped = true;
        assert_eq!(next(&view), Step::Release);
    }

    #[test]
    fn a_stop_that_has_no_effect_is_asked_for_again() {
        let mut view = view();
        view.desired.as_mut().unwrap().deletion = Some(Duration::ZERO);
        view.stopping = Some(Duration::ZERO);
        view.stop_again = Some(Duration::ZERO);
        assert_eq!(next(&view), Step::Stop(Duration::ZERO));
    }

    #[test]
    fn a_pod_that_is_over_in_kubernetes_and_alive_at_the_remote_is_stopped() {
        let mut view = View {
            present: true,
            ..view()
        };
        view.desired.as_mut().unwrap().terminal = true;
        assert_eq!(next(&view), Step::Stop(Duration::ZERO));
        view.stopped = true;
        assert_eq!(next(&view), Step::Idle);
    }

    #[test]
    fn an_orphan_is_left_alone_until_it_is_confirmed() {
        let mut view = View {
            present: true,
            listed: true,
            absence: Absence::Orphan { confirmed: false },
            ..View::default()
        };
        assert_eq!(next(&view), Step::Idle);
        view.stopped = true;
        assert_eq!(next(&view), Step::Idle, "an end that may be news is kept");
        view.absence = Absence::Orphan { confirmed: true };
        assert_eq!(next(&view), Step::Release);
        view.stopped = false;
        assert_eq!(next(&view), Step::Stop(Duration::ZERO));
        view.present = false;
        assert_eq!(next(&view), Step::Forget);
    }

    #[test]
    fn a_pod_that_may_run_once_is_not_run_again_when_the_remote_lost_it() {
        let mut view = view();
        let wanted = view.desired.as_mut().unwrap();
        wanted.ran = true;
        wanted.at_most_once = true;
        assert_eq!(next(&view), Step::Fail(Failure::Lost));
    }

    #[test]
    fn a_finished_pod_is_not_started_again() {
        let mut view = view();
        view.desired.as_mut().unwrap().terminal = true;
        assert_eq!(next(&view), Step::Idle);
    }

    #[test]
    fn an_image_change_does_not_run_an_ended_pod_again() {
        let mut view = View {
            present: true,
            accepted: Some(Revision::from_text("other")),
            stopped: true,
            ..view()
        };
        view.desired.as_mut().unwrap().always = false;
        assert_eq!(next(&view), Step::Idle);
        view.desired.as_mut().unwrap().always = true;
        assert_eq!(next(&view), Step::Ensure(PodChange::Image));
    }

    #[test]
    fn a_failed_pod_loses_what_still_runs() {
        let mut view = View {
            failed: true,
            present: true,
            ..view()
        };
        assert_eq!(next(&view), Step::Stop(Duration::ZERO));
        view.present = false;
        view.accepted = Some(desired().revision);
        assert_eq!(next(&view), Step::Stop(Duration::ZERO), "not shown yet");
        view.stopped = true;
        assert_eq!(next(&view), Step::Idle);
    }

    #[test]
    fn an_evicted_pod_gets_its_own_grace_and_a_deletion_may_shorten_it() {
        let own = Duration::from_secs(30);
        let mut view = View {
            failed: true,
            evicted: true,
            present: true,
            ..view()
        };
        assert_eq!(next(&view), Step::Stop(own));
        view.stopping = Some(own);
        view.stop_again = Some(own);
        assert_eq!(next(&view), Step::Later(own));
        view.desired.as_mut().unwrap().deletion = Some(Duration::from_secs(1));
        assert_eq!(next(&view), Step::Stop(Duration::from_secs(1)));
    }

    #[test]
    fn a_failed_call_is_repeated_after_its_back_off_and_never_given_up() {
        let wait = Duration::from_secs(10);
        let view = View {
            admitted: true,
            back_off: Some(wait),
            ..view()
        };
        assert_eq!(next(&view), Step::Later(wait));
    }

    #[test]
    fn new_inputs_are_given_to_what_runs_and_start_nothing() {
        let mut view = View {
            present: true,
            accepted: Some(desired().revision),
            ensured: true,
            outdated: true,
            ..view()
        };
        assert_eq!(next(&view), Step::Ensure(PodChange::Payload));
        view.back_off = Some(Duration::from_secs(10));
        assert_eq!(next(&view), Step::Later(Duration::from_secs(10)));
        view.back_off = None;
        view.ensured = false;
        assert_eq!(
            next(&view),
            Step::Ensure(PodChange::First),
            "which has them"
        );
        view.ensured = true;
        view.restart = Some(Duration::from_secs(10));
        assert_eq!(
            next(&view),
            Step::Later(Duration::from_secs(10)),
            "it starts with them"
        );
        view.restart = None;
        view.stopped = true;
        view.desired.as_mut().unwrap().always = false;
        assert_eq!(next(&view), Step::Idle, "it has ended for good");
    }

    #[test]
    fn an_ended_pod_is_started_again_after_its_wait() {
        let mut view = View {
            present: true,
            accepted: Some(desired().revision),
            ensured: true,
            restart: Some(Duration::from_secs(10)),
            ..view()
        };
        assert_eq!(next(&view), Step::Later(Duration::from_secs(10)));
        view.restart = Some(Duration::ZERO);
        assert_eq!(next(&view), Step::Ensure(PodChange::Restart));
        view.desired.as_mut().unwrap().deletion = Some(Duration::ZERO);
        assert_eq!(next(&view), Step::Stop(Duration::ZERO), "not when deleted");
    }

    #[test]
    fn a_pod_past_its_active_deadline_fails_when_it_can_be_reached() {
        let mut view = View {
            present: true,
            accepted: Some(desired().revision),
            ensured: true,
            expires: Some(Duration::from_secs(10)),
            ..view()
        };
        assert_eq!(next(&view), Step::Later(Duration::from_secs(10)));
        view.expires = Some(Duration::ZERO);
        assert_eq!(next(&view), Step::Fail(Failure::DeadlineExceeded));
        view.unreachable = true;
        assert_eq!(next(&view), Step::Idle);
        view.unreachable = false;
        view.desired.as_mut().unwrap().deletion = Some(Duration::ZERO);
        assert_eq!(next(&view), Step::Stop(Duration::ZERO), "deletion is first");
        view.desired.as_mut().unwrap().deletion = None;
        view.desired.as_mut().unwrap().terminal = true;
        view.stopped = true;
        assert_eq!(next(&view), Step::Idle, "it is over already");
    }
}
