//! A host with containers: a machine in which systemd and Podman run what the agent
//! writes, and tell how it does. The agent is outside of it, with the real one's
//! commands in the real one's order
//! (`internal/agent/device/applications/lifecycle/quadlet.go`).
//!
//! It pulls nothing: an image that the machine does not have is one that no registry
//! has.

mod archive;
mod events;
mod install;
mod machine;
mod session;
mod units;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::machine::Machine;
use self::machine::Trouble;
use self::watch::Watch;
use super::files::{Disk, Files};
use super::host::{Seen, status};
use super::journal::{Journal, JournalEntry};
use super::quadlet::App;
use super::runtime::{Health, Prefetch, Rejected, Runtime};
use crate::flightctl::console::ConsoleStreams;
use crate::flightctl::model::ApplicationStatus;

/// Between two looks at a machine that boots.
const LOOK: Duration = Duration::from_millis(200);

/// A container as its last event shows it.
#[derive(Clone, Copy, Debug)]
struct Container {
    seen: Seen,
    /// The most that systemd has counted.
    restarts: u64,
}

/// An application of the agent's.
#[derive(Debug)]
struct Known {
    app: App,
    /// By the names that Podman has.
    containers: BTreeMap<String, Container>,
    halted: bool,
}

#[derive(Debug)]
struct Inner {
    machine: Machine,
    journal: Journal,
    /// By prefix.
    apps: Mutex<BTreeMap<String, Known>>,
    /// What the agent keeps from the device's config.
    disk: Mutex<Disk>,
    /// Who hears Podman for the present agent, and systemd for the journal.
    events: Mutex<Option<Watch>>,
    stops: Mutex<Option<Watch>>,
    /// What happened last in each unit.
    units: Mutex<BTreeMap<String, JournalEntry>>,
    stop: CancellationToken,
}

/// The host; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Backed(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The agent tells the service no more than that something failed.
fn rejected(what: &str, why: impl std::fmt::Display) -> Rejected {
    warn!("{what}: {why}");
    Rejected
}

impl Backed {
    /// Begins to watch the machine.
    pub(crate) fn new(machine: Machine, journal: Journal, stop: CancellationToken) -> Self {
        let backed = Self(Arc::new(Inner {
            machine,
            journal,
            apps: Mutex::default(),
            disk: Mutex::default(),
            events: Mutex::default(),
            stops: Mutex::default(),
            units: Mutex::default(),
            stop,
        }));
        backed.hear_events();
        backed.hear_stops();
        backed
    }

    /// Hears Podman's events from the boot on, in place of who did so far.
    fn hear_events(&self) {
        let before = lock(&self.0.events).replace(Watch::events(self.clone()));
        if let Some(before) = before {
            before.cancel();
        }
    }

    fn hear_stops(&self) {
        *lock(&self.0.stops) = Some(Watch::stops(self.clone()));
    }

    /// The applications that are to run, as prefixes.
    fn running(&self) -> Vec<String> {
        let apps = lock(&self.0.apps);
        let running = apps.iter().filter(|(_, known)| !known.halted);
        running.map(|(id, _)| id.clone()).collect()
    }

    fn id(&self, app: &str) -> Option<String> {
        let apps = lock(&self.0.apps);
        let mut found = apps.iter().filter(|(_, known)| known.app.name == app);
        found.next().map(|(id, _)| id.clone())
    }

    fn set_halted(&self, id: &str, halted: bool) {
        if let Some(known) = lock(&self.0.apps).get_mut(id) {
            known.halted = halted;
        }
    }

    /// Starts the targets of all applications, as an agent does when it starts.
    fn start_all(&self) {
        for id in self.running() {
            let backed = self.clone();
            tokio::spawn(async move {
                if let Err(why) = units::start(&backed.0.machine, &id).await {
                    warn!("{id}: {why}");
                }
            });
        }
    }

    async fn has_booted(&self) -> bool {
        let basic = ["systemctl", "is-active", "--quiet", "basic.target"];
        self.0.machine.run(&basic).await.is_ok()
    }

    /// Writes files and takes others away.
    async fn write(&self, gone: &[String], files: Vec<u8>) -> Result<(), Trouble> {
        let machine = &self.0.machine;
        if !gone.is_empty() {
            let mut words = vec!["rm", "-rf", "--"];
            words.extend(gone.iter().map(String::as_str));
            machine.run(&words).await?;
        }
        machine.feed(&archive::UNPACK, &files).await?;
        Ok(())
    }
}

impl Runtime for Backed {
    async fn prefetch(&self, images: &BTreeSet<String>) -> Prefetch {
        for image in images {
            let exists = ["podman", "image", "exists", "--", image];
            if let Err(why) = self.0.machine.run(&exists).await {
                warn!("{image}: {why}");
                return Prefetch::Failed(image.clone(), "service unavailable (network issue)");
            }
        }
        Prefetch::Ready
    }

