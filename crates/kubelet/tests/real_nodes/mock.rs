//! Processes of the `mock` example, each under a name of its own.

use std::process::Command;

use kube::Client;
use serde_json::{Value, json};
use virtual_kubelet::connect::connect;
use virtual_kubelet::metrics::Metrics;

use crate::harness::control_plane::ControlPlane;
use crate::harness::process::{Process, free_port};
use crate::harness::{example, reached};
use crate::suite::world::eventually;

/// Who may be a process here.
const NAMES: [&str; 6] = ["first", "second", "leaving", "staying", "stuck", "next"];

/// Gives every name the provider's permissions, of `config/rbac.yaml`, and no more.
pub fn allow(plane: &ControlPlane) {
    let rbac = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/rbac.yaml");
    plane.ok(&["apply", "-f", rbac]);
    for name in NAMES {
        plane.ok(&["create", "serviceaccount", name]);
        let account = format!("--serviceaccount=default:{name}");
        let role = "vk-flightctl-provider";
        let all = format!("--clusterrole={role}");
        plane.ok(&["create", "clusterrolebinding", name, &all, &account]);
        let leases = format!("--role={role}");
        let space = "--namespace=kube-node-lease";
        plane.ok(&["create", "rolebinding", name, &leases, &account, space]);
    }
}

/// A namespace in which pods can be made.
pub async fn make_namespace(plane: &ControlPlane, name: &str) {
    plane.ok(&["create", "namespace", name]);
    let look = || async {
        let account = plane.kubectl(&["get", "serviceaccount", "default", "-n", name]);
        account.success.then_some(())
    };
    eventually("the namespace has its ServiceAccount", look).await;
}

pub struct Mock {
    pub process: Process,
    name: &'static str,
    port: u16,
}

impl Mock {
    /// One that serves the node `<prefix>-0`.
    pub fn start(plane: &ControlPlane, name: &'static str, prefix: &str, more: &[&str]) -> Self {
        let port = free_port();
        let kubeconfig = plane.service_account_kubeconfig("default", name);
        let mut command = Command::new(example("mock"));
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--nodes", "1", "--node-prefix", prefix])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(more)
            .env("RUST_LOG", "info");
        let process = Process::start(plane.folder(), name, &mut command);
        Self {
            process,
            name,
            port,
        }
    }

    /// What `/readyz` says.
    pub async fn readyz(&self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut answer = String::new();
        if let Ok(mut socket) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await {
            let request = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            if socket.write_all(request).await.is_ok() {
                let _ = socket.read_to_string(&mut answer).await;
            }
        }
        answer
    }

    pub async fn says(&self, text: &str) {
        let look = || async { self.readyz().await.contains(text).then_some(()) };
        eventually(&format!("{} says {text}", self.name), look).await;
    }

    /// What the API server was asked by this process, oldest first.
    pub fn asked(&self, plane: &ControlPlane) -> Vec<Asked> {
        let user = json!(format!("system:serviceaccount:default:{}", self.name));
        let all = plane.audit();
        // The last line may be half written.
        let lines = all.lines().filter_map(|l| serde_json::from_str(l).ok());
        lines
            .filter(|line: &Value| line["user"]["username"] == user)
            .map(|line| Asked {
                verb: text(&line["verb"]),
                what: text(&line["requestURI"]),
                code: line["responseStatus"]["code"].as_u64().unwrap_or_default(),
            })
            .collect()
    }
}

/// One request, as the API server's audit shows it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub verb: String,
    pub what: String,
    pub code: u64,
}

impl Asked {
    pub fn is_write(&self) -> bool {
        !matches!(&*self.verb, "get" | "list" | "watch")
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub async fn client(plane: &ControlPlane) -> Client {
    connect(reached(plane.kubeconfig()).await, &Metrics::default()).unwrap()
}
