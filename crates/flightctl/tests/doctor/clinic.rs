//! Both services on loopback, and the provider's `doctor` on them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use vk_sandbox::clock::Clock;
use vk_sandbox::flightctl::{DeviceSpec, FlightControl, Options, Organization};
use vk_sandbox::kubernetes::Cluster;
use vk_sandbox::transport::{self, Endpoint};

const TOKEN: &str = "very-secret-token";

/// Both services on loopback, and what the provider is configured with.
pub struct Clinic {
    pub flightctl: FlightControl,
    pub cluster: Cluster,
    folder: TempDir,
    pub url: String,
    pub kubernetes: String,
    pub token: String,
    /// Lines of the configuration, and of its section `flightctl`.
    pub config: String,
    pub section: String,
    _stop: [DropGuard; 2],
}

/// What was said, and the exit code.
pub struct Said {
    pub lines: Vec<String>,
    pub code: i32,
}

async fn serve(endpoint: Endpoint, ca: &Path) -> (String, DropGuard) {
    let tls = vk_sandbox::tls::loopback().unwrap();
    std::fs::write(ca, &tls.ca_pem).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = transport::loopback(address).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(endpoint.listen(listener, Some(tls.acceptor), stop.clone()));
    (url, stop.drop_guard())
}

impl Clinic {
    /// Two devices in a fleet that say how large they are.
    pub async fn new() -> Self {
        let clinic = Self::with(Clock::live(), Vec::new()).await;
        for number in 1..=2 {
            clinic.device(number, |_| {});
        }
        clinic
    }

    pub async fn with(clock: Clock, organizations: Vec<Organization>) -> Self {
        let mut options = Options {
            token: Some(TOKEN.into()),
            ..Options::default()
        };
        if !organizations.is_empty() {
            options.organizations = organizations;
        }
        let flightctl = FlightControl::new(clock, options);
        let cluster = Cluster::new(Clock::live());
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        let (url, of_flightctl) = serve(flightctl.endpoint(), &at("flightctl.crt")).await;
        let (kubernetes, of_cluster) = serve(cluster.endpoint(), &at("kubernetes.crt")).await;
        Self {
            flightctl,
            cluster,
            folder,
            url,
            kubernetes,
            token: TOKEN.into(),
            config: String::new(),
            section: String::new(),
            _stop: [of_flightctl, of_cluster],
        }
    }

    pub fn device(&self, number: u32, change: impl FnOnce(&mut DeviceSpec)) {
        let mut spec = DeviceSpec::new(&format!("device-{number}"));
        spec.cpu_cores = Some(4);
        spec.memory_kb = Some(8 << 20);
        spec.labels = [("fleet".to_owned(), "paris".to_owned())].into();
        change(&mut spec);
        self.flightctl.add_device(spec);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self) {
        let at = |name: &str| self.path(name).display().to_string();
        std::fs::write(self.path("token"), &self.token).unwrap();
        let config = format!(
            "apiVersion: vk-flightctl.io/v1alpha1\nkind: ProviderConfig\n\
             flightctl:\n  url: {}\n  caFile: {}\n  tokenFile: {}\n{}{}",
            self.url,
            at("flightctl.crt"),
            at("token"),
            self.section,
            self.config
        );
        std::fs::write(self.path("config.yaml"), config).unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {"server": self.kubernetes, "certificate-authority": at("kubernetes.crt")}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
            "users": [{"name": "t", "user": {"token": "t"}}],
        });
        std::fs::write(self.path("kubeconfig"), kubeconfig.to_string()).unwrap();
    }

    pub async fn doctor(&self) -> Said {
        self.write();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vk-flightctl-provider"));
        command.arg("doctor");
        command.arg("--config").arg(self.path("config.yaml"));
        command.arg("--kubeconfig").arg(self.path("kubeconfig"));
        for name in [
            "FLIGHTCTL_API_URL",
            "FLIGHTCTL_AUTH_TOKEN",
            "FLIGHTCTL_AUTH_TOKEN_FILE",
            "POD_IP",
        ] {
            command.env_remove(name);
        }
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.is_empty(), "{errors}");
        assert!(!text.contains(TOKEN), "{text}");
        Said {
            lines: text.lines().map(str::to_owned).collect(),
            code: output.status.code().unwrap(),
        }
    }
}

impl Said {
    /// The line of this outcome and name, and the remedy below it.
    pub fn line(&self, outcome: &str, name: &str) -> String {
        let begin = format!("{outcome:<8} {name}: ");
        let at = self.lines.iter().position(|line| line.starts_with(&begin));
        let at = at.unwrap_or_else(|| panic!("no {begin:?} in {:#?}", self.lines));
        let remedy = self.lines[at + 1..]
            .first()
            .filter(|l| l.starts_with("         ->"));
        match (outcome, remedy) {
            ("ok", None) => self.lines[at].clone(),
            ("ok", Some(remedy)) => panic!("what is well needs no remedy: {remedy}"),
            (_, Some(remedy)) => format!("{}{remedy}", self.lines[at]),
            (_, None) => panic!("no remedy: {:#?}", self.lines),
        }
    }

    /// That something is a problem, with these words, and that this is told.
    #[track_caller]
    pub fn problem(&self, name: &str, words: &[&str]) {
        let line = self.line("problem", name);
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(self.code, 1, "{:#?}", self.lines);
    }

    #[track_caller]
    pub fn warning(&self, name: &str, words: &[&str]) {
        let line = self.line("warning", name);
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(self.code, 0, "{:#?}", self.lines);
    }
}

/// Until a device reads so; polled, as there is no event of it.
pub async fn until(clinic: &Clinic, device: &str, pointer: &str, value: &str) {
    for _ in 0..600 {
        let read = clinic.flightctl.device_value(device).unwrap();
        if read.pointer(pointer).is_some_and(|read| read == value) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{device} never reads {value} at {pointer}");
}

pub async fn reported(clinic: &Clinic, device: &str) {
    until(clinic, device, "/status/systemInfo/architecture", "amd64").await;
}

pub async fn create(clinic: &Clinic, path: &str, object: &Value) {
    clinic.write();
    let file = kube::config::Kubeconfig::read_from(clinic.path("kubeconfig")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default())
        .await
        .unwrap();
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    client.request::<Value>(request).await.unwrap();
}
