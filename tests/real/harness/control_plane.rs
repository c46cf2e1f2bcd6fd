//! etcd, kube-apiserver, controller-manager, scheduler and kubectl, on loopback.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::process::{Process, free_port};

/// A control plane needs some seconds on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who the API server is to kubelets; it may do nothing until a test lets it.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// A running control plane.
pub struct ControlPlane {
    // Before the folder they write to.
    processes: Vec<Process>,
    tools: PathBuf,
    url: String,
    folder: TempDir,
}

/// Flags beside the usual ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags<'a> {
    pub apiserver: &'a [&'a str],
    pub controller_manager: &'a [&'a str],
    /// The API server writes down what it was asked, by whom.
    pub audit: bool,
}

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    pub text: String,
}

impl ControlPlane {
    /// Brings everything up; returns when the API server is ready and the
    /// default ServiceAccount exists.
    pub fn start(tools: &Path) -> Self {
        Self::start_with(tools, Flags::default())
    }

    /// The same, with these flags.
    pub fn start_with(tools: &Path, flags: Flags<'_>) -> Self {
        let mut plane = Self::start_server_with(tools, flags);
        plane.start_controllers(flags.controller_manager);
        plane.wait("the default ServiceAccount exists", |p| {
            p.kubectl(&["get", "serviceaccount", "default", "-n", "default"])
                .success
        });
        plane
    }

    /// The API server and etcd alone: nothing is scheduled, nothing controlled.
    pub fn start_server(tools: &Path) -> Self {
        Self::start_server_with(tools, Flags::default())
    }

    fn start_server_with(tools: &Path, flags: Flags<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = free_port();
        let mut plane = Self {
            processes: Vec::new(),
            tools: tools.into(),
            url: format!("https://127.0.0.1:{port}"),
            folder,
        };
        plane.write_certificates();
        plane.start_etcd_and_apiserver(port, flags);
        plane.wait("the API server is ready", |p| {
            p.kubectl(&["get", "--raw", "/readyz"]).success
        });
        plane
    }

    /// Where temporary files may go.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the API server listens.
    pub fn port(&self) -> u16 {
        let (_, port) = self.url.rsplit_once(':').expect("the URL has a port");
        port.parse().expect("a port is a number")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// A kubeconfig with a ServiceAccount's token.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.ok(&["create", "token", name, "-n", namespace, "--duration", "1h"]);
        let path = self.path(&format!("{namespace}-{name}.kubeconfig"));
        fs::write(
            &path,
            self.kubeconfig_text(&format!("token: {}", token.trim())),
        )
        .expect("written");
        path
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_with(args, "")
    }

