//! Devices that leave and come back, and what is due for their pods then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use vk_provider::{PodEvents, PodKey, PodRequest, Uid};

use super::World;
use super::course::Course;
use crate::away::outcome::{self, Outcome};
use crate::away::silence::{Silence, Turn};
use crate::away::storm::{self, Storm, storm};
use crate::away::tomb::Tomb;
use crate::device::DeviceView;
use crate::fleet::Eviction;
use crate::placed::{Placed, Stage};
use crate::report::DISCONNECTED;
use crate::writer::Change;

/// Between two pods of one fleet that are placed anew: a device of a hundred pods is
/// moved within minutes, and a mistake is seen before all of them were.
const RESCHEDULE_EVERY: Duration = Duration::from_secs(2);

/// Devices that vanish together are found to be away one after the other, by as much as
/// their last signs are apart: so long it is not known whether one is alone. Counts
/// where a fleet is large enough for a storm, and its timeout is shorter.
const SETTLED: Duration = Duration::from_secs(150);

/// A device that left or came back.
pub(crate) struct Absence {
    pub(crate) device: String,
    pub(crate) shown: String,
    pub(crate) turn: Turn,
    /// How long its pods wait for it, where they do not say otherwise.
    pub(crate) timeout: Duration,
    /// Those that are on it.
    pub(crate) pods: Vec<(PodKey, Option<Arc<dyn PodEvents>>)>,
    /// Those that are to leave it.
    pub(crate) leaving: Vec<Uid>,
}

/// A pod whose device did not come back in time.
pub(crate) struct Overdue {
    pub(crate) uid: Uid,
    pub(crate) key: PodKey,
    pub(crate) device: String,
    pub(crate) shown: String,
    pub(crate) outcome: Outcome,
    /// A human has called it lost.
    pub(crate) confirmed: bool,
    pub(crate) events: Option<Arc<dyn PodEvents>>,
}

impl World {
    /// Devices that have left or come back since the last look.
    pub(crate) fn note_absences(&mut self, now: Timestamp) -> Vec<Absence> {
        if self.reachable.is_err() || !self.synced {
            return Vec::new();
        }
        let mut turned = Vec::new();
        for (name, silence) in &mut self.silences {
            let Some(view) = self.devices.get_mut(name) else {
                continue;
            };
            let rule = self.rules.absence_of(view);
            if let Some(turn) = silence.turn(now, self.answering, rule.disconnect_after) {
                turned.push((name.clone(), turn, rule.reconnect_timeout));
            }
            view.away = silence.away();
            view.flapping = silence.is_flapping();
        }
        let absences: Vec<Absence> = turned
            .into_iter()
            .filter_map(|(device, turn, timeout)| self.absence(device, turn, timeout))
            .collect();
        let (sizes, mut storms) = self.storms();
        self.fleet_sizes = sizes;
        for fleet in storms.keys() {
            self.stormed.insert(fleet.clone(), Instant::now());
        }
        // Not all come back in the same moment.
        self.stormed.retain(|_, at| at.elapsed() < SETTLED);
        for (fleet, storm) in &self.storms {
            let resumed = self.resumed.get(fleet).is_some_and(|at| *at > storm.until);
            if self.stormed.contains_key(fleet) && !resumed {
                storms.entry(fleet.clone()).or_insert_with(|| storm.clone());
            }
        }
        if !absences.is_empty() || storms != self.storms {
            let before = std::mem::replace(&mut self.storms, storms);
            self.regroup();
            self.note_storms(&before);
            let turned: Vec<String> = absences.iter().map(|a| a.device.clone()).collect();
            self.note_news(&turned, false);
            self.mark_waiting();
        }
        absences
    }

    fn absence(&mut self, device: String, turn: Turn, timeout: Duration) -> Option<Absence> {
        let shown = self.devices.get(&device)?.shown();
        let fleet = self.fleet_of(&device).to_owned();
        let tally = self.tallies.entry(fleet).or_default();
        match turn {
            Turn::Left => tally.left += 1,
            Turn::Back(_) => tally.returned += 1,
        }
        self.look_again(&device);
        let mut pods = Vec::new();
        let mut leaving = Vec::new();
        for placed in self.pods.values_mut().filter(|p| p.device == device) {
            self.dirty.insert(placed.key.uid.clone());
            if placed.is_there() {
                pods.push((placed.key.clone(), placed.events.clone()));
            } else if matches!(placed.stage, Stage::Removed { .. }) {
                leaving.push(placed.key.uid.clone());
            }
        }
        Some(Absence {
            device,
            shown,
            turn,
            timeout,
            pods,
            leaving,
        })
    }

