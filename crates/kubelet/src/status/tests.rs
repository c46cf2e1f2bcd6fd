//! Tables after the kubelet's own (`kubelet_pods_test.go`, `generate_test.go`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, Pod, PodCondition, PodReadinessGate, PodSpec, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use vk_provider::{ContainerFact, ContainerState as Fact, PodFacts, PodKey, Reach, Revision, Terminated};

use super::*;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: Some(format!("{name}:1")),
        ..Default::default()
    }
}

pub(super) fn sidecar(name: &str) -> Container {
    Container {
        restart_policy: Some("Always".into()),
        ..container(name)
    }
}

pub(super) fn pod(policy: &str, init: Vec<Container>, containers: &[&str]) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("p".into()),
            namespace: Some("default".into()),
            uid: Some("u".into()),
            generation: Some(1),
            ..Default::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some(policy.into()),
            init_containers: Some(init).filter(|i| !i.is_empty()),
            containers: containers.iter().map(|name| container(name)).collect(),
            ..Default::default()
        }),
        status: None,
    }
}

pub(super) fn facts(pod: &Pod, init: &[(&str, Fact)], containers: &[(&str, Fact)]) -> PodFacts {
    let mut facts = PodFacts::new(PodKey::of(pod).unwrap(), "n".into(), 1);
    facts.applied = Some(Revision::of(pod.spec.as_ref().unwrap()));
    let of = |list: &[(&str, Fact)]| list.iter().map(|(n, s)| ContainerFact::new(n, s.clone())).collect();
    facts.init = of(init);
    facts.containers = of(containers);
    facts
}

pub(super) fn running() -> Fact {
    Fact::Running { started_at: Some(at(10)) }
}

pub(super) fn exited(code: i32) -> Fact {
    Fact::Terminated(Terminated { exit_code: Some(code), ..Default::default() })
}

pub(super) fn vanished() -> Fact {
    Fact::Terminated(Terminated::default())
}

pub(super) fn waits(reason: &str) -> Fact {
    Fact::Waiting { reason: reason.into(), message: String::new() }
}

fn now_of(pod: &Pod, facts: &PodFacts) -> PodStatus {
    compute(pod, Some(facts), &PodVerdict::None, None, at(100))
}

/// The pod as the API shows it after this status.
pub(super) fn showing(pod: &Pod, status: PodStatus) -> Pod {
    Pod { status: Some(status), ..pod.clone() }
}

fn phase_of(policy: &str, init: Vec<Container>, of_init: &[(&str, Fact)], containers: &[(&str, Fact)]) -> String {
    let names: Vec<&str> = containers.iter().map(|(name, _)| *name).collect();
    let pod = pod(policy, init, &names);
    now_of(&pod, &facts(&pod, of_init, containers)).phase.unwrap()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind).unwrap()
}

fn first(status: &PodStatus) -> &k8s_openapi::api::core::v1::ContainerStatus {
    &status.container_statuses.as_ref().unwrap()[0]
}

fn exit(status: &PodStatus, index: usize) -> Option<(i32, String)> {
    let state = status.container_statuses.as_ref()?[index].state.as_ref()?;
    let end = state.terminated.as_ref()?;
    Some((end.exit_code, end.reason.clone().unwrap_or_default()))
}

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
        let shown = phase_of(policy, vec![container("i")], &[("i", init.clone())], &[("a", app.clone())]);
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
        let shown = phase_of(policy, vec![sidecar("s")], &[("s", side.clone())], &[("a", app.clone())]);
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
    assert_eq!(statuses[1], json!({
        "name": "b", "image": "b:1", "imageID": "", "ready": false, "restartCount": 0,
        "started": false, "state": {"waiting": {"reason": "ContainerCreating"}},
    }));
    let ready = condition(&status, "Ready");
    assert_eq!(ready.status, "False");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a b]"));
    assert_eq!(condition(&status, "PodScheduled").status, "True");
    assert_eq!(condition(&status, "Initialized").status, "True");
    assert_eq!(condition(&status, "PodReadyToStartContainers").status, "False");
}

