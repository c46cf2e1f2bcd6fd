//! In which order containers begin and end, how often, and with which codes: what
//! the device's systemd and Podman tell, beside what Kubernetes shows.

use std::time::Duration;

use serde_json::{Value, json};
use vk_flightctl::mapping::app_id;

use super::confined::pod;
use super::{Edge, IMAGE, OTHER_IMAGE};

/// Init containers, one of them a sidecar and one that fails at first, and two others.
const ORDERED: &str = "ordered";
/// Ends badly twice, then runs on.
const RESTARTS: &str = "restarts";
/// End at once, each by itself.
const SUCCEEDS: &str = "succeeds";
const FAILS: &str = "fails";
/// Fails once, and then succeeds.
const TRIES: &str = "tries";
/// Has a hook that takes its time.
const HOOKED: &str = "hooked";
/// Ignores that it is told to end.
const STUBBORN: &str = "stubborn";
/// Ends well when it is told to, of a pod that ends.
const REPLACED: &str = "replaced";

/// Its grace period.
const GRACE: Duration = Duration::from_secs(2);
/// What Podman and a busy machine add to it.
const SLACK: Duration = Duration::from_secs(3);

/// Runs for ever, and ends at once and well when it is told to.
const RUNS_ON: &str = "trap 'exit 0' TERM; sleep 86400 & wait";

impl Edge {
    pub fn containers_begin_and_end_in_order_and_are_counted(&mut self) {
        let all = json!({"apiVersion": "v1", "kind": "List", "items": [
            ordered(), restarts(), ends(SUCCEEDS, "Never", "echo succeeds once"),
            ends(FAILS, "Never", "echo fails once; exit 3"),
            ends(TRIES, "OnFailure", "echo x >>/kept/runs; echo tries; [ $(wc -l </kept/runs) = 2 ] || exit 4"),
            hooked(), stubborn(), ends(REPLACED, "OnFailure", RUNS_ON),
        ]});
        self.world.apply(&all.to_string());
        for pod in [ORDERED, HOOKED, STUBBORN, REPLACED] {
            self.is_ready(pod);
        }
        self.init_containers_ran_one_after_the_other_beside_the_sidecar();
        self.what_ends_well_in_an_update_does_not_keep_the_next_from_running();
        self.ends_are_told_in_order();
        self.what_ended_has_ended();
        self.restarts_are_counted();
        self.an_agent_that_restarts_runs_nothing_again();
        for pod in [ORDERED, RESTARTS, SUCCEEDS, FAILS, TRIES, REPLACED] {
            self.world.plane.ok(&["delete", "pod", pod, "--wait=false"]);
        }
        self.until("none of them is left", |e| {
            let containers = e.machine.ok(&["podman", "ps", "-aq"]);
            containers.is_empty() && e.world.plane.ok(&["get", "pods", "-o", "name"]).is_empty()
        });
    }

    fn init_containers_ran_one_after_the_other_beside_the_sidecar(&mut self) {
        let lines = [
            "ordered: beside",
            "ordered: first begins",
            "ordered: first ends",
            "ordered: second fails",
            "ordered: second succeeds",
            "ordered: app",
        ];
        assert_eq!(self.order(&lines), [1; 6]);
        // Containers, not words: the sidecar was there before, and all along.
        let app = self.app(ORDERED);
        let began = |container: &str| self.told(&app, container, "start");
        let ended = |container: &str| self.told(&app, container, "died");
        assert_eq!(ended("beside"), []);
        let beside = began("beside")[0].at;
        let (first, second) = (&ended("first")[0], &ended("second")[1]);
        assert!(beside < began("first")[0].at);
        assert!(first.at < began("second")[0].at);
        let codes: Vec<_> = ended("second").iter().map(|end| end.code).collect();
        assert_eq!((first.code, codes), (Some(0), vec![Some(7), Some(0)]));
        for container in ["app", "other"] {
            assert!(second.at < began(container)[0].at, "{container}");
        }
        let path = "{.status.initContainerStatuses[*].state.terminated.exitCode} \
                    {.status.initContainerStatuses[0].state}";
        let shown = self.world.jsonpath("default", ORDERED, path);
        assert!(shown.starts_with("0 0 {\"running\":"), "{shown}");
    }

