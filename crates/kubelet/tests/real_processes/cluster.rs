//! The program itself under a real control plane.

use std::path::{Path, PathBuf};
use std::process::Command;

use kube::config::Kubeconfig;
use rustix::process::{Pid, Signal, kill_process};

use super::harness::control_plane::{ControlPlane, Flags, KUBELET_CLIENT};
use super::harness::process::{Process, free_port};
use super::harness::{example, tools};
use super::rig::Death;

const NODE: &str = "system:node:mock-0";

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "here"}, "spec": {
    "nodeName": "mock-0", "terminationGracePeriodSeconds": 5,
    "containers": [{"name": "main", "image": "none",
        "command": ["sh", "-c", "echo $$$$ is $POD; trap '' TERM; while :; do sleep 100000; done"],
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}}"#;

/// A control plane and the program under it.
pub struct Cluster {
    // Ends before what it talks to.
    pub mock: Process,
    pub plane: ControlPlane,
}

impl Cluster {
    /// With the program's certificate approved; it takes some seconds until the
    /// program shows it.
    pub fn start(tools: &Path, flags: Flags<'_>) -> Self {
        let mut plane = ControlPlane::start_with(tools, flags);
        let user = format!("--user={KUBELET_CLIENT}");
        let role = "--clusterrole=system:kubelet-api-admin";
        plane.ok(&["create", "clusterrolebinding", KUBELET_CLIENT, role, &user]);
        let (role, user) = ("--clusterrole=cluster-admin", format!("--user={NODE}"));
        plane.ok(&["create", "clusterrolebinding", "mock", role, &user]);
        let mut command = Command::new(example("mock"));
        command
            .arg("--kubeconfig")
            .arg(kubeconfig_of_the_node(&plane))
            .args(["--listen", &format!("127.0.0.1:{}", free_port())])
            .args(["--processes", "--kubelet-api-address", "127.0.0.1"])
            .args(["--kubelet-api-ports", "0-0"])
            .args(["--kubelet-api-certificate", "requested"]);
        let mock = Process::start(plane.folder(), "mock", &mut command);
        plane.wait("its certificate is requested", approve);
        Self { mock, plane }
    }
}

#[tokio::test]
async fn a_pod_of_a_real_cluster_is_a_process_here_and_ends_with_the_program() {
    let Some(tools) = tools() else {
        return;
    };
    let Cluster { mock, mut plane } = Cluster::start(&tools, Flags::default());
    let applied = plane.apply(POD);
    assert!(applied.success, "{}", applied.text);
    let logs = |plane: &ControlPlane| plane.kubectl(&["logs", "here"]).text;
    plane.wait("its log can be read", |plane| {
        logs(plane).ends_with(" is here\n")
    });
    let text = logs(&plane);
    let death = Death::of(text.split(' ').next().unwrap());
    let events = plane.ok(&["get", "events", "-o", "jsonpath={.items[*].reason}"]);
    assert!(events.contains("ImageIgnored"), "{events}");
    // TERM is not heeded.
    plane.ok(&["delete", "pod", "here"]);
    death.comes().await;

    let applied = plane.apply(POD);
    assert!(applied.success, "{}", applied.text);
    plane.wait("its log can be read", |plane| {
        logs(plane).ends_with(" is here\n")
    });
    let death = Death::of(logs(&plane).split(' ').next().unwrap());
    let program = Pid::from_raw(i32::try_from(mock.id()).unwrap()).unwrap();
    kill_process(program, Signal::KILL).unwrap();
    death.comes().await;
}

/// The administrator's, as the node: the signer of its certificate serves nodes
/// alone.
fn kubeconfig_of_the_node(plane: &ControlPlane) -> PathBuf {
    let mut file = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let user = file.auth_infos[0].auth_info.as_mut().unwrap();
    user.impersonate = Some(NODE.into());
    user.impersonate_groups = Some(vec!["system:nodes".into()]);
    let path = plane.folder().join("node.kubeconfig");
    std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    path
}

/// Approves what was requested; false while nothing was.
fn approve(plane: &ControlPlane) -> bool {
    let requests = plane.ok(&["get", "csr", "-o", "name"]);
    let mut requests = requests.lines().filter(|line| line.contains('/'));
    requests
        .next()
        .is_some_and(|request| plane.kubectl(&["certificate", "approve", request]).success)
}
