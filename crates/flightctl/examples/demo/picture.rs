//! What the demo shows: a picture that is drawn again in a terminal, or lines.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use vk_sandbox::flightctl::Device;
use vk_sandbox::kubernetes::Cluster;

/// Between two drawings; changes come in bursts.
const FRAME: Duration = Duration::from_millis(200);
/// How long a remark stays before the story goes on.
const REMARK: Duration = Duration::from_secs(2);

/// The picture.
pub struct Picture {
    cluster: Cluster,
    devices: Vec<Device>,
    terminal: bool,
    told: Mutex<Vec<String>>,
    /// The devices whose network is cut.
    away: Mutex<BTreeSet<String>>,
}

impl Picture {
    /// A picture of this world.
    pub fn new(cluster: Cluster, devices: Vec<Device>) -> Self {
        Self {
            cluster,
            devices,
            terminal: std::io::stdout().is_terminal(),
            told: Mutex::default(),
            away: Mutex::default(),
        }
    }

    /// Shows a step until it is done.
    pub async fn step(
        &self,
        what: &str,
        patience: Duration,
        done: impl Future<Output = ()>,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut done = std::pin::pin!(tokio::time::timeout(patience, done));
        let mut frames = tokio::time::interval(FRAME);
        let ended = loop {
            tokio::select! {
                ended = &mut done => break ended,
                _ = frames.tick() => self.draw(&format!("… {what}")),
            }
        };
        if ended.is_err() {
            bail!(
                "{what}: not within {} s\n{}",
                patience.as_secs(),
                self.tables()
            );
        }
        self.tell(format!("✓ {what} ({:.1} s)", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Cuts a device's network, or mends it.
    pub fn link(&self, device: &Device, up: bool) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if up {
            device.reconnect();
            away.remove(device.name());
        } else {
            device.disconnect();
            away.insert(device.name().to_owned());
        }
    }

    /// Shows a remark for a moment.
    pub async fn say(&self, what: &str) {
        self.tell(format!("• {what}"));
        tokio::time::sleep(REMARK).await;
    }

    /// The last picture.
    pub fn end(&self, took: Duration) {
        self.tell(format!("✓ the story took {:.0} s", took.as_secs_f64()));
        if !self.terminal {
            print!("\n{}", self.tables());
        }
    }

    fn tell(&self, line: String) {
        if !self.terminal {
            println!("{line}");
        }
        self.told().push(line);
        self.draw("");
    }

    fn draw(&self, now: &str) {
        if self.terminal {
            let told = self.told().join("\n");
            // Home, then clear what the last picture left.
            print!("\x1b[H\x1b[J{}\n{told}\n{now}\n", self.tables());
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> String {
        let mut text = format!(
            "{:<30} {:<8} {:>6} {:>8}\n",
            "NODE", "STATUS", "CPU", "MEMORY"
        );
        for node in self.cluster.list_values("nodes", None) {
            let room = &node["status"]["allocatable"];
            let status = if is_ready(&node) { "Ready" } else { "NotReady" };
            let _ = writeln!(
                text,
                "{:<30} {status:<8} {:>6} {:>8}",
                show(&node["metadata"]["name"]),
                show(&room["cpu"]),
                show(&room["memory"]),
            );
        }
        let _ = writeln!(text, "\n{:<12} {:<8} RUNS", "DEVICE", "NETWORK");
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        for device in &self.devices {
            let running: Vec<String> = device
                .applications()
                .iter()
                .map(|a| {
                    format!(
                        "{}… {}",
                        a.name.chars().take(11).collect::<String>(),
                        a.status
                    )
                })
                .collect();
            let network = if away.contains(device.name()) {
                "cut"
            } else {
                "up"
            };
            let running = if running.is_empty() {
                "nothing".to_owned()
            } else {
                running.join(", ")
            };
            let _ = writeln!(text, "{:<12} {network:<8} {running}", device.name());
        }
        let _ = writeln!(
            text,
            "\n{:<32} {:<6} {:<12} {:<11} IMAGE",
            "POD", "READY", "STATUS", "DEVICE"
        );
        for pod in self.cluster.list_values("pods", Some("default")) {
            let phase = if pod["metadata"]["deletionTimestamp"].is_string() {
                "Terminating"
            } else {
                show(&pod["status"]["phase"])
            };
            let _ = writeln!(
                text,
                "{:<32} {:<6} {phase:<12} {:<11} {}",
                show(&pod["metadata"]["name"]),
                if is_ready(&pod) { "1/1" } else { "0/1" },
                show(&pod["metadata"]["labels"]["flightctl.io/device"]),
                show(&pod["spec"]["containers"][0]["image"]),
            );
        }
        text
    }
}

/// Condition `Ready` is True.
pub fn is_ready(object: &Value) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn show(json: &Value) -> &str {
    json.as_str().unwrap_or_default()
}
