//! Each decision, and why.

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

#[test]
fn a_pod_that_is_to_be_replaced_goes_when_the_remote_has_taken_the_stop() {
    let mut view = View {
        present: true,
        accepted: Some(desired().revision),
        ensured: true,
        failed: true,
        unreachable: true,
        ..view()
    };
    assert_eq!(next(&view), Step::Stop(Duration::ZERO));
    view.stopping = Some(Duration::ZERO);
    view.stop_again = Some(Duration::from_secs(60));
    // Until its status says why.
    assert_eq!(next(&view), Step::Later(Duration::from_secs(60)));
    view.desired.as_mut().unwrap().terminal = true;
    view.replaced = true;
    assert_eq!(next(&view), Step::Delete);
    view.back_off = Some(Duration::from_secs(30));
    assert_eq!(next(&view), Step::Later(Duration::from_secs(30)));
    view.back_off = None;
    view.stop_again = Some(Duration::ZERO);
    assert_eq!(next(&view), Step::Stop(Duration::ZERO), "it may be undone");
    view.stopped = true;
    assert_eq!(next(&view), Step::Delete);
    // The next process, and a user who deletes it meanwhile.
    view.stopped = false;
    view.stopping = None;
    view.desired.as_mut().unwrap().deletion = Some(Duration::from_secs(30));
    assert_eq!(next(&view), Step::Stop(Duration::ZERO));
    view.stopping = Some(Duration::ZERO);
    view.stop_again = Some(Duration::from_secs(60));
    assert_eq!(next(&view), Step::Delete);
    // Its object is gone: its end is still to be seen, whoever replaces it.
    view.desired = None;
    assert_eq!(next(&view), Step::Later(Duration::from_secs(60)));
}

#[test]
fn what_the_backend_reads_of_the_metadata_is_told_and_holds_nothing_up() {
    let mut view = View {
        present: true,
        accepted: Some(desired().revision),
        ensured: true,
        unheeded: true,
        ..view()
    };
    assert_eq!(next(&view), Step::Ensure(PodChange::Metadata));
    view.outdated = true;
    assert_eq!(next(&view), Step::Ensure(PodChange::Payload), "one by one");
    view.outdated = false;
    view.restart = Some(Duration::from_secs(10));
    assert_eq!(next(&view), Step::Ensure(PodChange::Metadata));
    view.restart = Some(Duration::ZERO);
    assert_eq!(
        next(&view),
        Step::Ensure(PodChange::Restart),
        "tells it too"
    );
    view.restart = None;
    view.accepted = None;
    assert_eq!(next(&view), Step::Ensure(PodChange::Repeat), "tells it too");
    view.desired.as_mut().unwrap().terminal = true;
    view.stopped = true;
    assert_eq!(next(&view), Step::Idle, "it is over");
}

#[test]
fn a_pod_that_lost_its_place_is_asked_for_again_without_admission() {
    let mut view = View {
        present: true,
        ensured: true,
        ..view()
    };
    view.desired.as_mut().unwrap().ran = true;
    assert_eq!(next(&view), Step::Ensure(PodChange::Repeat));
    view.back_off = Some(Duration::from_secs(10));
    assert_eq!(next(&view), Step::Later(Duration::from_secs(10)));
    // The next process finds nothing of it at the remote.
    view.back_off = None;
    view.ensured = false;
    view.present = false;
    assert_eq!(next(&view), Step::Ensure(PodChange::First));
}
