//! What the framework is told of a pod, and its story for people.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use vk_provider::{Change, ContainerFact, ContainerState, PodFacts, Reach, Uid, Verdict};

use super::{FlightControl, TIMEOUT};
use crate::away::outcome::{COPY_ANNOTATION, Outcome};
use crate::device::DeviceView;
use crate::fleet::OnLeave;
use crate::place::{ALIAS_LABEL, DEVICE_KEY};
use crate::placed::{Placed, Stage};
use crate::report::{self, Told};
use crate::select::is_label_value;
use crate::world::World;

impl FlightControl {
    /// Facts of one pod as the world stands.
    pub(super) fn facts(world: &mut World, uid: &Uid, now: Timestamp) -> Option<PodFacts> {
        let seq = world.next_sequence();
        let placed = world.pod(uid)?;
        let mut facts = PodFacts::new(placed.key.clone(), placed.node.clone(), seq);
        match &placed.stage {
            // Nothing is at the remote yet.
            Stage::Reserved => return None,
            Stage::Gone => facts.ended = world.may_still_run(uid).is_none(),
            Stage::DeviceDeleted => {
                facts.ended = true;
                let what = match world.device(&placed.device) {
                    Some(device) if device.decommissioned() => "decommissioned in",
                    _ => "deleted from",
                };
                facts.verdict = Some(Verdict::Fail {
                    reason: "DeviceDeleted".into(),
                    message: format!("Device {} was {what} Flight Control", placed.device),
                    disruption: None,
                    replace: false,
                });
            }
            Stage::Displaced => displaced(&mut facts, placed),
            Stage::Written { .. } | Stage::Withdrawn { .. } | Stage::Removed { .. } => {}
        }
        if matches!(
            placed.stage,
            Stage::Written { .. } | Stage::Withdrawn { .. }
        ) && let Some(left) = world.left(placed)
            && left.then == OnLeave::Drain
        {
            facts.verdict = Some(Verdict::Evict {
                reason: "DeviceLeftFleet".into(),
                message: left.message,
            });
        }
        if let Some(device) = world.device(&placed.device)
            && placed.stage != Stage::Displaced
        {
            let since = now.checked_sub(world.known_for(&placed.device));
            let refusal = world.refusal(&placed.device);
            describe(&mut facts, placed, device, (since.unwrap_or(now), refusal));
        }
        if let Some(outcome) = placed.lost {
            facts.verdict = Some(lost(outcome, &placed.device));
        }
        let copy = world.may_still_run(uid).map(|device| device.name.clone());
        facts.annotations.insert(COPY_ANNOTATION.into(), copy);
        if facts.applied.is_some() && facts.reach == Reach::Reachable {
            let ended = facts.ended;
            world.with_told(uid, |placed| placed.heard.ended = ended);
        }
        Some(facts)
    }

    /// Facts of the next pod that changed, or a look at one that waits.
    pub(super) fn next_change(&self) -> Option<Change> {
        let mut world = self.world();
        if let Some(key) = world.take_look() {
            return Some(Change::Look(key));
        }
        loop {
            let uid = world.take_dirty()?;
            if let Some(facts) = Self::facts(&mut world, &uid, self.clock.now()) {
                Self::tell(&mut world, &uid);
                return Some(Change::Facts(Box::new(facts)));
            }
            if let Some(key) = world.is_waiting(&uid) {
                return Some(Change::Look(key));
            }
        }
    }

    /// The pod's story as the device tells it, each word once.
    pub(super) fn tell(world: &mut World, uid: &Uid) {
        let Some(placed) = world.pod(uid) else { return };
        let Some(device) = world.device(&placed.device) else {
            return;
        };
        let applied = placed.applied(device).is_some();
        let refusal = world.refusal(&placed.device);
        let Some(seen) = report::containers(placed, device, applied, refusal) else {
            return;
        };
        let mut news = report::events(placed, device, applied, &seen);
        news.extend(world.left(placed).map(|left| Told {
            reason: "DeviceLeftFleet",
            message: left.message,
            warning: left.then == OnLeave::Drain,
        }));
        world.with_told(uid, |placed| {
            for event in news {
                if let Some(events) = &placed.events
                    && placed.told.insert(event.reason)
                {
                    if event.warning {
                        events.warning(event.reason, &event.message);
                    } else {
                        events.normal(event.reason, &event.message);
                    }
                }
            }
        });
    }
}

/// It is to run elsewhere.
fn displaced(facts: &mut PodFacts, placed: &Placed) {
    let Some(request) = &placed.request else {
        return;
    };
    let fact = |container: &Container| {
        let state = ContainerState::Waiting {
            reason: String::new(),
            message: String::new(),
        };
        ContainerFact::new(&container.name, state)
    };
    let spec = request.spec();
    facts.containers = spec.containers.iter().map(fact).collect();
    facts.init = spec.init_containers.iter().flatten().map(fact).collect();
}

fn lost(outcome: Outcome, device: &str) -> Verdict {
    let replace = outcome == Outcome::Replace;
    Verdict::Fail {
        reason: if replace { TIMEOUT } else { "DeviceLost" }.into(),
        message: format!("Device {device} did not come back in time"),
        disruption: Some(TIMEOUT.into()),
        replace,
    }
}

/// Fills facts with what the device says; `since` is when it was found, and `refusal`
/// what it refuses that is none of ours.
fn describe(
    facts: &mut PodFacts,
    placed: &Placed,
    device: &DeviceView,
    (since, refusal): (Timestamp, Option<(&'static str, &str)>),
) {
    facts.accepted = placed.accepted(device);
    facts.applied = placed.applied(device);
    facts.reach = report::reach(device, since);
    facts.host_ips.extend(device.address);
    facts.pod_ips.extend(device.address);
    for (label, value) in [
        (DEVICE_KEY, Some(&device.name)),
        (ALIAS_LABEL, device.alias.as_ref()),
    ] {
        if let Some(value) = value.filter(|v| is_label_value(v)) {
            facts.labels.insert(label.into(), value.clone());
        }
    }
    let there = matches!(
        placed.stage,
        Stage::Written { .. } | Stage::Withdrawn { .. }
    );
    if there
        && let Some(seen) = report::containers(placed, device, facts.applied.is_some(), refusal)
    {
        facts.containers = seen.containers;
        facts.init = seen.init;
        facts.ended |= seen.ended && facts.reach == Reach::Reachable;
    }
}
