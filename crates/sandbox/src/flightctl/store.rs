//! Everything the service keeps, and the rules of `generation`,
//! `resourceVersion` and events that every write goes through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Options;
use super::auth::Tokens;
use super::console::Consoles;
use super::events::{Actor, EventLog};
use super::fleets::FleetRow;
use super::model::{Condition, DeviceStatus};
use super::ratelimit::Limiters;
use super::reply::{API_VERSION, Refusal};
use super::{fleets, render, status};
use crate::clock::Clock;
use crate::faults::Faults;

/// Between a write and its rendering, as recorded (new annotation visible
/// after 11 ms at the median): the window in which the device reads UpToDate.
const RENDER_DELAY: Duration = Duration::from_millis(10);

/// Between a change of labels or fleets and its effect on ownership, as
/// recorded (0.06 s).
const FLEET_DELAY: Duration = Duration::from_millis(60);

pub(crate) type Labels = BTreeMap<String, String>;

/// What the worker made of a spec.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) version: u64,
    pub(crate) spec: Value,
}

/// One device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceRow {
    pub(crate) name: String,
    /// None after decommissioning: the key itself is gone then.
    pub(crate) labels: Option<Labels>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) owner: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) generation: u64,
    pub(crate) resource_version: u64,
    pub(crate) spec: Value,
    pub(crate) status: DeviceStatus,
    pub(crate) service_conditions: Vec<Condition>,
    /// What is saved; heartbeats join it in batches.
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) heartbeat: Option<Timestamp>,
    /// The last status the device has put.
    pub(crate) reported: Option<Timestamp>,
    pub(crate) rendered: Option<Rendered>,
    /// A session of its console was opened that its agent was not told of.
    pub(crate) console_news: bool,
    render_pending: bool,
    /// Render even though the spec is what was rendered last.
    pub(crate) render_anyway: bool,
}

impl DeviceRow {
    pub(crate) fn new(name: &str, labels: Option<Labels>, spec: Value, now: Timestamp) -> Self {
        Self {
            name: name.into(),
            labels,
            annotations: BTreeMap::new(),
            owner: None,
            created: now,
            generation: 1,
            resource_version: 1,
            spec,
            status: DeviceStatus::unheard(),
            service_conditions: Vec::new(),
            last_seen: None,
            heartbeat: None,
            reported: None,
            rendered: None,
            console_news: false,
            render_pending: false,
            render_anyway: false,
        }
    }

    pub(crate) fn decommissioned(&self) -> bool {
        self.spec.get("decommissioning").is_some()
    }

    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = json!({
            "annotations": self.annotations,
            "creationTimestamp": self.created.to_string(),
            "generation": self.generation,
            "name": self.name,
            "resourceVersion": self.resource_version.to_string(),
        });
        if let Some(labels) = &self.labels {
            metadata["labels"] = json!(labels);
        }
        if let Some(owner) = &self.owner {
            metadata["owner"] = json!(owner);
        }
        metadata
    }

    /// The Device document.
    pub(crate) fn doc(&self) -> Value {
        let mut status = self.status.clone();
        status
            .conditions
            .extend(self.service_conditions.iter().cloned());
        json!({
            "apiVersion": API_VERSION,
            "kind": "Device",
            "metadata": self.metadata(),
            "spec": self.spec,
            "status": status,
        })
    }
}

/// Which last-seen time a write computes the status from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The status words stay as they are.
    Keep,
    /// The saved time, or that of the last status.
    Saved,
    /// The device is talking right now.
    Now,
    /// As if it had never been heard from.
    Never,
}

/// How a write is accounted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) by: Actor,
    pub(crate) seen: Seen,
    /// A changed spec does not count as a new generation.
    pub(crate) keep_generation: bool,
    /// Leave the object alone if only the status was computed and is the same.
    pub(crate) only_if_changed: bool,
}

impl Write {
    pub(crate) fn user() -> Self {
        Self {
            by: Actor::User,
            seen: Seen::Saved,
            keep_generation: false,
            only_if_changed: false,
        }
    }

    pub(crate) fn worker() -> Self {
        Self {
            by: Actor::Worker,
            ..Self::user()
        }
    }
}

/// Work that follows from a write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Render(String),
    Fleets,
}

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) devices: BTreeMap<String, DeviceRow>,
    pub(crate) fleets: BTreeMap<String, FleetRow>,
    pub(crate) events: EventLog,
    /// One long poll per device, the newest: it takes the device's wake-up.
    pub(crate) waiters: BTreeMap<String, oneshot::Sender<()>>,
    fleets_pending: bool,
    effects: Vec<Effect>,
}

impl Store {
    pub(crate) fn device(&self, name: &str) -> Result<&DeviceRow, Refusal> {
        self.devices
            .get(name)
            .ok_or_else(|| Refusal::not_found("Device", name))
    }

    fn template_version(&self, row: &DeviceRow) -> Option<String> {
        let fleet = row.owner.as_ref()?.strip_prefix("Fleet/")?;
        self.fleets
            .get(fleet)
            .map(super::fleets::FleetRow::template_version)
    }

