//! How pods end: rejected, failed, stopped, lost.

use super::*;

#[test]
fn a_terminal_phase_stays_with_its_reason_whatever_comes() {
    let pod = pod("Always", vec![], &["a"]);
    let rejected = PodVerdict::Failed {
        reason: "OutOfcpu".into(),
        message: "no".into(),
        disruption: None,
    };
    let status = compute(&pod, None, &rejected, None, at(1));
    assert_eq!(status.container_statuses, None);
    let pod = showing(&pod, status.clone());
    for verdict in [
        PodVerdict::None,
        PodVerdict::Failed {
            reason: "Other".into(),
            message: String::new(),
            disruption: None,
        },
        PodVerdict::Terminating { stopped: false },
        PodVerdict::Terminating { stopped: true },
    ] {
        let facts = facts(&pod, &[], &[("a", running())]);
        for facts in [None, Some(&facts)] {
            let again = compute(&pod, facts, &verdict, None, at(500));
            assert_eq!(patch(&status, &again, "u"), None, "{verdict:?}");
        }
    }
}

#[test]
fn a_rejected_pod_that_waited_shows_the_verdict_where_kubectl_looks_first() {
    let pod = pod("Always", vec![], &["a"]);
    let waited = compute(
        &pod,
        None,
        &PodVerdict::None,
        Some(("Unplaceable", "")),
        at(1),
    );
    let verdict = PodVerdict::Failed {
        reason: "OutOfcpu".into(),
        message: "too big".into(),
        disruption: None,
    };
    let status = compute(&showing(&pod, waited), None, &verdict, None, at(2));
    let waiting = first(&status)
        .state
        .as_ref()
        .unwrap()
        .waiting
        .clone()
        .unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(status.message.as_deref(), Some("too big"));
}

#[test]
fn a_failed_pod_is_shown_failed_only_when_nothing_of_it_runs_within_reach() {
    let pod = pod("Always", vec![], &["a"]);
    let verdict = PodVerdict::Failed {
        reason: "DeadlineExceeded".into(),
        message: String::new(),
        disruption: None,
    };
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let status = compute(&pod, Some(&facts), &verdict, None, at(1));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.reason, None);
    let pod = showing(&pod, status);
    facts.ended = true;
    let status = compute(&pod, Some(&facts), &verdict, None, at(2));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(
        exit(&status, 0),
        Some((137, "ContainerStatusUnknown".into()))
    );
}

#[test]
fn a_pod_lost_with_its_device_fails_though_it_was_last_seen_running() {
    let pod = pod("Never", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    facts.reach = Reach::Unreachable {
        since: at(1),
        reason: "DeviceDisconnected".into(),
        message: "m".into(),
    };
    let verdict = PodVerdict::Failed {
        reason: "DeviceLost".into(),
        message: String::new(),
        disruption: None,
    };
    let status = compute(&pod, Some(&facts), &verdict, None, at(1));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(
        exit(&status, 0),
        Some((137, "ContainerStatusUnknown".into()))
    );
}

#[test]
fn a_stopped_pod_is_terminal_and_unknown_ends_are_shown_as_such() {
    let stopped = PodVerdict::Terminating { stopped: true };
    let pod = pod("Always", vec![], &["a", "b"]);
    for (a, b, phase, exits) in [
        (exited(0), exited(0), "Succeeded", [0, 0]),
        (exited(0), exited(143), "Failed", [0, 143]),
        (exited(0), vanished(), "Failed", [0, 137]),
        (running(), Fact::Unknown, "Failed", [137, 137]),
    ] {
        let facts = facts(&pod, &[], &[("a", a), ("b", b)]);
        let status = compute(&pod, Some(&facts), &stopped, None, at(1));
        assert_eq!(status.phase.as_deref(), Some(phase));
        let shown = [0, 1].map(|i| exit(&status, i).unwrap().0);
        assert_eq!(shown, exits);
        assert_eq!(condition(&status, "Ready").status, "False");
    }
    let status = compute(&pod, None, &stopped, None, at(1));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(exit(&status, 1).unwrap().1, "ContainerStatusUnknown");
}

#[test]
fn a_crashed_container_ends_with_its_last_known_exit() {
    let pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", waits("CrashLoopBackOff"))]);
    facts.containers[0].last = Some(Terminated {
        exit_code: Some(7),
        ..Default::default()
    });
    let status = compute(
        &pod,
        Some(&facts),
        &PodVerdict::Terminating { stopped: true },
        None,
        at(1),
    );
    assert_eq!(exit(&status, 0), Some((7, "Error".into())));
}

#[test]
fn a_terminating_pod_shows_its_containers_until_they_have_stopped() {
    let pod = pod("Always", vec![], &["a"]);
    let facts = facts(&pod, &[], &[("a", running())]);
    let status = compute(
        &pod,
        Some(&facts),
        &PodVerdict::Terminating { stopped: false },
        None,
        at(1),
    );
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(first(&status).ready);
}

#[test]
fn an_ended_pod_that_must_not_restart_is_over() {
    let ended = |policy: &str, fact: Fact| {
        let pod = pod(policy, vec![], &["a"]);
        let mut facts = facts(&pod, &[], &[("a", fact)]);
        facts.ended = true;
        now_of(&pod, &facts).phase.unwrap()
    };
    assert_eq!(ended("Never", Fact::Unknown), "Failed");
    assert_eq!(ended("OnFailure", exited(0)), "Succeeded");
    assert_eq!(ended("OnFailure", exited(1)), "Failed");
    assert_eq!(ended("Always", exited(0)), "Running");
}

#[test]
fn a_disruption_is_shown_with_the_end_and_not_before_and_stays() {
    let pod = pod("Never", vec![], &["a"]);
    let verdict = PodVerdict::Failed {
        reason: "Evicted".into(),
        message: "low on memory".into(),
        disruption: Some("TerminationByKubelet".into()),
    };
    let disrupted = |status: &PodStatus| {
        let mut all = status.conditions.clone().unwrap().into_iter();
        all.find(|c| c.type_ == "DisruptionTarget")
    };
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let status = compute(&pod, Some(&facts), &verdict, None, at(1));
    assert_eq!(disrupted(&status), None, "it runs");
    let pod = showing(&pod, status.clone());
    facts = self::facts(&pod, &[], &[("a", exited(143))]);
    facts.ended = true;
    let ended = compute(&pod, Some(&facts), &verdict, None, at(20));
    assert_eq!(ended.phase.as_deref(), Some("Failed"));
    assert_eq!(ended.reason.as_deref(), Some("Evicted"));
    assert_eq!(exit(&ended, 0), Some((143, "Error".into())));
    let condition = disrupted(&ended).unwrap();
    assert_eq!(condition.status, "True");
    assert_eq!(condition.reason.as_deref(), Some("TerminationByKubelet"));
    assert_eq!(condition.message.as_deref(), Some("low on memory"));
    // Without it the API server drops the condition.
    assert_eq!(condition.last_transition_time, Some(Time(at(20))));
    let body = patch(&status, &ended, "u").unwrap();
    let written = body["status"]["conditions"].as_array().unwrap();
    assert!(
        written
            .iter()
            .any(|c| c["type"] == "DisruptionTarget" && c["lastTransitionTime"].is_string())
    );
    // Nothing takes it back, and nobody writes it twice.
    let pod = showing(&pod, ended.clone());
    for verdict in [verdict, PodVerdict::None] {
        let again = compute(&pod, Some(&facts), &verdict, None, at(500));
        assert_eq!(patch(&ended, &again, "u"), None);
    }
}
