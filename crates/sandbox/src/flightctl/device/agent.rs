//! The agent: its cadence and its rules, over a [`Link`] and a [`Runtime`].
//!
//! Two tasks. The poller asks for rendered documents, polls starting at least
//! five seconds apart, and keeps the newest. The engine looks once a second,
//! applies a version as a whole or not at all, and reports: at every step of
//! an update, and every interval if something changed. While it applies a
//! version it does nothing else, so all statuses stand still.

mod apply;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::DeviceSpec;
use super::console::Sessions;
use super::files::{self, Files};
use super::link::{Link, LinkError};
use super::quadlet::App;
use super::runtime::{Health, Prefetch, Runtime};
use crate::clock::Clock;
use crate::flightctl::devices;
use crate::flightctl::model::{Condition, DeviceStatus, Stated};

/// Least time between the starts of two polls.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// The engine's tick.
const TICK: Duration = Duration::from_secs(1);

/// An update whose images are not there is tried again after this (measured:
/// a version with a new image is applied 32 s after it was sent), half as long again
/// each time, up to [`LONGEST_RETRY`].
const IMAGE_RETRY: Duration = Duration::from_secs(30);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// So long an agent asks Podman which images are there, and tells meanwhile no more
/// than that it prepares an update (measured: 1.0 to 1.5 s).
const LOOKS: Duration = Duration::from_secs(1);

/// Longer names of what failed are told by their ends.
const ELEMENT: usize = 64;

/// What someone does to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    RestartAgent,
    Reboot,
}

/// Why an agent's run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// For good: stopped, deleted or decommissioned.
    Over,
    Again(Command),
}

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Its images are not there yet.
    NotReady,
    Decommissioned,
}

/// A version as the agent keeps it.
#[derive(Debug, Default)]
struct Version {
    number: String,
    /// The service's digest of the device's spec that it was rendered from.
    hash: String,
    apps: Vec<App>,
    /// `None`: some cannot be read, and the whole version is refused.
    files: Option<Files>,
}

/// One device's agent.
#[derive(Debug)]
pub(crate) struct Agent<L, R> {
    name: String,
    link: Arc<L>,
    runtime: R,
    consoles: Sessions<R>,
    /// Of the present run.
    poller: Option<AbortOnDropHandle<()>>,
    clock: Clock,
    interval: Duration,
    stop: CancellationToken,
    status: DeviceStatus,
    pushed: Option<DeviceStatus>,
    current: Version,
    /// Digests of the specs that failed: whatever number they come with, they are
    /// passed over without a word until the agent restarts (Flight Control,
    /// `internal/agent/device/spec/queue.go`).
    failed: BTreeSet<String>,
    boots: u32,
}

impl<L: Link, R: Runtime> Agent<L, R> {
    pub(crate) fn new(
        spec: &DeviceSpec,
        link: L,
        runtime: R,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        Self {
            name: spec.name.clone(),
            link: Arc::new(link),
            consoles: Sessions::new(runtime.clone()),
            runtime,
            poller: None,
            clock,
            interval: spec.status_interval,
            stop,
            status: spec.status(),
            pushed: None,
            current: Version {
                number: "0".into(),
                hash: String::new(),
                apps: Vec::new(),
                files: Some(Files::new()),
            },
            failed: BTreeSet::new(),
            boots: 0,
        }
    }