    /// A device as people know it.
    pub(crate) fn shown(&self, device: &str) -> String {
        let view = self.devices.get(device);
        view.map_or_else(|| device.to_owned(), DeviceView::shown)
    }

    /// For how long a device is known.
    pub(crate) fn known_for(&self, device: &str) -> Duration {
        self.silences
            .get(device)
            .map_or(Duration::ZERO, Silence::known_for)
    }

    /// Takes what stands in Kubernetes about the device of a pod.
    pub(crate) fn learn_absence(&mut self, pod: &PodRequest) {
        let Some(since) = told_away(&pod.pod) else {
            return;
        };
        let Some(device) = self.pods.get(&pod.key.uid).map(|p| p.device.clone()) else {
            return;
        };
        self.found_away(&device, since);
    }

    /// How a pod ends on its device: so that the next process knows of it where the
    /// device does not show it, or is away.
    pub(crate) fn end_of(&self, device: &str, pod: &PodKey, app: &str) -> Change {
        let written = |p: &Placed| matches!(p.stage, Stage::Written { .. });
        let written = self.pods.get(&pod.uid).is_some_and(written);
        let unseen = self
            .devices
            .get(device)
            .is_some_and(|d| d.offline() || (written && !d.app_status.contains_key(app)));
        if unseen {
            Change::Bury(Tomb::of(&self.cluster, pod))
        } else {
            Change::End(app.to_owned())
        }
    }

    /// An earlier process has told Kubernetes that this pod's device is away.
    fn found_away(&mut self, device: &str, since: Timestamp) {
        if let (Some(silence), Some(view)) =
            (self.silences.get_mut(device), self.devices.get_mut(device))
        {
            let before = silence.away();
            silence.found_away(since);
            view.away = silence.away();
            if view.away != before {
                self.regroup();
            }
        }
    }

    /// What Flight Control has to be asked about: devices of ours that are quiet, or
    /// away; and once each other one that it calls `Unknown`, for the fleet's count.
    pub(crate) fn in_question(&self) -> BTreeSet<String> {
        let used: BTreeSet<&str> = self
            .pods
            .values()
            .filter(|p| p.is_there() || matches!(p.stage, Stage::Removed { .. }))
            .map(|p| p.device.as_str())
            .collect();
        let asked = self.silences.iter().filter(|(name, silence)| {
            let Some(view) = self.devices.get(*name) else {
                return false;
            };
            let window = self.rules.absence_of(view).disconnect_after;
            let ours = used.contains(name.as_str()) || self.ghosts_on(name);
            let course = self.courses.get(*name);
            let waits = course.is_some_and(Course::waits_for_sign);
            (ours && silence.is_in_question(self.answering, window))
                || (ours && waits && view.reported < view.rendered && silence.may_be_asked())
                || (view.away.is_some() && silence.is_unasked())
        });
        asked.map(|(name, _)| name.clone()).collect()
    }

    /// Flight Control was asked about a device at `asked`: it was last seen then, `age`
    /// before.
    pub(crate) fn heard_of(
        &mut self,
        device: &str,
        asked: Instant,
        last: Option<(Timestamp, Duration)>,
    ) {
        if let Some(silence) = self.silences.get_mut(device) {
            silence.seen(asked, last);
            let heard = last.and_then(|(_, age)| asked.checked_sub(age));
            if let (Some(heard), Some(course)) = (heard, self.courses.get_mut(device)) {
                course.heard(heard);
            }
        }
    }

    /// A human has looked at the devices of a node's fleet that vanished up to then.
    pub(crate) fn resume(&mut self, node: &str, at: Timestamp) {
        let fleet = self.fleet_of_node(node).to_owned();
        self.resumed.insert(fleet, at);
    }

    /// Fleets: their sizes, and those whose devices vanished together.
    fn storms(&self) -> (BTreeMap<String, usize>, BTreeMap<String, Storm>) {
        let mut fleets: BTreeMap<&str, (usize, Vec<Timestamp>)> = BTreeMap::new();
        for (name, view) in &self.devices {
            if !self.grouping.node_of.contains_key(name) {
                continue;
            }
            if view.owner.is_some() || view.decommissioned() || view.architecture.is_none() {
                continue;
            }
            let (devices, vanished) = fleets.entry(self.fleet_of(name)).or_default();
            *devices += 1;
            if view.away.is_some() {
                vanished.extend(self.silences.get(name).and_then(Silence::vanished));
            }
        }
        let sizes = fleets
            .iter()
            .map(|(fleet, (devices, _))| ((*fleet).to_owned(), *devices));
        let sizes = sizes.collect();
        let storms = fleets
            .into_iter()
            .filter_map(|(fleet, (devices, vanished))| {
                let resumed = self.resumed.get(fleet).copied();
                Some((fleet.to_owned(), storm(devices, vanished, resumed)?))
            });
        (sizes, storms.collect())
    }

