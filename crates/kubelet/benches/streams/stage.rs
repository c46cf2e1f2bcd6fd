//! The control plane and the two who are measured.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::ByteString;
use kube::config::Kubeconfig;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, Issuer, KeyPair,
};
use serde_json::{Value, json};

use crate::door::{Door, Kind};
use crate::echo::Echoes;
use crate::harness::control_plane::{ControlPlane, KUBELET_CLIENT};
use crate::harness::example;
use crate::harness::process::{Process, free_port};

/// Where the pods are.
pub const NAMESPACE: &str = "bench";
/// What a container writes each second.
pub const LINE: &str = "a line as applications write them, of eighty letters with the end of it...";

const OURS: &str = "ours-0";
const THEIRS: &str = "theirs-0";

pub struct Stage {
    pub plane: ControlPlane,
    pub api: Door,
    pub echoes: Echoes,
    /// Ours, then the library.
    pub subjects: [Subject; 2],
}

/// A node, its only pod and the process behind both.
pub struct Subject {
    pub pod: &'static str,
    pub process: Process,
    pub node: Door,
}

impl Stage {
    /// Both nodes are there, and the API server reaches into their pods.
    pub async fn set(tools: &Path, address: IpAddr) -> Self {
        let mut plane = ControlPlane::start_server(tools);
        let user = format!("--user={KUBELET_CLIENT}");
        let role = "--clusterrole=system:kubelet-api-admin";
        plane.ok(&["create", "clusterrolebinding", KUBELET_CLIENT, role, &user]);
        let (role, user) = ("--clusterrole=cluster-admin", "--group=system:nodes");
        plane.ok(&["create", "clusterrolebinding", "nodes", role, user]);
        plane.ok(&["create", "namespace", NAMESPACE]);
        // No controller is here to make it.
        plane.ok(&["create", "serviceaccount", "default", "-n", NAMESPACE]);
        let theirs = theirs(&mut plane, address);
        let ours = ours(&mut plane, address);
        let at = SocketAddr::from(([127, 0, 0, 1], plane.port()));
        let api = Door::new(at, Kind::ApiServer, plane.folder(), "admin");
        Self {
            api,
            echoes: Echoes::start(address).await,
            subjects: [ours, theirs],
            plane,
        }
    }
}

/// The framework. Nobody is here who issues its certificate: this does.
fn ours(plane: &mut ControlPlane, address: IpAddr) -> Subject {
    let mut file = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let user = file.auth_infos[0].auth_info.as_mut().unwrap();
    user.impersonate = Some(format!("system:node:{OURS}"));
    user.impersonate_groups = Some(vec!["system:nodes".into()]);
    let kubeconfig = plane.folder().join("node.kubeconfig");
    fs::write(&kubeconfig, serde_json::to_vec(&file).unwrap()).unwrap();
    let mut command = Command::new(example("mock"));
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--listen", &format!("127.0.0.1:{}", free_port())])
        .args(["--processes", "--node-prefix", "ours"])
        .args(["--kubelet-api-address", &address.to_string()])
        .args(["--kubelet-api-ports", "0-0"])
        .args(["--kubelet-api-certificate", "requested"]);
    let process = Process::start(plane.folder(), "mock", &mut command);
    apply(plane, &pod("ours", OURS));
    plane.wait("a certificate is asked for and issued", issue);
    let reads = ["logs", "-n", NAMESPACE, "ours", "--tail=1"];
    plane.wait("the API server reaches into our pod", |plane| {
        plane.kubectl(&reads).text.contains(LINE)
    });
    let port = "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}";
    let port = plane
        .ok(&["get", "node", OURS, "-o", port])
        .parse()
        .unwrap();
    Subject {
        pod: "ours",
        process,
        node: node(plane, address, port),
    }
}

