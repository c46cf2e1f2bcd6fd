//! What the provider knows: devices as last read, and its pods on them.
//! Synchronous and without I/O; the follower and the writers feed it.

mod absence;
mod acquittal;
mod copies;
mod course;
mod files;
mod ghosts;
mod judge;
mod leaving;
mod news;
mod room;
mod summary;
mod turn;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use vk_provider::Uid;

use crate::away::silence::Silence;
use crate::away::storm::Storm;
use crate::device::DeviceView;
use crate::echo::Heard;
use crate::fleet::{self, FLEET_LABEL, Grouping, NodeRule, Rules, group};
use crate::marker::Marker;
use crate::placed::{Placed, Stage};
pub(crate) use absence::{Absence, Overdue};
pub(crate) use judge::GivesWay;
pub(crate) use news::News;
pub(crate) use summary::{FleetSummary, Summary, Tally};

/// All state.
pub struct World {
    /// UID of `kube-system`: whose applications are ours.
    pub cluster: Arc<str>,
    rules: Rules,
    devices: BTreeMap<String, DeviceView>,
    /// When each device's present reading came.
    received: HashMap<String, Instant>,
    /// Whether each device is there.
    silences: HashMap<String, Silence>,
    /// Since when Flight Control answers without a break.
    answering: Instant,
    /// What devices may still run that nobody wants there, by device and application.
    ghosts: BTreeMap<(String, String), ghosts::Ghost>,
    /// How many devices may vanish together, by fleet.
    fleet_sizes: BTreeMap<String, usize>,
    /// Fleets of which nothing is rescheduled.
    storms: BTreeMap<String, Storm>,
    /// When there was last a storm, by fleet.
    stormed: HashMap<String, Instant>,
    /// What a human has looked at, by fleet.
    resumed: HashMap<String, Timestamp>,
    /// When the next pod of a fleet may be placed anew.
    next_reschedule: HashMap<String, Instant>,
    /// What happened so far, by fleet.
    tallies: BTreeMap<String, Tally>,
    pods: HashMap<Uid, Placed>,
    copies: copies::Copies,
    /// How each device gets on with its versions.
    courses: HashMap<String, course::Course>,
    /// Pods whose turn has come.
    looks: BTreeSet<Uid>,
    /// Files that belong to nothing, by device and application, and since when.
    strays: BTreeMap<(String, String), Instant>,
    grouping: Grouping,
    /// What nodes are of, and those were that still have pods.
    node_rules: BTreeMap<Arc<str>, NodeRule>,
    /// How many devices that left still run pods of a node.
    left_of: BTreeMap<Arc<str>, usize>,
    story: news::Story,
    reachable: Result<(), String>,
    /// Every device has been read once.
    synced: bool,
    /// Until then it is not known what pods that were found ask for.
    counting_until: Instant,
    sequence: u64,
    /// Pods whose facts changed.
    dirty: BTreeSet<Uid>,
    /// Pods that were told to wait for room.
    waiting: HashMap<Uid, room::Waiting>,
    /// Places given so far, by fleet.
    placements: BTreeMap<String, u64>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("devices", &self.devices.len())
            .field("pods", &self.pods.len())
            .finish_non_exhaustive()
    }
}

/// What a new reading of devices changed beside pods.
#[derive(Debug, Default)]
pub struct Changes {
    /// The node set is another.
    pub nodes: bool,
    /// New problems of grouping, for the log.
    pub problems: Vec<String>,
}

impl World {
    /// An empty world.
    pub fn new(cluster: &str, rules: Rules) -> Self {
        let grouping = group(&rules, std::iter::empty(), &Ok(()));
        let counting_until = Instant::now() + room::ADOPTION;
        Self {
            cluster: cluster.into(),
            rules,
            devices: BTreeMap::new(),
            received: HashMap::new(),
            silences: HashMap::new(),
            answering: Instant::now(),
            ghosts: BTreeMap::new(),
            fleet_sizes: BTreeMap::new(),
            storms: BTreeMap::new(),
            stormed: HashMap::new(),
            resumed: HashMap::new(),
            next_reschedule: HashMap::new(),
            tallies: BTreeMap::new(),
            pods: HashMap::new(),
            copies: copies::Copies::new(),
            courses: HashMap::new(),
            looks: BTreeSet::new(),
            strays: BTreeMap::new(),
            node_rules: grouping.rules.clone(),
            grouping,
            left_of: BTreeMap::new(),
            story: news::Story::default(),
            reachable: Ok(()),
            synced: false,
            counting_until,
            sequence: 0,
            dirty: BTreeSet::new(),
            waiting: HashMap::new(),
            placements: BTreeMap::new(),
        }
    }