#[test]
fn what_a_pod_waits_for_is_shown_on_the_container_that_is_next() {
    let told = Some(("Unplaceable", "no room"));
    let reason = |list: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        let state = list.as_ref().unwrap()[0].state.clone().unwrap();
        state.waiting.unwrap().reason.unwrap()
    };
    let plain = compute(&pod("Always", vec![], &["a"]), None, &PodVerdict::None, told, at(1));
    assert_eq!(reason(&plain.container_statuses), "Unplaceable");
    let with_init = pod("Always", vec![container("i")], &["a"]);
    let status = compute(&with_init, None, &PodVerdict::None, told, at(1));
    assert_eq!(reason(&status.init_container_statuses), "Unplaceable");
    assert_eq!(reason(&status.container_statuses), "PodInitializing");
    // Once it no longer waits for that, it does not say so any more.
    let status = compute(&showing(&with_init, status), None, &PodVerdict::None, None, at(2));
    assert_eq!(reason(&status.init_container_statuses), "PodInitializing");
}

#[test]
fn a_running_pod_is_ready_unless_the_remote_or_a_gate_says_otherwise() {
    let mut pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let status = now_of(&pod, &facts);
    for kind in ["Ready", "ContainersReady", "Initialized", "PodReadyToStartContainers"] {
        assert_eq!(condition(&status, kind).status, "True", "{kind}");
    }
    assert_eq!(first(&status).started, Some(true));

    pod.spec.as_mut().unwrap().readiness_gates =
        Some(vec![PodReadinessGate { condition_type: "example.org/gate".into() }]);
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
    pod.status = Some(PodStatus { conditions: Some(vec![gate("False")]), ..Default::default() });
    assert_eq!(
        condition(&now_of(&pod, &facts), "Ready").message.as_deref(),
        Some("the status of pod readiness gate \"example.org/gate\" is not \"True\", but False")
    );
    pod.status = Some(PodStatus { conditions: Some(vec![gate("True")]), ..Default::default() });
    assert_eq!(condition(&now_of(&pod, &facts), "Ready").status, "True");

    facts.containers[0].ready = Some(false);
    assert_eq!(condition(&now_of(&pod, &facts), "Ready").reason.as_deref(), Some("ContainersNotReady"));
}

#[test]
fn initialized_names_the_init_containers_it_waits_for() {
    let pod = pod("Always", vec![container("i"), container("j")], &["a"]);
    let status = now_of(&pod, &facts(&pod, &[("i", exited(0)), ("j", running())], &[]));
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.status, "False");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [j]"));
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
        assert_eq!(condition(&status, "ContainersReady").reason.as_deref(), Some(reason));
        assert_eq!(condition(&status, "PodReadyToStartContainers").status, "False");
    }
}

#[test]
fn a_terminal_phase_stays_with_its_reason_whatever_comes() {
    let pod = pod("Always", vec![], &["a"]);
    let rejected = PodVerdict::Failed { reason: "OutOfcpu".into(), message: "no".into() };
    let status = compute(&pod, None, &rejected, None, at(1));
    assert_eq!(status.container_statuses, None);
    let pod = showing(&pod, status.clone());
    for verdict in [
        PodVerdict::None,
        PodVerdict::Failed { reason: "Other".into(), message: String::new() },
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
    let waited = compute(&pod, None, &PodVerdict::None, Some(("Unplaceable", "")), at(1));
    let verdict = PodVerdict::Failed { reason: "OutOfcpu".into(), message: "too big".into() };
    let status = compute(&showing(&pod, waited), None, &verdict, None, at(2));
    let waiting = first(&status).state.as_ref().unwrap().waiting.clone().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(status.message.as_deref(), Some("too big"));
}

#[test]
fn a_failed_pod_is_shown_failed_only_when_nothing_of_it_runs_within_reach() {
    let pod = pod("Always", vec![], &["a"]);
    let verdict = PodVerdict::Failed { reason: "DeadlineExceeded".into(), message: String::new() };
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let status = compute(&pod, Some(&facts), &verdict, None, at(1));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.reason, None);
    let pod = showing(&pod, status);
    facts.ended = true;
    let status = compute(&pod, Some(&facts), &verdict, None, at(2));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(exit(&status, 0), Some((137, "ContainerStatusUnknown".into())));
}

