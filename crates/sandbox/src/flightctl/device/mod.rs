//! Simulated devices: an agent with the real one's rules over a host without
//! containers, or over a machine that has them, and handles to make things happen to
//! them.

mod agent;
mod backed;
mod console;
pub(crate) mod files;
mod host;
pub(crate) mod journal;
mod link;
mod podman;
mod process;
mod programs;
mod quadlet;
mod runtime;
pub(crate) mod script;
mod shell;
mod simulated;
mod statements;
mod supervise;
mod terminal;
mod written;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::agent::{Agent, Command, boot_id};
use self::backed::Backed;
use self::host::MONITOR_LAG;
use self::journal::{Journal, JournalEntry};
use self::link::{InProcess, Plugged};
use self::runtime::Runtime;
use self::script::{Script, Scripts};
use self::simulated::Simulated;
use super::FlightControl;
use super::events::Actor;
use super::model::{ApplicationStatus, DeviceStatus, Stated};
use super::store::DeviceRow;
use crate::clock::Clock;

pub use self::backed::Machine;
pub(crate) use self::console::rendered as rendered_consoles;
pub use self::files::{Container, DeviceFile};
pub use self::link::{Link, LinkError};

/// `status-update-interval` of the agent, unless its configuration says less.
const STATUS_INTERVAL: Duration = Duration::from_mins(1);

/// Reboots that can be waiting; further ones are the same.
const COMMANDS: usize = 4;

/// A device to add.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Reported only if the agent is configured to.
    pub cpu_cores: Option<u32>,
    /// Reported only if the agent is configured to.
    pub memory_kb: Option<u64>,
    /// The default interface's address with its prefix length; `/24` if it
    /// has none.
    pub address: Option<String>,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// How often the agent reports what changed between updates.
    pub status_interval: Duration,
    /// How much later than it happens the agent reads what a container does.
    /// With some seconds, an update's own report is `Unknown 0/0`, as slow
    /// devices send it.
    pub monitor_lag: Duration,
}

impl Default for DeviceSpec {
    fn default() -> Self {
        Self::new("device")
    }
}

impl DeviceSpec {
    /// A device that reports neither size nor address, every minute.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            labels: BTreeMap::new(),
            cpu_cores: None,
            memory_kb: None,
            address: None,
            architecture: "amd64".into(),
            status_interval: STATUS_INTERVAL,
            monitor_lag: MONITOR_LAG,
        }
    }

    /// With a label more.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    fn status(&self) -> DeviceStatus {
        let mut status = DeviceStatus::unheard();
        status.conditions.clear();
        status.config.rendered_version = "0".into();
        status.capabilities = Some(json!({"osMode": "package"}));
        status.integrity = Stated::bare("Unsupported");
        for load in [
            &mut status.resources.cpu,
            &mut status.resources.memory,
            &mut status.resources.disk,
        ] {
            *load = "Healthy".into();
        }
        let mut info = |key: &str, value: String| {
            status.system_info.insert(key.into(), Value::String(value));
        };
        info("agentVersion", "sandbox".into());
        info("architecture", self.architecture.clone());
        info("bootID", boot_id(&self.name, 0));
        info("hostname", self.name.clone());
        info("kernel", "6.12.0".into());
        info("operatingSystem", "linux".into());
        if let Some(cores) = self.cpu_cores {
            info("cpuCores", cores.to_string());
            info("cpuProcessors", "1".into());
        }
        if let Some(memory) = self.memory_kb {
            info("memoryTotalKb", memory.to_string());
        }
        if let Some(address) = &self.address {
            let prefix = if address.contains('/') { "" } else { "/24" };
            info("netIpDefault", format!("{address}{prefix}"));
        }
        status
    }
}

/// A device's handle. Clones are the same device; it lives on without them.
#[derive(Clone, Debug)]
pub struct Device {
    name: String,
    plug: watch::Sender<bool>,
    commands: mpsc::Sender<Command>,
    scripts: Scripts,
    journal: Journal,
    host: Simulated,
    /// None if its service is not the sandbox's.
    service: Option<FlightControl>,
}

/// Enrols a device; its link.
fn enrol(service: &FlightControl, spec: &DeviceSpec) -> InProcess {
    let shared = &service.shared;
    let labels = Some(spec.labels.clone()).filter(|labels| !labels.is_empty());
    shared.transact(|store, now| {
        let mut row = DeviceRow::new(&spec.name, labels, json!({}), now);
        row.status.lifecycle = Stated::bare("Enrolled");
        store.insert(row, now, Actor::User);
    });
    InProcess::new(shared.clone(), &spec.name)
}

pub(super) fn start(service: &FlightControl, spec: DeviceSpec) -> Device {
    let link = enrol(service, &spec);
    let clock = service.shared.clock.clone();
    let device = start_agent(link, spec, clock, service.stop.clone());
    Device {
        service: Some(service.clone()),
        ..device
    }
}

