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
    /// The remote shows the pod.
    pub present: bool,
    /// The revision that the remote has durably accepted.
    pub accepted: Option<Revision>,
    /// The backend was given this pod since this process started.
    pub ensured: bool,
    /// Admission has let it in (or the remote has it).
    pub admitted: bool,
    /// It is Failed by our or the backend's verdict.
    pub failed: bool,
    /// Grace of the last stop that the backend took.
    pub stopping: Option<Duration>,
    /// Nothing of it runs, for certain.
    pub stopped: bool,
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
        /// Two complete listings agree, the second one after the pods were synced.
        confirmed: bool,
    },
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something changes.
    Idle,
    /// Nothing until this much time has passed.
    Later(Duration),
    /// Ask whether the node takes it.
    Admit,
    /// Bring the remote to the present revision.
    Ensure(PodChange),
    /// The remote lost a pod that may run at most once and did run: fail it.
    Lost,
    /// End it.
    Stop(Duration),
    /// Remove the object from Kubernetes.
    Delete,
    /// Free everything at the remote.
    Release,
    /// Drop the record.
    Forget,
}

/// The next step about a pod.
pub fn plan(view: &View) -> Step {
    let step = wanted(view);
    match (&step, view.back_off) {
        (Step::Idle | Step::Forget, _) | (_, None) => step,
        // Less grace than before is news and does not wait for a retry.
        (Step::Stop(grace), Some(_)) if view.stopping.is_some_and(|g| *grace < g) => step,
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
    if view.failed {
        // Whatever the verdict, what it left running has to end.
        let runs = view.present || view.accepted.is_some();
        return if runs && !view.stopped {
            stop(view, Duration::ZERO)
        } else {
            Step::Idle
        };
    }
    if desired.terminal || !view.listed {
        return Step::Idle;
    }
    match &view.accepted {
        // It has ended for good: another image does not make it run again.
        Some(_) if view.stopped && !desired.always => Step::Idle,
        Some(revision) if *revision != desired.revision => Step::Ensure(PodChange::Image),
        Some(_) if view.ensured => Step::Idle,
        // Found again after a restart: the backend learns the pod, and finds
        // that there is nothing to do.
        Some(_) => Step::Ensure(PodChange::First),
        None if desired.ran && desired.at_most_once => Step::Lost,
        None if view.present => Step::Ensure(PodChange::Repeat),
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

/// Stop, unless the same or a shorter grace already runs.
fn stop(view: &View, grace: Duration) -> Step {
    match view.stopping {
        Some(asked) if asked <= grace => Step::Idle,
        _ => Step::Stop(grace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::pod;

    fn desired() -> Desired {
        Desired::of(&pod("a", "uid-a")).unwrap()
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
        assert_eq!(plan(&view), Step::Admit);
        view.admitted = true;
        assert_eq!(plan(&view), Step::Ensure(PodChange::First));
        view.accepted = Some(desired().revision);
        view.ensured = true;
        assert_eq!(plan(&view), Step::Idle);
    }

    #[test]
    fn nothing_starts_before_the_remote_has_been_listed() {
        let view = View {
            listed: false,
            ..view()
        };
        assert_eq!(plan(&view), Step::Idle);
    }

    #[test]
    fn an_explicit_delete_does_not_wait_for_the_listing() {
        let mut view = View {
            listed: false,
            ..view()
        };
        view.desired.as_mut().unwrap().deletion = Some(Duration::from_secs(30));
        assert_eq!(plan(&view), Step::Stop(Duration::from_secs(30)));
    }

    #[test]
    fn a_pod_that_the_remote_already_runs_is_made_known_without_admission() {
        let mut view = View {
            present: true,
            accepted: Some(desired().revision),
            ..view()
        };
        assert_eq!(plan(&view), Step::Ensure(PodChange::First));
        view.ensured = true;
        assert_eq!(plan(&view), Step::Idle);
    }

    #[test]
    fn an_image_that_changed_while_we_were_away_is_ensured() {
        let view = View {
            present: true,
            accepted: Some(Revision::from_text("other")),
            ..view()
        };
        assert_eq!(plan(&view), Step::Ensure(PodChange::Image));
    }

    #[test]
    fn deletion_stops_then_waits_for_the_terminal_status_then_deletes() {
        let mut view = view();
        let grace = Duration::from_secs(30);
        view.desired.as_mut().unwrap().deletion = Some(grace);
        assert_eq!(plan(&view), Step::Stop(grace));
        view.stopping = Some(grace);
        assert_eq!(plan(&view), Step::Idle);
        view.desired.as_mut().unwrap().deletion = Some(Duration::from_secs(1));
        assert_eq!(plan(&view), Step::Stop(Duration::from_secs(1)), "shortened");
        view.stopped = true;
        assert_eq!(plan(&view), Step::Idle);
        view.desired.as_mut().unwrap().terminal = true;
        assert_eq!(plan(&view), Step::Delete);
    }

    #[test]
    fn a_forced_delete_still_stops_and_frees_the_workload() {
        let mut view = View {
            desired: None,
            present: true,
            listed: true,
            ..View::default()
        };
        assert_eq!(plan(&view), Step::Stop(Duration::ZERO));
        view.stopping = Some(Duration::ZERO);
        assert_eq!(plan(&view), Step::Idle);
        view.stopped = true;
        assert_eq!(plan(&view), Step::Release);
    }

    #[test]
    fn an_orphan_is_left_alone_until_it_is_confirmed() {
        let mut view = View {
            present: true,
            listed: true,
            absence: Absence::Orphan { confirmed: false },
            ..View::default()
        };
        assert_eq!(plan(&view), Step::Idle);
        view.stopped = true;
        assert_eq!(plan(&view), Step::Idle, "an end that may be news is kept");
        view.absence = Absence::Orphan { confirmed: true };
        assert_eq!(plan(&view), Step::Release);
        view.stopped = false;
        assert_eq!(plan(&view), Step::Stop(Duration::ZERO));
        view.present = false;
        assert_eq!(plan(&view), Step::Forget);
    }

    #[test]
    fn a_pod_that_may_run_once_is_not_run_again_when_the_remote_lost_it() {
        let mut view = view();
        let wanted = view.desired.as_mut().unwrap();
        wanted.ran = true;
        wanted.at_most_once = true;
        assert_eq!(plan(&view), Step::Lost);
    }

    #[test]
    fn a_finished_pod_is_not_started_again() {
        let mut view = view();
        view.desired.as_mut().unwrap().terminal = true;
        assert_eq!(plan(&view), Step::Idle);
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
        assert_eq!(plan(&view), Step::Idle);
        view.desired.as_mut().unwrap().always = true;
        assert_eq!(plan(&view), Step::Ensure(PodChange::Image));
    }

    #[test]
    fn a_failed_pod_loses_what_still_runs() {
        let mut view = View {
            failed: true,
            present: true,
            ..view()
        };
        assert_eq!(plan(&view), Step::Stop(Duration::ZERO));
        view.stopped = true;
        assert_eq!(plan(&view), Step::Idle);
    }

    #[test]
    fn a_failed_call_is_repeated_after_its_back_off_and_never_given_up() {
        let wait = Duration::from_secs(10);
        let view = View {
            admitted: true,
            back_off: Some(wait),
            ..view()
        };
        assert_eq!(plan(&view), Step::Later(wait));
    }
}
