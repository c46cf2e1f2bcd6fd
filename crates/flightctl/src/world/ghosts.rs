//! What devices may still run that nobody wants there: taken out of their spec while
//! they were away. It is known by the tombstones on them, in this process and the
//! next.

use serde_json::Value;
use vk_provider::Uid;

use super::World;
use crate::away::tomb::Tomb;
use crate::device::DeviceView;
use crate::mapping::app_name;
use crate::marker::Marker;
use crate::placed::Stage;

/// One of them, on its device.
#[derive(Clone, Debug)]
pub(super) struct Ghost {
    tomb: Tomb,
    /// Rendered version that is known to lack it.
    version: Option<u64>,
    /// Only a later one can.
    after: u64,
    /// The device has confirmed the end.
    over: bool,
}

impl Ghost {
    fn see(&mut self, view: &DeviceView, cluster: &str) {
        let app = &self.tomb.app;
        if view
            .applications
            .iter()
            .any(|a| Marker::ours(a, app, cluster))
        {
            // Someone put it back: only later versions can lack it again.
            (self.version, self.over) = (None, false);
            self.after = view.rendered.max(self.after);
            return;
        }
        self.over |= self.version.is_some_and(|v| view.reported >= v)
            && !view.offline()
            && !view.app_status.contains_key(app);
    }
}

impl World {
    /// A device on which an earlier copy of the pod may still run.
    pub fn may_still_run(&self, uid: &Uid) -> Option<&DeviceView> {
        let app = app_name(uid);
        let mut ghosts = self.ghosts.iter();
        let (at, _) = ghosts.find(|((_, a), ghost)| *a == app && !ghost.over)?;
        self.devices.get(&at.0)
    }

    /// Takes a pod off a device that is away: it was taken out of its spec, after this
    /// version (0: it was not there), and is to be placed anew.
    pub(crate) fn displace(&mut self, uid: &Uid, after: u64) {
        let Some(placed) = self.pods.get_mut(uid) else {
            return;
        };
        let ghost = Ghost {
            tomb: Tomb::of(&self.cluster, &placed.key),
            version: None,
            after,
            over: false,
        };
        let place = (placed.device.clone(), placed.app.clone());
        placed.stage = Stage::Displaced;
        placed.hold = None;
        placed.refused = None;
        self.ghosts.insert(place, ghost);
        self.dirty.insert(uid.clone());
    }

    /// Tombstones of a reading that nobody here knows of: an earlier process, or a pod
    /// that is forgotten, left them.
    pub(super) fn find_ghosts(&mut self, view: &DeviceView) {
        let leaves = |app: &str| {
            self.pods
                .values()
                .any(|p| p.device == view.name && p.app == app && p.stage != Stage::Displaced)
        };
        let tombs: Vec<Tomb> = Tomb::all(&self.cluster, &view.labels).collect();
        for tomb in tombs.iter().filter(|tomb| !leaves(&tomb.app)) {
            let place = (view.name.clone(), tomb.app.clone());
            self.ghosts.entry(place).or_insert_with(|| Ghost {
                tomb: tomb.clone(),
                version: None,
                after: 0,
                over: false,
            });
        }
        let ours = |((device, app), ghost): (&(String, String), &mut Ghost)| {
            let laid = tombs.contains(&ghost.tomb);
            *device != view.name || ((laid || !ghost.over) && !leaves(app))
        };
        let before = self.ghosts.len();
        self.ghosts.retain(|place, ghost| ours((place, ghost)));
        let mut changed = before != self.ghosts.len();
        for ((device, _), ghost) in &mut self.ghosts {
            if *device == view.name && !ghost.over {
                ghost.see(view, &self.cluster);
                changed |= ghost.over;
            }
        }
        if changed {
            self.ghosts_changed();
        }
    }

    /// The rendered document of a device may be the one that lacks them.
    pub(super) fn ghosts_rendered(&mut self, view: &DeviceView, version: u64, apps: &[Value]) {
        for ((device, app), ghost) in &mut self.ghosts {
            let held = apps.iter().any(|a| Marker::ours(a, app, &self.cluster));
            if *device == view.name && !held && version > ghost.after && ghost.version.is_none() {
                ghost.version = Some(version);
            }
        }
        self.find_ghosts(view);
    }

    /// What this device was known to run means nothing any more.
    pub(super) fn ghosts_set_back(&mut self, device: &str) {
        for ((name, _), ghost) in &mut self.ghosts {
            if name == device {
                (ghost.version, ghost.after) = (None, 0);
            }
        }
    }

    /// The device is gone, and with it all that it ran.
    pub(super) fn ghosts_gone(&mut self, device: &str) {
        self.ghosts.retain(|(name, _), _| name != device);
        self.ghosts_changed();
    }

    /// Whether a rendered document of this device has to be looked up for them.
    pub(super) fn ghosts_unverified(&self) -> impl Iterator<Item = &str> {
        self.ghosts.iter().filter_map(|((name, _), ghost)| {
            let view = self.devices.get(name)?;
            let unverified = !ghost.over && ghost.version.is_none() && view.rendered > ghost.after;
            unverified.then_some(name.as_str())
        })
    }

    /// Devices that something is to be heard of.
    pub(super) fn ghosts_on(&self, device: &str) -> bool {
        let mut ghosts = self.ghosts.iter();
        ghosts.any(|((name, _), ghost)| name == device && !ghost.over)
    }

    /// Tombstones that are to be laid: of what was taken out before its device went
    /// away, or before anybody knew that it had.
    pub(crate) fn unburied(&self) -> Vec<(String, Tomb)> {
        let leaving = self.pods.values().filter_map(|placed| {
            let view = self.devices.get(&placed.device)?;
            let leaves = matches!(placed.stage, Stage::Removed { .. }) && view.away.is_some();
            let tomb = leaves.then(|| Tomb::of(&self.cluster, &placed.key))?;
            (!view.labels.contains_key(&tomb.label)).then(|| (placed.device.clone(), tomb))
        });
        leaving
            .filter(|(device, _)| self.is_writable(device))
            .collect()
    }

    /// Tombstones of what has ended.
    pub(crate) fn tombs_over(&self) -> Vec<(String, Tomb)> {
        let ghosts = self.ghosts.iter().filter(|(_, ghost)| ghost.over);
        let ghosts = ghosts.map(|((device, _), ghost)| (device.clone(), ghost.tomb.clone()));
        let gone = self.pods.values().filter(|p| p.stage == Stage::Gone);
        let gone = gone.map(|p| (p.device.clone(), Tomb::of(&self.cluster, &p.key)));
        ghosts
            .chain(gone)
            .filter(|(device, tomb)| {
                let view = self.devices.get(device);
                view.is_some_and(|v| v.labels.contains_key(&tomb.label))
            })
            .filter(|(device, _)| self.is_writable(device))
            .collect()
    }

    fn is_writable(&self, device: &str) -> bool {
        let view = self.devices.get(device);
        view.is_some_and(|v| v.owner.is_none() && !v.decommissioned())
    }

    /// Pods that waited for the end of an earlier copy, or tell of it.
    fn ghosts_changed(&mut self) {
        let displaced = self.pods.values().filter(|p| p.request.is_some());
        self.dirty.extend(displaced.map(|p| p.key.uid.clone()));
        self.mark_waiting();
    }
}
