//! What systemd, Podman and the agent keep of a host, without doing anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::files::{Disk, Started};
use super::quadlet::{App, Kind, Unit};
use super::runtime::Health;
use super::written::{Commands, Written};
use crate::flightctl::model::ApplicationStatus;

/// The agent reads Podman's events this much later: a container that has just
/// been started is still missing from the status pushed with the update.
pub(crate) const MONITOR_LAG: Duration = Duration::from_millis(200);

/// How long a restarted agent takes to read the events since the boot.
const REPLAY_MILLIS: usize = 10_000;

/// Events kept of each application; the journal of a real device is bounded too.
const HISTORY: usize = 200;

/// Where a unit's start job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    /// The job is over, the unit lives.
    Started,
    /// Inactive or failed: ended, skipped or given up.
    Ended,
}

/// A container as its last event shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Created,
    Running,
    /// Ended with code 0.
    Exited,
    /// Ended otherwise.
    Died,
}

/// A running task of a unit.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) stop: CancellationToken,
    pub(super) phase: watch::Receiver<Phase>,
}

/// A unit as systemd keeps it.
#[derive(Debug)]
pub(super) struct UnitRun {
    pub(super) unit: Arc<Unit>,
    pub(super) handle: Option<Handle>,
    pub(super) restarts: u64,
    pub(super) starts: VecDeque<Instant>,
    pub(super) runs: usize,
    /// Its container exists.
    pub(super) up: bool,
    /// It has its ports.
    pub(super) bound: bool,
}

#[derive(Debug)]
pub(super) struct AppRun {
    pub(super) id: String,
    pub(super) app: App,
    pub(super) units: BTreeMap<String, UnitRun>,
    pub(super) containers: BTreeMap<String, Vec<(Instant, Seen)>>,
    /// Running containers, by name.
    pub(super) started: BTreeMap<String, Started>,
    pub(super) halted: bool,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) apps: BTreeMap<String, AppRun>,
    /// Marker files, absolute.
    pub(super) files: BTreeSet<String>,
    /// What the agent keeps from the device's config.
    pub(super) disk: Disk,
    pub(super) local: BTreeSet<String>,
    pub(super) pulls: BTreeMap<String, Instant>,
    /// The highest restart count shown per application: the agent keeps it
    /// over updates.
    pub(super) highest: BTreeMap<String, u64>,
    pub(super) blind_until: Option<Instant>,
    /// A restarted agent shows what was, and not only nothing.
    pub(super) replays: bool,
    /// Since when it does.
    pub(super) replay: Option<Instant>,
    /// What happened to the containers of each application since the boot.
    pub(super) history: BTreeMap<String, Vec<(String, Seen)>>,
    /// How much later than they happen the agent reads events.
    pub(super) lag: Duration,
    pub(super) power: CancellationToken,
    /// The journal keeps it when containers have ended.
    pub(super) printed: Written,
    pub(super) no_sudo: bool,
    pub(super) commands: Commands,
}

impl Host {
    /// The application and the own name of a running container, by the name that
    /// podman knows it by.
    pub(super) fn container(&self, container: &str) -> Option<(&str, &str)> {
        self.apps.iter().find_map(|(app, run)| {
            let own = container.strip_prefix(&run.id)?.strip_prefix('-')?;
            let (own, _) = run.started.get_key_value(own)?;
            Some((app.as_str(), own.as_str()))
        })
    }

    /// What a container calls itself: its unit's word, or its pod's, or Podman's own.
    pub(super) fn hostname(&self, app: &str, unit: &Unit, container: &str) -> String {
        let app = self.apps.get(app);
        let pod = unit.pod().and_then(|pod| app?.units.get(pod));
        let pod = pod.and_then(|run| run.unit.hostname.clone());
        let id = || format!("{:012x}", crc32fast::hash(container.as_bytes()));
        unit.hostname.clone().or(pod).unwrap_or_else(id)
    }

    pub(super) fn unit(&mut self, app: &str, file: &str) -> Option<&mut UnitRun> {
        self.apps.get_mut(app)?.units.get_mut(file)
    }

    /// Gives a unit its ports; false where another one has one of them.
    pub(super) fn bind(&mut self, app: &str, unit: &Unit) -> bool {
        let mut bound = self.apps.values().flat_map(|app| app.units.values());
        let taken = bound.any(|run| {
            let mut ports = run.unit.ports.iter();
            run.bound && ports.any(|port| unit.ports.iter().any(|own| own.collides(port)))
        });
        if let Some(run) = self.unit(app, &unit.file) {
            run.bound = !taken;
        }
        !taken
    }