    fn forget_pulls(&self) {}

    async fn keep(&self, files: &Files) -> Result<(), String> {
        let (gone, new) = {
            let mut disk = lock(&self.0.disk);
            let before = disk.files.clone();
            disk.keep(files)?;
            let gone = before.keys().filter(|path| !files.contains_key(*path));
            let new = files
                .iter()
                .filter(|(path, file)| before.get(*path) != Some(file));
            let new: Files = new
                .map(|(path, file)| (path.clone(), Arc::clone(file)))
                .collect();
            (gone.cloned().collect::<Vec<_>>(), new)
        };
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        let some = new.keys().next().cloned().unwrap_or_default();
        let told = |why: &dyn std::fmt::Display| {
            warn!("{some}: {why}");
            some.clone()
        };
        let packed = archive::of_config(&new).map_err(|why| told(&why))?;
        self.write(&gone, packed).await.map_err(|why| told(&why))
    }

    async fn place(&self, gone: &[&App], new: &[&App]) -> Result<(), Rejected> {
        let mut placed = install::Placed::new();
        for app in new {
            placed.extend(install::files(app).map_err(|why| rejected(&app.name, why))?);
        }
        let both = gone.iter().chain(new);
        let gone: Vec<String> = both.flat_map(|app| install::places(app)).collect();
        let packed = archive::of_apps(&placed).map_err(|why| rejected("files", why))?;
        let written = self.write(&gone, packed).await;
        written.map_err(|why| rejected("files", why))
    }

    async fn remove(&self, app: &str, _for_update: bool) -> Result<(), Rejected> {
        let Some(id) = self.id(app) else {
            return Ok(());
        };
        lock(&self.0.apps).remove(&id);
        let machine = &self.0.machine;
        let stopped = units::stop(machine, &id).await;
        stopped.map_err(|why| rejected(app, why))?;
        let cleaned = units::clean(machine, &id).await;
        cleaned.map_err(|why| rejected(app, why))
    }

    async fn reload(&self) -> Result<(), Rejected> {
        let reloaded = self.0.machine.run(&["systemctl", "daemon-reload"]).await;
        reloaded.map(drop).map_err(|why| rejected("reload", why))
    }

    async fn start(&self, app: &App) -> Result<(), Rejected> {
        let id = app.id();
        let known = Known {
            app: app.clone(),
            containers: BTreeMap::new(),
            halted: app.stopped,
        };
        lock(&self.0.apps).insert(id.clone(), known);
        let machine = &self.0.machine;
        let started = async {
            units::are_loaded(machine, &id).await?;
            if app.stopped {
                Ok(())
            } else {
                units::start(machine, &id).await
            }
        };
        if let Err(why) = started.await {
            // What of it has started goes with it.
            let _ = self.remove(&app.name, false).await;
            return Err(rejected(&app.name, why));
        }
        Ok(())
    }

    async fn halt(&self, app: &str) {
        let Some(id) = self.id(app) else { return };
        self.set_halted(&id, true);
        if let Err(why) = units::stop(&self.0.machine, &id).await {
            warn!("{app}: {why}");
        }
    }

    async fn resume(&self, app: &str) {
        let Some(id) = self.id(app) else { return };
        self.set_halted(&id, false);
        if let Err(why) = units::start(&self.0.machine, &id).await {
            warn!("{app}: {why}");
        }
    }

    fn status(&self) -> Vec<(ApplicationStatus, Health)> {
        let apps = lock(&self.0.apps);
        let shown = apps.values().map(|known| {
            let states: Vec<Seen> = known.containers.values().map(|c| c.seen).collect();
            let restarts = known.containers.values().map(|c| c.restarts).sum();
            status(&known.app, &states, known.halted, restarts)
        });
        shown.collect()
    }

    fn agent_restarted(&self) {
        for known in lock(&self.0.apps).values_mut() {
            known.containers.clear();
        }
        self.hear_events();
        self.start_all();
    }

    /// Shuts the machine down; whoever runs it boots it again.
    async fn reboot(&self) {
        let watches = [&self.0.events, &self.0.stops].map(|watch| lock(watch).take());
        for watch in watches.into_iter().flatten() {
            watch.end().await;
        }
        // It ends while it answers.
        let _ = self.0.machine.run(&["systemctl", "poweroff"]).await;
        while self.0.machine.is_on() {
            sleep(LOOK).await;
        }
        while !self.has_booted().await {
            sleep(LOOK).await;
        }
        self.hear_stops();
        self.agent_restarted();
    }

    async fn attend(&self, session: &Value, streams: ConsoleStreams) {
        session::attend(&self.0.machine, session, streams).await;
    }

    fn unattended(&self, session: &Value) {
        let (machine, session) = (self.0.machine.clone(), session.clone());
        tokio::spawn(async move { session::unattended(&machine, &session).await });
    }
}
