//! A host without containers: systemd's and Podman's rules over tasks that
//! sleep.

mod found;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::files::{Disk, Files};
use super::host::{AppRun, Handle, Host, Phase, UnitRun};
use super::journal::Journal;
use super::podman::{self, Printed};
use super::quadlet::{APPS, App, Kind, Unit};
use super::runtime::{Health, Prefetch, Rejected, Runtime};
use super::script::{Pull, Scripts};
use super::supervise;
use super::written::{Commands, Written};
use crate::clock::Clock;
use crate::flightctl::console::ConsoleStreams;
use crate::flightctl::model::ApplicationStatus;

/// After its own restart the agent lists no applications for a while: events
/// since boot are being replayed (measured: up to 15 s).
const REPLAY: Duration = Duration::from_secs(10);

/// Of that, as long as nothing is listed, where it then shows what was.
const BLIND: Duration = Duration::from_secs(5);

/// A daemon-reload with its generators.
const RELOAD: Duration = Duration::from_millis(500);

/// From the power's loss to the agent's start.
const BOOT: Duration = Duration::from_secs(20);

/// Images named in a status message.
const NAMED: usize = 3;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) scripts: Scripts,
    pub(super) journal: Journal,
    host: Mutex<Host>,
    clock: Clock,
    /// A container wrote, or ended.
    logged: watch::Sender<()>,
    stop: CancellationToken,
}

impl Inner {
    pub(super) fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a unit unless it is active; None if there is none of that name.
    pub(super) fn start_unit(
        self: &Arc<Self>,
        app: &str,
        reference: &str,
    ) -> Option<watch::Receiver<Phase>> {
        let mut host = self.host();
        let power = host.power.clone();
        let known = host.apps.get(app)?.app.unit(reference)?.file.clone();
        let run = host.unit(app, &known)?;
        if let Some(handle) = &run.handle
            && *handle.phase.borrow() != Phase::Ended
        {
            return Some(handle.phase.clone());
        }
        let stop = CancellationToken::new();
        let (phase, watched) = watch::channel(Phase::Starting);
        run.handle = Some(Handle {
            stop: stop.clone(),
            phase: watched.clone(),
        });
        let task = supervise::Task {
            inner: Arc::clone(self),
            app: app.into(),
            unit: Arc::clone(&run.unit),
            stop,
            power,
            phase,
        };
        tokio::spawn(task.run());
        Some(watched)
    }

    /// Tells units to stop and waits for them.
    pub(super) async fn stop_units(&self, app: &str, which: impl Fn(&Unit) -> bool + Send) {
        let handles: Vec<Handle> = {
            let host = self.host();
            let units = host.apps.get(app).map(|app| app.units.values());
            units
                .into_iter()
                .flatten()
                .filter(|run| which(&run.unit))
                .filter_map(|run| run.handle.clone())
                .collect()
        };
        for handle in &handles {
            handle.stop.cancel();
        }
        for mut handle in handles {
            // A task that is gone has ended.
            let _ = handle.phase.wait_for(|phase| *phase == Phase::Ended).await;
        }
    }

    /// `systemctl start` of an application's target: all installed units,
    /// each after those it is ordered after.
    async fn start_target(self: &Arc<Self>, app: &str) {
        let mut waiting: Vec<Arc<Unit>> = {
            let host = self.host();
            let units = host.apps.get(app).map(|app| app.units.values());
            units
                .into_iter()
                .flatten()
                .map(|run| Arc::clone(&run.unit))
                .filter(|unit| unit.installed)
                .collect()
        };
        while !waiting.is_empty() {
            let held = |unit: &Arc<Unit>| {
                unit.after.iter().any(|after| {
                    waiting
                        .iter()
                        .any(|other| other.service() == *after && other.file != unit.file)
                })
            };
            let (mut later, mut ready): (Vec<_>, Vec<_>) = waiting.iter().cloned().partition(held);
            if ready.is_empty() {
                // A cycle: systemd drops an ordering, here all at once.
                std::mem::swap(&mut later, &mut ready);
            }
            let jobs: Vec<_> = ready
                .iter()
                .filter_map(|unit| Some((unit.oneshot, self.start_unit(app, &unit.file)?)))
                .collect();
            for (oneshot, mut job) in jobs {
                let over = |phase: &Phase| {
                    *phase == Phase::Ended || (*phase == Phase::Started && !oneshot)
                };
                let _ = job.wait_for(over).await;
            }
            waiting = later;
        }
    }

    /// The container units of a pod.
    pub(super) fn members(&self, app: &str, pod: &str) -> Vec<String> {
        let host = self.host();
        let units = host.apps.get(app).map(|app| app.units.values());
        units
            .into_iter()
            .flatten()
            .filter(|run| run.unit.pod() == Some(pod))
            .map(|run| run.unit.file.clone())
            .collect()
    }

