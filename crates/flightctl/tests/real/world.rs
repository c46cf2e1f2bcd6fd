//! A control plane, the provider's own binary beside it, and a Flight Control.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::control_plane::ControlPlane;
use crate::harness::process::{Process, free_port};
use crate::service::Service;

/// The user's `10 s to Running` and what a busy two-core machine adds to it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub provider: Process,
    pub plane: ControlPlane,
    pub flightctl: Service,
    health: u16,
}

pub fn repository() -> PathBuf {
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
    pub fn start(tools: &Path, flightctl: Service, more: &str) -> Self {
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

    pub fn apply(&self, manifest: &str) {
        let output = self.plane.apply(manifest);
        assert!(output.success, "{}", output.text);
    }

    pub fn jsonpath(&self, namespace: &str, pod: &str, path: &str) -> String {
        let output = format!("jsonpath={path}");
        self.plane
            .kubectl(&["get", "pod", pod, "-n", namespace, "-o", &output])
            .text
    }

    pub fn applications(&self, number: usize) -> Vec<String> {
        self.flightctl.applications(self.flightctl.device(number))
    }

    /// Reason and message of a pod's events, as `kubectl describe` lists them.
    pub fn story(&self, namespace: &str, pod: &str) -> Vec<String> {
        let described = self.plane.ok(&["describe", "pod", pod, "-n", namespace]);
        let (_, events) = described.split_once("\nEvents:").unwrap_or_default();
        let told = events.lines().filter_map(|line| {
            let (before, message) = line.split_once(" vk-flightctl-provider ")?;
            let reason = before.split_whitespace().nth(1)?;
            Some(format!("{reason} {}", message.trim()))
        });
        told.collect()
    }

    /// What `kubectl describe` says about the requests of a node's pods.
    pub fn allocated(&self, node: &str) -> String {
        let described = self.plane.ok(&["describe", "node", node]);
        let (_, after) = described
            .split_once("\nAllocated resources:\n")
            .unwrap_or_else(|| panic!("no allocated resources in\n{described}"));
        let (allocated, _) = after.split_once("\nEvents:").unwrap_or((after, ""));
        allocated.to_owned()
    }

    /// Writes of the provider to Flight Control so far, by its own count.
    pub fn writes(&self) -> f64 {
        let metrics = self.http("/metrics").1;
        let writes = metrics
            .lines()
            .filter(|l| l.contains("flightctl_requests_total{") && l.contains("\"patch_device\""));
        let counts = writes.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        counts.sum()
    }

    /// How often the spec of each device was changed, by Flight Control's count.
    pub fn generations(&self) -> Vec<i64> {
        let devices = self.flightctl.names().into_iter();
        let devices = devices.map(|name| self.flightctl.document(name));
        devices
            .map(|d| d["metadata"]["generation"].as_i64().unwrap())
            .collect()
    }

    pub fn http(&self, path: &str) -> (u16, String) {
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

    pub fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
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