    /// The nodes as last grouped.
    pub fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// Every device has been read once.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// A device as last read.
    pub fn device(&self, name: &str) -> Option<&DeviceView> {
        self.devices.get(name)
    }

    /// A pod on a device.
    pub fn pod(&self, uid: &Uid) -> Option<&Placed> {
        self.pods.get(uid)
    }

    /// Changes a pod; its facts are looked at again.
    pub fn with_pod<T>(&mut self, uid: &Uid, change: impl FnOnce(&mut Placed) -> T) -> Option<T> {
        let result = self.pods.get_mut(uid).map(change);
        if result.is_some() {
            self.dirty.insert(uid.clone());
        }
        result
    }

    /// Notes what was told about a pod; that alone is no news.
    pub fn with_told(&mut self, uid: &Uid, change: impl FnOnce(&mut Placed)) {
        if let Some(placed) = self.pods.get_mut(uid) {
            change(placed);
        }
    }

    /// Names of the devices that are known, and of those that pods are on.
    pub fn expected_devices(&self) -> BTreeSet<String> {
        let placed = self.pods.values().filter(|p| p.holds_room());
        self.devices
            .keys()
            .chain(placed.map(|p| &p.device))
            .cloned()
            .collect()
    }

    /// Devices whose next sign of life ends a pod that shows nothing any more.
    pub fn silent(&self) -> BTreeSet<String> {
        self.pods
            .values()
            .filter(|p| {
                self.devices
                    .get(&p.device)
                    .is_some_and(|d| p.awaits_sign(d))
            })
            .map(|p| p.device.clone())
            .collect()
    }

    /// The device was last seen then.
    pub fn seen(&mut self, name: &str, last_seen: &str) {
        let Some(view) = self.devices.get(name) else {
            return;
        };
        for (uid, placed) in self.pods.iter_mut().filter(|(_, p)| p.device == name) {
            if placed.awaits_sign(view) && placed.seen(last_seen) {
                self.dirty.insert(uid.clone());
            }
        }
    }

    /// Takes the rendered document of a device.
    pub fn rendered(&mut self, device: &str, json: &Value) {
        let Some(rendered) = DeviceView::of(json) else {
            return;
        };
        let Some(view) = self.devices.get(device) else {
            return;
        };
        for (uid, placed) in self.pods.iter_mut().filter(|(_, p)| p.device == device) {
            placed.rendered(rendered.rendered, &rendered.applications, &self.cluster);
            placed.see(view, &self.cluster);
            placed.hear(view);
            placed.arrived(view);
            self.dirty.insert(uid.clone());
        }
        let view = view.clone();
        self.ghosts_rendered(&view, rendered.rendered, &rendered.applications);
    }

