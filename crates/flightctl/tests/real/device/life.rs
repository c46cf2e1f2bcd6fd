//! What changes, restarts and ends around pods that run.

use std::time::Duration;

use vk_flightctl::items::ROOT;
use vk_flightctl::mapping::app_id;
use vk_provider::Uid;

use super::Edge;
use super::given::{MANY, ONE, PLANTED};

/// A changed object is in the files of a device within this: its agent begins
/// polls 5 s apart, and a change may come right after one.
const SOON: Duration = Duration::from_secs(10);

impl Edge {
    pub fn changed_objects_reach_the_files_and_restart_nothing(&mut self) {
        self.nothing_restarts(|edge| {
            edge.greeting_becomes("good evening");
            // Parts of volumes and variables are of the start.
            edge.all_is_as_asked_for("good evening", "hello");
        });
    }

    pub fn an_agent_that_restarts_touches_nothing(&mut self) {
        let told = |edge: &Self| {
            let told = "{.status.containerStatuses[*].restartCount} \
                        {.status.containerStatuses[*].lastState} \
                        {.status.conditions[?(@.type=='Ready')].status}";
            [MANY, ONE].map(|pod| edge.world.jsonpath("default", pod, told))
        };
        let shown = told(self);
        self.nothing_restarts(|edge| {
            let process = |edge: &Self| {
                let show = ["systemctl", "show", "-p", "MainPID", "flightctl-agent"];
                edge.machine.ok(&show)
            };
            let before = process(edge);
            edge.machine
                .ok(&["systemctl", "restart", "flightctl-agent"]);
            assert_ne!(before, process(edge), "it is another process");
            edge.until("the new agent knows of none", |e| {
                e.status()["applicationsSummary"]["status"] == "NoApplications"
            });
            edge.until("and then of both", |e| {
                assert_eq!(told(e), shown, "it tells what was");
                let status = e.status();
                let all = status["applications"].as_array().map_or(0, Vec::len);
                all == 2 && status["applicationsSummary"]["status"] == "Healthy"
            });
            edge.all_is_as_asked_for("good evening", "hello");
            edge.greeting_becomes("good night");
            edge.all_is_as_asked_for("good night", "hello");
            assert_eq!(told(edge), shown);
        });
    }

    /// With the greeting that there was before.
    pub fn a_device_that_boots_again_has_its_pods_and_their_files(&mut self, greeting: &str) {
        let apps = [self.app(MANY), self.app(ONE)];
        let before = self.runs();
        self.reboot();
        self.until("the device's containers run again", |e| {
            let names = e
                .machine
                .run(&["podman", "ps", "--format", "{{.Names}}"])
                .stdout;
            let names = String::from_utf8_lossy(&names).into_owned();
            let [many, one] = apps.each_ref().map(|app| app_id(app));
            [
                format!("{many}-app"),
                format!("{many}-user"),
                format!("{one}-app"),
            ]
            .iter()
            .all(|name| names.lines().any(|line| line == name))
        });
        for (old, new) in before.iter().zip(self.runs()) {
            assert_ne!(*old, new);
        }
        self.all_is_as_asked_for(greeting, greeting);
        let kept = self.exec(&apps[0], "user", &["cat", "/scratch/kept"]);
        assert_eq!(
            kept.stdout, b"written\n",
            "an emptyDir lives as long as its pod"
        );
        self.until("both pods are Ready", |e| {
            [MANY, ONE].iter().all(|pod| {
                let ready = "{.status.conditions[?(@.type=='Ready')].status}";
                e.world.jsonpath("default", pod, ready) == "True"
            })
        });
    }

