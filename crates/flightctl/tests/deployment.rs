//! `config/deployment.yaml` as a kubelet would run it: the binary with the
//! arguments, environment, files and ports of the manifest, and nothing else.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../tests/real/harness/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use process::{Process, free_port};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use vk_sandbox::clock::Clock;
use vk_sandbox::flightctl::{FlightControl, Options};
use vk_sandbox::kubernetes::Cluster;
use vk_sandbox::transport;

/// To be ready on a busy machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The objects of a manifest, by kind and name.
fn object(manifest: &str, kind: &str) -> Value {
    let text = file(manifest);
    let mut all = text
        .split("\n---\n")
        .map(|part| serde_saphyr::from_str::<Value>(part).unwrap());
    all.find(|object| object["kind"] == kind).unwrap()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The manifest's Pod, and a folder that stands for its file system.
struct Container {
    pod: Value,
    root: tempfile::TempDir,
    port: u16,
    /// What the manifest's first comment tells to put into the Secret.
    secret: Value,
}

impl Container {
    fn new(flightctl: &str) -> Self {
        let pod = object("config/deployment.yaml", "Deployment")["spec"]["template"].clone();
        assert_eq!(items(&pod["spec"]["containers"]).len(), 1);
        let container = Self {
            pod,
            root: tempfile::tempdir().unwrap(),
            port: free_port(),
            secret: json!({"api-url": flightctl, "auth-token": "token"}),
        };
        container.mount();
        container
    }

    fn spec(&self) -> &Value {
        &self.pod["spec"]["containers"][0]
    }

    /// The folder in the container, or a path below it.
    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn mount(&self) {
        let config = object("config/deployment.yaml", "ConfigMap");
        for mount in items(&self.spec()["volumeMounts"]) {
            let folder = self.path(text(&mount["mountPath"]));
            std::fs::create_dir_all(&folder).unwrap();
            let volumes = items(&self.pod["spec"]["volumes"]);
            let volume = volumes.iter().find(|v| v["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("no volume {mount}"));
            if volume["configMap"].is_object() {
                assert_eq!(volume["configMap"]["name"], config["metadata"]["name"]);
                for (key, content) in config["data"].as_object().unwrap() {
                    std::fs::write(folder.join(key), self.here(text(content))).unwrap();
                }
            } else {
                for item in items(&volume["secret"]["items"]) {
                    let content = text(&self.secret[text(&item["key"])]);
                    std::fs::write(folder.join(text(&item["path"])), content).unwrap();
                }
            }
        }
    }

    /// The same on ports that are free, and reached from here alone.
    fn here(&self, config: &str) -> String {
        let listen = format!("listen: 0.0.0.0:{}", self.container_port());
        let api = "ports: 10250-10349\n".to_owned();
        let mine = [
            (listen, format!("listen: 127.0.0.1:{}", self.port)),
            (api, "ports: 0\n  bindAddress: 127.0.0.1\n".to_owned()),
        ];
        mine.into_iter()
            .fold(config.to_owned(), |config, (theirs, ours)| {
                assert!(config.contains(&theirs), "{theirs} in\n{config}");
                config.replace(&theirs, &ours)
            })
    }

    fn container_port(&self) -> u64 {
        self.spec()["ports"][0]["containerPort"].as_u64().unwrap()
    }

    /// A text of the manifest, its paths below our root.
    fn within(&self, text: &str) -> String {
        let Some(at) = text.find('/') else {
            return text.to_owned();
        };
        let mounts = items(&self.spec()["volumeMounts"]);
        let mounted = |m: &Value| text[at..].starts_with(m["mountPath"].as_str().unwrap());
        assert!(mounts.iter().any(mounted), "nothing is mounted at {text}");
        format!("{}{}", &text[..at], self.path(&text[at..]).display())
    }

    /// The image's entry point with what the manifest gives it.
    fn command(&self, kubeconfig: &Path) -> Command {
        let spec = self.spec();
        assert!(spec["command"].is_null(), "the image has an entry point");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vk-flightctl-provider"));
        command.env_clear().current_dir(self.root.path());
        // Instead of the ServiceAccount, whose path is the kubelet's.
        command.env("KUBECONFIG", kubeconfig);
        for arg in items(&spec["args"]) {
            command.arg(self.within(text(arg)));
        }
        for variable in items(&spec["env"]) {
            let from = &variable["valueFrom"];
            let value = if from["secretKeyRef"].is_object() {
                text(&self.secret[text(&from["secretKeyRef"]["key"])]).to_owned()
            } else if from["fieldRef"].is_object() {
                match text(&from["fieldRef"]["fieldPath"]) {
                    "metadata.uid" => "6f1f5c5e-6d43-4d4e-9d0a-8f6f0c1d2e3f".to_owned(),
                    "status.podIP" => "127.0.0.1".to_owned(),
                    other => panic!("no such field here: {other}"),
                }
            } else {
                self.within(text(&variable["value"]))
            };
            command.env(text(&variable["name"]), value);
        }
        command
    }

    /// Status of what a probe asks for.
    async fn probe(&self, probe: &str) -> Option<u16> {
        let get = &self.spec()[probe]["httpGet"];
        assert_eq!(get["port"], self.spec()["ports"][0]["name"]);
        let address = ("127.0.0.1", self.port);
        let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n",
            text(&get["path"])
        );
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }
}

async fn serve(endpoint: transport::Endpoint) -> (String, DropGuard) {
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = transport::loopback(address).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(endpoint.listen(listener, None, stop.clone()));
    (url, stop.drop_guard())
}

#[test]
fn the_configuration_of_the_manifest_is_valid_where_it_is_mounted() {
    let container = Container::new("https://flightctl.example.com");
    let mut command = container.command(Path::new("/nowhere"));
    let output = command.arg("--validate-config").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(output.stdout, b"configuration is valid\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_container_of_the_manifest_becomes_ready_and_serves_its_probes() {
    let cluster = Cluster::new(Clock::live());
    let options = Options {
        token: Some("token".into()),
        ..Options::default()
    };
    let flightctl = FlightControl::new(Clock::live(), options);
    let _devices = flightctl.spawn_devices(2, 1, 1);
    let (kubernetes, _kubernetes) = serve(cluster.endpoint()).await;
    let (flightctl, _flightctl) = serve(flightctl.endpoint()).await;
    let container = Container::new(&flightctl);
    let kubeconfig = container.path("kubeconfig");
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "t",
        "clusters": [{"name": "t", "cluster": {"server": kubernetes}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        "users": [{"name": "t", "user": {"token": "t"}}],
    });
    std::fs::write(&kubeconfig, content.to_string()).unwrap();
    let mut command = container.command(&kubeconfig);
    let mut provider = Process::start(container.root.path(), "provider", &mut command);
    let begun = Instant::now();
    while container.probe("readinessProbe").await != Some(200) {
        provider.assert_alive();
        assert!(
            begun.elapsed() < PATIENCE,
            "never ready:\n{}",
            provider.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(container.probe("livenessProbe").await, Some(200));
    for node in ["vk-flightctl-node", "vk-flightctl-edge-fleet-1"] {
        let there = cluster.until(|c| c.get_value("nodes", "", node));
        let node = tokio::time::timeout(PATIENCE, there).await.unwrap();
        assert_eq!(node["spec"]["taints"][0]["value"], "flightctl", "{node}");
        // It has the API of the manifest, at the pod's address.
        let first = &node["status"]["addresses"][0];
        assert_eq!(
            *first,
            json!({"type": "InternalIP", "address": "127.0.0.1"})
        );
        let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
        let address = ("127.0.0.1", u16::try_from(port.as_u64().unwrap()).unwrap());
        tokio::net::TcpStream::connect(address).await.unwrap();
    }
    let grace = &container.pod["spec"]["terminationGracePeriodSeconds"];
    let took = tokio::task::spawn_blocking(move || provider.terminate());
    assert!(took.await.unwrap().as_secs() < grace.as_u64().unwrap());
}

#[test]
fn manifests_image_and_recipe_name_the_same_things() {
    let deployment = object("config/deployment.yaml", "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let image = text(&pod["containers"][0]["image"]);
    let make = format!("\tdocker build -t {image} .\n");
    assert!(file("Makefile").contains(&make), "{make}");
    let dockerfile = file("Dockerfile");
    let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
    for line in [
        format!("USER {user}:{}", pod["securityContext"]["runAsGroup"]),
        "ENTRYPOINT [\"/usr/local/bin/vk-flightctl-provider\"]".to_owned(),
        format!(
            "EXPOSE {}",
            pod["containers"][0]["ports"][0]["containerPort"]
        ),
    ] {
        assert!(dockerfile.lines().any(|l| l == line), "{line}");
    }
    let program = "bin/vk-flightctl-provider";
    assert!(dockerfile.contains("\nFROM scratch\n"));
    assert!(dockerfile.contains(&format!("\nCOPY {program} /usr/local/{program}\n")));
    assert!(file(".dockerignore").ends_with(&format!("*\n!{program}\n")));

    let account = object("config/rbac.yaml", "ServiceAccount");
    let labels = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!(
        *labels,
        deployment["spec"]["template"]["metadata"]["labels"]
    );
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    let ports = items(&pod["containers"][0]["ports"]);
    let api = ports.iter().find(|port| port["name"] == "kubelet-api");
    assert_eq!(api.unwrap()["containerPort"], 10_250, "the default's first");
    for (binding, role) in [
        ("ClusterRoleBinding", "ClusterRole"),
        ("RoleBinding", "Role"),
    ] {
        let binding = object("config/rbac.yaml", binding);
        let subject = &binding["subjects"][0];
        assert_eq!(subject["name"], account["metadata"]["name"]);
        assert_eq!(subject["namespace"], deployment["metadata"]["namespace"]);
        let bound = object("config/rbac.yaml", role);
        assert_eq!(binding["roleRef"]["name"], bound["metadata"]["name"]);
    }
}

#[test]
fn the_nodes_api_is_given_the_two_roles_of_kubernetes_for_it_and_no_more() {
    let account = object("config/rbac.yaml", "ServiceAccount");
    let rbac = file("config/rbac.yaml");
    let objects = rbac.split("\n---\n");
    let objects = objects.map(|part| serde_saphyr::from_str::<Value>(part).unwrap());
    let bindings = objects.filter(|object| text(&object["kind"]).ends_with("Binding"));
    let mut bound = Vec::new();
    for binding in bindings {
        let subjects = items(&binding["subjects"]);
        assert_eq!(subjects.len(), 1);
        assert_eq!(subjects[0]["name"], account["metadata"]["name"]);
        assert_eq!(subjects[0]["namespace"], account["metadata"]["namespace"]);
        let place = binding["metadata"]["namespace"].as_str().unwrap_or("*");
        let role = &binding["roleRef"];
        bound.push(format!(
            "{place} {} {}",
            text(&role["kind"]),
            text(&role["name"])
        ));
    }
    bound.sort_unstable();
    let wanted = [
        "* ClusterRole system:auth-delegator",
        "* ClusterRole vk-flightctl-provider",
        "kube-node-lease Role vk-flightctl-provider",
        "kube-system Role extension-apiserver-authentication-reader",
    ];
    assert_eq!(bound, wanted);
}

#[test]
fn objects_of_pods_are_read_by_namespace_and_never_everywhere() {
    let list: Value = serde_saphyr::from_str(&file("config/inputs/kustomization.yaml")).unwrap();
    let files: Vec<&str> = items(&list["resources"]).iter().map(text).collect();
    assert_eq!(files, ["role.yaml", "default.yaml"]);
    let role = object("config/inputs/role.yaml", "ClusterRole");
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
    ]);
    assert_eq!(role["rules"], rules);
    let binding = object("config/inputs/default.yaml", "RoleBinding");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["metadata"]["namespace"], "default");
    let account = object("config/rbac.yaml", "ServiceAccount");
    let subject = &binding["subjects"][0];
    assert_eq!(subject["name"], account["metadata"]["name"]);
    assert_eq!(subject["namespace"], account["metadata"]["namespace"]);
    // Whoever may do either everywhere is cluster-admin.
    for part in file("config/rbac.yaml").split("\n---\n") {
        let object: Value = serde_saphyr::from_str(part).unwrap();
        for rule in items(&object["rules"]) {
            let all: Vec<&str> = items(&rule["resources"]).iter().map(text).collect();
            assert!(!all.contains(&"secrets") && !all.contains(&"serviceaccounts/token"));
            assert!(!all.contains(&"*"));
        }
    }
    assert!(!file("config/inputs/role.yaml").contains("kind: ClusterRoleBinding"));
    assert!(!file("config/inputs/default.yaml").contains("kind: ClusterRoleBinding"));
}
