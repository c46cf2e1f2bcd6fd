//! Flight Control: its user API, its worker and periodic tasks, and simulated
//! devices, as recorded from the real service.
//!
//! - A request passes `routes`: size limits, the request limit, the token,
//!   the version, then the route. What the real API has and this has not is
//!   answered 501 by name.
//! - `store` holds the tables. Every change of a device goes through one
//!   function, which keeps the rules of `generation` and `resourceVersion`,
//!   recomputes `status` and writes `events`.
//! - A changed spec is rendered a few milliseconds later (`render`); until
//!   then the device still reads UpToDate. Quick changes become one version.
//! - `connection` saves heartbeats in batches and looks for silent devices.
//! - [`device`] is the far end: an agent with the real one's rules and cadence.
//!
//! Tasks: one for `connection`; per device an agent, its poller and one per
//! running unit; short ones for renderings under way. All end with the last
//! handle. All time is the runtime's, so paused time is exact.

mod auth;
mod connection;
mod console;
pub mod device;
mod devices;
mod events;
mod fleets;
mod lifecycle;
mod list;
mod model;
mod patch;
mod poll;
mod quadlets;
mod ratelimit;
mod render;
mod reply;
mod routes;
mod select;
mod status;
mod store;
mod template;
mod unitfile;
mod validate;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::auth::Role;
pub use self::console::ConsoleStreams;
pub use self::device::journal::{JournalEntry, Occurrence};
pub use self::device::script::{Pull, Script};
pub use self::device::{
    BackedDevice, Container, Device, DeviceFile, DeviceSpec, Link, LinkError, Machine, start_agent,
};
pub use self::model::{
    ApplicationStatus, Condition, ConfigStatus, DeviceStatus, Resources, Stated,
};
use self::store::Shared;
use crate::clock::Clock;
use crate::faults::Faults;
use crate::transport::Endpoint;

/// The organization that every installation has.
const DEFAULT_ORGANIZATION: &str = "00000000-0000-0000-0000-000000000000";

/// Window of the request limit, as shipped.
const RATE_LIMIT_WINDOW: Duration = Duration::from_mins(1);

/// An organization that users belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// A UUID.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// The identity provider's name for it.
    pub external_id: String,
}

/// How the service is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The administrator's bearer token; without one, any token is.
    pub token: Option<String>,
    /// Requests per window; the shipped service has 300 a minute, none unless
    /// configured.
    pub rate_limit: Option<u32>,
    /// The window, a minute as shipped.
    pub rate_limit_window: Duration,
    /// All devices belong to the first.
    pub organizations: Vec<Organization>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            rate_limit: None,
            rate_limit_window: RATE_LIMIT_WINDOW,
            organizations: vec![Organization {
                id: DEFAULT_ORGANIZATION.into(),
                display_name: "Default".into(),
                external_id: "default".into(),
            }],
        }
    }
}

/// The service; clones are the same one. It ends with the last of them and of
/// its [`Device`]s.
#[derive(Clone, Debug)]
pub struct FlightControl {
    shared: Arc<Shared>,
    stop: CancellationToken,
    _end: Arc<DropGuard>,
}

impl FlightControl {
    /// A service without devices. Must be called in a Tokio runtime.
    pub fn new(clock: Clock, options: Options) -> Self {
        let shared = Shared::new(clock, options);
        let stop = CancellationToken::new();
        tokio::spawn(connection::run(Arc::downgrade(&shared), stop.clone()));
        Self {
            shared,
            _end: Arc::new(stop.clone().drop_guard()),
            stop,
        }
    }

    /// Its switchboard of faults.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The user API.
    pub fn router(&self) -> Router {
        Router::new()
            .fallback(routes::handle)
            .with_state(self.clone())
            .merge(crate::control::routes(
                self.faults().clone(),
                self.shared.clock.clone(),
            ))
    }

