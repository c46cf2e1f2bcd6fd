//! A pod on its device: how far it is, read from what the device and the
//! rendered document say. Synchronous and without I/O.

mod giving_way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use vk_provider::{PodEvents, PodKey, PodRequest, Revision};

use crate::away::outcome::Outcome;
use crate::contest::Contest;
use crate::device::DeviceView;
use crate::echo::Heard;
use crate::edit::Edit;
use crate::hold::Hold;
use crate::items::{Item, Seal, environment_item};
use crate::mapping::{Expected, Policy};
use crate::marker::{self, Marker};
pub use giving_way::{Before, WayBack};

/// A status that stands this long is no passing one: agents report every 60 s
/// by default, and two reports of it were seen then.
const SETTLED: Duration = Duration::from_secs(130);

/// A device that is heard of so long after it showed a status would have shown
/// another one if there were one: agents report every minute by default, every
/// five where they are told to spare the network.
const SILENCE: Duration = Duration::from_secs(600);

/// What was heard of a device since it showed a pod's present status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sign {
    /// Nothing that counts.
    #[default]
    None,
    /// It had been last seen at this time when it was first asked for.
    Seen(String),
    /// It reported again, or was seen again, and showed the same.
    Again,
}

/// A pod on a device.
pub struct Placed {
    /// Identity.
    pub key: PodKey,
    /// The node it was placed for.
    pub node: Arc<str>,
    /// The device.
    pub device: String,
    /// Name of its application.
    pub app: String,
    /// The pod, once the framework has named it in this process; without what it
    /// refers to, which is kept no longer than it is needed.
    pub request: Option<Arc<PodRequest>>,
    /// How far it is.
    pub stage: Stage,
    /// Items of the device's config that this process wrote or found right, so
    /// that an edit shows.
    items: BTreeMap<String, Seal>,
    /// When its status last became another.
    pub shown_since: Instant,
    /// Whether the device has confirmed it since.
    pub sign: Sign,
    /// What its device has shown of its present revision.
    pub(crate) heard: Heard,
    /// Where its story is told.
    pub events: Option<Arc<dyn PodEvents>>,
    /// Why the last write was refused, as reason and sentence.
    pub refused: Option<(String, String)>,
    /// Why the device does not get it for now.
    pub hold: Option<Hold>,
    /// Its device did not come back in time, and nothing of it is placed anew.
    pub(crate) lost: Option<Outcome>,
    /// What its device ran of it when it was written last: the way back.
    before: Option<Box<Before>>,
    /// The variables that this process wrote for it and that are in no unit.
    environment: Option<Item>,
    /// This process has written it: what it changed is not on the device yet.
    written_here: bool,
    /// How often it was restored after edits of others.
    pub contest: Contest,
    /// What was told already, so that it is told once.
    pub told: BTreeSet<&'static str>,
}

/// How far a pod is on its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Place chosen, nothing written that we know of.
    Reserved,
    /// In the device's spec.
    Written {
        /// The revision that the spec holds.
        revision: Revision,
        /// Rendered version that is known to hold it.
        version: Option<u64>,
        /// Only a later rendered version can hold it.
        after: u64,
    },
    /// Taken out of the device's spec, which did not take it, to be put back later.
    Withdrawn {
        /// Rendered version that is known to lack it.
        version: Option<u64>,
        /// Only a later rendered version can lack it.
        after: u64,
    },
    /// Taken out of the device's spec; the device has not confirmed it yet.
    Removed {
        /// Rendered version that is known to lack it.
        version: Option<u64>,
        /// Only a later rendered version can lack it.
        after: u64,
    },
    /// The device runs a version without it and does not list it any more, and its
    /// spec has no file of it.
    Gone,
    /// Its device is away, and its time is over: it was taken out of the spec, and is
    /// to be placed anew.
    Displaced,
    /// The device itself was deleted from Flight Control, or decommissioned.
    DeviceDeleted,
}

