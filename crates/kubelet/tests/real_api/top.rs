//! metrics-server under its own rights, `kubectl top`, and an autoscaler that acts
//! on them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use vk_provider::Clock;

use crate::able::{Able, MEBIBYTES, MILLI_CORES, Process};
use crate::harness::control_plane::ControlPlane;
use crate::harness::process::{self, free_port};
use crate::harness::reached;
use crate::suite::memory::Remote;

const NODE: &str = "vk-top";
/// metrics-server looks every ten seconds and needs two looks; the autoscaler finds
/// a new API within half a minute.
const PATIENCE: Duration = Duration::from_secs(150);

pub async fn client(plane: &ControlPlane) -> Client {
    Client::try_from(reached(plane.kubeconfig()).await).unwrap()
}

/// Where metrics-server is, if it was built.
fn metrics_server() -> Option<PathBuf> {
    let folder = std::env::var_os("VK_METRICS_SERVER");
    if folder.is_none() {
        println!("SKIPPED: metrics-server (run make test-real, which sets VK_METRICS_SERVER)");
    }
    Some(Path::new(&folder?).join("metrics-server"))
}

pub async fn measured(plane: Arc<ControlPlane>) {
    let Some(program) = metrics_server() else {
        return;
    };
    let client = client(&plane).await;
    let clock = Clock::live();
    let backend = Able {
        remote: Remote::new(clock.clone(), &[NODE]),
        clock,
        streams: false,
    };
    let process = Process::start(&plane, &client, backend, "top");
    let scenes = move || {
        let mut server = start(&plane, &program);
        let mut until = |what: &str, holds: &dyn Fn() -> bool| {
            let begun = Instant::now();
            while !holds() {
                server.assert_alive();
                let pods = || plane.kubectl(&["describe", "hpa,pods", "-n", "top"]).text;
                let late = begun.elapsed() > PATIENCE;
                assert!(!late, "never: {what}\n{}\n{}", pods(), server.log());
                std::thread::sleep(Duration::from_millis(500));
            }
            println!("{what} ({:.1} s)", begun.elapsed().as_secs_f64());
        };
        plane.ok(&["create", "namespace", "top"]);
        let applied = plane.apply(&format!("{DEPLOYMENT}---\n{AUTOSCALER}"));
        assert!(applied.success, "{}", applied.text);
        let shown = |args: &[&str], words: &[&str]| {
            let text = plane.kubectl(args).text;
            let line = text.lines().find(|line| line.contains(words[0]));
            line.is_some_and(|line| words.iter().all(|word| line.contains(word)))
        };
        let cpu = format!("{MILLI_CORES}m");
        let memory = format!("{MEBIBYTES}Mi");
        until("kubectl top pods shows what the backend measured", &|| {
            shown(&["top", "pods", "-n", "top"], &["web-", &cpu, &memory])
        });
        until("kubectl top nodes does", &|| {
            shown(&["top", "nodes"], &[NODE, "m", "Mi", "%"])
        });
        let replicas = [
            "get",
            "deployment",
            "web",
            "-n",
            "top",
            "-o",
            "jsonpath={.status.readyReplicas}",
        ];
        until("the autoscaler adds pods", &|| plane.ok(&replicas) == "3");
        // The deployment's pods end while their node is still served.
        plane.ok(&["delete", "hpa,deployment", "web", "-n", "top"]);
        until("all pods are gone", &|| {
            plane
                .ok(&["get", "pods", "-n", "top", "-o", "name"])
                .is_empty()
        });
    };
    tokio::task::spawn_blocking(scenes).await.unwrap();
    process.end().await;
}

/// As its own manifests set it up, but for where it runs: its API is behind a
/// Service that is a name, because Endpoints may not be loopback addresses.
fn start(plane: &ControlPlane, program: &Path) -> process::Process {
    let port = free_port();
    let applied = plane.apply(&RIGHTS.replace("PORT", &port.to_string()));
    assert!(applied.success, "{}", applied.text);
    let account = plane.service_account_kubeconfig("kube-system", "metrics-server");
    let account = account.display();
    let folder = plane.folder();
    let mut command = Command::new(program);
    command.current_dir(folder).args([
        format!("--kubeconfig={account}"),
        format!("--authentication-kubeconfig={account}"),
        format!("--authorization-kubeconfig={account}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", folder.join("metrics-server").display()),
        "--metric-resolution=10s".to_owned(),
        "--kubelet-request-timeout=9s".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--kubelet-use-node-status-port".to_owned(),
        "--kubelet-certificate-authority=ca.crt".to_owned(),
    ]);
    process::Process::start(folder, "metrics-server", &mut command)
}

const RIGHTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: metrics-server, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:metrics-server}
rules:
- {apiGroups: [""], resources: [nodes/metrics], verbs: [get]}
- {apiGroups: [""], resources: [pods, nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:metrics-server}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:metrics-server}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics-server:system:auth-delegator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:auth-delegator}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: metrics-server-auth-reader, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics-server, namespace: kube-system, port: PORT}
"#;

/// Each pod uses half of what it asks for, and is to use a fifth.
const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: top}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {kubernetes.io/hostname: vk-top}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: app:1
        resources: {requests: {cpu: 500m, memory: 128Mi}}
"#;

const AUTOSCALER: &str = r#"
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: top}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 3
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 20}}
"#;