#[test]
fn a_pod_lost_with_its_device_fails_though_it_was_last_seen_running() {
    let pod = pod("Never", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    facts.reach = Reach::Unreachable { since: at(1), reason: "DeviceDisconnected".into(), message: "m".into() };
    let verdict = PodVerdict::Failed { reason: "DeviceLost".into(), message: String::new() };
    let status = compute(&pod, Some(&facts), &verdict, None, at(1));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(exit(&status, 0), Some((137, "ContainerStatusUnknown".into())));
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
    facts.containers[0].last = Some(Terminated { exit_code: Some(7), ..Default::default() });
    let status = compute(&pod, Some(&facts), &PodVerdict::Terminating { stopped: true }, None, at(1));
    assert_eq!(exit(&status, 0), Some((7, "Error".into())));
}

#[test]
fn a_terminating_pod_shows_its_containers_until_they_have_stopped() {
    let pod = pod("Always", vec![], &["a"]);
    let facts = facts(&pod, &[], &[("a", running())]);
    let status = compute(&pod, Some(&facts), &PodVerdict::Terminating { stopped: false }, None, at(1));
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
        assert_eq!(condition(&status, kind).reason.as_deref(), Some("DeviceDisconnected"));
    }
    assert_eq!(status.container_statuses, seen.container_statuses);
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    // Back again: as before.
    facts.reach = Reach::Reachable;
    facts.containers[0].state = running();
    let back = compute(&showing(&pod, status), Some(&facts), &PodVerdict::None, None, at(200));
    assert_eq!(back.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&back, "Ready").status, "True");
    assert_eq!(back.start_time, seen.start_time);
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
        let ended = now_of(&pod, &facts(&pod, &[], &[("a", exited(code)), ("b", running())]));
        let pod = showing(&pod, ended.clone());
        for again in [running(), waits("CrashLoopBackOff")] {
            let status = now_of(&pod, &facts(&pod, &[], &[("a", again), ("b", running())]));
            assert_eq!(exit(&status, 0).is_none(), leaves, "{policy} {code}");
            if leaves {
                let last = first(&status).last_state.as_ref().unwrap().terminated.as_ref();
                assert_eq!(last.unwrap().exit_code, code);
                assert_eq!(first(&status).restart_count, 1);
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
    let last = first(&status).last_state.as_ref().unwrap().terminated.clone().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(last.started_at, Some(Time(at(10))));
    // It is being started again, so the pod goes on, whatever its policy.
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(first(&status).restart_count, 1);
    let again = now_of(&showing(&pod, status.clone()), &waiting);
    assert_eq!(first(&again), first(&status));
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
    assert_eq!((end.started_at, end.finished_at), (Some(Time(at(10))), None));
    assert_eq!(end.reason.as_deref(), Some("Completed"));
}

#[test]
fn containers_the_remote_is_silent_about_keep_what_is_shown() {
    let pod = pod("Always", vec![], &["a"]);
    let shown = now_of(&pod, &facts(&pod, &[], &[("a", running())]));
    let pod = showing(&pod, shown.clone());
    for facts in [facts(&pod, &[], &[]), facts(&pod, &[], &[("a", Fact::Unknown)])] {
        assert_eq!(now_of(&pod, &facts).container_statuses, shown.container_statuses);
    }
    let without = compute(&pod, None, &PodVerdict::None, None, at(900));
    assert_eq!(patch(&shown, &without, "u"), None);
}

#[test]
fn addresses_are_one_of_each_family_and_those_the_api_accepts() {
    let mut pod = pod("Always", vec![], &["a"]);
    let mut facts = facts(&pod, &[], &[("a", running())]);
    let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
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
fn a_condition_moves_in_time_only_with_its_status() {
    let pod = pod("Always", vec![], &["a", "b"]);
    let one = compute(&pod, None, &PodVerdict::None, None, at(1));
    let half = facts(&pod, &[], &[("a", running())]);
    let two = compute(&showing(&pod, one), Some(&half), &PodVerdict::None, None, at(2));
    let ready = condition(&two, "Ready");
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [b]"));
    assert_eq!(ready.last_transition_time, Some(Time(at(1))));
    let all = facts(&pod, &[], &[("a", running()), ("b", running())]);
    let three = compute(&showing(&pod, two), Some(&all), &PodVerdict::None, None, at(3));
    assert_eq!(condition(&three, "Ready").last_transition_time, Some(Time(at(3))));
}

#[test]
fn the_observed_generation_never_falls() {
    let mut pod = pod("Always", vec![], &["a"]);
    pod.status = Some(PodStatus { observed_generation: Some(5), ..Default::default() });
    let status = compute(&pod, None, &PodVerdict::None, None, at(1));
    assert_eq!(status.observed_generation, Some(5));
}

#[test]
fn an_ephemeral_container_is_refused_where_kubectl_debug_reads() {
    let mut pod = pod("Always", vec![], &["a"]);
    pod.spec.as_mut().unwrap().ephemeral_containers =
        Some(vec![k8s_openapi::api::core::v1::EphemeralContainer { name: "debug".into(), ..Default::default() }]);
    let status = compute(&pod, None, &PodVerdict::None, None, at(1));
    let state = status.ephemeral_container_statuses.unwrap()[0].state.clone().unwrap();
    assert!(state.waiting.unwrap().message.unwrap().contains("cannot run ephemeral"));
}

#[test]
fn qos_is_the_kubelets() {
    let of = |list: &[(&[(&str, &str)], &[(&str, &str)])]| {
        let map = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).into()))).collect())
        };
        let containers = list.iter().map(|(requests, limits)| Container {
            resources: Some(ResourceRequirements {
                requests: map(requests),
                limits: map(limits),
                ..Default::default()
            }),
            ..container("c")
        });
        qos_class(&PodSpec { containers: containers.collect(), ..Default::default() })
    };
    let both: &[(&str, &str)] = &[("cpu", "1"), ("memory", "1Gi")];
    let other: &[(&str, &str)] = &[("cpu", "1000m"), ("memory", "1024Mi")];
    assert_eq!(of(&[(&[], &[])]), "BestEffort");
    assert_eq!(of(&[(&[("nvidia.com/gpu", "1")], &[("nvidia.com/gpu", "1")])]), "BestEffort");
    assert_eq!(of(&[(&[("cpu", "0")], &[])]), "BestEffort");
    assert_eq!(of(&[(both, both)]), "Guaranteed");
    assert_eq!(of(&[(both, other), (both, both)]), "Guaranteed");
    assert_eq!(of(&[(both, both), (&[], &[])]), "Burstable");
    assert_eq!(of(&[(&[("cpu", "1")], both)]), "Burstable");
    assert_eq!(of(&[(&[("cpu", "100m")], &[])]), "Burstable");
}

