//! Phases and conditions, as `kubelet_pods_test.go` and `generate_test.go` have them.

use super::*;

#[test]
fn phases_without_init_containers_are_the_kubelets() {
    let (run, wait, ok, bad) = (running(), waits("ContainerCreating"), exited(0), exited(1));
    for (policy, a, b, phase) in [
        ("Always", &wait, &wait, "Pending"),
        ("Always", &run, &run, "Running"),
        ("Always", &run, &wait, "Pending"),
        ("Always", &run, &ok, "Running"),
        ("Always", &ok, &ok, "Running"),
        ("Always", &bad, &bad, "Running"),
        ("Never", &run, &run, "Running"),
        ("Never", &ok, &run, "Running"),
        ("Never", &bad, &run, "Running"),
        ("Never", &ok, &ok, "Succeeded"),
        ("Never", &ok, &bad, "Failed"),
        ("Never", &ok, &wait, "Pending"),
        ("OnFailure", &ok, &ok, "Succeeded"),
        ("OnFailure", &ok, &bad, "Running"),
        ("OnFailure", &bad, &bad, "Running"),
        ("OnFailure", &run, &ok, "Running"),
        ("OnFailure", &Fact::Unknown, &run, "Pending"),
    ] {
        let shown = phase_of(policy, vec![], &[], &[("a", a.clone()), ("b", b.clone())]);
        assert_eq!(shown, phase, "{policy} {a:?} {b:?}");
    }
}

#[test]
fn phases_with_init_containers_are_the_kubelets() {
    let (run, wait, ok, bad) = (running(), waits("PodInitializing"), exited(0), exited(1));
    for (policy, init, app, phase) in [
        ("Always", &wait, &wait, "Pending"),
        ("Always", &run, &wait, "Pending"),
        ("Always", &ok, &wait, "Pending"),
        ("Always", &ok, &run, "Running"),
        ("Always", &bad, &wait, "Pending"),
        ("Never", &bad, &wait, "Failed"),
        ("OnFailure", &bad, &wait, "Pending"),
        ("Never", &ok, &ok, "Succeeded"),
        ("Never", &ok, &bad, "Failed"),
        // The application runs, so its init container is done, told or not.
        ("Always", &Fact::Unknown, &run, "Running"),
        ("Never", &Fact::Unknown, &ok, "Succeeded"),
    ] {
        let shown = phase_of(
            policy,
            vec![container("i")],
            &[("i", init.clone())],
            &[("a", app.clone())],
        );
        assert_eq!(shown, phase, "{policy} init {init:?} app {app:?}");
    }
}

#[test]
fn phases_with_sidecars_are_the_kubelets() {
    let (run, wait, ok) = (running(), waits("PodInitializing"), exited(0));
    for (policy, side, app, phase) in [
        ("Always", &wait, &wait, "Pending"),
        ("Always", &run, &wait, "Pending"),
        ("Always", &run, &run, "Running"),
        ("Never", &run, &ok, "Running"),
        ("Never", &ok, &ok, "Succeeded"),
    ] {
        let shown = phase_of(
            policy,
            vec![sidecar("s")],
            &[("s", side.clone())],
            &[("a", app.clone())],
        );
        assert_eq!(shown, phase, "{policy} sidecar {side:?} app {app:?}");
    }
}

#[test]
fn a_new_pod_is_pending_with_every_container_waiting() {
    let pod = pod("Always", vec![], &["a", "b"]);
    let status = compute(&pod, None, &PodVerdict::None, None, at(100));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.start_time, Some(Time(at(100))));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.observed_generation, Some(1));
    let statuses = serde_json::to_value(&status.container_statuses).unwrap();
    assert_eq!(
        statuses[1],
        json!({
            "name": "b", "image": "b:1", "imageID": "", "ready": false, "restartCount": 0,
            "started": false, "state": {"waiting": {"reason": "ContainerCreating"}},
        })
    );
    let ready = condition(&status, "Ready");
    assert_eq!(ready.status, "False");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(
        ready.message.as_deref(),
        Some("containers with unready status: [a b]")
    );
    assert_eq!(condition(&status, "PodScheduled").status, "True");
    assert_eq!(condition(&status, "Initialized").status, "True");
    assert_eq!(
        condition(&status, "PodReadyToStartContainers").status,
        "False"
    );
}

#[test]
fn a_running_pod_is_ready_unless_the_remote_or_a_gate_says_otherwise() {
    let mut pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let status = now_of(&pod, &facts);
    for kind in [
        "Ready",
        "ContainersReady",
        "Initialized",
        "PodReadyToStartContainers",
    ] {
        assert_eq!(condition(&status, kind).status, "True", "{kind}");
    }
    assert_eq!(first(&status).started, Some(true));

    pod.spec.as_mut().unwrap().readiness_gates = Some(vec![PodReadinessGate {
        condition_type: "example.org/gate".into(),
    }]);
    facts.applied = Some(Revision::of(pod.spec.as_ref().unwrap()));
    let status = now_of(&pod, &facts);
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert_eq!(
        ready.message.as_deref(),
        Some("corresponding condition of pod readiness gate \"example.org/gate\" does not exist.")
    );
    let gate = |status: &str| PodCondition {
        type_: "example.org/gate".into(),
        status: status.into(),
        ..Default::default()
    };
    pod.status = Some(PodStatus {
        conditions: Some(vec![gate("False")]),
        ..Default::default()
    });
    assert_eq!(
        condition(&now_of(&pod, &facts), "Ready").message.as_deref(),
        Some("the status of pod readiness gate \"example.org/gate\" is not \"True\", but False")
    );
    pod.status = Some(PodStatus {
        conditions: Some(vec![gate("True")]),
        ..Default::default()
    });
    assert_eq!(condition(&now_of(&pod, &facts), "Ready").status, "True");

    facts.containers[0].ready = Some(false);
    assert_eq!(
        condition(&now_of(&pod, &facts), "Ready").reason.as_deref(),
        Some("ContainersNotReady")
    );
}