    /// The user API, to be connected to.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.router(), self.faults().clone(), reply::fault)
    }

    /// Accepts a bearer token from now on.
    pub fn accept_token(&self, token: &str) {
        self.accept_token_as(token, Role::Admin);
    }

    /// Accepts a bearer token with less than an administrator's rights.
    pub fn accept_token_as(&self, token: &str, role: Role) {
        self.tokens().accept(token, role);
    }

    /// A token that was good is answered 401 from now on, after ten seconds.
    pub fn expire_token(&self, token: &str) {
        self.tokens().expire(token);
    }

    /// How long the service takes between reading a device and writing it back when
    /// a session of its console begins or ends. Writes that cross that are undone.
    pub fn set_console_gap(&self, gap: Duration) {
        self.shared.consoles.set_gap(gap);
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, auth::Tokens> {
        self.shared
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Enrols a device and starts its agent. A device of the same name is
    /// replaced in the service; its old agent does not notice.
    pub fn add_device(&self, spec: DeviceSpec) -> Device {
        device::start(self, spec)
    }

    /// Enrols a device whose agent runs what it is given with systemd and Podman of a
    /// machine, as Flight Control's own agent does, in place of a simulation. It pulls
    /// no image: the machine has it, or nobody. Commands end after two minutes at most.
    /// The specification's `monitor_lag` says nothing there.
    pub fn add_backed_device(&self, spec: &DeviceSpec, machine: Machine) -> BackedDevice {
        device::start_backed(self, spec, machine)
    }

    /// `device-1…n`, labelled `fleet=edge-fleet-1…fleets` in turn; the last
    /// `unassigned` ones have no label.
    pub fn spawn_devices(&self, n: usize, fleets: usize, unassigned: usize) -> Vec<Device> {
        (0..n)
            .map(|index| {
                let mut spec = DeviceSpec::new(&format!("device-{}", index + 1));
                spec.cpu_cores = Some(4);
                spec.memory_kb = Some(8 * 1024 * 1024);
                spec.address = Some(format!("10.42.{}.{}/16", index / 250, index % 250 + 1));
                if fleets > 0 && index + unassigned < n {
                    let fleet = format!("edge-fleet-{}", index % fleets + 1);
                    spec.labels.insert("fleet".into(), fleet);
                }
                self.add_device(spec)
            })
            .collect()
    }

    /// The Device document, as the user API shows it.
    pub fn device_value(&self, name: &str) -> Option<Value> {
        self.shared
            .read(|store| store.devices.get(name).map(store::DeviceRow::doc))
    }

    /// Creates a Fleet resource that owns the devices with these labels and
    /// rolls `template` (a device spec) out to them.
    ///
    /// # Errors
    /// The service's message, if it refuses the fleet.
    pub fn create_fleet(
        &self,
        name: &str,
        match_labels: &BTreeMap<String, String>,
        template: &Value,
    ) -> Result<Value, String> {
        let body = json!({
            "apiVersion": reply::API_VERSION,
            "kind": "Fleet",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": match_labels},
                "template": {"spec": template},
            },
        });
        self.shared
            .transact(|store, now| fleets::create(store, now, &body))
            .map_err(|refusal| refusal.message)
    }

    /// Deletes a Fleet resource.
    pub fn delete_fleet(&self, name: &str) {
        self.shared
            .transact(|store, now| fleets::delete(store, now, name));
    }

    /// Sets a device's labels, as a user would.
    ///
    /// # Errors
    /// The service's message, if there is no such device.
    pub fn set_labels(&self, name: &str, labels: BTreeMap<String, String>) -> Result<(), String> {
        self.shared
            .transact(|store, now| {
                store.write(name, now, store::Write::user(), |row| {
                    row.labels = Some(labels);
                    Ok(())
                })
            })
            .map(drop)
            .map_err(|refusal| refusal.message)
    }

    /// Deletes a device, as a user would.
    pub fn delete_device(&self, name: &str) {
        self.shared
            .transact(|store, now| devices::delete(store, now, name));
    }

    /// All events, oldest first.
    pub fn events(&self) -> Vec<Value> {
        self.shared
            .read(|store| store.events.iter().map(events::Event::doc).collect())
    }
}
