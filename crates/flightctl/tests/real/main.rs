//! The user's scenarios through kubectl: a real control plane with its default
//! scheduler and controllers, the provider's own binary under the RBAC of
//! `config/rbac.yaml`, and Flight Control on loopback: the sandbox's, and the
//! real service where there is one.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../../tests/real/harness/mod.rs"]
mod harness;

#[path = "../../../../tests/real/harness/agent_link.rs"]
mod agent_link;
mod console;
#[path = "../corpus/mod.rs"]
mod corpus;
mod device;
#[path = "../../../../tests/real/harness/flightctl_service.rs"]
mod flightctl_service;
#[path = "../../../../tests/real/harness/https.rs"]
mod https;
mod inputs;
#[path = "../../../../tests/real/harness/machine.rs"]
mod machine;
#[path = "../../../../tests/real/harness/oidc.rs"]
mod oidc;
mod service;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::control_plane::{ControlPlane, KUBELET_CLIENT};
use harness::process::{Process, free_port};
use service::Service;
use vk_sandbox::flightctl::Script;

/// The user's `10 s to Running` and what a busy two-core machine adds to it.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    provider: Process,
    plane: ControlPlane,
    flightctl: Service,
    health: u16,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_scenarios_through_kubectl() {
    let Some(tools) = harness::tools() else {
        return;
    };
    scenarios(tools, Service::sandbox().await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_the_real_flight_control_service() {
    let (Some(bin), Some(tools)) = (service::binaries(), harness::tools()) else {
        return;
    };
    // Consoles of simulated devices are the sandbox's alone.
    scenarios(tools, Service::real(&bin).await, false).await;
}

async fn scenarios(tools: PathBuf, flightctl: Service, consoles: bool) {
    tokio::task::spawn_blocking(move || {
        let consoles_too = if consoles { console::ENABLED } else { "" };
        let more = format!("{}{consoles_too}", inputs::TRUSTS);
        let mut world = World::start(&tools, flightctl, &more);
        world.nodes_are_there();
        world.s1_deploy();
        world.the_nodes_api_answers();
        world.s2_fleet();
        world.s3_too_big();
        world.s4_update();
        world.s6_delete();
        world.s7_inputs();
        world.s7_token();
        if consoles {
            world.logs_and_processes();
        }
        world.the_manifests_are_accepted();
        world.sigterm_keeps_node_and_pods();
    })
    .await
    .unwrap();
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn provider(plane: &ControlPlane, flightctl: &Service, health: u16, more: &str) -> Process {
    let folder = plane.folder();
    std::fs::write(folder.join("flightctl-ca.crt"), &flightctl.ca_pem).unwrap();
    std::fs::write(folder.join("token"), &flightctl.token).unwrap();
    let config = folder.join("provider.yaml");
    let quickstart = std::fs::read_to_string(repository().join("config/quickstart.yaml")).unwrap();
    let own = format!(
        "flightctl:\n  caFile: {0}/flightctl-ca.crt\n  tokenFile: {0}/token\nlisten: 127.0.0.1:{health}\n\
         kubeletApi:\n  bindAddress: 127.0.0.1\n  ports: 0\n  certFile: {0}/server.crt\n  keyFile: {0}/server.key\n",
        folder.display()
    );
    std::fs::write(&config, quickstart + &own + more).unwrap();
    let kubeconfig = plane.service_account_kubeconfig("default", "vk-flightctl-provider");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vk-flightctl-provider"));
    command
        .arg("--config")
        .arg(config)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        // For what must not be in its log.
        .args(["--log-level", "trace"])
        .env_remove("FLIGHTCTL_AUTH_TOKEN")
        .env("POD_IP", "127.0.0.1")
        .env("FLIGHTCTL_API_URL", &flightctl.url);
    Process::start(folder, "provider", &mut command)
}

impl World {
    /// The provider has this in its configuration beside what it needs.
    fn start(tools: &Path, flightctl: Service, more: &str) -> Self {
        let plane = ControlPlane::start(tools);
        let rbac = repository().join("config/rbac.yaml");
        plane.ok(&["apply", "-f", &rbac.display().to_string()]);
        let health = free_port();
        Self {
            provider: provider(&plane, &flightctl, health, more),
            plane,
            flightctl,
            health,
        }
    }

    fn nodes_are_there(&mut self) {
        self.until("two nodes are Ready", |w| {
            let nodes = w.plane.kubectl(&["get", "nodes"]).text;
            ["vk-flightctl-edge-fleet-1", "vk-flightctl-node"]
                .iter()
                .all(|name| {
                    nodes.lines().any(|l| {
                        l.starts_with(name) && l.contains(" Ready ") && l.contains("agent")
                    })
                })
        });
        // A device that has just enrolled counts from its first saved sign on.
        self.until("they show labels, version and the devices' room", |w| {
            let node = ["describe", "node", "vk-flightctl-edge-fleet-1"];
            let node = w.plane.kubectl(&node).text;
            [
                "flightctl.io/fleet=edge-fleet-1",
                "type=virtual-kubelet",
                "11250m",
                "-vk-flightctl",
            ]
            .iter()
            .all(|text| node.contains(text))
        });
        assert_eq!(self.http("/readyz").0, 200);
        assert_eq!(self.http("/healthz").0, 200);
        let metrics = self.http("/metrics").1;
        assert!(metrics.contains("virtual_kubelet_"), "{metrics}");
    }

    fn s1_deploy(&mut self) {
        self.plane.ok(&["create", "namespace", "codeco"]);
        self.until("the namespace has its ServiceAccount", |w| {
            w.plane
                .kubectl(&["get", "serviceaccount", "default", "-n", "codeco"])
                .success
        });
        self.apply(S1);
        self.until("nginx-edge is Running", |w| {
            w.jsonpath("codeco", "nginx-edge", "{.status.phase}") == "Running"
        });
        self.plane.ok(&[
            "wait",
            "--for=condition=Ready",
            "pod/nginx-edge",
            "-n",
            "codeco",
            "--timeout=30s",
        ]);
        assert_eq!(
            self.jsonpath("codeco", "nginx-edge", "{.status.podIP}"),
            "10.42.0.4"
        );
        let described = self
            .plane
            .ok(&["describe", "pod", "nginx-edge", "-n", "codeco"]);
        for text in [
            "DeviceSelected",
            "Started container nginx",
            "vk-flightctl-provider",
            self.flightctl.device(4),
        ] {
            assert!(described.contains(text), "{text} in\n{described}");
        }
        let uid = self.jsonpath("codeco", "nginx-edge", "{.metadata.uid}");
        assert_eq!(self.applications(4), [format!("vk-{uid}")]);
    }

    /// Under the rights of `config/rbac.yaml`: the API server's certificate is
    /// known, what it may is asked, and what no device can do is refused in words.
    fn the_nodes_api_answers(&mut self) {
        let account = "--as=system:serviceaccount:default:vk-flightctl-provider";
        for right in [
            &["create", "tokenreviews.authentication.k8s.io"] as &[&str],
            &["create", "subjectaccessreviews.authorization.k8s.io"],
            &[
                "get",
                "configmap/extension-apiserver-authentication",
                "-n",
                "kube-system",
            ],
        ] {
            self.plane
                .ok(&[&["auth", "can-i", account], right].concat());
        }
        self.may_use_nodes();
        let forward = ["port-forward", "-n", "codeco", "pod/nginx-edge", ":80"];
        self.until("the API server is told what no device can do", |w| {
            let refused = w.plane.kubectl(&forward);
            assert!(!refused.success, "{}", refused.text);
            refused
                .text
                .contains("backend of this node has no port-forward")
        });
        let log = self.provider.log();
        assert!(!log.contains("turns clients away"), "{log}");
    }

    /// The API server may ask nodes.
    fn may_use_nodes(&self) {
        let (role, user) = (
            "--clusterrole=system:kubelet-api-admin",
            format!("--user={KUBELET_CLIENT}"),
        );
        let grant = ["create", "clusterrolebinding", KUBELET_CLIENT, role, &user];
        self.plane.ok(&grant);
    }

    fn s2_fleet(&mut self) {
        self.apply(S2);
        self.plane.ok(&[
            "rollout",
            "status",
            "deployment/hello-edge",
            "--timeout=60s",
        ]);
        let devices = self.plane.ok(&[
            "get",
            "pods",
            "-l",
            "app=hello-edge",
            "-o",
            "jsonpath={.items[*].metadata.labels.flightctl\\.io/device}",
        ]);
        let mut devices: Vec<&str> = devices.split_whitespace().collect();
        devices.sort_unstable();
        let mut fleet = [1, 2, 3].map(|number| self.flightctl.device(number));
        fleet.sort_unstable();
        assert_eq!(devices, fleet);
        let node = self
            .plane
            .ok(&["describe", "node", "vk-flightctl-edge-fleet-1"]);
        assert!(
            node.contains("150m (1%)") && node.contains("192Mi (0%)"),
            "3 × 50m and 64Mi in\n{node}"
        );
    }

    fn s3_too_big(&mut self) {
        self.apply(S3);
        self.until("resource-hog is Failed", |w| {
            w.jsonpath("default", "resource-hog", "{.status.phase}") == "Failed"
        });
        self.until("its event", |w| {
            w.plane.ok(&["describe", "pod", "resource-hog"]).contains(
                "Insufficient resources: requested cpu=100, memory=1000Gi; available cpu=3750m, memory=7680Mi",
            )
        });
        self.plane
            .ok(&["delete", "pod", "resource-hog", "--timeout=10s"]);
    }

    fn s4_update(&mut self) {
        self.apply(S4);
        self.plane.ok(&[
            "wait",
            "--for=condition=Ready",
            "pod/update-test",
            "--timeout=30s",
        ]);
        let env_change = self
            .plane
            .apply(&S4.replace("value: \"1.0\"", "value: \"2.0\""));
        assert!(
            !env_change.success && env_change.text.contains("Forbidden"),
            "{}",
            env_change.text
        );
        self.plane.ok(&[
            "set",
            "image",
            "pod/update-test",
            "app=gcr.io/google-samples/hello-app:2.0",
        ]);
        self.until("the new image is shown", |w| {
            w.jsonpath(
                "default",
                "update-test",
                "{.status.containerStatuses[0].image}",
            )
            .ends_with(":2.0")
                && w.jsonpath("default", "update-test", "{.status.phase}") == "Running"
        });
    }

    fn s6_delete(&mut self) {
        let begun = Instant::now();
        self.plane.ok(&[
            "delete",
            "pod",
            "nginx-edge",
            "-n",
            "codeco",
            "--timeout=30s",
        ]);
        println!("S6: deleted in {:.1} s", begun.elapsed().as_secs_f64());
        assert!(self.applications(4).is_empty());
        let gone = self
            .plane
            .kubectl(&["get", "pod", "nginx-edge", "-n", "codeco"]);
        assert!(gone.text.contains("NotFound"), "{}", gone.text);
        self.plane
            .ok(&["delete", "deployment", "hello-edge", "--timeout=30s"]);
        self.plane
            .ok(&["delete", "pod", "update-test", "--timeout=30s"]);
        self.until("no application is left", |w| {
            (1..=4).all(|n| w.applications(n).is_empty())
        });
    }

    fn logs_and_processes(&mut self) {
        let talks = Script::container(console::TALKER)
            .prints(Duration::from_millis(10), &["begun"])
            .complains(Duration::from_millis(10), "oops")
            .prints(Duration::from_secs(1), &["tick"; 600]);
        self.flightctl.devices[3].script(talks);
        self.talker_is_ready("docker.io/library/busybox:1");
        self.the_console_answers();
        self.flightctl.devices[3].disconnect();
        self.a_device_that_is_away_runs_nothing_and_is_left_alone();
        self.flightctl.devices[3].reconnect();
        self.plane
            .ok(&["delete", "pod", console::TALKER, "--timeout=60s"]);
    }

    fn the_manifests_are_accepted(&mut self) {
        let deployment = repository().join("config/deployment.yaml");
        self.plane.ok(&[
            "apply",
            "--dry-run=server",
            "-f",
            &deployment.display().to_string(),
        ]);
    }

    fn sigterm_keeps_node_and_pods(&mut self) {
        self.apply(S4);
        self.plane.ok(&[
            "wait",
            "--for=condition=Ready",
            "pod/update-test",
            "--timeout=30s",
        ]);
        let took = self.provider.terminate();
        assert!(took < Duration::from_secs(5), "SIGTERM took {took:?}");
        assert!(
            self.plane
                .kubectl(&["get", "node", "vk-flightctl-node"])
                .success
        );
        assert_eq!(
            self.jsonpath("default", "update-test", "{.status.phase}"),
            "Running"
        );
        let log = self.provider.log();
        assert!(!log.contains(" ERROR "), "{log}");
    }

    fn apply(&self, manifest: &str) {
        let output = self.plane.apply(manifest);
        assert!(output.success, "{}", output.text);
    }

    fn jsonpath(&self, namespace: &str, pod: &str, path: &str) -> String {
        let output = format!("jsonpath={path}");
        self.plane
            .kubectl(&["get", "pod", pod, "-n", namespace, "-o", &output])
            .text
    }

    fn applications(&self, number: usize) -> Vec<String> {
        self.flightctl.applications(self.flightctl.device(number))
    }

    fn http(&self, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", self.health)).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or_default();
        (status, text)
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            self.provider.assert_alive();
            if begun.elapsed() > PATIENCE {
                let pods = self
                    .plane
                    .kubectl(&["get", "pods,nodes,events", "-A", "-o", "wide"])
                    .text;
                panic!("never: {what}\n{pods}\n{}", self.provider.log());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{what} ({:.1} s)", begun.elapsed().as_secs_f64());
    }
}

// As the user typed them.
const S1: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: nginx-edge
  namespace: codeco
spec:
  nodeName: vk-flightctl-node
  containers:
  - name: nginx
    image: nginx:alpine
    resources:
      requests:
        cpu: "100m"
        memory: "128Mi"
"#;

const S2: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello-edge
  namespace: default
spec:
  replicas: 3
  selector:
    matchLabels:
      app: hello-edge
  template:
    metadata:
      labels:
        app: hello-edge
    spec:
      nodeSelector:
        flightctl.io/fleet: edge-fleet-1
      containers:
      - name: hello
        image: gcr.io/google-samples/hello-app:1.0
        resources:
          requests:
            cpu: "50m"
            memory: "64Mi"
"#;

const S3: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: resource-hog
  namespace: default
spec:
  nodeName: vk-flightctl-edge-fleet-1
  containers:
  - name: hog
    image: nginx:alpine
    resources:
      requests:
        cpu: "100"
        memory: "1000Gi"
"#;

const S4: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: update-test
  namespace: default
  labels:
    version: v1
spec:
  nodeName: vk-flightctl-edge-fleet-1
  containers:
  - name: app
    image: gcr.io/google-samples/hello-app:1.0
    env:
    - name: VERSION
      value: "1.0"
    resources:
      requests:
        cpu: "100m"
        memory: "128Mi"
"#;