#[test]
fn initialized_names_the_init_containers_it_waits_for() {
    let pod = pod("Always", vec![container("i"), container("j")], &["a"]);
    let status = now_of(
        &pod,
        &facts(&pod, &[("i", exited(0)), ("j", running())], &[]),
    );
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.status, "False");
    assert_eq!(
        initialized.reason.as_deref(),
        Some("ContainersNotInitialized")
    );
    assert_eq!(
        initialized.message.as_deref(),
        Some("containers with incomplete status: [j]")
    );
    let init = status.init_container_statuses.unwrap();
    assert!(init[0].ready && !init[1].ready);
}

#[test]
fn conditions_of_ended_pods_say_how() {
    let pod = pod("Never", vec![], &["a"]);
    for (code, phase, reason) in [(0, "Succeeded", "PodCompleted"), (3, "Failed", "PodFailed")] {
        let status = now_of(&pod, &facts(&pod, &[], &[("a", exited(code))]));
        assert_eq!(status.phase.as_deref(), Some(phase));
        assert_eq!(condition(&status, "Ready").reason.as_deref(), Some(reason));
        assert_eq!(
            condition(&status, "ContainersReady").reason.as_deref(),
            Some(reason)
        );
        assert_eq!(
            condition(&status, "PodReadyToStartContainers").status,
            "False"
        );
    }
}

#[test]
fn an_unreachable_pod_is_unknown_and_keeps_what_was_last_seen() {
    let pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    facts.pod_ips = vec!["10.0.0.9".parse().unwrap()];
    let seen = now_of(&pod, &facts);
    let pod = showing(&pod, seen.clone());
    facts.reach = Reach::Unreachable {
        since: at(50),
        reason: "DeviceDisconnected".into(),
        message: "not heard of since 00:00:50".into(),
    };
    facts.containers[0].state = Fact::Unknown;
    facts.pod_ips.clear();
    let status = now_of(&pod, &facts);
    assert_eq!(status.phase.as_deref(), Some("Unknown"));
    assert_eq!(status.reason, None);
    for kind in ["Ready", "ContainersReady"] {
        assert_eq!(condition(&status, kind).status, "Unknown");
        assert_eq!(
            condition(&status, kind).reason.as_deref(),
            Some("DeviceDisconnected")
        );
    }
    assert_eq!(status.container_statuses, seen.container_statuses);
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    // Back again: as before.
    facts.reach = Reach::Reachable;
    facts.containers[0].state = running();
    let back = compute(
        &showing(&pod, status),
        Some(&facts),
        &PodVerdict::None,
        None,
        at(200),
    );
    assert_eq!(back.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&back, "Ready").status, "True");
    assert_eq!(back.start_time, seen.start_time);
}

#[test]
fn ready_turns_unknown_when_the_place_was_lost_and_not_before_it_was_ready() {
    let pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let seen = compute(&pod, Some(&facts), &PodVerdict::None, None, at(10));
    let pod = showing(&pod, seen);
    for (since, turned) in [(5, 10), (20, 20), (40, 30)] {
        facts.reach = Reach::Unreachable {
            since: at(since),
            reason: "DeviceDisconnected".into(),
            message: "m".into(),
        };
        let status = compute(&pod, Some(&facts), &PodVerdict::None, None, at(30));
        for kind in ["Ready", "ContainersReady"] {
            let turned = Some(Time(at(turned)));
            assert_eq!(condition(&status, kind).last_transition_time, turned);
        }
        // Told again, it has not turned again.
        let again = showing(&pod, status.clone());
        let again = compute(&again, Some(&facts), &PodVerdict::None, None, at(50));
        assert_eq!(again.conditions, status.conditions);
    }
}

#[test]
fn a_condition_moves_in_time_only_with_its_status() {
    let pod = pod("Always", vec![], &["a", "b"]);
    let one = compute(&pod, None, &PodVerdict::None, None, at(1));
    let half = facts(&pod, &[], &[("a", running())]);
    let two = compute(
        &showing(&pod, one),
        Some(&half),
        &PodVerdict::None,
        None,
        at(2),
    );
    let ready = condition(&two, "Ready");
    assert_eq!(
        ready.message.as_deref(),
        Some("containers with unready status: [b]")
    );
    assert_eq!(ready.last_transition_time, Some(Time(at(1))));
    let all = facts(&pod, &[], &[("a", running()), ("b", running())]);
    let three = compute(
        &showing(&pod, two),
        Some(&all),
        &PodVerdict::None,
        None,
        at(3),
    );
    assert_eq!(
        condition(&three, "Ready").last_transition_time,
        Some(Time(at(3)))
    );
}

#[test]
fn the_observed_generation_never_falls() {
    let mut pod = pod("Always", vec![], &["a"]);
    pod.status = Some(PodStatus {
        observed_generation: Some(5),
        ..Default::default()
    });
    let status = compute(&pod, None, &PodVerdict::None, None, at(1));
    assert_eq!(status.observed_generation, Some(5));
}