    /// Records a container event.
    pub(super) fn event(&mut self, app: &str, container: &str, seen: Seen) {
        let now = Instant::now();
        let lag = self.lag;
        if self.apps.contains_key(app) {
            let history = self.history.entry(app.into()).or_default();
            history.push((container.into(), seen));
            let surplus = history.len().saturating_sub(HISTORY);
            history.drain(..surplus);
        }
        if let Some(app) = self.apps.get_mut(app) {
            let events = app.containers.entry(container.into()).or_default();
            // Only the last event that is old enough will ever be shown.
            if let Some(shown) = events.iter().rposition(|(at, _)| *at + lag <= now) {
                events.drain(..shown);
            }
            events.push((now, seen));
            if matches!(seen, Seen::Exited | Seen::Died) {
                app.started.remove(container);
            }
        }
    }

    /// The states of an application's containers at this point of a replay, as their
    /// names and last events; `None` when it has caught up.
    pub(super) fn replayed(&self, app: &str, now: Instant) -> Option<BTreeMap<&str, Seen>> {
        let since = now.saturating_duration_since(self.replay?);
        let all = self.history.get(app).map(Vec::as_slice).unwrap_or_default();
        let read = all.len() * usize::try_from(since.as_millis()).ok()? / REPLAY_MILLIS;
        let read = all.get(..read).filter(|read| read.len() < all.len())?;
        Some(
            read.iter()
                .map(|(name, seen)| (name.as_str(), *seen))
                .collect(),
        )
    }

    /// Whether another container of the pod exists.
    pub(super) fn pod_in_use(&self, app: &str, pod: &str) -> bool {
        self.apps.get(app).is_some_and(|app| {
            app.units
                .values()
                .any(|run| run.unit.pod() == Some(pod) && run.up)
        })
    }

    /// Whether a pod goes on without containers.
    pub(super) fn outlives(&self, app: &str, pod: &str) -> bool {
        let unit = self.apps.get(app).and_then(|app| app.app.unit(pod));
        unit.is_some_and(|unit| matches!(unit.kind, Kind::Pod { outlives: true, .. }))
    }

    /// Begins to stop a unit, by file or service name, prefixed or not.
    pub(super) fn stop_unit(&self, app: &str, reference: &str) {
        let Some(app) = self.apps.get(app) else {
            return;
        };
        let prefix = format!("{}-", app.id);
        let name = reference.strip_prefix(&prefix).unwrap_or(reference);
        let run = app
            .app
            .unit(name)
            .and_then(|unit| app.units.get(&unit.file));
        if let Some(handle) = run.and_then(|run| run.handle.as_ref()) {
            handle.stop.cancel();
        }
    }
}

impl AppRun {
    /// As its containers' events show it.
    pub(super) fn status(
        &self,
        now: Instant,
        lag: Duration,
        restarts: u64,
        replayed: Option<&BTreeMap<&str, Seen>>,
    ) -> (ApplicationStatus, Health) {
        let shown = |events: &Vec<(Instant, Seen)>| {
            let old = |(at, _): &&(Instant, Seen)| *at + lag <= now;
            events.iter().rfind(old).map(|(_, seen)| *seen)
        };
        let states: Vec<Seen> = match replayed {
            Some(states) => states.values().copied().collect(),
            None => self.containers.values().filter_map(shown).collect(),
        };
        status(&self.app, &states, self.halted, restarts)
    }
}

/// The agent's own rules, in its order.
pub(super) fn status(
    app: &App,
    states: &[Seen],
    halted: bool,
    restarts: u64,
) -> (ApplicationStatus, Health) {
    let count = |wanted: Seen| states.iter().filter(|seen| **seen == wanted).count();
    let (total, up) = (states.len(), count(Seen::Running));
    let (initializing, exited) = (count(Seen::Created), count(Seen::Exited));
    let (status, health) = if halted {
        ("Stopped", Health::Healthy)
    } else if total == 0 {
        ("Unknown", Health::Unknown)
    } else if initializing > 0 && up > 0 {
        ("Starting", Health::Degraded)
    } else if initializing > 0 {
        ("Preparing", Health::Unknown)
    } else if exited == total {
        ("Completed", Health::Healthy)
    } else if up > 0 && up + exited == total {
        ("Running", Health::Healthy)
    } else if up > 0 {
        ("Running", Health::Degraded)
    } else {
        ("Error", Health::Error)
    };
    let status = ApplicationStatus {
        name: app.name.clone(),
        ready: format!("{up}/{total}"),
        restarts,
        status: status.into(),
        embedded: false,
        app_type: app.kind.clone(),
        run_as: app.run_as.clone(),
    };
    (status, health)
}