impl std::fmt::Debug for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placed")
            .field("key", &self.key)
            .field("device", &self.device)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Placed {
    /// A pod of which nothing was heard or told yet.
    pub(crate) fn new(key: PodKey, node: Arc<str>, device: &str, app: &str, stage: Stage) -> Self {
        Self {
            key,
            node,
            device: device.to_owned(),
            app: app.to_owned(),
            request: None,
            stage,
            items: BTreeMap::new(),
            shown_since: Instant::now(),
            sign: Sign::None,
            heard: Heard::default(),
            events: None,
            refused: None,
            hold: None,
            lost: None,
            before: None,
            environment: None,
            written_here: false,
            contest: Contest::default(),
            told: BTreeSet::new(),
        }
    }

    /// Kubernetes has named it.
    pub(crate) fn names(&mut self, pod: &PodRequest) {
        self.request = Some(Arc::new(PodRequest {
            inputs: Arc::default(),
            ..pod.clone()
        }));
    }

    /// Whether it takes room on its device.
    pub(crate) fn holds_room(&self) -> bool {
        !matches!(
            self.stage,
            Stage::Gone | Stage::DeviceDeleted | Stage::Displaced
        )
    }

    /// Whether it is on its device, or about to be.
    pub(crate) fn is_there(&self) -> bool {
        matches!(
            self.stage,
            Stage::Reserved | Stage::Written { .. } | Stage::Withdrawn { .. }
        )
    }

    /// Whether something about it is still expected of the device.
    pub fn unsettled(&self, device: &DeviceView) -> bool {
        match &self.stage {
            Stage::Reserved | Stage::Gone | Stage::DeviceDeleted | Stage::Displaced => false,
            Stage::Withdrawn { .. } if self.has_left(device) => false,
            // A device that is silent for longer is left to events and sweeps.
            Stage::Removed { .. } | Stage::Withdrawn { .. } => !self.settled(),
            Stage::Written { version, .. } => {
                let applied = version.is_some_and(|v| device.reported >= v);
                let status = device.app_status.get(&self.app).map(|s| s.status.as_str());
                if self.settled() {
                    return false;
                }
                !applied
                    || self.heard.may_be_echo()
                    || matches!(status, None | Some("Preparing" | "Starting" | "Unknown"))
            }
        }
    }

    /// Whether its rendered version has to be looked up, given the device.
    pub fn unverified(&self, device: &DeviceView) -> bool {
        match self.stage {
            Stage::Written {
                version: None,
                after,
                ..
            }
            | Stage::Removed {
                version: None,
                after,
            }
            | Stage::Withdrawn {
                version: None,
                after,
            } => device.rendered > after,
            _ => false,
        }
    }

    /// Its device is not the one it was, or was set back: no version that was
    /// seen means anything now.
    pub(crate) fn forget_versions(&mut self) {
        if let Stage::Written { version, after, .. }
        | Stage::Removed { version, after }
        | Stage::Withdrawn { version, after } = &mut self.stage
        {
            *version = None;
            *after = 0;
        }
    }

    /// Its device was deleted, and another has its name: what was leaving is gone.
    pub(crate) fn device_made_anew(&mut self) {
        if matches!(self.stage, Stage::Removed { .. }) {
            self.stage = Stage::Gone;
        }
        self.forget_versions();
    }

    /// Its device is gone for good. What was not written yet goes elsewhere.
    pub(crate) fn device_gone(&mut self) {
        if !matches!(self.stage, Stage::Reserved | Stage::Gone | Stage::Displaced) {
            self.stage = Stage::DeviceDeleted;
        }
    }

    /// Takes the rendered document `version`, whose applications are `apps`. The first
    /// one that holds it counts: what the device runs already it does not wait for.
    pub fn rendered(&mut self, version: u64, apps: &[Value], cluster: &str) {
        let held = apps.iter().find(|a| Marker::ours(a, &self.app, cluster));
        let marker = held
            .and_then(Marker::of)
            .filter(|m| m.key.uid == self.key.uid);
        let (known, after, shows) = match &mut self.stage {
            Stage::Written {
                revision,
                version,
                after,
            } => {
                let shows = marker.is_some_and(|m| m.revision == *revision);
                (version, *after, shows)
            }
            Stage::Removed { version, after } | Stage::Withdrawn { version, after } => {
                (version, *after, held.is_none())
            }
            Stage::Reserved | Stage::Gone | Stage::DeviceDeleted | Stage::Displaced => return,
        };
        if shows && version > after && known.is_none_or(|known| version < known) {
            *known = Some(version);
        }
    }

    /// A newer reading of its device; returns whether it gave room back.
    pub(crate) fn see(&mut self, view: &DeviceView, cluster: &str) -> bool {
        let found = view
            .applications
            .iter()
            .find(|a| Marker::ours(a, &self.app, cluster));
        let nothing_left = self.has_left(view) && !view.has_items_left_of(&self.app);
        match &mut self.stage {
            // Someone put it back: only later versions can lack it again.
            Stage::Removed { version, after } if found.is_some() => {
                *version = None;
                *after = view.rendered.max(*after);
            }
            Stage::Gone if found.is_some() => {
                self.stage = Stage::Removed {
                    version: None,
                    after: view.rendered,
                };
            }
            Stage::Removed { .. } if nothing_left => {
                self.stage = Stage::Gone;
                return true;
            }
            Stage::Reserved | Stage::Withdrawn { .. } => {
                // A write whose answer was lost, or a withdrawal that was undone.
                if let Some(app) = found
                    && let Some(marker) = Marker::of(app).filter(|m| *m.cluster == *cluster)
                {
                    self.stage = Stage::Written {
                        revision: marker.revision,
                        version: None,
                        after: 0,
                    };
                }
            }
            Stage::Written {
                revision, version, ..
            } => {
                if let Some(marker) = found.and_then(Marker::of)
                    && marker.revision != *revision
                {
                    *revision = marker.revision;
                    *version = None;
                    // Whoever wrote it wrote its files too.
                    self.items.clear();
                    self.heard = Heard::default();
                }
            }
            _ => {}
        }
        false
    }

    /// The device runs a version without it and does not list it any more: nothing
    /// of it needs its files.
    pub(crate) fn has_left(&self, device: &DeviceView) -> bool {
        matches!(&self.stage, Stage::Removed { version: Some(version), .. }
            | Stage::Withdrawn { version: Some(version), .. }
            if device.reported >= *version
                && !device.offline()
                && !device.app_status.contains_key(&self.app))
    }

    /// The revision that the device runs, once it does.
    pub fn applied(&self, device: &DeviceView) -> Option<Revision> {
        match &self.stage {
            Stage::Written {
                revision,
                version: Some(version),
                ..
            } if device.reported >= *version && !self.taken_away(device) => Some(revision.clone()),
            _ => None,
        }
    }

    /// Neither the device's spec has it nor its status: a Fleet or a user took
    /// it away. Missing from the status alone it may well run, the agent has
    /// just restarted; missing from the spec alone it is about to end.
    fn taken_away(&self, device: &DeviceView) -> bool {
        self.application(device).is_none() && !device.app_status.contains_key(&self.app)
    }

    /// Its status has been the same for longer than what only passes by.
    pub fn settled(&self) -> bool {
        self.shown_since.elapsed() > SETTLED
    }

    /// Silence alone says nothing: the device has confirmed what has settled.
    pub fn confirmed(&self) -> bool {
        self.settled() && self.sign == Sign::Again
    }

    /// Takes what the device shows of the revision that it runs.
    pub(crate) fn hear(&mut self, view: &DeviceView) {
        if self.applied(view).is_some() {
            let shown = view.app_status.get(&self.app);
            self.heard.hear(view.boot.as_deref(), shown);
        }
    }

    /// Something about it begins to be shown.
    pub fn shown_anew(&mut self) {
        self.shown_since = Instant::now();
        self.sign = Sign::None;
    }

    /// The device has reported, and this pod's status is the same.
    pub(crate) fn shown_again(&mut self) {
        if self.settled() {
            self.sign = Sign::Again;
        }
    }

    /// Whether a sign of life of the device would end this pod.
    pub(crate) fn awaits_sign(&self, device: &DeviceView) -> bool {
        self.sign != Sign::Again
            && self.shown_since.elapsed() > SILENCE
            && self.applied(device).is_some()
            && device
                .app_status
                .get(&self.app)
                .is_some_and(|s| matches!(s.status.as_str(), "Unknown" | "Error"))
            && self
                .application(device)
                .and_then(Expected::of_application)
                .is_some_and(|e| e.restart_policy == Policy::Never)
    }

    /// The device was last seen then; returns whether that confirms the status.
    pub(crate) fn seen(&mut self, last_seen: &str) -> bool {
        match &self.sign {
            Sign::None => self.sign = Sign::Seen(last_seen.to_owned()),
            Sign::Seen(before) if before != last_seen => {
                self.sign = Sign::Again;
                return true;
            }
            Sign::Seen(_) | Sign::Again => {}
        }
        false
    }

    /// The revision that the device's spec holds as we left it; `None` when it
    /// is missing there or someone edited it, the pod's files included.
    pub fn accepted(&self, device: &DeviceView) -> Option<Revision> {
        let revision = self.started(device)?;
        let all = marker::items(self.application(device)?);
        all.iter()
            .all(|item| self.holds(device, item))
            .then_some(revision)
    }

    /// The revision whose application and environment the device's spec holds as
    /// we left them: what containers are started with.
    pub fn started(&self, device: &DeviceView) -> Option<Revision> {
        let Stage::Written { revision, .. } = &self.stage else {
            return None;
        };
        let found = self.application(device)?;
        let environment = environment_item(&self.app);
        let needed = marker::items(found).contains(&environment);
        let right = Marker::intact(found) && (!needed || self.holds(device, &environment));
        right.then(|| revision.clone())
    }

    /// What the device's spec holds of it, where that is not as we left it.
    pub(crate) fn edit(&self, device: &DeviceView) -> Edit {
        let found = self.application(device);
        let items = found.map(marker::items).unwrap_or_default();
        let lost = items.iter().filter(|item| !self.holds(device, item));
        let environment = environment_item(&self.app);
        let items = lost.map(|item| match *item == environment {
            true => "its variables",
            false => "the files of its volumes",
        });
        Edit {
            items: items.collect(),
            found: found.cloned(),
        }
    }

    /// Whether the device's spec has this item, and nobody changed it since it was
    /// found right.
    fn holds(&self, device: &DeviceView, item: &str) -> bool {
        let known = self.items.get(item);
        device
            .item(item)
            .is_some_and(|seen| known.is_none_or(|seal| *seal == seen.seal))
    }

    /// Its application was written, with these items.
    pub(crate) fn wrote<'a>(&mut self, items: impl IntoIterator<Item = &'a Item>) {
        self.heard = Heard::default();
        self.items.clear();
        self.environment = None;
        let environment = environment_item(&self.app);
        for item in items {
            self.keeps(item);
            if item.name() == environment {
                self.environment = Some(item.clone());
            }
        }
    }

    /// This item is in the device's spec.
    pub(crate) fn keeps(&mut self, item: &Item) {
        self.items
            .insert(item.name().to_owned(), item.seal().clone());
    }

    /// Takes an item as it stands for right, unless it is known better.
    pub(crate) fn found(&mut self, item: &str, seal: Seal) {
        self.items.entry(item.to_owned()).or_insert(seal);
    }

    /// Its application in the device's spec.
    pub fn application<'a>(&self, device: &'a DeviceView) -> Option<&'a Value> {
        device
            .applications
            .iter()
            .find(|a| a["name"] == self.app.as_str())
    }
}

#[cfg(test)]
mod tests;
