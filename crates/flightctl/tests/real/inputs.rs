//! What pods are given, on the devices.
//!
//! A Secret that a pod on a device is given stands in `spec.config` of that device,
//! in base64, and in its files: there is no other way to the device
//! (`docs/flight-control-mapping.md`, "Who can read it"). It must be nowhere else.

use std::time::{Duration, Instant};

use vk_flightctl::items::ROOT;
use vk_sandbox::flightctl::{Device, Occurrence};

use crate::{World, repository};

/// A changed object reaches the files of a device within this: its agent begins
/// polls 5 s apart.
const SOON: Duration = Duration::from_secs(10);
/// The beginning of each value of the Secret.
const PLANTED: &str = "planted-s3cret";
/// The same in base64, wherever it begins.
const IN_BASE64: [&str; 3] = [
    "cGxhbnRlZC1zM2NyZXQ",
    "BsYW50ZWQtczNjcmV0",
    "wbGFudGVkLXMzY3JldA",
];

/// A pod of the deployment, where it runs.
struct Placed {
    uid: String,
    app: String,
    device: Device,
}

impl World {
    pub fn s7_inputs(&mut self) {
        let binding = repository().join("config/inputs");
        self.plane
            .ok(&["apply", "-k", &binding.display().to_string()]);
        self.apply(S7);
        let rollout = [
            "rollout",
            "status",
            "deployment/given-edge",
            "--timeout=60s",
        ];
        self.plane.ok(&rollout);
        let pod = self.placed();
        let container = pod.device.container(&pod.app, "app").unwrap();
        let environment: Vec<_> = container.environment.iter().collect();
        let environment: Vec<_> = environment
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(environment, [("GREETING", "hello"), ("WORD", PLANTED)]);
        assert_eq!(pod.file("/settings/greeting"), (0o644, "hello".into()));
        assert_eq!(pod.file("/hush/word"), (0o400, PLANTED.into()));
        let own: Vec<_> = pod.own_files().collect();
        assert_eq!(own.len(), 3, "two files and the variables: {own:?}");

        self.follows(
            &pod,
            "configmap/settings",
            r#"{"data": {"greeting": "good evening"}}"#,
            "/settings/greeting",
            "good evening",
        );
        let changed = format!("{PLANTED}-2");
        let patch = format!(r#"{{"stringData": {{"word": "{changed}"}}}}"#);
        self.follows(&pod, "secret/hush", &patch, "/hush/word", &changed);
        let container = pod.device.container(&pod.app, "app").unwrap();
        assert_eq!(container.environment["WORD"], PLANTED, "of its start");
        let journal = pod.device.journal();
        let starts = journal
            .iter()
            .filter(|e| e.app == pod.app && e.event == Occurrence::Start);
        assert_eq!(starts.count(), 1, "{journal:?}");

        self.apply(SHOWN);
        self.until("a Secret in a command is refused by its path", |w| {
            let message = w.jsonpath("default", "shows-it", "{.status.message}");
            message.contains("spec.containers[0].args[0]")
        });
        self.the_secret_is_nowhere_else(&pod);

        self.plane.ok(&[
            "delete",
            "pod/shows-it",
            "deployment/given-edge",
            "--timeout=30s",
        ]);
        self.until("neither file nor item is left of it", |w| {
            let config = w.flightctl.spec(pod.device.name())["config"].to_string();
            pod.own_files().next().is_none() && !config.contains(&pod.uid)
        });
        self.until("nor its application", |w| {
            let left = w.flightctl.applications(pod.device.name());
            left.is_empty() && pod.device.container(&pod.app, "app").is_none()
        });
        // What was printed about the end, too.
        self.says_nothing();
    }

    fn placed(&self) -> Placed {
        let of_pod = |path: &str| {
            let output = format!("jsonpath={{.items[0].metadata.{path}}}");
            self.plane
                .ok(&["get", "pods", "-l", "app=given-edge", "-o", &output])
        };
        let uid = of_pod("uid");
        let name = of_pod("labels.flightctl\\.io/device");
        let mut devices = self.flightctl.devices.iter();
        Placed {
            app: format!("vk-{uid}"),
            device: devices.find(|d| d.name() == name).unwrap().clone(),
            uid,
        }
    }

    /// A changed object reaches a file of the running container.
    fn follows(&mut self, pod: &Placed, object: &str, merge: &str, path: &str, text: &str) {
        self.plane
            .ok(&["patch", object, "--type", "merge", "--patch", merge]);
        let begun = Instant::now();
        let what = format!("the changed {object} is in the device's files");
        self.until(&what, |_| pod.file(path).1 == text);
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    }

    fn the_secret_is_nowhere_else(&self, pod: &Placed) {
        let spec = self.flightctl.spec(pod.device.name());
        hides("the application's units", &spec["applications"].to_string());
        // By necessity: there is no other way to the device.
        let config = spec["config"].to_string();
        assert!(config.contains(PLANTED), "it is in the item: {config}");
        let holds = |text: &[u8]| String::from_utf8_lossy(text).contains(PLANTED);
        for (path, file) in pod.device.files() {
            let ours = path.starts_with(&format!("{ROOT}/{}/", pod.uid));
            assert!(ours || !holds(&file.content), "{path}");
        }
        self.says_nothing();
    }

    fn says_nothing(&self) {
        let events = self.plane.ok(&["get", "events", "-A", "-o", "yaml"]);
        assert!(events.contains("given-edge"), "{events}");
        hides("events", &events);
        let objects = self
            .plane
            .ok(&["get", "pods,nodes,leases", "-A", "-o", "yaml"]);
        hides("pods, nodes and leases", &objects);
        let printed = self.provider.log();
        assert!(printed.contains("DEBUG"), "it is told to say much");
        hides("what the provider printed", &printed);
        hides("its metrics", &self.http("/metrics").1);
    }
}

impl Placed {
    /// Mode and text of a file in the container.
    fn file(&self, path: &str) -> (u32, String) {
        let container = self.device.container(&self.app, "app").unwrap();
        let file = &container.files[path];
        (
            file.mode,
            String::from_utf8_lossy(&file.content).into_owned(),
        )
    }

