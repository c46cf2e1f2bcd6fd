//! The console of a device, for `kubectl logs` and `kubectl exec`: `podman` on the
//! device, as root, through the agent (Flight Control, internal/console and
//! internal/agent/device/console).
//!
//! ```text
//! Logs, Exec ─▶ turn ─▶ session ─▶ Client::console ═▶ Flight Control ═▶ agent ─▶ sudo sh
//!                          │ script                                             └─▶ podman
//!                          └─▶ lines, end
//! ```
//!
//! Pure: `script` (what the device runs), `lines` (what podman and the journal
//! print), `end` (how a command ended). `turn` lets one session at a time to a
//! device; `session` opens and closes them; `logs` and `exec` use them.
//!
//! # Guarantees
//! - A session begins only on a device that is connected and was seen shortly ago,
//!   and always ends by being closed, whatever became of the caller: an opening
//!   that is given up leaves its entry on the device for ever.
//! - Nothing of a command is in what Flight Control stores or logs: the device is
//!   told to read it from the session. So a device that comes too late, or comes
//!   back to an entry that stayed, runs nothing.
//! - Opening and closing write the device's spec as Flight Control read it before:
//!   our own writes are held back meanwhile, and the device is read again after
//!   both, so that what was undone all the same is put back.
//! - A session that ends without a status is a failure.
//!
//! # Tasks
//! One per session, that keeps it from its opening to its end; one per log.

mod end;
mod exec;
mod lines;
mod logs;
mod script;
mod session;
mod turn;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vk_provider::{BackendError, PodKey};

use crate::client::Client;
use crate::follow::Follower;
use crate::mapping::{app_id, app_name};
use crate::world::World;
use crate::writer::Writers;
use turn::Turns;

/// Of which devices the console may be used. By default of none: it is root on
/// the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consoles {
    /// Of devices whose fleet says nothing else.
    pub enabled: bool,
    /// By fleet.
    pub fleets: BTreeMap<String, bool>,
}

impl Consoles {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.enabled || self.fleets.values().any(|enabled| *enabled)
    }

    fn of_fleet(&self, fleet: &str) -> bool {
        *self.fleets.get(fleet).unwrap_or(&self.enabled)
    }
}

/// What sessions are made with; clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    consoles: Arc<Consoles>,
    client: Client,
    world: Arc<Mutex<World>>,
    writers: Writers,
    follower: Follower,
    turns: Turns,
}

/// A container on its device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Container {
    device: String,
    /// As podman knows it.
    name: String,
}

impl Console {
    pub(crate) fn new(
        consoles: Consoles,
        client: Client,
        world: Arc<Mutex<World>>,
        writers: Writers,
        follower: Follower,
    ) -> Self {
        Self {
            consoles: Arc::new(consoles),
            client,
            world,
            writers,
            follower,
            turns: Turns::default(),
        }
    }

    /// Where a container is, if its device's console may be used. Of a pod that is
    /// not looked after any more its label tells the device: whoever sets it to
    /// another one finds no container there, as their names are of the pod's UID.
    fn container(
        &self,
        pod: &PodKey,
        label: Option<&str>,
        container: &str,
    ) -> Result<Container, BackendError> {
        let world = self.world();
        let device = world.place_of(&pod.uid, label);
        let device = device.ok_or(BackendError::NotFound)?.name.as_str();
        let fleet = world.fleet_of(device);
        if !self.consoles.of_fleet(fleet) {
            let of = if fleet.is_empty() {
                "devices without a fleet".to_owned()
            } else {
                format!("devices of fleet {fleet:?}")
            };
            return Err(BackendError::Unsupported {
                field: "console".into(),
                message: format!(
                    "the configuration of vk-flightctl-provider does not enable the console of {of}"
                ),
            });
        }
        Ok(Container {
            name: format!("{}-{container}", app_id(&app_name(&pod.uid))),
            device: device.to_owned(),
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(device: &str, why: impl std::fmt::Display) -> BackendError {
    BackendError::Unavailable {
        message: format!("device {device}: {why}"),
        retry: None,
    }
}
