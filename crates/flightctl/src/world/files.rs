//! Files of pods that are not there any more: a pod's containers have them until
//! they have ended, and then they have to go.

use std::time::Duration;

use tokio::time::Instant;
use vk_provider::Uid;

use super::World;
use crate::device::DeviceView;
use crate::placed::Stage;

/// Files without an application or a pod stay this long: where they are another
/// cluster's, its own provider takes them out within seconds of the end.
const STRAY: Duration = Duration::from_secs(600);

impl World {
    /// Whose files have to be taken out, as device and application: of pods that
    /// have left their device, and of none that anybody here or elsewhere knows.
    pub fn surplus_files(&self) -> Vec<(String, String)> {
        let left = self.pods.values().filter(|p| {
            self.devices
                .get(&p.device)
                .is_some_and(|d| p.has_left(d) && d.has_items_left_of(&p.app))
        });
        let stray = self.strays.iter();
        let stray = stray.filter(|(_, since)| since.elapsed() >= STRAY);
        left.map(|p| (p.device.clone(), p.app.clone()))
            .chain(stray.map(|(place, _)| place.clone()))
            .collect()
    }

    /// Where something of the pod is still in a device's spec: the device and the
    /// application.
    pub fn left_in_spec(&self, uid: &Uid) -> Option<(String, String)> {
        let placed = self.pods.get(uid)?;
        let left = match placed.stage {
            Stage::Written { .. } | Stage::Reserved | Stage::Withdrawn { .. } => true,
            Stage::Removed { .. } => self
                .devices
                .get(&placed.device)
                .is_some_and(|device| device.has_items_left_of(&placed.app)),
            Stage::Gone | Stage::DeviceDeleted | Stage::Displaced => false,
        };
        left.then(|| (placed.device.clone(), placed.app.clone()))
    }

    /// Notes which files of this reading belong to nothing.
    pub(super) fn note_strays(&mut self, view: &DeviceView) {
        let known = |app: &str| {
            let mut pods = self.pods.values();
            pods.any(|p| p.device == view.name && p.app == app)
        };
        // What a device that is behind or away still runs may need them.
        let current = view.reported >= view.rendered && !view.offline() && view.usable();
        let items = view.items.iter().flatten().filter(|_| current);
        let found: Vec<_> = items
            .filter_map(|item| item.of.clone())
            .filter(|app| {
                !view.has_application(app) && !view.app_status.contains_key(app) && !known(app)
            })
            .map(|app| {
                let place = (view.name.clone(), app);
                let since = self.strays.get(&place).copied();
                (place, since.unwrap_or_else(Instant::now))
            })
            .collect();
        self.strays.retain(|(device, _), _| *device != view.name);
        self.strays.extend(found);
    }
}
