//! Pods that are run in another place without another object.

use super::*;

/// The place that a container runs at is in its ID.
fn at_place(pod: &Pod, place: &str, state: Fact) -> PodFacts {
    let mut facts = facts(pod, &[], &[("a", state)]);
    facts.accepted.clone_from(&facts.applied);
    facts.containers[0].container_id = Some(format!("test://{place}/a"));
    facts
}

/// Nothing of it runs, and no place was told of it.
fn nowhere(pod: &Pod) -> PodFacts {
    let mut facts = facts(pod, &[], &[("a", waits(""))]);
    facts.applied = None;
    facts
}

fn now(pod: &Pod, facts: Option<&PodFacts>, waiting: Option<(&str, &str)>) -> Pod {
    let verdict = PodVerdict::None;
    let status = compute(pod, facts, &verdict, waiting, at(100));
    let shown = showing(pod, status.clone());
    let again = compute(&shown, facts, &verdict, waiting, at(200));
    assert_eq!(again, status, "said once");
    shown
}

fn shown(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap()
}

fn phase(pod: &Pod) -> &str {
    shown(pod).phase.as_deref().unwrap()
}

fn last_code(pod: &Pod) -> Option<(i32, String)> {
    let last = first(shown(pod)).last_state.as_ref()?.terminated.as_ref()?;
    Some((last.exit_code, last.reason.clone().unwrap_or_default()))
}

const UNKNOWN: (i32, &str) = (137, "ContainerStatusUnknown");

fn is_unknown(end: Option<&(i32, String)>) -> bool {
    end.is_some_and(|(code, reason)| (*code, reason.as_str()) == UNKNOWN)
}

fn away(mut facts: PodFacts) -> PodFacts {
    facts.reach = Reach::Unreachable {
        since: at(50),
        reason: "DeviceDisconnected".into(),
        message: "d1 does not answer".into(),
    };
    facts
}

#[test]
fn a_pod_that_waits_for_another_place_says_so_and_runs_there_one_restart_later() {
    let pod = now(&pod("Always", vec![], &["a"]), None, None);
    let runs = now(&pod, Some(&at_place(&pod, "d1", running())), None);
    let lost = now(&runs, Some(&away(at_place(&pod, "d1", running()))), None);
    assert_eq!(phase(&lost), "Unknown");
    assert_eq!(shown(&lost).reason, None, "kubectl prints the phase");

    // Taken from its place, no other one told yet.
    let taken = now(&lost, Some(&nowhere(&pod)), None);
    assert_eq!(phase(&taken), "Pending");
    assert!(is_unknown(last_code(&taken).as_ref()));
    let why = ("DeviceTimeout", "no other device matches zone=a");
    let waiting = now(&taken, Some(&nowhere(&pod)), Some(why));
    assert_eq!(phase(&waiting), "Pending");
    assert_eq!(shown(&waiting).reason.as_deref(), Some("DeviceTimeout"));
    assert_eq!(shown(&waiting).message.as_deref(), Some(why.1));
    let ready = condition(shown(&waiting), "Ready");
    assert_eq!(
        (&*ready.status, ready.reason.as_deref()),
        ("False", Some("ContainersNotReady"))
    );
    let state = first(shown(&waiting)).state.as_ref().unwrap();
    let reason = state.waiting.as_ref().unwrap().reason.as_deref();
    assert_eq!(reason, Some("DeviceTimeout"));
    assert_eq!(first(shown(&waiting)).restart_count, 0);

    // Told of it, and on its way there.
    let mut told = at_place(&pod, "d2", waits("ContainerCreating"));
    told.applied = None;
    let placed = now(&waiting, Some(&told), None);
    assert_eq!(phase(&placed), "Pending");
    assert_eq!(shown(&placed).reason, None);
    for counts in [None, Some(0)] {
        let mut there = at_place(&pod, "d2", running());
        there.containers[0].restarts = counts;
        let again = now(&placed, Some(&there), None);
        assert_eq!(phase(&again), "Running");
        assert_eq!(first(shown(&again)).restart_count, 1);
        assert!(is_unknown(last_code(&again).as_ref()));
        let id = first(shown(&again)).container_id.as_deref();
        assert_eq!(id, Some("test://d2/a"));
        assert_eq!(condition(shown(&again), "Ready").status, "True");
    }
}