    /// Adds a device and has it rendered and matched against the fleets.
    pub(crate) fn insert(&mut self, mut row: DeviceRow, now: Timestamp, by: Actor) -> Value {
        status::recompute(&mut row, None, now, None);
        let doc = row.doc();
        self.events.created(now, by, "Device", &row.name);
        let name = row.name.clone();
        self.devices.insert(name.clone(), row);
        self.render_soon(&name);
        self.fleets_soon();
        doc
    }

    /// Every change of a device goes through here: `resourceVersion` always
    /// grows, `generation` only with the spec, the status is recomputed, the
    /// difference becomes events and work.
    pub(crate) fn write(
        &mut self,
        name: &str,
        now: Timestamp,
        write: Write,
        change: impl FnOnce(&mut DeviceRow) -> Result<(), Refusal>,
    ) -> Result<Value, Refusal> {
        let before = self.device(name)?.clone();
        let mut after = before.clone();
        change(&mut after)?;
        let spec_changed = before.spec != after.spec;
        if spec_changed {
            if !write.keep_generation {
                after.generation += 1;
            }
            super::lifecycle::prune(&mut after);
        }
        let last_seen = match write.seen {
            Seen::Keep => None,
            // Before the first is saved a device reads as disconnected.
            Seen::Saved => after
                .last_seen
                .and_then(|saved| Some(saved).max(after.reported)),
            Seen::Now => Some(now),
            Seen::Never => None,
        };
        if write.seen != Seen::Keep {
            let fleet = self.template_version(&after);
            status::recompute(&mut after, last_seen, now, fleet.as_deref());
        }
        if write.only_if_changed && before.status == after.status {
            return Ok(before.doc());
        }
        after.resource_version += 1;
        self.events.device_changed(now, write.by, &before, &after);
        let doc = after.doc();
        let (labels_changed, render_anyway) = (before.labels != after.labels, after.render_anyway);
        self.devices.insert(name.into(), after);
        if spec_changed || render_anyway {
            self.render_soon(name);
        }
        if labels_changed {
            self.fleets_soon();
        }
        Ok(doc)
    }

    /// Removes a device; its long poll ends and finds nothing.
    pub(crate) fn remove(&mut self, name: &str, now: Timestamp, by: Actor) {
        if self.devices.remove(name).is_some() {
            self.events.deleted(now, by, "Device", name);
            self.wake(name);
        }
    }

    pub(crate) fn wake(&mut self, name: &str) {
        if let Some(waiter) = self.waiters.remove(name) {
            // The poll may have gone; then nobody is woken, as in the service.
            let _ = waiter.send(());
        }
    }

    /// One rendering is under way per device at most; it takes the content it
    /// finds when its turn comes, so quick changes become one version.
    pub(crate) fn render_soon(&mut self, name: &str) {
        if let Some(row) = self.devices.get_mut(name)
            && !row.render_pending
        {
            row.render_pending = true;
            self.effects.push(Effect::Render(name.into()));
        }
    }

    pub(crate) fn fleets_soon(&mut self) {
        if !self.fleets_pending {
            self.fleets_pending = true;
            self.effects.push(Effect::Fleets);
        }
    }
}

/// What all parts of the service share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    pub(crate) faults: Faults,
    pub(crate) tokens: Mutex<Tokens>,
    pub(crate) limiters: Mutex<Limiters>,
    pub(crate) consoles: Consoles,
    store: Mutex<Store>,
}

impl Shared {
    pub(crate) fn new(clock: Clock, options: Options) -> Arc<Self> {
        Arc::new(Self {
            tokens: Mutex::new(Tokens::new(options.token.as_deref())),
            limiters: Mutex::new(Limiters::new(&options)),
            consoles: Consoles::default(),
            clock,
            options,
            faults: Faults::default(),
            store: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks without changing.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.lock())
    }

    /// Runs one transaction and starts the work that follows from it.
    pub(crate) fn transact<T>(self: &Arc<Self>, run: impl FnOnce(&mut Store, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut store = self.lock();
        let out = run(&mut store, now);
        let effects = std::mem::take(&mut store.effects);
        drop(store);
        for effect in effects {
            self.follow_up(effect);
        }
        out
    }

    fn follow_up(self: &Arc<Self>, effect: Effect) {
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            let delay = match effect {
                Effect::Render(_) => RENDER_DELAY,
                Effect::Fleets => FLEET_DELAY,
            };
            tokio::time::sleep(delay).await;
            let Some(shared) = shared.upgrade() else {
                return;
            };
            shared.transact(|store, now| match effect {
                Effect::Render(name) => {
                    if let Some(row) = store.devices.get_mut(&name) {
                        row.render_pending = false;
                    }
                    render::render(store, &name, now);
                }
                Effect::Fleets => {
                    store.fleets_pending = false;
                    fleets::reconcile(store, now);
                }
            });
        });
    }
}
