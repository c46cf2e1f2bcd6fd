//! Each kind of badness.

use http::Method;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use vk_flightctl::items::ROOT;

use super::registry::{PORT, PRIVATE, REGISTRY};
use super::{Device, IMAGE, describe, list, name_of, pod, ready, waits_for};
use crate::device::given::inputs_binding;

impl Device {
    /// A command that is not there, and a port that the device itself has: the agent
    /// knows of both no more than that the container ends again and again.
    pub fn what_fails_when_it_runs_is_nobody_elses_trouble(&mut self) {
        let mut command = pod("no-command", IMAGE);
        command["spec"]["containers"][0]["command"] = json!(["/no/such/command"]);
        let mut port = pod("port-taken", IMAGE);
        let ports = json!([{"containerPort": 80, "hostPort": PORT}]);
        port["spec"]["containers"][0]["ports"] = ports;
        self.beside(&[command, port], "CrashLoopBackOff");
        self.leave_nothing(&["no-command", "port-taken"]);
    }

    pub fn a_file_that_cannot_be_written_holds_up_its_pod_alone(&mut self) {
        let plane = &self.edge.world.plane;
        plane.ok(&["apply", "-k", &inputs_binding()]);
        plane.ok(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=key=value",
        ]);
        // What someone left where all folders of pods go.
        self.edge.machine.ok(&["touch", ROOT]);
        let mut bad = pod("no-room", IMAGE);
        let mounts = json!([{"name": "v", "mountPath": "/given"}]);
        bad["spec"]["containers"][0]["volumeMounts"] = mounts;
        bad["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "settings"}}]);
        let described = self.beside(&[bad], "CreateContainerError").remove(0);
        for words in ["While ApplyingUpdate: config failed for ...", "/v/key: "] {
            assert!(described.contains(words), "{described}");
        }
        self.edge.machine.ok(&["rm", ROOT]);
        self.until("it starts by itself when there is room", |e| {
            ready(e, "no-room") == 1
        });
        self.leave_nothing(&["no-room"]);
    }

    pub fn an_image_that_no_registry_has_holds_up_its_pod_alone(&mut self) {
        let image = format!("{REGISTRY}/team/missing:1");
        let words = "service unavailable (network issue)";
        self.bad_image("missing", &image, &[words]);
        self.leave_nothing(&["missing"]);
    }

    pub fn an_image_that_is_refused_holds_up_its_pod_alone(&mut self) {
        let image = format!("{REGISTRY}/{PRIVATE}/app:1");
        // An agent says the one or the other, by chance.
        let words = ["authentication failed", "permission denied"];
        self.bad_image("refused", &image, &words);
        self.leave_nothing(&["refused"]);
    }

    pub fn an_image_whose_registry_is_away_holds_up_its_pod_alone(&mut self) {
        // Nothing listens there.
        let image = "127.0.0.1:1/team/app:1";
        let described = self
            .beside(&[pod("away", image)], "ImagePullBackOff")
            .remove(0);
        let words = format!("images complete, pending: {image}");
        assert!(described.contains(&words), "{described}");
        self.leave_nothing(&["away"]);
    }

    /// The device says one of these words.
    fn bad_image(&mut self, name: &str, image: &str, words: &[&str]) {
        let described = self
            .beside(&[pod(name, image)], "ImagePullBackOff")
            .remove(0);
        let told = |words: &&str| {
            let words = format!("While Preparing: prefetch failed for {image}: {words}");
            let failed = format!("Failed to pull image \"{image}\": {words}");
            let waits = format!("Back-off pulling image \"{image}\": {words}");
            described.contains(&failed) && described.contains(&waits)
        };
        assert!(words.iter().any(told), "{described}");
    }

    /// Nothing that kubectl takes becomes a unit that no generator does: it is someone
    /// else's. Its device says no more than that something failed.
    pub fn a_unit_of_others_that_no_generator_takes_is_told_and_left_alone(&mut self) {
        let before = self.runs(&[]);
        let unit = format!(
            "[Container]\nImage={IMAGE}\nNoSuchKey=1\n[Install]\nWantedBy=default.target\n"
        );
        let files = json!([{"path": "a.container", "content": unit}]);
        let theirs = json!({"name": "theirs", "appType": "quadlet", "inline": files});
        self.edits(&json!([{"op": "add", "path": "/spec/applications/-", "value": theirs}]));
        let newcomer = self.newcomer();
        let new = name_of(&newcomer);
        self.edge.world.apply(&list(&[newcomer]));
        self.until(
            "the newcomer says that its device refuses others' things",
            |e| {
                let described = describe(e, &new);
                described.contains("DeviceUpdateFailed")
                    && described.contains("refuses version")
                    && described.contains("While Rebooting: unknown failed: an error occurred")
            },
        );
        assert_eq!(waits_for(&self.edge, &new), "ContainerCreating", "no blame");
        let apps = self.edge.world.flightctl.spec(&self.edge.device)["applications"].take();
        let apps: Vec<&str> = apps
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|a| a["name"].as_str())
            .collect();
        assert!(
            apps.contains(&self.edge.app(&new).as_str()),
            "nobody is taken out"
        );
        let at = apps
            .iter()
            .position(|app| *app == "theirs")
            .expect("it is theirs");
        self.undisturbed(&before);
        self.edits(&json!([{"op": "remove", "path": format!("/spec/applications/{at}")}]));
        self.until("when they take it away the newcomer runs", |e| {
            ready(e, &new) == 1
        });
        self.undisturbed(&before);
    }

    /// What another user of Flight Control does to the device's spec.
    fn edits(&self, patch: &Value) {
        let user = self.edge.world.flightctl.service().unwrap().user();
        let path = format!("/api/v1/devices/{}", self.edge.device);
        let answer = user.call(Method::PATCH, &path, Some(patch));
        let (status, said) = Handle::current().block_on(answer).unwrap();
        assert!(status.is_success(), "{status} {said}");
    }
}
