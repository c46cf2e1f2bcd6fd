//! Container statuses and addresses.

use super::*;

#[test]
fn what_a_pod_waits_for_is_shown_on_the_container_that_is_next() {
    let told = Some(("Unplaceable", "no room"));
    let reason = |list: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        let state = list.as_ref().unwrap()[0].state.clone().unwrap();
        state.waiting.unwrap().reason.unwrap()
    };
    let plain = compute(
        &pod("Always", vec![], &["a"]),
        None,
        &PodVerdict::None,
        told,
        at(1),
    );
    assert_eq!(reason(&plain.container_statuses), "Unplaceable");
    let with_init = pod("Always", vec![container("i")], &["a"]);
    let status = compute(&with_init, None, &PodVerdict::None, told, at(1));
    assert_eq!(reason(&status.init_container_statuses), "Unplaceable");
    assert_eq!(reason(&status.container_statuses), "PodInitializing");
    // Once it no longer waits for that, it does not say so any more.
    let status = compute(
        &showing(&with_init, status),
        None,
        &PodVerdict::None,
        None,
        at(2),
    );
    assert_eq!(reason(&status.init_container_statuses), "PodInitializing");
}

#[test]
fn a_container_leaves_its_end_only_where_the_api_lets_it() {
    for (policy, code, leaves) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 1, true),
        ("OnFailure", 0, false),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let pod = pod(policy, vec![], &["a", "b"]);
        let ended = now_of(
            &pod,
            &facts(&pod, &[], &[("a", exited(code)), ("b", running())]),
        );
        let pod = showing(&pod, ended.clone());
        // As the kubelet counts: a restart is one when it has started.
        for (again, restarts) in [(running(), 1), (waits("CrashLoopBackOff"), 0)] {
            let status = now_of(&pod, &facts(&pod, &[], &[("a", again), ("b", running())]));
            assert_eq!(exit(&status, 0).is_none(), leaves, "{policy} {code}");
            if leaves {
                let last = first(&status)
                    .last_state
                    .as_ref()
                    .unwrap()
                    .terminated
                    .as_ref();
                assert_eq!(last.unwrap().exit_code, code);
                assert_eq!(first(&status).restart_count, restarts);
            } else {
                assert_eq!(first(&status), first(&ended));
            }
        }
    }
}

#[test]
fn a_container_that_waits_after_running_has_ended_unseen() {
    let pod = pod("Never", vec![], &["a"]);
    let pod = showing(&pod, now_of(&pod, &facts(&pod, &[], &[("a", running())])));
    let waiting = facts(&pod, &[], &[("a", waits("ContainerCreating"))]);
    let status = now_of(&pod, &waiting);
    let last = first(&status)
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .clone()
        .unwrap();
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
    assert_eq!(last.started_at, Some(Time(at(10))));
    // It is being started again, so the pod goes on, whatever its policy.
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(first(&status).restart_count, 0);
    let pod = showing(&pod, status.clone());
    let again = now_of(&pod, &waiting);
    assert_eq!(first(&again), first(&status));
    let started = now_of(&pod, &facts(&pod, &[], &[("a", running())]));
    assert_eq!(first(&started).restart_count, 1);
}

#[test]
fn restarts_are_the_remotes_count_and_never_fall() {
    let pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    facts.containers[0].restarts = Some(4);
    let pod = showing(&pod, now_of(&pod, &facts));
    assert_eq!(first(pod.status.as_ref().unwrap()).restart_count, 4);
    facts.containers[0].restarts = Some(0);
    assert_eq!(first(&now_of(&pod, &facts)).restart_count, 4);
}

#[test]
fn an_image_is_shown_as_the_user_wrote_it_once_it_is_the_one_that_runs() {
    let mut pod = pod("Always", vec![], &["a"]);
    let old = facts(&pod, &[], &[("a", running())]);
    let shown = now_of(&pod, &old);
    assert_eq!(first(&shown).image, "a:1");
    pod = showing(&pod, shown);
    pod.spec.as_mut().unwrap().containers[0].image = Some("a:2".into());
    assert_eq!(first(&now_of(&pod, &old)).image, "a:1");
    let new = facts(&pod, &[], &[("a", running())]);
    assert_eq!(first(&now_of(&pod, &new)).image, "a:2");
}

#[test]
fn a_start_that_the_facts_do_not_know_keeps_the_time_that_is_shown() {
    let pod = pod("Always", vec![], &["a"]);
    let pod = showing(&pod, now_of(&pod, &facts(&pod, &[], &[("a", running())])));
    let silent = facts(&pod, &[], &[("a", Fact::Running { started_at: None })]);
    let state = first(&now_of(&pod, &silent)).state.clone().unwrap();
    assert_eq!(state.running.unwrap().started_at, Some(Time(at(10))));
    let ended = now_of(&pod, &facts(&pod, &[], &[("a", exited(0))]));
    let end = first(&ended).state.clone().unwrap().terminated.unwrap();
    assert_eq!(
        (end.started_at, end.finished_at),
        (Some(Time(at(10))), None)
    );
    assert_eq!(end.reason.as_deref(), Some("Completed"));
}

#[test]
fn containers_the_remote_is_silent_about_keep_what_is_shown() {
    let pod = pod("Always", vec![], &["a"]);
    let shown = now_of(&pod, &facts(&pod, &[], &[("a", running())]));
    let pod = showing(&pod, shown.clone());
    for facts in [
        facts(&pod, &[], &[]),
        facts(&pod, &[], &[("a", Fact::Unknown)]),
    ] {
        assert_eq!(
            now_of(&pod, &facts).container_statuses,
            shown.container_statuses
        );
    }
    let without = compute(&pod, None, &PodVerdict::None, None, at(900));
    assert_eq!(patch(&shown, &without, "u"), None);
}

#[test]
fn addresses_are_one_of_each_family_and_those_the_api_accepts() {
    let mut pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let ips = |texts: &[&str]| {
        texts
            .iter()
            .map(|t| t.parse().unwrap())
            .collect::<Vec<IpAddr>>()
    };
    facts.pod_ips = ips(&["::ffff:10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]);
    facts.host_ips = ips(&["192.0.2.1"]);
    let status = now_of(&pod, &facts);
    let shown: Vec<String> = status.pod_ips.unwrap().into_iter().map(|p| p.ip).collect();
    assert_eq!(shown, ["10.0.0.1", "fd00::1"]);
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));

    facts.pod_ips.clear();
    assert_eq!(now_of(&pod, &facts).pod_ips, None);
    pod.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(now_of(&pod, &facts).pod_ip.as_deref(), Some("192.0.2.1"));
}

#[test]
fn an_ephemeral_container_is_refused_where_kubectl_debug_reads() {
    let mut pod = pod("Always", vec![], &["a"]);
    pod.spec.as_mut().unwrap().ephemeral_containers =
        Some(vec![k8s_openapi::api::core::v1::EphemeralContainer {
            name: "debug".into(),
            ..Default::default()
        }]);
    let status = compute(&pod, None, &PodVerdict::None, None, at(1));
    let state = status.ephemeral_container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap();
    assert!(
        state
            .waiting
            .unwrap()
            .message
            .unwrap()
            .contains("cannot run ephemeral")
    );
}