    /// Paths of all that its device keeps for it.
    fn own_files(&self) -> impl Iterator<Item = String> {
        let own = format!("{ROOT}/{}/", self.uid);
        let files = self.device.files().into_keys();
        files.filter(move |path| path.starts_with(&own))
    }
}

fn hides(place: &str, text: &str) {
    // Without the text itself: it may be long, and it is the secret's.
    let shows = std::iter::once(&PLANTED)
        .chain(&IN_BASE64)
        .find(|p| text.contains(**p));
    if let Some(shown) = shows {
        let mut lines = text.lines().filter(|line| line.contains(*shown));
        panic!("{place}: {:?}", lines.next());
    }
}

const S7: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: hush}
stringData: {word: planted-s3cret}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: given-edge}
spec:
  selector:
    matchLabels: {app: given-edge}
  template:
    metadata:
      labels: {app: given-edge}
    spec:
      nodeSelector: {flightctl.io/fleet: edge-fleet-1}
      containers:
      - name: app
        image: nginx:alpine
        env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
        - {name: WORD, valueFrom: {secretKeyRef: {name: hush, key: word}}}
        volumeMounts:
        - {name: settings, mountPath: /settings}
        - {name: hush, mountPath: /hush}
      volumes:
      - {name: settings, configMap: {name: settings}}
      - {name: hush, secret: {secretName: hush, defaultMode: 0400}}
"#;

const SHOWN: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: shows-it}
spec:
  nodeName: vk-flightctl-edge-fleet-1
  containers:
  - name: app
    image: nginx:alpine
    args: ["$(WORD)"]
    env: [{name: WORD, valueFrom: {secretKeyRef: {name: hush, key: word}}}]
"#;