    /// The same, where waiting for it holds up nobody.
    pub async fn kubectl_apart(self: &Arc<Self>, args: &[&str]) -> Output {
        let plane = self.clone();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let run = move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            plane.kubectl(&args)
        };
        spawn_blocking(run).await.expect("kubectl is run")
    }

    /// Runs kubectl and expects it to succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.kubectl(args);
        assert!(
            output.success,
            "kubectl {}: {}",
            args.join(" "),
            output.text
        );
        output.text
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) -> Output {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// Waits until `condition` holds.
    pub fn wait(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            self.processes.iter_mut().for_each(Process::assert_alive);
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// kubectl as the administrator, to be started.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.tools.join("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(args)
            .env("KUBECACHEDIR", self.path("kubectl-cache"));
        command
    }

    fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        let mut child = self
            .kubectl_command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        if let Some(mut stdin) = child.stdin.take() {
            // kubectl may end without reading; then there is nothing to tell it.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().expect("kubectl ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        Output {
            success: output.status.success(),
            text,
        }
    }

    /// What the API server was asked so far, one JSON object a line; with
    /// [`Flags::audit`].
    pub fn audit(&self) -> String {
        fs::read_to_string(self.path("audit.log")).unwrap_or_default()
    }

    fn start_etcd_and_apiserver(&mut self, port: u16, flags: Flags<'_>) {
        let (client, peer) = (free_port(), free_port());
        let etcd = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        let mut command = self.command("etcd");
        command.args([
            &format!("--data-dir={}", self.path("etcd").display()),
            &format!("--listen-client-urls={etcd}"),
            &format!("--advertise-client-urls={etcd}"),
            &format!("--listen-peer-urls={peers}"),
            &format!("--initial-advertise-peer-urls={peers}"),
            &format!("--initial-cluster=default={peers}"),
            // The data dies with the test: no need to wait for the disk.
            "--unsafe-no-fsync=true",
        ]);
        self.run("etcd", &mut command);
        let mut command = self.command("kube-apiserver");
        command.args([
            &format!("--etcd-servers={etcd}"),
            "--bind-address=127.0.0.1",
            &format!("--secure-port={port}"),
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            &self.flag("tls-cert-file", "server.crt"),
            &self.flag("tls-private-key-file", "server.key"),
            &self.flag("client-ca-file", "ca.crt"),
            &self.flag("service-account-key-file", "accounts.pub"),
            // As kubeadm: kubelets are shown a certificate and have to show one.
            &self.flag("kubelet-certificate-authority", "ca.crt"),
            &self.flag("kubelet-client-certificate", "kubelet-client.crt"),
            &self.flag("kubelet-client-key", "kubelet-client.key"),
            &self.flag("service-account-signing-key-file", "accounts.key"),
        ]);
        command.args(flags.apiserver);
        if flags.audit {
            let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\n\
                          omitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";
            self.write("audit.yaml", policy);
            command.args([
                &self.flag("audit-policy-file", "audit.yaml"),
                &self.flag("audit-log-path", "audit.log"),
                "--audit-log-mode=blocking",
            ]);
        }
        self.run("kube-apiserver", &mut command);
    }

    fn start_controllers(&mut self, flags: &[&str]) {
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let mut command = self.command(name);
            command.args([
                &self.flag("kubeconfig", "admin.kubeconfig"),
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                &format!("--secure-port={}", free_port()),
            ]);
            if name == "kube-controller-manager" {
                command.args([
                    &self.flag("service-account-private-key-file", "accounts.key"),
                    &self.flag("root-ca-file", "ca.crt"),
                    &self.flag("cluster-signing-cert-file", "ca.crt"),
                    &self.flag("cluster-signing-key-file", "ca.key"),
                ]);
                command.args(flags);
            }
            self.run(name, &mut command);
        }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.tools.join(name));
        command.current_dir(self.folder.path());
        command
    }

    fn run(&mut self, name: &str, command: &mut Command) {
        let process = Process::start(self.folder.path(), name, command);
        self.processes.push(process);
    }

    fn flag(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.path(file).display())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write_certificates(&self) {
        let key = || KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "virtual-kubelet test CA");
        let ca_key = key();
        let ca = params.self_signed(&ca_key).expect("a CA can be made");
        self.write("ca.crt", &ca.pem());
        self.write("ca.key", &ca_key.serialize_pem());
        let issuer = Issuer::new(params, ca_key);

        let server_key = key();
        let mut server = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])
            .expect("names are valid");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write(
            "server.crt",
            &server
                .signed_by(&server_key, &issuer)
                .expect("signed")
                .pem(),
        );
        self.write("server.key", &server_key.serialize_pem());

        let client = |name: &str, user: &str, group: Option<&str>| {
            let key = key();
            let mut params = CertificateParams::default();
            let subject = &mut params.distinguished_name;
            subject.push(DnType::CommonName, user);
            if let Some(group) = group {
                subject.push(DnType::OrganizationName, group);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&key, &issuer).expect("signed");
            self.write(&format!("{name}.crt"), &certificate.pem());
            self.write(&format!("{name}.key"), &key.serialize_pem());
        };
        client("admin", "admin", Some("system:masters"));
        client("kubelet-client", KUBELET_CLIENT, None);

        let accounts = key();
        self.write("accounts.key", &accounts.serialize_pem());
        self.write("accounts.pub", &accounts.public_key_pem());
        let user = format!(
            "client-certificate: {}\n    client-key: {}",
            self.path("admin.crt").display(),
            self.path("admin.key").display()
        );
        self.write("admin.kubeconfig", &self.kubeconfig_text(&user));
    }

    fn kubeconfig_text(&self, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: {}\n    certificate-authority: {}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n\
             users:\n- name: test\n  user:\n    {user}\n",
            self.url,
            self.path("ca.crt").display(),
        )
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("the temporary folder can be written to");
    }
}
