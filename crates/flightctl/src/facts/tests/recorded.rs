//! What was recorded on a real device.

use super::*;

/// What was recorded of units on a real device (`n/m` and restarts after a container's
/// end, by restart policy and exit code), and what is made of it.
#[test]
fn what_was_recorded_on_a_device_is_shown_as_what_it_was() {
    use Policy::{Always, Never, OnFailure};
    use Role::{App, Init, Sidecar};
    const ONE: &[Role] = &[App];
    const TWO: &[Role] = &[App, App];
    const CRASH: &str = "|CrashLoopBackOff";
    struct Row {
        what: &'static str,
        pod: (Policy, &'static [Role]),
        shows: &'static [(&'static str, &'static str, i64)],
        told: &'static [&'static str],
        ready: bool,
    }
    let rows = [
        Row {
            what: "once, exit 0",
            pod: (Never, ONE),
            shows: &[("Running", "1/1", 0), ("Completed", "0/1", 0)],
            told: &["|run", "|end:Some(0) ."],
            ready: true,
        },
        Row {
            what: "once, exit 3",
            pod: (Never, ONE),
            shows: &[("Running", "1/1", 0), ("Error", "0/1", 0)],
            told: &["|run", "|end:None ."],
            ready: true,
        },
        Row {
            what: "on failure, exit 0",
            pod: (OnFailure, ONE),
            shows: &[("Completed", "0/1", 0)],
            told: &["|end:Some(0) ."],
            ready: true,
        },
        Row {
            what: "on failure, exit 3",
            pod: (OnFailure, ONE),
            shows: &[
                ("Running", "1/1", 1),
                ("Error", "0/1", 1),
                ("Preparing", "0/1", 2),
            ],
            told: &["|run", CRASH, CRASH],
            ready: true,
        },
        Row {
            what: "always, exit 0",
            pod: (Always, ONE),
            shows: &[
                ("Running", "1/1", 1),
                ("Completed", "0/1", 1),
                ("Running", "1/1", 2),
            ],
            told: &["|run", CRASH, "|run"],
            ready: true,
        },
        Row {
            what: "always, exit 3; or a port in use",
            pod: (Always, ONE),
            shows: &[("Error", "0/1", 1), ("Error", "0/1", 9)],
            told: &[CRASH, CRASH],
            ready: true,
        },
        Row {
            what: "one of a pod's containers ended, its infra container stays up",
            pod: (OnFailure, TWO),
            shows: &[("Running", "2/3", 0), ("Running", "1/3", 0)],
            told: &["|? ?", "|? ?"],
            ready: false,
        },
        Row {
            what: "a pod that runs once, exit 0 and 0",
            pod: (Never, TWO),
            shows: &[("Running", "3/3", 0), ("Completed", "0/3", 0)],
            told: &["|run run", "|end:Some(0) end:Some(0) ."],
            ready: true,
        },
        Row {
            what: "a pod that runs once, exit 0 and 3",
            pod: (Never, TWO),
            shows: &[("Running", "2/3", 0), ("Error", "0/3", 0)],
            told: &["|? ?", "|end:None end:None ."],
            ready: false,
        },
        Row {
            what: "one of two in a crash loop",
            pod: (Always, TWO),
            shows: &[("Running", "2/3", 4), ("Running", "3/3", 5)],
            told: &["|? ?", "|run run"],
            ready: false,
        },
        Row {
            what: "one of two was never created: it looks whole",
            pod: (Always, TWO),
            shows: &[("Running", "2/2", 0)],
            told: &["|? ?"],
            ready: false,
        },
        Row {
            what: "two init containers that end one after the other",
            pod: (Always, &[Init, Init, App, App]),
            shows: &[
                ("Running", "2/2", 0),
                ("Running", "2/3", 0),
                ("Running", "3/5", 0),
            ],
            told: &[
                "run PodInitializing|PodInitializing PodInitializing",
                "end:Some(0) run|PodInitializing PodInitializing",
                "end:Some(0) end:Some(0)|run run",
            ],
            ready: true,
        },
        Row {
            what: "an init container that fails for ever",
            pod: (Always, &[Init, App, App]),
            shows: &[
                ("Running", "2/2", 3),
                ("Running", "1/2", 4),
                ("Starting", "1/2", 5),
            ],
            told: &[
                "run|PodInitializing PodInitializing",
                "CrashLoopBackOff|PodInitializing PodInitializing",
                "CrashLoopBackOff|PodInitializing PodInitializing",
            ],
            ready: true,
        },
        Row {
            what: "a sidecar",
            pod: (Always, &[Sidecar, App]),
            shows: &[("Running", "3/3", 0)],
            told: &["run|run"],
            ready: true,
        },
        Row {
            what: "the first report after an update",
            pod: (Always, ONE),
            shows: &[("Unknown", "0/0", 0), ("Preparing", "0/1", 0)],
            told: &["|?", "|ContainerCreating"],
            ready: true,
        },
        Row {
            what: "an operator stopped it",
            pod: (Always, ONE),
            shows: &[("Stopping", "0/1", 0), ("Stopped", "0/1", 0)],
            told: &["|StoppedByFlightControl", "|StoppedByFlightControl"],
            ready: true,
        },
    ];
    for Row {
        what,
        pod: (policy, roles),
        shows,
        told: want,
        ready,
    } in rows
    {
        let expected = expected(policy, roles);
        for ((status, counts, restarts), want) in shows.iter().zip(want) {
            let seen = see(&expected, &device(status, counts, *restarts), true, false);
            assert_eq!(told(&seen), *want, "{what}: {status} {counts} r{restarts}");
            if want.contains('?') && !ready {
                assert!(
                    seen.containers.iter().all(|c| c.ready == Some(false)),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn unknown_for_long_means_that_no_unit_ever_started_and_says_so() {
    let seen = see(
        &expected(Policy::Always, &[Role::Init, Role::App]),
        &device("Unknown", "0/0", 0),
        true,
        true,
    );
    let (reason, sentence) = seen.trouble.clone().unwrap();
    assert_eq!(reason, "CreateContainerError");
    assert!(sentence.contains("started none of its units"), "{sentence}");
    assert_eq!(told(&seen), "CreateContainerError|CreateContainerError");
}
