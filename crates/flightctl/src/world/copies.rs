//! Applications of ours where none of them should be: a second copy of a pod,
//! or one that came back after it was taken out.

use std::collections::BTreeMap;

use serde_json::Value;
use vk_provider::Uid;

use super::World;
use crate::device::DeviceView;
use crate::marker::Marker;
use crate::placed::{Placed, Stage};

/// Pods by device and application, of what is not where the pod is placed.
pub(super) type Copies = BTreeMap<(String, String), Uid>;

impl World {
    /// What has to be taken out, as device and application.
    pub fn surplus(&self) -> Vec<(String, String)> {
        self.copies
            .iter()
            .filter(|((device, _), uid)| {
                self.pods.get(*uid).is_some_and(|placed| {
                    // After a restart it is only decided which copy stays when
                    // Kubernetes has named the pod.
                    placed.device == *device
                        || placed.request.is_some()
                        || !matches!(placed.stage, Stage::Written { .. })
                })
            })
            .map(|(place, _)| place.clone())
            .collect()
    }

    /// The pod that has left this device, whose application may have come back.
    pub fn leaving(&self, device: &str, app: &str) -> Option<Uid> {
        self.pods
            .values()
            .find(|p| {
                p.device == device && p.app == app && matches!(p.stage, Stage::Removed { .. })
            })
            .map(|p| p.key.uid.clone())
    }

    /// Whether the application of a device that was away is not wanted there any more.
    pub(crate) fn is_ghost(&self, device: &str, app: &str) -> bool {
        self.ghosts
            .contains_key(&(device.to_owned(), app.to_owned()))
    }

    /// Which copy of a pod that was found again stays: the one on the device
    /// that the pod's own label names, where there is one.
    pub fn settle_copies(&mut self, uid: &Uid, label: Option<&str>) {
        let Some(placed) = self.pods.get(uid).filter(|p| p.request.is_none()) else {
            return;
        };
        let Some(wanted) = label.filter(|l| **l != placed.device) else {
            return;
        };
        let place = (wanted.to_owned(), placed.app.clone());
        if self.copies.get(&place) != Some(uid) {
            return;
        }
        if let Some(marker) = self.devices.get(wanted).and_then(|device| {
            let app = device.applications.iter().find(|a| a["name"] == place.1);
            app.and_then(Marker::of)
        }) {
            self.move_to(uid, wanted, &marker);
        }
    }

    /// Another copy of a pod that is placed elsewhere.
    pub(super) fn second_copy(&mut self, view: &DeviceView, app: &str, marker: &Marker) {
        if view.decommissioned() {
            return;
        }
        let uid = &marker.key.uid;
        let Some(placed) = self.pods.get(uid) else {
            return;
        };
        let runs = |device: &DeviceView| {
            device.app_status.contains_key(app) && !device.offline() && device.owner.is_none()
        };
        let better = placed.request.is_none()
            && runs(view)
            && !self.devices.get(&placed.device).is_some_and(runs);
        let undecided = match placed.stage {
            // A write whose answer was lost, before the pod was placed anew.
            Stage::Reserved => true,
            Stage::Written { .. } => better,
            _ => false,
        };
        if undecided {
            self.move_to(uid, &view.name, marker);
        } else {
            self.copies
                .insert((view.name.clone(), app.to_owned()), uid.clone());
        }
    }

    fn move_to(&mut self, uid: &Uid, device: &str, marker: &Marker) {
        let Some(placed) = self.pods.get_mut(uid) else {
            return;
        };
        let left = std::mem::replace(&mut placed.device, device.to_owned());
        placed.stage = Stage::Written {
            revision: marker.revision.clone(),
            version: None,
            after: 0,
        };
        let app = placed.app.clone();
        self.copies.remove(&(device.to_owned(), app.clone()));
        if self
            .devices
            .get(&left)
            .is_some_and(|d| d.applications.iter().any(|a| a["name"] == app))
        {
            self.copies.insert((left, app), uid.clone());
        }
        self.dirty.insert(uid.clone());
    }

    /// Devices that still hold an application of a pod that is forgotten: then
    /// it is a pod again, and whether Kubernetes wants it is asked once more.
    pub(super) fn find_again(&mut self, forgotten: &Placed) {
        self.copies.retain(|_, uid| *uid != forgotten.key.uid);
        let holders: Vec<DeviceView> = self
            .devices
            .values()
            .filter(|d| {
                let held = |a: &Value| a["name"] == forgotten.app.as_str();
                !d.decommissioned() && d.applications.iter().any(held)
            })
            .cloned()
            .collect();
        for view in holders {
            self.adopt(&view);
        }
    }
}