    /// A container writes a line.
    pub(super) fn print(&self, app: &str, container: &str, run: usize, stderr: bool, text: &str) {
        let mut host = self.host();
        let Some(id) = host.apps.get(app).map(|app| app.id.clone()) else {
            return;
        };
        let line = Printed {
            at: self.clock.now(),
            number: 0,
            run,
            stderr,
            text: text.to_owned(),
        };
        host.printed.push(format!("{id}-{container}"), line);
        drop(host);
        self.logged.send_replace(());
    }

    /// A container ended: whoever follows its log hears of it.
    pub(super) fn stirred(&self) {
        self.logged.send_replace(());
    }

    fn app_names(&self) -> Vec<String> {
        let host = self.host();
        let running = host.apps.iter().filter(|(_, app)| !app.halted);
        running.map(|(name, _)| name.clone()).collect()
    }
}

/// The simulated host; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Simulated(Arc<Inner>);

impl Simulated {
    pub(crate) fn new(
        scripts: Scripts,
        journal: Journal,
        lag: Duration,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let host = Host {
            apps: BTreeMap::new(),
            files: BTreeSet::new(),
            disk: Disk::default(),
            local: BTreeSet::new(),
            pulls: BTreeMap::new(),
            highest: BTreeMap::new(),
            blind_until: None,
            replays: false,
            replay: None,
            history: BTreeMap::new(),
            lag,
            power: stop.child_token(),
            printed: Written::default(),
            no_sudo: false,
            commands: Commands::default(),
        };
        Self(Arc::new(Inner {
            scripts,
            journal,
            host: Mutex::new(host),
            clock,
            logged: watch::Sender::new(()),
            stop,
        }))
    }
}

impl Runtime for Simulated {
    async fn prefetch(&self, images: &BTreeSet<String>) -> Prefetch {
        let now = Instant::now();
        let mut host = self.0.host();
        let (mut pending, mut retrying) = (Vec::new(), Vec::new());
        for image in images {
            if host.local.contains(image) {
                continue;
            }
            let pull = self.0.scripts.pull(image);
            let begun = *host.pulls.entry(image.clone()).or_insert(now);
            // The outcome of a pull is looked at on the next attempt only.
            let first = begun == now;
            match pull {
                Pull::Local => {
                    host.local.insert(image.clone());
                }
                Pull::Takes(time) if !first && begun + time <= now => {
                    host.local.insert(image.clone());
                }
                Pull::NotFound if !first => {
                    let why = "service unavailable (network issue)";
                    return Prefetch::Failed(image.clone(), why);
                }
                Pull::Unauthorized if !first => {
                    return Prefetch::Failed(image.clone(), "authentication failed");
                }
                Pull::Retrying(text) if !first => retrying.push(format!("{image}: {text}")),
                _ => pending.push(image.clone()),
            }
        }
        if pending.is_empty() && retrying.is_empty() {
            return Prefetch::Ready;
        }
        Prefetch::Pending(progress(images.len(), &pending, &retrying))
    }

    fn forget_pulls(&self) {
        self.0.host().pulls.clear();
    }

    async fn keep(&self, files: &Files) -> Result<(), String> {
        self.0.host().disk.keep(files)
    }

    async fn place(&self, gone: &[&App], new: &[&App]) -> Result<(), Rejected> {
        let mut host = self.0.host();
        for app in gone.iter().chain(new) {
            let folder = format!("{APPS}/{}/", app.name);
            host.files.retain(|file| !file.starts_with(&folder));
        }
        Ok(())
    }

    async fn remove(&self, app: &str, for_update: bool) -> Result<(), Rejected> {
        self.0.stop_units(app, |_| true).await;
        let mut host = self.0.host();
        host.apps.remove(app);
        if !for_update {
            // What its containers wrote when they were stopped is in nobody's way.
            let folder = format!("{APPS}/{app}/");
            host.files.retain(|file| !file.starts_with(&folder));
            host.highest.remove(app);
            host.history.remove(app);
        }
        Ok(())
    }

    async fn reload(&self) -> Result<(), Rejected> {
        tokio::time::sleep(RELOAD).await;
        Ok(())
    }