    /// Devices whose rendered document has to be looked up.
    pub(crate) fn unverified(&self) -> BTreeSet<String> {
        let pods = self.pods.values().filter(|p| {
            let device = self.devices.get(&p.device);
            device.is_some_and(|d| p.unverified(d))
        });
        let pods = pods.map(|p| p.device.as_str());
        pods.chain(self.ghosts_unverified())
            .map(str::to_owned)
            .collect()
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = &Placed> {
        self.pods.values()
    }

    /// Forgets a pod and gives its room to those that wait.
    pub fn forget(&mut self, uid: &Uid) {
        let forgotten = self.pods.remove(uid);
        self.dirty.remove(uid);
        self.waiting.remove(uid);
        if let Some(forgotten) = forgotten {
            self.find_again(&forgotten);
            // What it leaves to be confirmed is not forgotten.
            if let Some(view) = self.devices.get(&forgotten.device).cloned() {
                self.find_ghosts(&view);
            }
        }
    }

    /// The device that a pod has, or had, something on, if it still exists: of one
    /// that is not looked after any more its label tells it.
    pub(crate) fn place_of(&self, uid: &Uid, label: Option<&str>) -> Option<&DeviceView> {
        let device = match self.pods.get(uid) {
            Some(placed) if placed.stage == Stage::Reserved => None,
            Some(placed) => Some(placed.device.as_str()),
            None => label,
        };
        self.devices.get(device?)
    }

    /// A pod's application was taken out of its device's spec, after this version (0:
    /// it was not there). Whether the device has confirmed that already, or never had
    /// it.
    pub(crate) fn taken_out(&mut self, uid: &Uid, view: &DeviceView, after: u64) -> bool {
        let gone = self.with_pod(uid, |placed| {
            let never = placed.stage == Stage::Reserved && after == 0;
            let confirmed =
                after == 0 && placed.has_left(view) && !view.has_items_left_of(&placed.app);
            placed.shown_anew();
            placed.stage = match placed.stage {
                _ if never || confirmed => Stage::Gone,
                // Nothing was changed now: it was taken out before.
                Stage::Withdrawn {
                    version,
                    after: before,
                } if after == 0 => Stage::Removed {
                    version,
                    after: before,
                },
                _ => Stage::Removed {
                    version: None,
                    after,
                },
            };
            placed.stage == Stage::Gone
        });
        gone.unwrap_or(true)
    }

    /// The next rising number for facts.
    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// A pod whose facts changed; it is no longer dirty.
    pub fn take_dirty(&mut self) -> Option<Uid> {
        self.dirty.pop_first()
    }

    /// Whether Flight Control answers; returns whether that is news.
    pub fn set_reachable(&mut self, reachable: Result<(), String>) -> bool {
        let news = self.reachable.is_ok() != reachable.is_ok();
        self.reachable = reachable;
        if news {
            self.answering = Instant::now();
            self.regroup();
        }
        news
    }

    /// Takes a reading of devices that was asked for at `asked`; `complete` when a list gave them as all there
    /// are. One that it lacks is dropped only when it is known to be deleted.
    pub fn read(&mut self, views: Vec<DeviceView>, asked: Instant, complete: bool) -> Changes {
        let mut opened = false;
        let names: Vec<String> = views.iter().map(|view| view.name.clone()).collect();
        for view in views {
            opened |= self.take_view(view, asked);
        }
        let (nodes, problems) = self.regroup();
        self.note_news(&names, self.synced);
        self.synced |= complete;
        if opened {
            self.mark_waiting();
        }
        for (uid, placed) in &mut self.pods {
            if placed.heard.has_become_news() {
                self.dirty.insert(uid.clone());
            }
        }
        Changes { nodes, problems }
    }

    /// The device does not exist any more; its pods cannot be managed.
    pub fn device_deleted(&mut self, name: &str) {
        if let Some(view) = self.devices.remove(name) {
            self.note_deleted(&view);
        }
        self.received.remove(name);
        self.silences.remove(name);
        self.ghosts_gone(name);
        self.courses.remove(name);
        self.copies.retain(|(device, _), _| device != name);
        self.strays.retain(|(device, _), _| device != name);
        for (uid, placed) in &mut self.pods {
            if placed.device == name {
                placed.device_gone();
                self.dirty.insert(uid.clone());
            }
        }
        self.regroup();
    }

    /// One device; returns whether it may take pods that it did not take before.
    fn take_view(&mut self, mut view: DeviceView, asked: Instant) -> bool {
        let name = view.name.clone();
        let known = self.devices.get(&name);
        if let Some(known) = known {
            (view.away, view.flapping) = (known.away, known.flapping);
        }
        let pods = self.pods.values_mut().filter(|p| p.device == name);
        if let Some(known) = known {
            // Readings cross on their way. One that was asked for after the known
            // one had come is the present, whatever its number: a database that
            // was restored counts from further back.
            let crossed = self.received.get(&name).is_none_or(|at| asked <= *at);
            if *known == view || (known.newer(&view) && crossed) {
                return false;
            }
            let silence = self.silences.get_mut(&name);
            if let Some(silence) = silence.filter(|_| view.reported_since(known)) {
                silence.sign();
            }
            if view.made_anew(known) {
                pods.for_each(Placed::device_made_anew);
                self.silences.remove(&name);
                (view.away, view.flapping) = (None, false);
            } else if known.newer(&view) {
                pods.for_each(Placed::forget_versions);
            }
        }
        let (anew, set_back) = known.map_or((false, false), |known| {
            (view.made_anew(known), known.newer(&view))
        });
        if anew {
            self.ghosts_gone(&name);
        } else if set_back {
            self.ghosts_set_back(&name);
        }
        let unknown = view.is_unknown();
        let silence = self.silences.entry(name.clone());
        silence
            .or_insert_with(|| Silence::new(unknown))
            .read(unknown);
        let known = self.devices.get(&name);
        let takes = |view: &DeviceView| view.closed().is_none();
        let opened = takes(&view) && !known.is_some_and(takes);
        // A port of someone else may be free again.
        let opened = opened || known.is_some_and(|known| known.ports != view.ports);
        self.copies.retain(|(device, _), _| *device != name);
        self.gave_way_unheard(&view);
        self.adopt(&view);
        let known = self.devices.get(&name);
        let mut freed = false;
        for (uid, placed) in self.pods.iter_mut().filter(|(_, p)| p.device == name) {
            // What has started nothing goes on counting its tries.
            let shows = |view: &DeviceView| {
                let status = view.app_status.get(&placed.app)?;
                Some((status.status.clone(), status.ready.clone()))
            };
            if known.is_none_or(|k| shows(k) != shows(&view)) {
                placed.shown_anew();
            } else if known.is_some_and(|k| view.reported_since(k)) {
                placed.shown_again();
            }
            freed |= placed.see(&view, &self.cluster);
            placed.hear(&view);
            placed.arrived(&view);
            let left = matches!(placed.stage, Stage::Removed { .. } | Stage::Displaced);
            if left && placed.application(&view).is_some() {
                let place = (name.clone(), placed.app.clone());
                self.copies.insert(place, uid.clone());
            }
            self.dirty.insert(uid.clone());
        }
        if view.decommissioned() {
            self.pods
                .values_mut()
                .filter(|p| p.device == name)
                .for_each(Placed::device_gone);
            self.ghosts_gone(&name);
        }
        self.note_strays(&view);
        self.courses.entry(name.clone()).or_default().read(&view);
        self.received.insert(name.clone(), Instant::now());
        self.devices.insert(name.clone(), view.clone());
        self.find_ghosts(&view);
        opened || freed
    }

    /// Reads a device's last reading again: it counts for more, or for less.
    fn look_again(&mut self, device: &str) {
        let Some(view) = self.devices.get(device).cloned() else {
            return;
        };
        for placed in self.pods.values_mut().filter(|p| p.device == device) {
            placed.see(&view, &self.cluster);
            placed.hear(&view);
            placed.arrived(&view);
            self.dirty.insert(placed.key.uid.clone());
        }
        self.find_ghosts(&view);
    }

    /// Pods of ours that the device holds and we do not know: found again after
    /// a restart.
    fn adopt(&mut self, view: &DeviceView) {
        for app in &view.applications {
            let Some(marker) = Marker::of(app).filter(|m| *m.cluster == *self.cluster) else {
                continue;
            };
            let uid = marker.key.uid.clone();
            let name = app["name"].as_str().unwrap_or_default();
            match self.pods.get(&uid) {
                Some(placed) if placed.device != view.name => {
                    self.second_copy(view, name, &marker);
                    continue;
                }
                Some(_) => continue,
                None => {}
            }
            self.dirty.insert(uid.clone());
            let node = marker.node.as_str().into();
            let stage = Stage::Written {
                revision: marker.revision,
                version: None,
                after: 0,
            };
            let mut placed = Placed::new(marker.key, node, &view.name, name, stage);
            placed.heard = Heard::of_another_process();
            self.pods.insert(uid, placed);
        }
    }

    fn regroup(&mut self) -> (bool, Vec<String>) {
        let mut grouping = group(&self.rules, self.devices.values(), &self.reachable);
        for (name, node) in &mut grouping.nodes {
            let fleet = node.labels.get(FLEET_LABEL).map_or("", String::as_str);
            let storm = self.storms.get(fleet);
            node.conditions.push(fleet::rescheduling(name, storm));
        }
        let before = std::mem::replace(&mut self.grouping, grouping);
        self.note_left();
        let problems = self.grouping.problems.iter();
        let problems = problems.filter(|p| !before.problems.contains(p));
        let problems = problems.cloned().collect();
        (self.grouping.nodes != before.nodes, problems)
    }
}

#[cfg(test)]
mod tests;