    /// Runs until the agent is stopped or its device is gone.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let stop = self.stop.clone();
        loop {
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Without handles there are no commands; the agent goes on.
                Some(command) = commands.recv() => End::Again(command),
                end = self.session() => end,
            };
            // Its poll is over before the next run begins one: the service knows polls
            // by their device, and takes the end of one for that of the other.
            if let Some(poller) = self.poller.take() {
                poller.abort();
                let _ = poller.await;
            }
            // What failed is tried once more by the next run.
            self.failed.clear();
            self.pushed = None;
            match end {
                End::Over => return,
                End::Again(Command::RestartAgent) => self.runtime.agent_restarted(),
                End::Again(Command::Reboot) => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.runtime.reboot() => {}
                    }
                    self.boots += 1;
                    self.status
                        .system_info
                        .insert("bootID".into(), json!(boot_id(&self.name, self.boots)));
                }
            }
        }
    }

    async fn session(&mut self) -> End {
        let began = Instant::now();
        let (sender, mut desired) = watch::channel(None);
        let known = self.current.number.clone();
        let poller = tokio::spawn(poll(
            Arc::clone(&self.link),
            self.consoles.clone(),
            known,
            sender,
        ));
        self.poller = Some(AbortOnDropHandle::new(poller));
        let mut report = interval_at(began + self.interval, self.interval);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Option<Value> = None;
        let (mut due, mut retry) = (began, IMAGE_RETRY);
        self.push().await;
        loop {
            tokio::select! {
                biased;
                changed = desired.changed() => {
                    if changed.is_err() {
                        return End::Over;
                    }
                    pending.clone_from(&desired.borrow_and_update());
                    (due, retry) = (next_tick(began), IMAGE_RETRY);
                }
                () = sleep_until(due), if pending.is_some() => {
                    let Some(doc) = &pending else {
                        continue;
                    };
                    match self.sync(doc).await {
                        Outcome::Done => pending = None,
                        Outcome::NotReady => {
                            due = Instant::now() + retry;
                            retry = (retry * 3 / 2).min(LONGEST_RETRY);
                        }
                        Outcome::Decommissioned => return End::Over,
                    }
                }
                _ = report.tick() => self.push().await,
            }
        }
    }

    /// Applies a version as a whole, or not at all.
    async fn sync(&mut self, doc: &Value) -> Outcome {
        let desired = Version::read(doc);
        if doc["spec"]["decommissioning"].is_object() {
            let kind = "DeviceDecommissioning";
            self.condition(
                kind,
                "True",
                "Completed",
                "Device has completed decommissioning",
            );
            self.push().await;
            return Outcome::Decommissioned;
        }
        if self.failed.contains(&desired.hash) || desired.number == self.current.number {
            return Outcome::Done;
        }
        let number = desired.number.clone();
        self.updating(
            "Preparing",
            &format!("Device is preparing an update to renderedVersion: {number}"),
        )
        .await;
        let images: BTreeSet<String> = desired.apps.iter().flat_map(App::images).collect();
        sleep(LOOKS).await;
        match self.runtime.prefetch(&images).await {
            Prefetch::Ready => {}
            Prefetch::Pending(message) => {
                self.updating("Preparing", &message).await;
                return Outcome::NotReady;
            }
            Prefetch::Failed(image, why) => {
                let image = element(&image);
                let why = format!("While Preparing: prefetch failed for {image}: {why}");
                self.rolling_back().await;
                self.start_anew(|old| {
                    let mut new = desired.apps.iter().filter(|app| app.name == old.name);
                    new.any(|app| !app.same_content(old))
                })
                .await;
                self.fail(desired.hash, &why).await;
                return Outcome::Done;
            }
        }
        self.updating(
            "ReadyToUpdate",
            &format!("Device is ready to apply update to renderedVersion: {number}"),
        )
        .await;
        self.updating(
            "ApplyingUpdate",
            &format!("Device is applying renderedVersion: {number}"),
        )
        .await;
        match self.apply(&desired).await {
            Ok(()) => {
                self.runtime.forget_pulls();
                self.current = desired;
                self.status.config.rendered_version.clone_from(&number);
                let message = format!("Updated to desired renderedVersion: {number}");
                self.condition("Updating", "False", "Updated", &message);
                self.push().await;
            }
            Err(why) => self.fail(desired.hash, &why).await,
        }
        Outcome::Done
    }

    async fn updating(&mut self, reason: &str, message: &str) {
        self.condition("Updating", "True", reason, message);
        self.push().await;
    }

    async fn rolling_back(&mut self) {
        let message = format!(
            "Device is rolling back to the previous renderedVersion: {}",
            self.current.number
        );
        self.updating("RollingBack", &message).await;
    }

    async fn fail(&mut self, hash: String, why: &str) {
        self.runtime.forget_pulls();
        self.failed.insert(hash);
        let time = self.clock.now().strftime("%Y-%m-%d %H:%M:%S");
        let message = format!("[{time}] {why}");
        self.condition("Updating", "False", "Error", &message);
        self.push().await;
    }

    fn condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let condition = Condition::new(kind, status, reason, message, self.clock.now());
        Condition::set(&mut self.status.conditions, condition);
    }

    /// Reports, unless nothing changed since the last report that arrived.
    async fn push(&mut self) {
        let states = self.runtime.status();
        self.status.applications_summary = aggregate(&states);
        self.status.applications = states.into_iter().map(|(status, _)| status).collect();
        if self.pushed.as_ref() == Some(&self.status) {
            return;
        }
        let doc = devices::status_document(&self.name, &self.status);
        if self.link.put_status(doc).await.is_ok() {
            self.pushed = Some(self.status.clone());
        }
    }
}