#[test]
fn a_patch_holds_only_what_changed_and_guards_the_uid() {
    let pod = pod("Always", vec![], &["a"]);
    let have = now_of(&pod, &facts(&pod, &[], &[("a", running())]));
    let mut want = have.clone();
    want.pod_ip = Some("10.0.0.2".into());
    want.pod_ips = Some(vec![PodIP { ip: "10.0.0.2".into() }]);
    assert_eq!(
        patch(&have, &want, "u1").unwrap(),
        json!({"metadata": {"uid": "u1"}, "status": {
            "podIP": "10.0.0.2", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}]}})
    );
    let back = patch(&want, &have, "u1").unwrap();
    assert_eq!(back["status"], json!({"podIP": null, "podIPs": [{"$patch": "replace"}]}));
}

#[test]
fn a_condition_that_no_longer_has_a_reason_clears_it() {
    let pod = pod("Always", vec![], &["a"]);
    let have = compute(&pod, None, &PodVerdict::None, None, at(1));
    let want = compute(&showing(&pod, have.clone()), Some(&facts(&pod, &[], &[("a", running())])), &PodVerdict::None, None, at(2));
    let body = patch(&have, &want, "u").unwrap();
    let conditions = body["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!(*ready, json!({
        "type": "Ready", "status": "True", "reason": null, "message": null,
        "lastTransitionTime": "1970-01-01T00:00:02Z", "observedGeneration": 1,
    }));
    assert!(!conditions.iter().any(|c| c["type"] == "PodScheduled"), "it did not change");
}

#[test]
fn an_api_server_that_drops_observed_generations_is_not_written_to_for_ever() {
    let pod = pod("Always", vec![], &["a"]);
    let want = compute(&pod, None, &PodVerdict::None, None, at(1));
    let mut have = want.clone();
    have.observed_generation = None;
    for condition in have.conditions.as_mut().unwrap() {
        condition.observed_generation = None;
    }
    assert_eq!(patch(&have, &want, "u"), None);
    have.observed_generation = Some(0);
    let body = patch(&have, &want, "u").unwrap();
    assert_eq!(body["status"], json!({"observedGeneration": 1}));
}