/// A device of a service that is not the sandbox's: it is enrolled already,
/// under the specification's name, and its labels are the service's business.
/// Its agent ends with `stop`. Must be called in a Tokio runtime.
pub fn start_agent(
    link: impl Link,
    spec: DeviceSpec,
    clock: Clock,
    stop: CancellationToken,
) -> Device {
    let (plug, plugged) = watch::channel(true);
    let (commands, received) = mpsc::channel(COMMANDS);
    let scripts = Scripts::default();
    let journal = Journal::new(clock.clone());
    let host = Simulated::new(
        scripts.clone(),
        journal.clone(),
        spec.monitor_lag,
        clock.clone(),
        stop.clone(),
    );
    let agent = Agent::new(
        &spec,
        Plugged::new(link, plugged),
        host.clone(),
        clock,
        stop,
    );
    tokio::spawn(agent.run(received));
    Device {
        name: spec.name,
        plug,
        commands,
        scripts,
        journal,
        host,
        service: None,
    }
}

/// The handle of a device whose host is a machine. Clones are the same device; it
/// lives on without them.
#[derive(Clone, Debug)]
pub struct BackedDevice {
    name: String,
    commands: mpsc::Sender<Command>,
    journal: Journal,
    host: Backed,
}

pub(super) fn start_backed(
    service: &FlightControl,
    spec: &DeviceSpec,
    machine: Machine,
) -> BackedDevice {
    let link = enrol(service, spec);
    let clock = service.shared.clock.clone();
    let (commands, received) = mpsc::channel(COMMANDS);
    let journal = Journal::new(clock.clone());
    let host = Backed::new(machine, journal.clone(), service.stop.clone());
    let agent = Agent::new(spec, link, host.clone(), clock, service.stop.clone());
    tokio::spawn(agent.run(received));
    BackedDevice {
        name: spec.name.clone(),
        commands,
        journal,
        host,
    }
}

impl BackedDevice {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happened to its containers so far: their starts and ends as Podman tells
    /// them, and when systemd told them to end.
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.journal.entries()
    }

    /// Its applications as its agent sees them now, whatever it has reported.
    pub fn applications(&self) -> Vec<ApplicationStatus> {
        let states = self.host.status();
        states.into_iter().map(|(status, _)| status).collect()
    }

    /// The agent restarts: targets are started again, a dead version is tried once
    /// more, and what Podman told since the boot is heard again.
    pub fn restart_agent(&self) {
        // Full: as many are waiting already.
        let _ = self.commands.try_send(Command::RestartAgent);
    }

    /// Its machine is shut down, and no command of the agent is left in it: those of
    /// others may keep it from ending. The agent starts when whoever runs the machine
    /// has booted it again.
    pub fn reboot(&self) {
        let _ = self.commands.try_send(Command::Reboot);
    }
}

impl Device {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network goes; its containers run on.
    pub fn disconnect(&self) {
        self.plug.send_replace(false);
    }

    /// Its network is back: the agent polls at once, and reports if it has
    /// something new to say.
    pub fn reconnect(&self) {
        self.plug.send_replace(true);
    }

    /// The power goes and comes back after 20 s: containers are killed, what
    /// is installed starts again, markers in `/run` are gone.
    pub fn reboot(&self) {
        // Full: as many reboots are waiting already.
        let _ = self.commands.try_send(Command::Reboot);
    }

    /// The agent restarts: targets are started again, a dead version is tried
    /// once more, and no applications are listed for some seconds.
    pub fn restart_agent(&self) {
        let _ = self.commands.try_send(Command::RestartAgent);
    }

    /// From now on a restarted agent tells what was: for 5 s it lists nothing, and for
    /// 10 s more what its containers did since the boot, from the beginning on.
    pub fn replays_after_restart(&self) {
        self.host.set_replays();
    }

    /// From the next start or pull on, things go like this.
    pub fn script(&self, script: Script) {
        self.scripts.add(script);
    }

    /// What happened to its containers so far.
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.journal.entries()
    }

    /// Completes at the next journal entry.
    pub async fn changed(&self) {
        self.journal.changed().await;
    }

    /// Completes when `done` holds for the whole journal.
    pub async fn until(&self, done: impl Fn(&[JournalEntry]) -> bool) {
        self.journal.until(done).await;
    }

    /// Its applications as its agent sees them now, whatever it has reported.
    pub fn applications(&self) -> Vec<ApplicationStatus> {
        let states = self.host.status();
        states.into_iter().map(|(status, _)| status).collect()
    }

    /// What a running container of an application has.
    pub fn container(&self, app: &str, name: &str) -> Option<Container> {
        self.host.container(app, name)
    }

    /// What was run as root in sessions of its console, each command in one text: the
    /// last thousand.
    pub fn commands(&self) -> Vec<String> {
        self.host.commands()
    }

    /// Its image has no sudo, or not the user that consoles need.
    pub fn without_sudo(&self) {
        self.host.remove_sudo();
    }

    /// The files that its agent keeps from its config, by absolute path.
    pub fn files(&self) -> BTreeMap<String, DeviceFile> {
        let files = self.host.files().into_iter();
        files
            .map(|(path, file)| (path, DeviceFile::clone(&file)))
            .collect()
    }

    /// The Device document, as the sandbox's user API shows it.
    pub fn value(&self) -> Option<Value> {
        self.service.as_ref()?.device_value(&self.name)
    }
}
