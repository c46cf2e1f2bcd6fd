//! Devices that are away: told, waited for, and given up in the end.
//!
//! How long a pod has waited follows from what stands in Kubernetes (when its Ready
//! turned Unknown) and in Flight Control (when its device was last seen), so that a
//! restart neither forgets that nor begins it anew.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::sleep;
use tracing::{info, warn};
use vk_provider::{BackendError, Uid};

use super::{FlightControl, TIMEOUT};
use crate::away::outcome::Outcome;
use crate::away::silence::Turn;
use crate::away::tomb::Tomb;
use crate::placed::Stage;
use crate::world::{Absence, Changes, Overdue};
use crate::writer::Change;

/// Between looks at who is away.
const LOOK: Duration = Duration::from_secs(1);
/// A deleted pod waits for its device.
const WAITS: &str = "WaitingForDevice";
/// Writes at once; the writers bound what reaches the service.
const AT_ONCE: usize = 32;

impl FlightControl {
    /// Runs until dropped.
    pub(super) async fn look_after_the_absent(&self) {
        loop {
            self.note_absences();
            let overdue = self.world().overdue(self.clock.now());
            for one in overdue {
                self.give_up(one).await;
            }
            let (unburied, over) = {
                let world = self.world();
                (world.unburied(), world.tombs_over())
            };
            let laid = unburied
                .into_iter()
                .map(|(device, tomb)| (device, Change::Bury(tomb)));
            let taken = over
                .into_iter()
                .map(|(device, tomb)| (device, Change::Unbury(tomb)));
            stream::iter(laid.chain(taken))
                .for_each_concurrent(AT_ONCE, |(device, change)| self.label(device, change))
                .await;
            sleep(LOOK).await;
        }
    }

    fn note_absences(&self) {
        let absences = self.world().note_absences(self.clock.now());
        for absence in &absences {
            tell(absence);
            for uid in &absence.leaving {
                self.say_why_it_stays(uid);
            }
        }
        self.follower.publish(&Changes {
            nodes: self.nodes_changed(),
            problems: Vec::new(),
        });
    }

    /// A pod that is to go stays until its device, which is away, has confirmed the end.
    pub(super) fn say_why_it_stays(&self, uid: &Uid) {
        let mut world = self.world();
        let Some(placed) = world.pod(uid) else { return };
        let removed = matches!(placed.stage, Stage::Removed { .. });
        let (name, key) = (placed.device.clone(), placed.key.clone());
        if !removed || world.device(&name).is_none_or(|d| d.away.is_none()) {
            return;
        }
        let why = format!(
            "Device {} is away: the pod is there until the device has confirmed the end of its containers; kubectl delete pod -n {} {} --force gives it up at once, and the device ends them when it is back",
            world.shown(&name),
            key.namespace,
            key.name
        );
        world.with_told(uid, |placed| {
            if let Some(events) = &placed.events
                && placed.told.insert(WAITS)
            {
                events.warning(WAITS, &why);
            }
        });
    }

    fn nodes_changed(&self) -> bool {
        let told = self.nodes.borrow();
        told.as_ref()
            .is_some_and(|told| *told != self.world().grouping().nodes)
    }

    /// A pod's device did not come back in time.
    async fn give_up(&self, one: Overdue) {
        let device = &one.device;
        warn!(device, "Reconnection timeout exceeded");
        let waits = if one.confirmed {
            format!("Device {} was called lost", one.shown)
        } else {
            format!("Device {} did not come back in time", one.shown)
        };
        if one.outcome == Outcome::Place {
            // Out of the old device's spec before anything is written to another.
            let tomb = Tomb::of(&self.world().cluster, &one.key);
            match self.writers.submit(device, Change::Bury(tomb)).await {
                Ok(written) => {
                    self.world().displace(&one.uid, written.after);
                    self.wrote(&written);
                }
                Err(BackendError::NotFound) => return self.world().device_deleted(device),
                Err(error) => {
                    warn!(operation = "reschedule", device, pod = %one.key, %error, "a pod stays on a device that is away for now");
                    return;
                }
            }
        } else {
            self.world().lose(&one.uid, one.outcome);
        }
        info!(pod = %one.key, reason = TIMEOUT, "Rescheduling workload");
        self.world().count_rescheduled(device);
        if let Some(events) = &one.events {
            let then = match one.outcome {
                Outcome::Replace => "its controller replaces the pod",
                Outcome::Lose => "restartPolicy Never lets the pod run only once: it is failed",
                Outcome::Place => "the pod is taken off it and placed anew",
            };
            events.warning(TIMEOUT, &format!("{waits}: {then}"));
        }
        self.wake.notify_one();
    }

    async fn label(&self, device: String, change: Change) {
        match self.writers.submit(&device, change).await {
            Ok(written) => self.wrote(&written),
            Err(BackendError::NotFound) => self.world().device_deleted(&device),
            Err(error) => {
                warn!(operation = "tombstone", device, %error, "a label of a device stays as it is for now");
            }
        }
    }
}

/// Says in the log and on pods what became of a device.
fn tell(absence: &Absence) {
    let (device, shown) = (&absence.device, &absence.shown);
    match absence.turn {
        Turn::Left => {
            for (pod, events) in &absence.pods {
                warn!(device, %pod, "Device disconnected");
                let Some(events) = events else { continue };
                let message = format!(
                    "Device {shown} is disconnected; its pods wait for it for {}",
                    short(absence.timeout)
                );
                events.warning("DeviceDisconnected", &message);
            }
            if absence.pods.is_empty() {
                info!(device, "Device disconnected");
            } else {
                info!(
                    device,
                    timeout = short(absence.timeout),
                    "Starting reconnection timeout"
                );
            }
        }
        Turn::Back(away) => {
            info!(device, downtime = short(away), "Device reconnected");
            if !absence.pods.is_empty() {
                info!(device, "Cancelled reconnection timeout");
            }
            for (pod, events) in &absence.pods {
                info!(%pod, "Workload status synchronized");
                if let Some(events) = events {
                    let message = format!("Device {shown} is back after {}", short(away));
                    events.normal("DeviceReconnected", &message);
                }
            }
        }
    }
}

/// As Go writes a duration, without what is zero: `5m`, `2m15s`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_users_write_them() {
        for (seconds, text) in [
            (300, "5m"),
            (135, "2m15s"),
            (3600, "1h"),
            (3661, "1h1m1s"),
            (0, "0s"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