    pub fn a_pod_that_goes_leaves_nothing_and_its_neighbour_alone(&mut self) {
        let (many, one) = (self.app(MANY), self.app(ONE));
        let uid = self.uid(MANY);
        let neighbour = self.run_of(&one, "app");
        self.world
            .plane
            .ok(&["delete", "pod", MANY, "--timeout=60s"]);
        let id = app_id(&many);
        let left = |edge: &Self| {
            let find = format!(
                "find / -xdev -name '*{many}*' -not -path '/proc/*' -not -path '/var/log/*'; \
                 find /run /var/lib/containers -xdev -name '*{id}*'; \
                 find {ROOT} -path '*{uid}*' ! -type d"
            );
            let units = ["systemctl", "list-units", "--all", "--plain", "--no-legend"];
            let units = edge.machine.ok(&units);
            let containers =
                edge.machine
                    .ok(&["podman", "ps", "-a", "--format", "{{.Names}} {{.PodName}}"]);
            let volumes = edge.machine.ok(&["podman", "volume", "ls", "-q"]);
            let files = edge.machine.ok(&["sh", "-c", &find]);
            let all = format!("{units}\n{containers}\n{volumes}");
            let ours = all
                .lines()
                .filter(|line| line.contains(&id))
                .map(str::to_owned);
            let ours: Vec<_> = files.lines().map(str::to_owned).chain(ours).collect();
            ours.join("\n")
        };
        self.until("nothing of the pod is on the device", |e| {
            left(e).is_empty()
        });
        let config = self.world.flightctl.spec(&self.device)["config"].to_string();
        assert!(!config.contains(uid.as_str()), "{config}");
        assert_eq!(self.run_of(&one, "app"), neighbour, "its neighbour runs on");
        self.folders_go_with_the_next_start(&uid);
        let farewells = |edge: &Self| {
            let count = "journalctl -b -o cat --no-pager | grep -c '^goodbye and good night$' || :";
            let count = edge.machine.ok(&["sh", "-c", count]);
            count.trim().parse::<usize>().unwrap()
        };
        let before = farewells(self);
        self.world
            .plane
            .ok(&["delete", "pod", ONE, "--timeout=60s"]);
        self.until("it had its files to the end", |e| farewells(e) > before);
        self.until("no file of ours is on the device", |e| {
            let find = format!("find {ROOT} ! -type d; ls -d /etc/containers/systemd/vk-* || :");
            e.machine.ok(&["sh", "-c", &find]).is_empty()
        });
        // Where a later owner of the device would look; Podman's database may keep
        // what was deleted until it needs the space.
        let find = format!(
            "grep -rl {PLANTED} / --exclude-dir=proc --exclude-dir=sys --exclude=db.sql || :"
        );
        assert_eq!(self.machine.ok(&["sh", "-c", &find]), "");
    }

    /// Empty ones that nobody used for a while, and no others.
    fn folders_go_with_the_next_start(&self, gone: &Uid) {
        let all = || self.machine.ok(&["ls", ROOT]);
        let (one, neighbour) = (self.app(ONE), self.uid(ONE));
        assert!(all().contains(gone.as_str()), "the agent leaves them");
        let age = format!("find {ROOT} -type d -exec touch -d '5 minutes ago' {{}} +");
        self.machine.ok(&["sh", "-c", &age]);
        let unit = format!("{}-app.service", app_id(&one));
        self.machine.ok(&["systemctl", "restart", &unit]);
        assert_eq!(all(), neighbour.as_str());
    }

    /// The same runs of the same containers before and after.
    fn nothing_restarts(&mut self, doing: impl FnOnce(&mut Self)) {
        let before = self.runs();
        doing(self);
        assert_eq!(before, self.runs());
    }

    /// Of every container of both pods, which run of it there is.
    fn runs(&self) -> [String; 3] {
        let (many, one) = (self.app(MANY), self.app(ONE));
        [
            self.run_of(&many, "app"),
            self.run_of(&many, "user"),
            self.run_of(&one, "app"),
        ]
    }

    fn greeting_becomes(&mut self, text: &str) {
        let patch = serde_json::json!({"data": {"greeting": text}}).to_string();
        let patch = [
            "patch",
            "configmap/settings",
            "--type",
            "merge",
            "--patch",
            &patch,
        ];
        self.world.plane.ok(&patch);
        let apps = [(self.app(MANY), "user"), (self.app(ONE), "app")];
        let took = self.until("the changed ConfigMap is in both pods' files", |e| {
            apps.iter().all(|(app, container)| {
                let said = e.exec(app, container, &["cat", "/given/settings/greeting"]);
                said.stdout == text.as_bytes()
            })
        });
        assert!(took < SOON, "{took:?}");
    }
}