    fn restarts_are_counted(&mut self) {
        let app = self.app(RESTARTS);
        let count = "{.status.containerStatuses[0].restartCount} \
                     {.status.conditions[?(@.type=='Ready')].status}";
        self.until("two restarts are shown, and that it runs", |e| {
            e.world.jsonpath("default", RESTARTS, count) == "2 True"
        });
        let codes: Vec<_> = self.told(&app, "app", "died");
        let codes: Vec<_> = codes.iter().map(|end| end.code).collect();
        assert_eq!(codes, [Some(5), Some(6)]);
        let unit = format!("{}-app.service", app_id(&app));
        let show = ["systemctl", "show", "-p", "NRestarts", "--value", &unit];
        assert_eq!(self.machine.ok(&show), "2");
        // Nobody tells the code; it is known only that it was not 0.
        let last = "{.status.containerStatuses[0].lastState.terminated.reason}";
        let last = self.world.jsonpath("default", RESTARTS, last);
        assert_eq!(last, "ContainerStatusUnknown");
    }

    fn what_ended_has_ended(&mut self) {
        let state = "{.status.phase} {.status.containerStatuses[0].state.terminated.exitCode} \
                     {.status.containerStatuses[0].state.terminated.reason}";
        for (pod, shown) in [
            (SUCCEEDS, "Succeeded 0 Completed"),
            (FAILS, "Failed 137 ContainerStatusUnknown"),
            (TRIES, "Succeeded 0 Completed"),
        ] {
            self.until(&format!("{pod} is {shown}"), |e| {
                e.world.jsonpath("default", pod, state) == shown
            });
        }
        self.what_ended_ran_as_often_as_it_may();
    }

    fn what_ended_ran_as_often_as_it_may(&self) {
        for (pod, line, codes) in [
            (SUCCEEDS, "succeeds once", vec![0]),
            (FAILS, "fails once", vec![3]),
            (TRIES, "tries", vec![4, 0]),
        ] {
            let ends = self.told(&self.app(pod), "app", "died");
            let ends: Vec<_> = ends.iter().filter_map(|end| end.code).collect();
            assert_eq!(ends, codes, "{pod}");
            assert_eq!(self.journal(line), codes.len(), "{pod}");
        }
    }

    fn an_agent_that_restarts_runs_nothing_again(&mut self) {
        // systemd says so of a unit that it is told to start and must not.
        let skipped = |e: &Self| {
            [SUCCEEDS, FAILS, TRIES].map(|pod| {
                let unit = format!("{}-app.service", app_id(&e.app(pod)));
                let log = ["journalctl", "-b", "-o", "cat", "--no-pager", "-u", &unit];
                e.machine.ok(&log).matches("unmet condition").count()
            })
        };
        let before = skipped(self);
        self.restart_agent();
        self.until("a new agent has told all units to start", |e| {
            let mut pairs = skipped(e).into_iter().zip(before);
            pairs.all(|(now, before)| now > before)
        });
        self.what_ended_ran_as_often_as_it_may();
    }

    fn ends_are_told_in_order(&mut self) {
        let apps = [HOOKED, STUBBORN].map(|pod| self.app(pod));
        let delete = ["delete", "pod", HOOKED, STUBBORN, "--timeout=60s"];
        self.world.plane.ok(&delete);
        let lines = [
            "hooked: asked first",
            "hooked: asked last",
            "hooked: goodbye",
        ];
        assert_eq!(self.order(&lines), [1; 3]);
        let [hooked, stubborn] = apps.each_ref().map(|app| {
            let stopping = self.stopping(app, "app");
            let end = self.told(app, "app", "died").remove(0);
            (end.code, Duration::from_secs_f64(end.at - stopping))
        });
        println!(
            "hooked ended after {:?}, stubborn after {:?}",
            hooked.1, stubborn.1
        );
        // Its hook takes 1 s, itself none.
        assert!(
            hooked.0 == Some(0) && hooked.1 > Duration::from_secs(1),
            "{hooked:?}"
        );
        assert!(hooked.1 < Duration::from_secs(1) + SLACK, "{hooked:?}");
        assert_eq!(stubborn.0, Some(137), "it was killed");
        assert!(
            stubborn.1 >= GRACE && stubborn.1 < GRACE + SLACK,
            "{stubborn:?}"
        );
    }

    fn what_ends_well_in_an_update_does_not_keep_the_next_from_running(&mut self) {
        let app = self.app(REPLACED);
        let image = format!("app={OTHER_IMAGE}");
        self.world
            .plane
            .ok(&["set", "image", "pod", REPLACED, &image]);
        self.until("the next one runs", |e| {
            if e.told(&app, "app", "start").len() < 2 {
                return false;
            }
            let shown = "{.status.containerStatuses[0].image} {.status.phase} \
                         {.status.conditions[?(@.type=='Ready')].status}";
            e.world.jsonpath("default", REPLACED, shown) == format!("{OTHER_IMAGE} Running True")
        });
        let (ends, starts) = (
            self.told(&app, "app", "died"),
            self.told(&app, "app", "start"),
        );
        assert_eq!((ends.len(), starts.len()), (1, 2));
        assert_eq!(ends[0].code, Some(0), "it ended well");
        assert!(ends[0].at < starts[1].at, "the old one ended first");
    }

