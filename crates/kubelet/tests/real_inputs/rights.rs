//! `config/` as its comments tell users to apply it.

use std::fs;
use std::path::{Path, PathBuf};

use kube::Client;
use virtual_kubelet::connect::connect;
use virtual_kubelet::metrics::Metrics;

use crate::harness::control_plane::ControlPlane;
use crate::harness::reached;
use crate::{APART, BARE, SHOP};

/// The ServiceAccount of `config/rbac.yaml`, in `default`.
pub const ACCOUNT: &str = "vk-flightctl-provider";

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

/// What everybody applies.
pub fn grant(plane: &ControlPlane) {
    let rbac = config().join("rbac.yaml");
    plane.ok(&["apply", "-f", &rbac.display().to_string()]);
    for namespace in [SHOP, BARE, APART] {
        plane.ok(&["create", "namespace", namespace]);
    }
}

/// `kubectl apply -k config/inputs` for these namespaces: a copy of `default.yaml`
/// for each, listed in its place.
pub fn bind(plane: &ControlPlane, namespaces: &[&str]) {
    let read = |name: &str| fs::read_to_string(config().join("inputs").join(name)).unwrap();
    let folder = plane.folder().join("inputs");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    fs::create_dir_all(&folder).unwrap();
    write("role.yaml", &read("role.yaml"));
    let mut listed = String::new();
    for namespace in namespaces {
        let own = format!("  namespace: {namespace}\n  labels");
        let copy = read("default.yaml").replacen("  namespace: default\n  labels", &own, 1);
        assert!(copy.contains(&own), "{copy}");
        write(&format!("{namespace}.yaml"), &copy);
        listed += &format!("- {namespace}.yaml\n");
    }
    let list = read("kustomization.yaml");
    let ours = list.replace("- default.yaml\n", &listed);
    assert_ne!(ours, list, "it lists default.yaml");
    write("kustomization.yaml", &ours);
    plane.ok(&["apply", "-k", &folder.display().to_string()]);
}

/// As the provider makes it.
pub async fn client(kubeconfig: &Path) -> Client {
    connect(reached(kubeconfig).await, &Metrics::default()).unwrap()
}
