//! Who is measured: a process of its own, watched from outside through `/proc`.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use crate::ceiling;
use crate::harness::control_plane::ControlPlane;
use crate::harness::example;
use crate::harness::process::{Process, free_port};

/// A subject that used less than [`QUIET_CPU`] in each of [`QUIET_WINDOWS`] of
/// this length has come to rest.
const QUIET_WINDOW: Duration = Duration::from_millis(500);
const QUIET_CPU: Duration = Duration::from_millis(10);
const QUIET_WINDOWS: usize = 3;
/// Longest wait for a start or for rest.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The least that could be done.
    Ceiling,
    /// The framework with the example's backend.
    Mock,
    /// The same, over kube's own client.
    MockHttp1,
    /// The same, with what pods refer to.
    MockInputs,
    /// The peer.
    Kwok,
}

/// A running subject.
pub struct Subject {
    process: Process,
    /// The nodes that it serves.
    pub nodes: Vec<String>,
    /// Where it serves its metrics.
    port: u16,
}

impl Subject {
    /// Starts it; returns when it is ready and its nodes are Ready.
    pub async fn start(plane: &ControlPlane, client: &Client, kind: Kind, count: usize) -> Self {
        let prefix = format!("{kind:?}-{count}").to_lowercase();
        let nodes: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
        let mut command = match kind {
            Kind::Ceiling => this_program(),
            Kind::Mock | Kind::MockHttp1 | Kind::MockInputs => Command::new(example("mock")),
            Kind::Kwok => Command::new(kwok().join("kwok")),
        };
        let port = free_port();
        match kind {
            Kind::Ceiling => command.arg(ceiling::COMMAND).arg(plane.kubeconfig()),
            Kind::Mock | Kind::MockHttp1 | Kind::MockInputs => command
                .args((kind == Kind::MockHttp1).then_some("--http1"))
                .args((kind == Kind::MockInputs).then_some("--inputs"))
                .arg("--kubeconfig")
                .arg(plane.kubeconfig())
                .args(["--nodes", &count.to_string(), "--node-prefix", &prefix])
                .args(["--listen", &format!("127.0.0.1:{port}")]),
            Kind::Kwok => {
                for name in &nodes {
                    make_node(client, name).await;
                }
                command
                    // The configuration of whoever runs this is none of its.
                    .env("HOME", plane.folder())
                    .arg("--config")
                    .arg(kwok().join("stages.yaml"))
                    .arg("--kubeconfig")
                    .arg(plane.kubeconfig())
                    .args(["--manage-all-nodes=false"])
                    .args(["--manage-nodes-with-label-selector=type=kwok"])
                    .args(["--node-lease-duration-seconds=40", "--v=WARN"])
                    .args([&format!("--server-address=127.0.0.1:{port}")])
            }
        };
        let subject = Self {
            process: Process::start(plane.folder(), &prefix, &mut command),
            nodes,
            port,
        };
        if !matches!(kind, Kind::Ceiling | Kind::Kwok) {
            subject.answers(port).await;
        }
        if kind != Kind::Ceiling {
            subject.registered(client).await;
        }
        subject
    }

    async fn answers(&self, port: u16) {
        let begun = Instant::now();
        while !ready(port).await {
            assert!(begun.elapsed() < PATIENCE, "never ready: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn registered(&self, client: &Client) {
        let api: Api<Node> = Api::all(client.clone());
        let begun = Instant::now();
        for name in &self.nodes {
            while !api
                .get_opt(name)
                .await
                .unwrap()
                .is_some_and(|n| is_ready(&n))
            {
                assert!(begun.elapsed() < PATIENCE, "{name}: {}", self.log());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// Memory in use now, and the most so far, in MB.
    pub fn memory(&self) -> (f64, f64) {
        self.process.memory()
    }

    /// Open TCP connections to this port.
    pub fn connections(&self, port: u16) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        let sockets: HashSet<String> = links
            .filter_map(|link| {
                let link = link.to_str()?.strip_prefix("socket:[")?;
                Some(link.strip_suffix(']')?.to_owned())
            })
            .collect();
        let far = format!(":{port:04X}");
        let table = self.process.proc("net/tcp");
        let open = table.lines().filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Remote address, state (established), inode.
            fields.len() > 9
                && fields[2].ends_with(&far)
                && fields[3] == "01"
                && sockets.contains(fields[9])
        });
        open.count()
    }

    /// How often it has handed a pod to its backend.
    pub async fn ensures(&self) -> u64 {
        let text = get(self.port, "/metrics").await.unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.contains("_count{") && line.contains("operation=\"ensure\""));
        let count = line.and_then(|line| line.rsplit_once(' '));
        count.map_or(0, |(_, count)| count.parse().expect("a number"))
    }

    /// Waits until it rests; answers since when.
    pub async fn quiet(&mut self) -> Instant {
        let begun = Instant::now();
        let (mut windows, mut since) = (0, begun);
        let mut cpu = self.cpu();
        while windows < QUIET_WINDOWS {
            self.process.assert_alive();
            assert!(begun.elapsed() < PATIENCE, "never at rest");
            let window = Instant::now();
            tokio::time::sleep(QUIET_WINDOW).await;
            let now = self.cpu();
            if now - cpu <= QUIET_CPU {
                if windows == 0 {
                    since = window;
                }
                windows += 1;
            } else {
                windows = 0;
            }
            cpu = now;
        }
        since
    }

    /// What it said: nothing, if all went well.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as an administrator would.
    pub fn stop(&mut self) {
        self.process.end("-TERM");
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn ready(port: u16) -> bool {
    let answer = get(port, "/readyz").await;
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn make_node(client: &Client, name: &str) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"type": "kwok"}},
    }))
    .unwrap();
    let api: Api<Node> = Api::all(client.clone());
    api.create(&PostParams::default(), &node).await.unwrap();
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program has a path"))
}

/// The folder with kwok and its stages.
fn kwok() -> PathBuf {
    PathBuf::from(std::env::var_os("VK_KWOK").expect("VK_KWOK is set: run make bench"))
}
