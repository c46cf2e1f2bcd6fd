//! Bad pods on a real device: the others run, and nothing disturbs them. What ran
//! when is told by Podman, what the device says by Flight Control.

mod kinds;
mod registry;
mod update;
mod words;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vk_flightctl::mapping::app_id;

use super::{Edge, IMAGE};
use words::{Words, condition};

/// Neighbours that run when the first bad pod comes; each of those brings one more.
const NEIGHBOURS: usize = 12;
/// A registry that is away is given a minute (`blame::PENDING`), and an agent begins
/// polls 5 s apart.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_pod_on_a_real_device() {
    let Some(edge) = Edge::start().await else {
        return;
    };
    let _registry = registry::start(&edge.machine);
    let _words = Words::listen(&edge);
    tokio::task::spawn_blocking(move || {
        let mut device = Device { edge, newcomers: 0 };
        device.neighbours_run();
        device.an_update_follows_without_overlap();
        device.an_update_that_fails_keeps_the_old_one_running();
        device.a_unit_of_others_that_no_generator_takes_is_told_and_left_alone();
        device.what_fails_when_it_runs_is_nobody_elses_trouble();
        device.a_file_that_cannot_be_written_holds_up_its_pod_alone();
        device.an_image_that_no_registry_has_holds_up_its_pod_alone();
        device.an_image_that_is_refused_holds_up_its_pod_alone();
        device.an_image_whose_registry_is_away_holds_up_its_pod_alone();
    })
    .await
    .unwrap();
}

struct Device {
    edge: Edge,
    /// Good pods that came together with bad ones.
    newcomers: usize,
}

/// Runs of containers by their names: ids and when they began.
type Runs = BTreeMap<String, String>;

fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": "vk-flightctl-node",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "containers": [{"name": "app", "image": image, "command": ["sleep", "86400"]}],
    }})
}

fn list(pods: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string()
}

fn name_of(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Pods that are Ready, of those whose names begin so.
fn ready(edge: &Edge, prefix: &str) -> usize {
    let line = "{.metadata.name} {.status.conditions[?(@.type=='Ready')].status}{'\\n'}";
    let output = format!("jsonpath={{range .items[*]}}{line}{{end}}");
    let all = edge.world.plane.kubectl(&["get", "pods", "-o", &output]);
    let all = all.text.lines();
    all.filter(|l| l.starts_with(prefix) && l.ends_with(" True"))
        .count()
}

/// What the container of a pod waits for.
fn waits_for(edge: &Edge, pod: &str) -> String {
    let path = "{.status.containerStatuses[0].state.waiting.reason}";
    edge.world.jsonpath("default", pod, path)
}

fn describe(edge: &Edge, pod: &str) -> String {
    edge.world.plane.ok(&["describe", "pod", pod])
}

/// Whether a container of an application runs.
fn runs(edge: &Edge, app: &str) -> bool {
    let format = ["podman", "ps", "--format", "{{.Names}}"];
    edge.machine.ok(&format).contains(&app_id(app))
}

impl Device {
    fn until(&mut self, what: &str, condition: impl Fn(&Edge) -> bool) -> Duration {
        self.edge.within(PATIENCE, what, condition)
    }

    fn neighbours_run(&mut self) {
        let all = (0..NEIGHBOURS).map(|n| pod(&format!("good-{n}"), IMAGE));
        self.edge.world.apply(&list(&all.collect::<Vec<_>>()));
        self.until("all neighbours are Ready", |e| {
            ready(e, "good-") == NEIGHBOURS
        });
    }

    /// What runs on the device, but for these pods.
    fn runs(&self, but: &[&str]) -> Runs {
        let but: Vec<String> = but.iter().map(|pod| self.edge.app(pod)).collect();
        let format = "{{.Names}} {{.ID}} {{.StartedAt}}";
        let ps = ["podman", "ps", "--no-trunc", "--format", format];
        let all = self.edge.machine.ok(&ps);
        let all = all.lines().filter_map(|line| line.split_once(' '));
        all.filter(|(name, _)| !but.iter().any(|app| name.starts_with(app)))
            .map(|(name, run)| (name.to_owned(), run.to_owned()))
            .collect()
    }

    /// These run on as they did.
    fn undisturbed(&self, before: &Runs) {
        let now = self.runs(&[]);
        for (name, run) in before {
            assert_eq!(now.get(name), Some(run), "{name}");
        }
    }

    fn newcomer(&mut self) -> Value {
        self.newcomers += 1;
        pod(&format!("new-{}", self.newcomers), IMAGE)
    }

    /// Bad pods and a good one come together: the good one runs, the others wait for
    /// this reason, and what ran before runs on. Answers how they are described.
    fn beside(&mut self, bad: &[Value], reason: &str) -> Vec<String> {
        let before = self.runs(&[]);
        assert!(before.len() >= NEIGHBOURS, "{before:?}");
        let newcomer = self.newcomer();
        let new = name_of(&newcomer);
        let begun = Instant::now();
        let all = [bad, &[newcomer]].concat();
        self.edge.world.apply(&list(&all));
        let app = self.edge.app(&new);
        let names: Vec<String> = bad.iter().map(name_of).collect();
        self.until(&format!("beside {names:?} a newcomer runs"), |e| {
            runs(e, &app)
        });
        self.until("and is Ready", |e| ready(e, &new) == 1);
        for name in &names {
            self.until(&format!("{name} waits with {reason}"), |e| {
                waits_for(e, name) == reason
            });
            println!(
                "{name} is told after {:.1} s",
                begun.elapsed().as_secs_f64()
            );
        }
        self.undisturbed(&before);
        names
            .iter()
            .map(|name| describe(&self.edge, name))
            .collect()
    }

    /// Deleted they leave nothing, and their device is as it was.
    fn leave_nothing(&mut self, names: &[&str]) {
        let apps: Vec<String> = names.iter().map(|name| self.edge.app(name)).collect();
        let before = self.runs(names);
        let delete = [&["delete", "pod", "--timeout=60s"], names].concat();
        self.edge.world.plane.ok(&delete);
        self.until("the device is up to date without them", |e| {
            let spec = e.world.flightctl.spec(&e.device).to_string();
            let status = e.status();
            status["updated"]["status"] == "UpToDate"
                && condition(&status, "Updating")["status"] == "False"
                && apps.iter().all(|app| !spec.contains(app))
        });
        let look = "ls /etc/containers/systemd; podman ps -a --format '{{.Names}}'; \
                    systemctl list-units --all --plain --no-legend";
        let left = self.edge.machine.ok(&["sh", "-c", look]);
        for app in apps {
            assert!(!left.contains(&app), "{app} is left in\n{left}");
        }
        self.undisturbed(&before);
    }
}