/// It is seen on its way there, and never without a place.
#[test]
fn a_container_that_is_made_elsewhere_is_counted_once() {
    let pod = pod("Always", vec![], &["a"]);
    let runs = now(&pod, Some(&at_place(&pod, "d1", running())), None);
    for counts in [None, Some(0)] {
        let mut there = at_place(&pod, "d2", waits("ContainerCreating"));
        there.containers[0].restarts = counts;
        let made = now(&runs, Some(&there), None);
        assert!(is_unknown(last_code(&made).as_ref()));
        there.containers[0].state = running();
        let again = now(&made, Some(&there), None);
        assert_eq!(first(shown(&again)).restart_count, 1);
        let again = now(&again, Some(&there), None);
        assert_eq!(first(shown(&again)).restart_count, 1);
    }
    // It was between two starts when it lost its place.
    let mut crashed = at_place(&pod, "d1", waits("CrashLoopBackOff"));
    crashed.containers[0].restarts = Some(3);
    crashed.containers[0].last = Some(Terminated {
        exit_code: Some(1),
        ..Terminated::default()
    });
    let loops = now(&runs, Some(&crashed), None);
    let mut there = at_place(&pod, "d2", running());
    there.containers[0].restarts = Some(0);
    let again = now(&now(&loops, Some(&nowhere(&pod)), None), Some(&there), None);
    assert_eq!(first(shown(&again)).restart_count, 4);
    // One that never ran there has nothing to count.
    let waits = now(
        &pod,
        Some(&at_place(&pod, "d1", waits("ErrImagePull"))),
        None,
    );
    let mut there = at_place(&pod, "d2", running());
    there.containers[0].restarts = Some(0);
    let first_run = now(&waits, Some(&there), None);
    assert_eq!(first(shown(&first_run)).restart_count, 0);
}

/// All of it between two writes: the remote was faster than Kubernetes.
#[test]
fn a_container_with_another_id_has_replaced_the_one_before() {
    let pod = pod("Always", vec![], &["a"]);
    let runs = now(&pod, Some(&at_place(&pod, "d1", running())), None);
    for (counts, wanted) in [(None, 1), (Some(0), 1), (Some(4), 4)] {
        let mut there = at_place(&pod, "d2", running());
        there.containers[0].restarts = counts;
        let moved = now(&runs, Some(&there), None);
        assert_eq!(first(shown(&moved)).restart_count, wanted);
        assert!(is_unknown(last_code(&moved).as_ref()));
    }
    let same = now(&runs, Some(&at_place(&pod, "d1", running())), None);
    assert_eq!(first(shown(&same)).restart_count, 0);
    assert_eq!(last_code(&same), None);
}

/// A process that finds nothing of a pod at the remote, and no place for it.
#[test]
fn what_ran_and_is_nowhere_is_not_shown_running_while_it_waits() {
    let pod = pod("OnFailure", vec![], &["a"]);
    let runs = now(&pod, Some(&at_place(&pod, "d1", running())), None);
    let silent = now(&runs, None, None);
    assert_eq!(phase(&silent), "Running", "nothing is known yet");
    let waiting = now(&runs, None, Some(("DeviceTimeout", "none is free")));
    assert_eq!(phase(&waiting), "Pending");
    assert!(is_unknown(last_code(&waiting).as_ref()));
    assert_eq!(shown(&waiting).reason.as_deref(), Some("DeviceTimeout"));
}

#[test]
fn a_pod_that_never_ran_waits_as_before() {
    let pod = now(&pod("Always", vec![], &["a"]), None, None);
    let why = Some(("NoDevice", "none is free"));
    let waiting = now(&pod, None, why);
    assert_eq!(phase(&waiting), "Pending");
    assert_eq!(shown(&waiting).reason, None, "its containers say it");
    assert_eq!(last_code(&waiting), None);
}

#[test]
fn a_crash_loop_in_its_place_runs_on() {
    let pod = pod("Always", vec![], &["a"]);
    let runs = now(&pod, Some(&at_place(&pod, "d1", running())), None);
    let mut crashed = at_place(&pod, "d1", waits("CrashLoopBackOff"));
    crashed.containers[0].last = Some(Terminated {
        exit_code: Some(1),
        ..Terminated::default()
    });
    let loops = now(&runs, Some(&crashed), None);
    assert_eq!(phase(&loops), "Running");
    // It cannot be reached for a while, and is as it was.
    let lost = now(&loops, Some(&away(crashed.clone())), None);
    assert_eq!(phase(&now(&lost, Some(&crashed), None)), "Running");
}

#[test]
fn init_containers_run_again_in_another_place() {
    let pod = pod("Always", vec![container("i")], &["a"]);
    let mut facts = facts(&pod, &[("i", exited(0))], &[("a", running())]);
    facts.accepted.clone_from(&facts.applied);
    let runs = now(&pod, Some(&facts), None);
    let mut nowhere = nowhere(&pod);
    nowhere.init = vec![vk_provider::ContainerFact::new("i", waits(""))];
    let waiting = now(
        &runs,
        Some(&nowhere),
        Some(("DeviceTimeout", "none is free")),
    );
    assert_eq!(phase(&waiting), "Pending");
    assert_eq!(shown(&waiting).reason.as_deref(), Some("DeviceTimeout"));
    facts.applied = None;
    facts.init[0].state = running();
    facts.containers[0].state = waits("PodInitializing");
    let begins = now(&waiting, Some(&facts), None);
    assert_eq!(phase(&begins), "Pending");
}