    /// What Podman tells of a container, oldest first.
    fn told(&self, app: &str, container: &str, what: &str) -> Vec<Told> {
        let container = format!("container={}-{container}", app_id(app));
        let what = format!("event={what}");
        let events = [
            "podman",
            "events",
            "--stream=false",
            "--since",
            "1h",
            "--format",
            "json",
            "--filter",
            &container,
            "--filter",
            &what,
        ];
        let text = self.machine.ok(&events);
        let mut told: Vec<_> = text.lines().map(Told::read).collect();
        told.sort_by(|a, b| a.at.total_cmp(&b.at));
        told
    }

    /// When systemd told the unit of a container to stop, in seconds.
    fn stopping(&self, app: &str, container: &str) -> f64 {
        let unit = format!("UNIT={}-{container}.service", app_id(app));
        let kind = "MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f";
        let look = ["journalctl", "-b", "-o", "json", "--no-pager", &unit, kind];
        let text = self.machine.ok(&look);
        let entry: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let at: f64 = entry["__REALTIME_TIMESTAMP"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        at / 1e6
    }
}

/// An event of a container.
#[derive(Debug, PartialEq)]
struct Told {
    /// In seconds.
    at: f64,
    code: Option<i64>,
}

impl Told {
    fn read(line: &str) -> Self {
        let event: Value = serde_json::from_str(line).unwrap();
        Self {
            at: event["timeNano"].as_f64().unwrap() / 1e9,
            code: event["ContainerExitCode"].as_i64(),
        }
    }
}

fn ordered() -> Value {
    let says = |name: &str, script: &str| {
        let mounts = json!([{"name": "kept", "mountPath": "/kept"}]);
        let command = ["sh", "-c", script];
        json!({"name": name, "image": IMAGE, "command": command, "volumeMounts": mounts})
    };
    let runs = |line: &str| format!("echo 'ordered: {line}'; {RUNS_ON}");
    let mut beside = says("beside", &runs("beside"));
    beside["restartPolicy"] = json!("Always");
    let second = "[ -e /kept/tried ] && echo 'ordered: second succeeds' && exit; \
                  touch /kept/tried; echo 'ordered: second fails'; exit 7";
    let init = json!([
        beside,
        says(
            "first",
            "echo 'ordered: first begins'; sleep 1; echo 'ordered: first ends'"
        ),
        says("second", second),
    ]);
    let containers = json!([says("app", &runs("app")), says("other", RUNS_ON)]);
    let more = json!({"initContainers": init, "volumes": [{"name": "kept", "emptyDir": {}}]});
    pod(ORDERED, containers, more)
}

/// A single container with a folder that outlives its runs.
fn ends(name: &str, policy: &str, script: &str) -> Value {
    let mounts = json!([{"name": "kept", "mountPath": "/kept"}]);
    let container = json!({"name": "app", "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": mounts});
    let volumes = json!([{"name": "kept", "emptyDir": {}}]);
    pod(
        name,
        json!([container]),
        json!({"restartPolicy": policy, "volumes": volumes}),
    )
}

fn restarts() -> Value {
    let script = format!(
        "echo x >>/kept/runs; case $(wc -l </kept/runs) in 1) exit 5;; 2) exit 6;; esac; {RUNS_ON}"
    );
    ends(RESTARTS, "Always", &script)
}

fn hooked() -> Value {
    let goodbye = "trap 'echo hooked: goodbye; exit 0' TERM; sleep 86400 & wait";
    let hook =
        "echo hooked: asked first >/proc/1/fd/1; sleep 1; echo hooked: asked last >/proc/1/fd/1";
    let container = json!({
        "name": "app", "image": IMAGE, "command": ["sh", "-c", goodbye],
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", hook]}}},
    });
    pod(HOOKED, json!([container]), json!({}))
}

fn stubborn() -> Value {
    let command = json!(["sh", "-c", "trap '' TERM; sleep 86400"]);
    let container = json!({"name": "app", "image": IMAGE, "command": command});
    let mut pod = pod(STUBBORN, json!([container]), json!({}));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(GRACE.as_secs());
    pod
}
