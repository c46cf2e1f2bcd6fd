//! A pod whose device refuses it gives way to its neighbours, and has its turn again.

use serde_json::Value;
use vk_provider::Revision;

use super::{Placed, Stage};
use crate::device::DeviceView;
use crate::echo::Heard;
use crate::hold::{Hold, Why};
use crate::items::Item;
use crate::marker::Marker;

/// What a device ran of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    /// Its application, as it stood in the device's spec.
    pub app: Value,
    /// The variables that its containers are started with, where this process wrote
    /// them: what they were made from may be another by now.
    pub environment: Option<Item>,
}

/// How a pod that its device does not take gives way.
#[derive(Clone, Debug, PartialEq)]
pub enum WayBack {
    /// What the device runs of it is put back, as it stood in its spec.
    Restore(Box<Before>),
    /// It is taken out, and its files stay while its containers run.
    End,
    /// It is taken out.
    Remove,
}

impl Placed {
    /// Whether the device's wanted version has it and its applied one does not, as far
    /// as is known.
    pub(crate) fn is_on_its_way(&self, device: &DeviceView) -> bool {
        let Stage::Written { version, after, .. } = &self.stage else {
            return false;
        };
        let applied = version.is_some_and(|v| v <= device.reported);
        let wanted = version.map_or(device.rendered > *after, |v| v <= device.rendered);
        // What cannot be rendered has no version yet.
        let wanted = wanted || device.spec_invalid.is_some();
        !applied && wanted && self.application(device).is_some()
    }

    /// Whether one on its way may be to blame for a version that was refused without a
    /// name; nothing while that is not known. One that this process found may run since
    /// long: then the device lists it, but for the moments after its agent began.
    pub(crate) fn is_suspect(&self, device: &DeviceView) -> Option<bool> {
        if self.unverified(device) {
            return None;
        }
        let listed = device.app_status.contains_key(&self.app);
        if self.written_here || listed {
            return Some(self.written_here);
        }
        (!device.app_status.is_empty() || self.settled()).then_some(true)
    }

    /// Whether its device's spec holds what Kubernetes wants.
    pub(crate) fn is_as_asked(&self) -> bool {
        let wanted = self.request.as_ref().map(|r| &r.spec_revision);
        matches!(&self.stage, Stage::Written { revision, .. } if wanted.is_none_or(|w| w == revision))
    }

    /// How it gives way to its neighbours.
    pub(crate) fn way_back(&self, device: &DeviceView) -> WayBack {
        match &self.before {
            Some(before) => WayBack::Restore(before.clone()),
            // Some of it runs, and has files.
            None if device.app_status.contains_key(&self.app) => WayBack::End,
            None => WayBack::Remove,
        }
    }

    /// It gave way: the device's spec is without what it does not take.
    pub(crate) fn gave_way(&mut self, how: &WayBack, revision: Revision, why: Why, after: u64) {
        let uid = &self.key.uid;
        let mut hold = Hold::new(uid, revision, why, self.hold.as_ref());
        if matches!(how, WayBack::Restore(_)) && matches!(hold.why, Why::Refused { .. }) {
            hold.disturbs(uid);
        }
        self.hold = Some(hold);
        let version = None;
        let marker = match how {
            WayBack::Restore(before) => Marker::of(&before.app),
            WayBack::End | WayBack::Remove => None,
        };
        self.stage = match marker {
            Some(marker) => Stage::Written {
                revision: marker.revision,
                version,
                after,
            },
            None => Stage::Withdrawn { version, after },
        };
        if let WayBack::Restore(before) = how {
            self.environment = before.environment.clone();
            if let Some(item) = &before.environment {
                self.keeps(item);
            }
        }
        self.before = None;
        self.heard = Heard::default();
        self.shown_anew();
    }

    /// It is about to be written: what runs of it now is the way back.
    pub(crate) fn keeps_way_back(&mut self, device: &DeviceView) {
        if self.applied(device).is_some() && self.started(device).is_some() {
            let stands = |item: &&Item| {
                let seen = device.item(item.name());
                seen.is_some_and(|seen| seen.seal == *item.seal())
            };
            let environment = self.environment.as_ref().filter(stands).cloned();
            let app = self.application(device).cloned();
            self.before = app.map(|app| Box::new(Before { app, environment }));
        }
        self.written_here = true;
    }

    /// It had its turn, and could not be written.
    pub(crate) fn is_not_tried(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.not_tried();
        }
    }

    /// Where the device runs what was asked for nothing stands against it any more.
    pub(crate) fn arrived(&mut self, device: &DeviceView) {
        if self.before.is_none() && self.hold.is_none() {
            return;
        }
        let Some(revision) = self.applied(device) else {
            return;
        };
        if self.is_as_asked() {
            self.before = None;
        }
        if self
            .hold
            .as_ref()
            .is_some_and(|hold| hold.revision == revision)
        {
            self.hold = None;
        }
    }
}