    async fn start(&self, app: &App) -> Result<(), Rejected> {
        let scripted = app.units.iter().any(|unit| match &unit.kind {
            Kind::Container { name, image, .. } => self.0.scripts.rejected(&app.name, name, image),
            Kind::Pod { .. } => false,
        });
        if scripted || app.rejected() {
            return Err(Rejected);
        }
        // Left over from an update that the agent's restart interrupted.
        self.remove(&app.name, true).await?;
        let units = app.units.iter().map(|unit| {
            let run = UnitRun {
                unit: Arc::new(unit.clone()),
                handle: None,
                restarts: 0,
                starts: VecDeque::new(),
                runs: 0,
                up: false,
                bound: false,
            };
            (unit.file.clone(), run)
        });
        let run = AppRun {
            id: app.id(),
            app: app.clone(),
            units: units.collect(),
            containers: BTreeMap::new(),
            started: BTreeMap::new(),
            halted: app.stopped,
        };
        self.0.host().apps.insert(app.name.clone(), run);
        if !app.stopped {
            self.0.start_target(&app.name).await;
        }
        Ok(())
    }

    async fn halt(&self, app: &str) {
        if let Some(run) = self.0.host().apps.get_mut(app) {
            run.halted = true;
        }
        self.0.stop_units(app, |_| true).await;
    }

    async fn resume(&self, app: &str) {
        if let Some(run) = self.0.host().apps.get_mut(app) {
            run.halted = false;
        }
        self.0.start_target(app).await;
    }

    fn status(&self) -> Vec<(ApplicationStatus, Health)> {
        let now = Instant::now();
        let mut host = self.0.host();
        let host = &mut *host;
        if host.blind_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        for run in host.apps.values() {
            let restarts: u64 = run.units.values().map(|unit| unit.restarts).sum();
            let shown = host.highest.entry(run.app.name.clone()).or_default();
            *shown = restarts.max(*shown);
        }
        let shown = host.apps.iter().map(|(name, run)| {
            let restarts = host.highest.get(name).copied().unwrap_or_default();
            let replayed = host.replayed(name, now);
            run.status(now, host.lag, restarts, replayed.as_ref())
        });
        shown.collect()
    }

    fn agent_restarted(&self) {
        {
            let mut host = self.0.host();
            host.highest.clear();
            host.pulls.clear();
            let now = Instant::now();
            if host.replays {
                host.blind_until = Some(now + BLIND);
                host.replay = Some(now + BLIND);
            } else {
                host.blind_until = Some(now + REPLAY);
            }
        }
        for app in self.0.app_names() {
            let inner = Arc::clone(&self.0);
            tokio::spawn(async move { inner.start_target(&app).await });
        }
    }

    async fn reboot(&self) {
        let power = {
            let mut host = self.0.host();
            let next = self.0.stop.child_token();
            std::mem::replace(&mut host.power, next)
        };
        power.cancel();
        let apps: Vec<String> = self.0.host().apps.keys().cloned().collect();
        for app in &apps {
            self.0.stop_units(app, |_| true).await;
        }
        {
            let mut host = self.0.host();
            host.files.retain(|file| !file.starts_with("/run/"));
            host.highest.clear();
            host.pulls.clear();
            host.blind_until = None;
            host.replay = None;
            host.history.clear();
            for app in host.apps.values_mut() {
                app.containers.clear();
                for unit in app.units.values_mut() {
                    unit.restarts = 0;
                    unit.starts.clear();
                }
            }
        }
        tokio::time::sleep(BOOT).await;
        for app in self.0.app_names() {
            let inner = Arc::clone(&self.0);
            tokio::spawn(async move { inner.start_target(&app).await });
        }
    }

    async fn attend(&self, session: &Value, streams: ConsoleStreams) {
        podman::attend(self, session, streams).await;
    }

    fn unattended(&self, session: &Value) {
        podman::unattended(self, session);
    }
}

fn progress(total: usize, pending: &[String], retrying: &[String]) -> String {
    let complete = total - pending.len() - retrying.len();
    let named = |list: &[String]| list[..list.len().min(NAMED)].join(", ");
    let head = format!("{complete}/{total} images complete");
    if retrying.is_empty() {
        return match pending.len() {
            0..=NAMED => format!("{head}, pending: {}", named(pending)),
            more => format!(
                "{head}, pending: {} and {} more",
                named(pending),
                more - NAMED
            ),
        };
    }
    match retrying.len().saturating_sub(NAMED) + pending.len() {
        0 => format!("{head}, retrying: {}", named(retrying)),
        more => format!(
            "{head}, retrying: {}, and {more} more pending",
            named(retrying)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_worded_like_the_agents() {
        let some = |n: usize| (1..=n).map(|i| format!("i{i}")).collect::<Vec<_>>();
        for (total, pending, retrying, text) in [
            (3, 2, 0, "1/3 images complete, pending: i1, i2"),
            (
                5,
                4,
                0,
                "1/5 images complete, pending: i1, i2, i3 and 1 more",
            ),
            (1, 0, 1, "0/1 images complete, retrying: i1"),
            (
                3,
                1,
                1,
                "1/3 images complete, retrying: i1, and 1 more pending",
            ),
        ] {
            assert_eq!(progress(total, &some(pending), &some(retrying)), text);
        }
    }
}
