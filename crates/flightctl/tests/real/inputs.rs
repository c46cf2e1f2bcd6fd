//! What pods are given, on the devices.
//!
//! A Secret that a pod on a device is given stands in `spec.config` of that device,
//! in base64, and in its files: there is no other way to the device
//! (`docs/flight-control-mapping.md`, "Who can read it"). It must be nowhere else.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use vk_flightctl::items::ROOT;
use vk_sandbox::flightctl::{Device, Occurrence};

use crate::{World, repository};

/// A changed object reaches the files of a device within this: its agent begins
/// polls 5 s apart.
const SOON: Duration = Duration::from_secs(10);
/// The beginning of each value of the Secret.
const PLANTED: &str = "planted-s3cret";
/// Its pods may have tokens on devices.
const TRUSTED: &str = "trusted";
/// That, for the provider's configuration.
pub const TRUSTS: &str =
    "workloads: {apiServer: 'https://api.example.com:6443', serviceAccountTokens: [trusted]}\n";

/// A pod, where it runs.
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
        let pod = self.placed("default", "app=given-edge");
        let container = pod.device.container(&pod.app, "app").unwrap();
        let environment = container.environment.iter();
        let environment = environment.map(|(n, v)| (n.as_str(), v.as_str()));
        // The API server's are of every pod.
        let own = environment.filter(|(name, _)| !name.starts_with("KUBERNETES_"));
        let environment: Vec<_> = own.collect();
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
        let hidden = Hidden::of(PLANTED);
        self.is_nowhere_else(&hidden, &pod);

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
        self.says_nothing_of(&hidden);
    }

    /// The token that the API server issued for a pod is in the files of the pod
    /// and in no word of anybody.
    pub fn s7_token(&mut self) {
        self.plane.ok(&["create", "namespace", TRUSTED]);
        self.plane.ok(&[
            "create",
            "rolebinding",
            "inputs",
            "-n",
            TRUSTED,
            "--clusterrole=vk-flightctl-provider-inputs",
            "--serviceaccount=default:vk-flightctl-provider",
        ]);
        self.until("the namespace has its ServiceAccount", |w| {
            let account = ["get", "serviceaccount", "default", "-n", TRUSTED];
            w.plane.kubectl(&account).success
        });
        self.apply(HOLDER);
        self.until("holder is Running", |w| {
            w.jsonpath(TRUSTED, "holder", "{.status.phase}") == "Running"
        });
        let pod = self.placed(TRUSTED, "app=holder");
        let token = pod.file("/var/run/secrets/kubernetes.io/serviceaccount/token");
        // The first part is that of every token of this API server.
        let parts: Vec<_> = token.1.split('.').skip(1).map(Hidden::of).collect();
        assert_eq!(parts.len(), 2, "it is a JWT");
        let delete = ["delete", "pod/holder", "-n", TRUSTED, "--timeout=30s"];
        for part in &parts {
            self.is_nowhere_else(part, &pod);
        }
        self.plane.ok(&delete);
        for part in &parts {
            self.says_nothing_of(part);
        }
    }

    /// The first pod with this label.
    fn placed(&self, namespace: &str, label: &str) -> Placed {
        let of_pod = |path: &str| {
            let output = format!("jsonpath={{.items[0].metadata.{path}}}");
            let pods = ["get", "pods", "-n", namespace, "-l", label, "-o", &output];
            self.plane.ok(&pods)
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

    fn is_nowhere_else(&self, hidden: &Hidden, pod: &Placed) {
        let spec = self.flightctl.spec(pod.device.name());
        hidden.is_not_in("the application's units", &spec["applications"].to_string());
        // By necessity: there is no other way to the device.
        let config = spec["config"].to_string();
        assert!(hidden.line(&config).is_some(), "it is in the item");
        for (path, file) in pod.device.files() {
            if !path.starts_with(&format!("{ROOT}/{}/", pod.uid)) {
                hidden.is_not_in(&path, &String::from_utf8_lossy(&file.content));
            }
        }
        self.says_nothing_of(hidden);
    }

    fn says_nothing_of(&self, hidden: &Hidden) {
        let events = self.plane.ok(&["get", "events", "-A", "-o", "yaml"]);
        assert!(events.contains("given-edge"), "{events}");
        hidden.is_not_in("events", &events);
        let objects = self
            .plane
            .ok(&["get", "pods,nodes,leases", "-A", "-o", "yaml"]);
        hidden.is_not_in("pods, nodes and leases", &objects);
        let printed = self.provider.log();
        assert!(printed.contains("TRACE"), "it is told to say everything");
        hidden.is_not_in("what the provider printed", &printed);
        hidden.is_not_in("its metrics", &self.http("/metrics").1);
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

/// A text as it is, and in base64 wherever it begins there.
struct Hidden([String; 4]);

impl Hidden {
    fn of(text: &str) -> Self {
        let encoded = |before: usize| {
            let digits = BASE64.encode([&[0; 2][..before], text.as_bytes()].concat());
            // Six bits each; those at the ends are of the neighbours, too.
            let whole = (before * 8).div_ceil(6)..(before + text.len()) * 8 / 6;
            digits[whole].to_owned()
        };
        Self([text.to_owned(), encoded(0), encoded(1), encoded(2)])
    }

    /// The first line that shows it.
    fn line<'a>(&self, text: &'a str) -> Option<&'a str> {
        let shows = |line: &&str| self.0.iter().any(|form| line.contains(form));
        text.lines().find(shows)
    }

    fn is_not_in(&self, place: &str, text: &str) {
        let line = self.line(text);
        assert!(line.is_none(), "{place}: {line:?}");
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

const HOLDER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: holder, namespace: trusted, labels: {app: holder}}
spec:
  nodeName: vk-flightctl-edge-fleet-1
  containers: [{name: app, image: "nginx:alpine"}]
"#;