impl Version {
    fn read(doc: &Value) -> Self {
        let apps = doc["spec"]["applications"].as_array();
        Self {
            number: number(doc),
            hash: match annotation(doc, "device-controller/renderedSpecHash") {
                "" => number(doc),
                hash => hash.to_owned(),
            },
            apps: apps.into_iter().flatten().map(App::read).collect(),
            files: files::read(&doc["spec"]),
        }
    }
}

fn number(doc: &Value) -> String {
    annotation(doc, "device-controller/renderedVersion").to_owned()
}

fn annotation<'a>(doc: &'a Value, name: &str) -> &'a str {
    doc["metadata"]["annotations"][name]
        .as_str()
        .unwrap_or_default()
}

/// What failed, as messages name it.
fn element(name: &str) -> String {
    let end = name.len().saturating_sub(ELEMENT);
    match name.get(end..) {
        Some(end) if end.len() < name.len() => format!("...{end}"),
        _ => name.to_owned(),
    }
}

/// The end of the engine's tick that `began` set the beat of.
fn next_tick(began: Instant) -> Instant {
    let ticks = began.elapsed().as_nanos().div_ceil(TICK.as_nanos());
    began + TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

async fn poll<L: Link, R: Runtime>(
    link: Arc<L>,
    consoles: Sessions<R>,
    mut known: String,
    desired: watch::Sender<Option<Value>>,
) {
    loop {
        let began = Instant::now();
        match link.rendered(&known).await {
            Ok(Some(doc)) => {
                known = number(&doc);
                // Whatever the engine is busy with.
                consoles.sync(&doc, &link);
                desired.send_replace(Some(doc));
            }
            Ok(None) => {}
            Err(LinkError::Gone) => return,
            Err(LinkError::Away) => {
                sleep(POLL_EVERY).await;
                link.reachable().await;
                continue;
            }
        }
        sleep_until(began + POLL_EVERY).await;
    }
}

/// All applications in one word, with the names of those that are not well.
fn aggregate(states: &[(crate::flightctl::model::ApplicationStatus, Health)]) -> Stated {
    if states.is_empty() {
        return Stated::bare("NoApplications");
    }
    let (mut errors, mut degraded) = (Vec::new(), Vec::new());
    for (status, health) in states {
        match health {
            Health::Healthy => {}
            Health::Error => errors.push(format!("{} is in status Error", status.name)),
            Health::Degraded => degraded.push(format!("{} is in status Degraded", status.name)),
            Health::Unknown => degraded.push(format!("Not started: {}", status.name)),
        }
    }
    let word = match (errors.is_empty(), degraded.is_empty()) {
        (false, _) => "Error",
        (true, false) => "Degraded",
        (true, true) => return Stated::bare("Healthy"),
    };
    errors.append(&mut degraded);
    Stated::new(word, &errors.join(", "))
}

/// A boot id in the form of a UUID, the same in every run.
pub(crate) fn boot_id(name: &str, boot: u32) -> String {
    let a = crc32fast::hash(format!("{name}/{boot}").as_bytes());
    let b = crc32fast::hash(format!("{boot}/{name}").as_bytes());
    format!(
        "{a:08x}-{:04x}-4{:03x}-8{:03x}-{b:08x}{:04x}",
        b >> 16,
        a & 0xfff,
        b & 0xfff,
        a >> 16
    )
}