    /// Pods whose time is over, one of each fleet.
    pub(crate) fn overdue(&mut self, now: Timestamp) -> Vec<Overdue> {
        if self.reachable.is_err() || self.devices.values().all(|d| d.away.is_none()) {
            return Vec::new();
        }
        let mut due: BTreeMap<String, (Duration, Overdue)> = BTreeMap::new();
        for placed in self.pods.values() {
            let Some((waited, fleet, overdue)) = self.is_overdue(placed, now) else {
                continue;
            };
            let longest = due.get(fleet).map(|(longest, _)| *longest);
            if longest.is_none_or(|longest| waited > longest) {
                due.insert(fleet.to_owned(), (waited, overdue));
            }
        }
        for fleet in due.keys() {
            let next = Instant::now() + RESCHEDULE_EVERY;
            self.next_reschedule.insert(fleet.clone(), next);
        }
        due.into_values().map(|(_, overdue)| overdue).collect()
    }

    fn is_overdue(&self, placed: &Placed, now: Timestamp) -> Option<(Duration, &str, Overdue)> {
        let view = self.devices.get(&placed.device)?;
        let away = view.away?;
        let request = placed.request.as_deref()?;
        // There Kubernetes' own eviction acts.
        let rule = self.grouping.rules.get(&*placed.node);
        if rule.is_some_and(|rule| rule.policy.eviction == Eviction::Kubernetes) {
            return None;
        }
        let decided = placed.lost.is_some()
            || !matches!(
                placed.stage,
                Stage::Written { .. } | Stage::Withdrawn { .. }
            );
        if decided || view.owner.is_some() || view.decommissioned() {
            return None;
        }
        self.grouping.node_of.get(&placed.device)?;
        let fleet = self.fleet_of(&placed.device);
        // Others of an earlier process's storm may be on their way back.
        if self.answering.elapsed() < SETTLED && self.away_of(fleet) > 1 {
            return None;
        }
        let held_up = self
            .next_reschedule
            .get(fleet)
            .is_some_and(|at| *at > Instant::now());
        if held_up || !self.silences.get(&placed.device)?.is_fresh(self.answering) {
            return None;
        }
        let confirmed = outcome::confirmed_lost(&request.pod).is_some_and(|d| view.is_called(d));
        let default = self.rules.absence_of(view).reconnect_timeout;
        let timeout = outcome::timeout(&request.pod, default).unwrap_or(Some(default));
        let waited = away.elapsed(now);
        let several = self
            .fleet_sizes
            .get(fleet)
            .is_some_and(|size| *size >= storm::LEAST);
        let least = if several { SETTLED } else { Duration::ZERO };
        let in_time = timeout.is_none_or(|timeout| waited < timeout.max(least));
        if !confirmed && (in_time || self.storms.contains_key(fleet)) {
            return None;
        }
        let overdue = Overdue {
            uid: placed.key.uid.clone(),
            key: placed.key.clone(),
            device: placed.device.clone(),
            shown: view.shown(),
            outcome: outcome::outcome(&request.pod),
            confirmed,
            events: placed.events.clone(),
        };
        Some((waited, fleet, overdue))
    }

    /// How many devices of a fleet are away.
    fn away_of(&self, fleet: &str) -> usize {
        let away = self.devices.values().filter(|d| d.away.is_some());
        away.filter(|d| self.fleet_of(&d.name) == fleet).count()
    }

    /// The pod is over: its controller makes another, or nobody does.
    pub(crate) fn lose(&mut self, uid: &Uid, outcome: Outcome) {
        self.with_pod(uid, |placed| placed.lost = Some(outcome));
    }

    /// Counts a pod that was given up on its device.
    pub(crate) fn count_rescheduled(&mut self, device: &str) {
        let fleet = self.fleet_of(device).to_owned();
        self.tallies.entry(fleet).or_default().rescheduled += 1;
    }
}

/// Since when Kubernetes is told that the device of a pod is away.
fn told_away(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    let away = ready.status == "Unknown" && ready.reason.as_deref() == Some(DISCONNECTED);
    away.then(|| ready.last_transition_time.as_ref().map(|time| time.0))?
}
