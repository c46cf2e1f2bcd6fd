//! Kubernetes' own client for Python: the legacy WebSocket forms.

use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use super::forward::echo;
use super::kubectl::{Kubectl, container, ended};

const SCRIPT: &str = include_str!("client.py");

pub async fn streams(kubectl: &Kubectl) {
    let Some(python) = std::env::var_os("VK_PYTHON") else {
        println!(
            "SKIPPED: the Python client (python3 with venv is missing, or make test-real was not run)"
        );
        return;
    };
    let containers = json!([container("app", "exec sleep 100000", json!({}))]);
    kubectl.starts("snake", "Always", containers).await;
    let port = echo(kubectl, "snake-echo").await;
    let child = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(kubectl.cluster.plane.kubeconfig())
        .args([kubectl.way.namespace, &port.to_string()])
        .args([&crate::harness::process::free_port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let printed = ended(child, b"").await;
    assert_eq!(
        (printed.code, &*printed.text()),
        (Some(0), "all well\n"),
        "{printed:?}"
    );
}
