mod on_its_way;
mod recorded;

use super::*;
use proptest::prelude::*;

const APP: &str = "vk-u1";

fn expected(policy: Policy, roles: &[Role]) -> Expected {
    let apps = roles.iter().filter(|r| **r != Role::Init).count();
    Expected {
        restart_policy: policy,
        pod: apps > 1,
        members: roles
            .iter()
            .enumerate()
            .map(|(index, role)| Member {
                name: format!("c{index}"),
                role: *role,
                image: format!("docker.io/library/c{index}:1"),
            })
            .collect(),
    }
}

fn device(status: &str, ready: &str, restarts: i64) -> DeviceView {
    let mut device = DeviceView {
        name: "dev".into(),
        ..DeviceView::default()
    };
    let status = AppStatus {
        status: status.into(),
        ready: ready.into(),
        restarts,
    };
    device.app_status.insert(APP.into(), status);
    device
}

fn see(expected: &Expected, device: &DeviceView, applied: bool, settled: bool) -> Seen {
    facts(
        expected,
        &Sight {
            app: APP,
            device,
            applied,
            refused: None,
            held: None,
            refusal: None,
            settled,
            confirmed: settled,
            echo: false,
            ended: false,
        },
    )
}

fn brief(state: &ContainerState) -> String {
    match state {
        ContainerState::Unknown => "?".into(),
        ContainerState::Waiting { reason, .. } => reason.clone(),
        ContainerState::Running { .. } => "run".into(),
        ContainerState::Terminated(end) => format!("end:{:?}", end.exit_code),
    }
}