/// Signs what was asked for; false while nothing was.
fn issue(plane: &ControlPlane) -> bool {
    let requests = plane.ok(&["get", "csr", "-o", "json"]);
    let requests: Value = serde_json::from_str(&requests).unwrap();
    let Some(request) = requests["items"].get(0) else {
        return false;
    };
    let name = request["metadata"]["name"].as_str().unwrap();
    plane.ok(&["certificate", "approve", name]);
    let asked: ByteString = serde_json::from_value(request["spec"]["request"].clone()).unwrap();
    let asked = String::from_utf8(asked.0).unwrap();
    let asked = CertificateSigningRequestParams::from_pem(&asked).unwrap();
    let issued = asked.signed_by(&authority(plane)).unwrap().pem();
    let status = json!({"status": {"certificate": ByteString(issued.into_bytes())}});
    status_of(plane, &["csr", name], &status);
    true
}

/// A node without a kubelet: this says what a kubelet would, the library serves.
fn theirs(plane: &mut ControlPlane, address: IpAddr) -> Subject {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![address.to_string()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &authority(plane)).unwrap();
    let path = |file: &str| plane.folder().join(file);
    fs::write(path("theirs.crt"), certificate.pem()).unwrap();
    fs::write(path("theirs.key"), key.serialize_pem()).unwrap();
    let programs = path("programs");
    fs::create_dir(&programs).unwrap();
    let mut busybox = Command::new("busybox");
    let installed = busybox.args(["--install", "-s"]).arg(&programs).status();
    assert!(installed.expect("busybox is there").success());
    let port = free_port();
    let mut command = Command::new(library());
    command
        .args(["-listen", &SocketAddr::new(address, port).to_string()])
        .arg("-cert")
        .arg(path("theirs.crt"))
        .arg("-key")
        .arg(path("theirs.key"))
        .arg("-client-ca")
        .arg(path("ca.crt"))
        .arg("-programs")
        .arg(&programs);
    let process = Process::start(plane.folder(), "cri-streaming", &mut command);
    let node_object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": THEIRS}});
    apply(plane, &node_object);
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    status_of(plane, &["node", THEIRS], &status);
    apply(plane, &pod("theirs", THEIRS));
    let status = json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
    }});
    status_of(plane, &["pod", "theirs", "-n", NAMESPACE], &status);
    let execs = ["exec", "-n", NAMESPACE, "theirs", "--", "echo", "reached"];
    plane.wait("the API server reaches into their pod", |plane| {
        plane.kubectl(&execs).text.contains("reached")
    });
    Subject {
        pod: "theirs",
        process,
        node: node(plane, address, port),
    }
}

fn pod(name: &str, node: &str) -> Value {
    let script = format!("while :; do echo '{LINE}'; sleep 1; done");
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "main", "image": "none", "command": ["sh", "-c", script],
            }],
        },
    })
}

fn node(plane: &ControlPlane, address: IpAddr, port: u16) -> Door {
    let at = SocketAddr::new(address, port);
    Door::new(at, Kind::Node, plane.folder(), "kubelet-client")
}

fn apply(plane: &ControlPlane, object: &Value) {
    let applied = plane.apply(&object.to_string());
    assert!(applied.success, "{}", applied.text);
}

fn status_of(plane: &ControlPlane, object: &[&str], status: &Value) {
    let patch = status.to_string();
    let how = ["--subresource=status", "--type=merge", "-p", &patch];
    plane.ok(&[&["patch"], object, &how].concat());
}

/// The control plane's own.
fn authority(plane: &ControlPlane) -> Issuer<'static, KeyPair> {
    let read = |file: &str| fs::read_to_string(plane.folder().join(file)).unwrap();
    let key = KeyPair::from_pem(&read("ca.key")).unwrap();
    Issuer::from_ca_cert_pem(&read("ca.crt"), key).unwrap()
}

fn library() -> PathBuf {
    let folder = std::env::var_os("VK_CRI_STREAMING");
    let folder = PathBuf::from(folder.expect("VK_CRI_STREAMING is set: run make bench"));
    folder.join("cri-streaming")
}
