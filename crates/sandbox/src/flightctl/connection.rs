//! Signs of life: saved in batches, and searched for silent devices.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::events::Actor;
use super::status::disconnected;
use super::store::{Shared, Store, Write};

/// Heartbeats reach the database this often.
pub(crate) const SAVE_EVERY: Duration = Duration::from_secs(15);

/// The connection task runs this often.
pub(crate) const CHECK_EVERY: Duration = Duration::from_mins(2);

/// Both tasks, until the service goes away.
pub(crate) async fn run(shared: Weak<Shared>, stop: CancellationToken) {
    let every = |period| {
        let mut timer = interval_at(Instant::now() + period, period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        timer
    };
    let (mut save_timer, mut check_timer) = (every(SAVE_EVERY), every(CHECK_EVERY));
    loop {
        let task: fn(&mut Store, Timestamp) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = save_timer.tick() => save,
            _ = check_timer.tick() => check,
        };
        let Some(shared): Option<Arc<Shared>> = shared.upgrade() else {
            return;
        };
        shared.transact(task);
    }
}

fn save(store: &mut Store, _now: Timestamp) {
    for row in store.devices.values_mut() {
        if let Some(heartbeat) = row.heartbeat.take() {
            row.last_seen = Some(heartbeat);
        }
    }
}

fn check(store: &mut Store, now: Timestamp) {
    let changed: Vec<String> = store
        .devices
        .values()
        .filter(|row| {
            let shown_away = row.status.summary.status == "Unknown";
            shown_away != disconnected(row.last_seen.max(row.reported), now)
        })
        .map(|row| row.name.clone())
        .collect();
    for name in changed {
        let write = Write {
            by: Actor::Connection,
            only_if_changed: true,
            ..Write::worker()
        };
        // A device that was just found, and a change that refuses nothing.
        let _ = store.write(&name, now, write, |_| Ok(()));
    }
}