/// Init containers, `|`, regular ones, and `.` when all is over.
fn told(seen: &Seen) -> String {
    let list = |facts: &[ContainerFact]| {
        facts
            .iter()
            .map(|f| brief(&f.state))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let end = if seen.ended { " ." } else { "" };
    format!("{}|{}{end}", list(&seen.init), list(&seen.containers))
}

#[test]
fn a_device_is_quoted_on_what_it_says_of_this_application_alone() {
    let said = "vk-a is in status Error, Not started: vk-b, Not started: vk-bc";
    assert_eq!(words(said, "vk-b").as_deref(), Some("Not started: vk-b"));
    assert_eq!(words(said, "vk-c"), None);
    assert_eq!(words("", "vk-b"), None);
}

#[test]
fn every_status_of_an_application_says_what_it_says_and_no_more() {
    use Policy::{Always, Never, OnFailure};
    use Role::{App, Init, Sidecar};
    const ONE: &[Role] = &[App];
    const TWO: &[Role] = &[App, App];
    const BEHIND: &[Role] = &[Init, Init, App];
    const POD: &[Role] = &[Init, App, App];
    const CAR: &[Role] = &[Sidecar, Init, App];
    type Row = (
        Policy,
        &'static [Role],
        &'static str,
        &'static str,
        i64,
        &'static str,
    );
    let rows: &[Row] = &[
        (Always, ONE, "Preparing", "0/1", 0, "|ContainerCreating"),
        (Always, ONE, "Preparing", "0/1", 2, "|CrashLoopBackOff"),
        (Always, ONE, "Running", "1/1", 0, "|run"),
        (Always, ONE, "Completed", "0/1", 1, "|CrashLoopBackOff"),
        (Always, ONE, "Error", "0/1", 1, "|CrashLoopBackOff"),
        (Always, ONE, "Unknown", "0/0", 0, "|?"),
        (Always, ONE, "Stopped", "0/1", 0, "|StoppedByFlightControl"),
        (Always, ONE, "Something", "x", 0, "|?"),
        (Never, ONE, "Running", "1/1", 0, "|run"),
        (Never, ONE, "Completed", "0/1", 0, "|end:Some(0) ."),
        (Never, ONE, "Error", "0/1", 0, "|end:None ."),
        (OnFailure, ONE, "Error", "0/1", 3, "|CrashLoopBackOff"),
        (OnFailure, ONE, "Completed", "0/1", 3, "|end:Some(0) ."),
        // Init containers first, one by one.
        (
            Always,
            BEHIND,
            "Running",
            "1/1",
            0,
            "run PodInitializing|PodInitializing",
        ),
        (
            Always,
            BEHIND,
            "Completed",
            "0/1",
            0,
            "end:Some(0) PodInitializing|PodInitializing",
        ),
        (
            Always,
            BEHIND,
            "Running",
            "1/2",
            0,
            "end:Some(0) run|PodInitializing",
        ),
        (
            Always,
            BEHIND,
            "Error",
            "0/2",
            4,
            "end:Some(0) CrashLoopBackOff|PodInitializing",
        ),
        (
            Always,
            BEHIND,
            "Running",
            "1/3",
            0,
            "end:Some(0) end:Some(0)|run",
        ),
        (
            Always,
            BEHIND,
            "Error",
            "0/3",
            2,
            "end:Some(0) end:Some(0)|CrashLoopBackOff",
        ),
        (
            Never,
            BEHIND,
            "Completed",
            "0/2",
            0,
            "end:Some(0) end:Some(0)|PodInitializing",
        ),
        (
            Never,
            BEHIND,
            "Error",
            "0/1",
            0,
            "end:None PodInitializing|PodInitializing .",
        ),
        (
            Never,
            BEHIND,
            "Error",
            "0/3",
            0,
            "end:Some(0) end:Some(0)|end:None .",
        ),
        (
            Never,
            BEHIND,
            "Completed",
            "0/3",
            0,
            "end:Some(0) end:Some(0)|end:Some(0) .",
        ),
        // A Podman pod: its infra container counts.
        (Always, TWO, "Running", "3/3", 0, "|run run"),
        (Always, TWO, "Running", "2/3", 5, "|? ?"),
        (Always, TWO, "Running", "2/2", 0, "|? ?"),
        (
            Always,
            TWO,
            "Running",
            "1/3",
            5,
            "|CrashLoopBackOff CrashLoopBackOff",
        ),
        (Always, TWO, "Running", "4/4", 0, "|? ?"),
        (Always, TWO, "Starting", "2/3", 0, "|? ?"),
        (
            Always,
            TWO,
            "Starting",
            "1/2",
            0,
            "|ContainerCreating ContainerCreating",
        ),
        (
            Never,
            TWO,
            "Completed",
            "0/3",
            0,
            "|end:Some(0) end:Some(0) .",
        ),
        (Never, TWO, "Completed", "0/2", 0, "|? ?"),
        (Never, TWO, "Error", "0/3", 0, "|end:None end:None ."),
        (Never, TWO, "Error", "0/2", 0, "|? ?"),
        (OnFailure, TWO, "Running", "1/3", 1, "|? ?"),
        (
            OnFailure,
            TWO,
            "Completed",
            "0/3",
            1,
            "|end:Some(0) end:Some(0) .",
        ),
        (
            OnFailure,
            TWO,
            "Completed",
            "0/2",
            1,
            "|end:Some(0) end:Some(0) .",
        ),
        (
            Always,
            POD,
            "Running",
            "2/2",
            0,
            "run|PodInitializing PodInitializing",
        ),
        (
            Always,
            POD,
            "Running",
            "1/2",
            0,
            "ContainerCreating|PodInitializing PodInitializing",
        ),
        (
            Always,
            POD,
            "Running",
            "1/2",
            3,
            "CrashLoopBackOff|PodInitializing PodInitializing",
        ),
        (Always, POD, "Running", "3/4", 0, "end:Some(0)|run run"),
        (Always, POD, "Running", "2/4", 0, "?|? ?"),
        (
            Never,
            POD,
            "Running",
            "1/1",
            0,
            "run|PodInitializing PodInitializing",
        ),
        (
            OnFailure,
            POD,
            "Completed",
            "0/1",
            0,
            "end:Some(0)|PodInitializing PodInitializing",
        ),
        (
            OnFailure,
            POD,
            "Completed",
            "0/4",
            0,
            "end:Some(0)|end:Some(0) end:Some(0) .",
        ),
        // Which of them was created is not known with a sidecar among them.
        (Always, CAR, "Running", "3/3", 0, "? ?|?"),
        (Always, CAR, "Running", "3/4", 0, "run end:Some(0)|run"),
    ];
    for (policy, roles, status, ready, restarts, want) in rows {
        let seen = see(
            &expected(*policy, roles),
            &device(status, ready, *restarts),
            true,
            false,
        );
        assert_eq!(
            &told(&seen),
            want,
            "{policy:?} {roles:?} {status} {ready} r{restarts}"
        );
    }
}

#[test]
fn what_stays_unknown_is_judged_only_when_it_has_settled() {
    let nothing = device("Unknown", "0/0", 0);
    let always = see(
        &expected(Policy::Always, &[Role::App]),
        &nothing,
        true,
        true,
    );
    assert_eq!(told(&always), "|CreateContainerError");
    assert!(always.trouble.is_some());
    let never = see(&expected(Policy::Never, &[Role::App]), &nothing, true, true);
    assert_eq!(told(&never), "|end:None .");
}

#[test]
fn silence_alone_ends_nothing() {
    let never = expected(Policy::Never, &[Role::App]);
    for (status, ready) in [("Unknown", "0/0"), ("Error", "0/0")] {
        let device = device(status, ready, 0);
        let sight = |confirmed| Sight {
            app: APP,
            device: &device,
            applied: true,
            refused: None,
            held: None,
            refusal: None,
            settled: true,
            confirmed,
            echo: false,
            ended: false,
        };
        assert!(!facts(&never, &sight(false)).ended, "{status}");
        assert!(facts(&never, &sight(true)).ended, "{status}");
    }
}

#[test]
fn a_count_beyond_all_numbers_is_no_count() {
    let seen = see(
        &expected(Policy::Always, &[Role::Init, Role::App]),
        &device("Running", "18446744073709551615/2", 0),
        true,
        false,
    );
    assert!(seen.containers.iter().all(|c| c.ready == Some(false)));
}

#[test]
fn an_application_that_is_not_listed_is_unknown() {
    let seen = see(
        &expected(Policy::Never, &[Role::App]),
        &DeviceView::default(),
        true,
        true,
    );
    assert_eq!(told(&seen), "|?");
}

#[test]
fn a_container_that_may_be_down_is_not_ready() {
    let two = expected(Policy::Always, &[Role::App, Role::App]);
    let ready = |n: &str| see(&two, &device("Running", n, 0), true, false).containers[0].ready;
    assert_eq!(ready("3/3"), None);
    assert_eq!(ready("2/3"), Some(false));
    assert_eq!(ready("2/2"), Some(false));
}

#[test]
fn restarts_and_the_last_end_belong_to_a_single_container_only() {
    let one = see(
        &expected(Policy::Always, &[Role::App]),
        &device("Completed", "0/1", 7),
        true,
        false,
    );
    assert_eq!(one.containers[0].restarts, Some(7));
    assert_eq!(
        one.containers[0].last.as_ref().and_then(|l| l.exit_code),
        Some(0)
    );
    let failed = see(
        &expected(Policy::Always, &[Role::App]),
        &device("Error", "0/1", -1),
        true,
        false,
    );
    assert_eq!(failed.containers[0].restarts, Some(0));
    assert_eq!(
        failed.containers[0].last.as_ref().map(|l| l.exit_code),
        Some(None)
    );
    let two = see(
        &expected(Policy::Always, &[Role::App, Role::App]),
        &device("Running", "3/3", 7),
        true,
        false,
    );
    assert_eq!(two.containers[0].restarts, None);
}

#[test]
fn a_running_container_has_the_name_it_has_on_the_device() {
    let seen = see(
        &expected(Policy::Always, &[Role::App]),
        &device("Running", "1/1", 0),
        true,
        false,
    );
    let id = app_id(APP);
    assert_eq!(
        seen.containers[0].container_id,
        Some(format!("flightctl://dev/{id}-c0"))
    );
}

proptest! {
    #[test]
    fn no_status_makes_an_exit_code_out_of_nothing(
        policy in prop_oneof![Just(Policy::Always), Just(Policy::Never), Just(Policy::OnFailure)],
        inits in 0usize..3, sidecars in 0usize..2, apps in 1usize..4,
        status in "Preparing|Starting|Running|Error|Unknown|Completed|Stopped|Stopping|.*",
        ready in "[0-9]/[0-9]|.*", restarts in any::<i64>(), applied in any::<bool>(), settled in any::<bool>(),
    ) {
        let roles: Vec<Role> = [(Role::Init, inits), (Role::Sidecar, sidecars), (Role::App, apps)]
            .iter().flat_map(|(role, n)| std::iter::repeat_n(*role, *n)).collect();
        let seen = see(&expected(policy, &roles), &device(&status, &ready, restarts), applied, settled);
        prop_assert_eq!(seen.containers.len(), apps);
        prop_assert_eq!(seen.init.len(), inits + sidecars);
        for fact in seen.containers.iter().chain(&seen.init) {
            if let ContainerState::Terminated(end) = &fact.state {
                prop_assert!(matches!(end.exit_code, None | Some(0)));
            }
        }
        for app in &seen.containers {
            if let ContainerState::Terminated(end) = &app.state {
                prop_assert!(applied && policy != Policy::Always);
                prop_assert!(end.exit_code.is_none() || status == "Completed");
            }
            if matches!(app.state, ContainerState::Running { .. }) {
                prop_assert!(applied && status == "Running");
            }
        }
        prop_assert!(!seen.ended || (applied && policy != Policy::Always));
    }
}
