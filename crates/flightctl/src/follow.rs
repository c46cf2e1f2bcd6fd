//! Follows the devices: all of them by paged lists, those that something is
//! expected of every second, and those that an event names. Every request goes
//! through the client's budget.

mod turns;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use vk_provider::NodeSet;

use crate::client::{Client, ClientError};
use crate::device::DeviceView;
use crate::world::{Changes, News, World};
use turns::Turns;

/// Between looks at devices that something is expected of: users wait for it.
const EXPECTING: Duration = Duration::from_secs(1);
/// Between looks at the event log, which names devices that changed by themselves.
const EVENTS: Duration = Duration::from_secs(5);
/// First wait after a failed round, doubled up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait between rounds while Flight Control does not answer.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Failing longer than this is an outage that the nodes show; a restart of the
/// service is shorter.
const OUTAGE: Duration = Duration::from_secs(15);
/// More devices than this are cheaper to read in one paged list than by name.
const BY_NAME: usize = 25;
/// Names in one request, in bytes: a URL has 2,000, of which the rest is left
/// for the service's own path and an organization.
const NAMES: usize = 1500;
/// What a name takes beside itself: an encoded comma.
const COMMA: usize = 3;
/// Rendered documents read in one round, so that a restart over a large estate
/// does not use up the request budget at once.
const VERIFY: usize = 20;
/// Devices that a list lacks and that are asked for by name after it: a list
/// that is wrong must not use up the request budget either.
const CONFIRM: usize = 50;

/// Between looks for a sign of life of devices that show nothing of a pod that
/// may run only once: their long poll, which counts as one, takes two minutes.
const SIGNS: Duration = Duration::from_secs(60);

/// Between questions about devices that may be away: at most half of the budget goes
/// into them.
const ABSENT: Duration = Duration::from_secs(5);
/// News that are kept for who tells them: many devices may go at once, and
/// conditions say how things stand.
const NEWS: usize = 256;

/// The follower; clones share it.
#[derive(Clone, Debug)]
pub struct Follower {
    client: Client,
    world: Arc<Mutex<World>>,
    nodes: watch::Sender<Option<NodeSet>>,
    wake: Arc<Notify>,
    nudge: Arc<Notify>,
    poll: Duration,
    /// What happened to devices, for the events of their nodes.
    news: broadcast::Sender<News>,
    /// Whose rendered document is read next.
    verifying: Arc<Mutex<Turns>>,
    /// Whose absence is confirmed next.
    confirming: Arc<Mutex<Turns>>,
    /// Whose sign of life is looked for next.
    awaiting: Arc<Mutex<Turns>>,
    /// Who is asked for next of those that may be away.
    asking: Arc<Mutex<Turns>>,
}

impl Follower {
    /// A follower that reads everything every `poll`.
    pub fn new(
        client: Client,
        world: Arc<Mutex<World>>,
        nodes: watch::Sender<Option<NodeSet>>,
        wake: Arc<Notify>,
        poll: Duration,
    ) -> Self {
        Self {
            client,
            world,
            nodes,
            wake,
            nudge: Arc::default(),
            poll,
            news: broadcast::Sender::new(NEWS),
            verifying: Arc::default(),
            confirming: Arc::default(),
            awaiting: Arc::default(),
            asking: Arc::default(),
        }
    }

    /// What happens to devices from now on.
    pub(crate) fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Something is expected of a device now: look soon.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Tells what a reading changed.
    pub fn publish(&self, changes: &Changes) {
        for problem in &changes.problems {
            warn!(operation = "group", problem, "a device cannot be used");
        }
        for news in self.world().take_news() {
            // Fails where nobody listens.
            let _ = self.news.send(news);
        }
        if changes.nodes || self.nodes.borrow().is_none() {
            let world = self.world();
            if world.synced() {
                let set = world.grouping().nodes.clone();
                drop(world);
                self.nodes.send_replace(Some(set));
            }
        }
        self.wake.notify_one();
    }

    /// Runs until dropped.
    pub async fn run(&self) {
        let mut sweep_at = Instant::now();
        let mut events_at = Instant::now() + EVENTS;
        let mut signs_at = Instant::now() + SIGNS;
        let mut absent_at = Instant::now() + ABSENT;
        let mut cursor = None;
        let mut failing: Option<(Instant, Duration)> = None;
        loop {
            let mut round = self.round(&mut sweep_at, &mut events_at, &mut cursor).await;
            if round.is_ok() && Instant::now() >= signs_at {
                round = self.look_for_signs().await;
                signs_at = Instant::now() + SIGNS;
            }
            if round.is_ok() && Instant::now() >= absent_at {
                round = self.ask_for_the_absent().await;
                absent_at = Instant::now() + ABSENT;
            }
            let wait = match round {
                Ok(()) => {
                    if failing.take().is_some() {
                        info!("Flight Control answers again");
                    }
                    self.reached(Ok(()));
                    self.world().mark_overdue();
                    self.wake.notify_one();
                    if self.expecting().is_empty() {
                        let next = sweep_at.min(events_at).min(absent_at);
                        next.saturating_duration_since(Instant::now())
                    } else {
                        // Sweeps and events are at most that much late.
                        EXPECTING
                    }
                }
                Err(error) => {
                    let (since, wait) = failing.map_or((Instant::now(), BACK_OFF), |(at, w)| {
                        (at, (w * 2).min(BACK_OFF_MAX))
                    });
                    failing = Some((since, wait));
                    warn!(operation = "follow", %error, "Flight Control could not be read");
                    let wait = wait.max(error.retry_after().unwrap_or_default());
                    match OUTAGE.checked_sub(since.elapsed()) {
                        // However long the service makes us wait: the outage is
                        // told in time.
                        Some(left) if !left.is_zero() => wait.min(left),
                        _ => {
                            self.reached(Err(error.to_string()));
                            wait
                        }
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.nudge.notified() => tokio::time::sleep(EXPECTING).await,
            }
        }
    }

    async fn round(
        &self,
        sweep_at: &mut Instant,
        events_at: &mut Instant,
        cursor: &mut Option<crate::client::EventCursor>,
    ) -> Result<(), ClientError> {
        if Instant::now() >= *sweep_at {
            self.sweep().await?;
            *sweep_at = Instant::now() + self.poll;
        } else {
            let mut names = self.expecting();
            if Instant::now() >= *events_at {
                names.extend(self.touched(cursor).await?);
                *events_at = Instant::now() + EVENTS;
            }
            self.look(&names).await?;
        }
        self.verify().await
    }

    /// Reads every device.
    ///
    /// # Errors
    /// Flight Control did not answer; nothing changed.
    pub async fn sweep(&self) -> Result<(), ClientError> {
        let asked = Instant::now();
        let views = self.list(None).await?;
        debug!(devices = views.len(), "read all devices");
        let missing = {
            let present: BTreeSet<&str> = views.iter().map(|v| v.name.as_str()).collect();
            let mut missing = self.world().expected_devices();
            missing.retain(|name| !present.contains(name.as_str()));
            missing
        };
        let changes = self.world().read(views, asked, true);
        let confirmed = self.confirm(missing).await;
        self.publish(&Changes {
            nodes: true,
            ..changes
        });
        confirmed
    }

    /// Looks for devices that a list lacks: one that is paged is no snapshot,
    /// and any may be wrong. Only a 404 is certain.
    async fn confirm(&self, missing: BTreeSet<String>) -> Result<(), ClientError> {
        let names = turns(&self.confirming).take(missing, CONFIRM);
        for name in names {
            let asked = Instant::now();
            let answer = self.client.get_device(&name).await;
            if let Some(error) = turns(&self.confirming).answered(&name, answer.as_ref().err()) {
                return Err(error);
            }
            match answer {
                Err(ClientError::NotFound { .. }) => {
                    warn!(device = name, "device was deleted");
                    self.world().device_deleted(&name);
                }
                Err(error) => warn!(device = name, %error, "a device could not be read"),
                Ok(json) => {
                    let views = DeviceView::of(&json).into_iter().collect();
                    self.world().read(views, asked, false);
                }
            }
        }
        Ok(())
    }

    /// Reads one device that is not as we know it; gives what was read.
    pub async fn look_at(&self, name: &str) -> Option<serde_json::Value> {
        let asked = Instant::now();
        match self.client.get_device(name).await {
            Ok(json) => {
                let views = DeviceView::of(&json).into_iter().collect();
                let changes = self.world().read(views, asked, false);
                self.publish(&changes);
                Some(json)
            }
            Err(error) => {
                debug!(device = name, %error, "not read; a sweep will");
                None
            }
        }
    }

    /// Reads some devices.
    async fn look(&self, names: &BTreeSet<String>) -> Result<(), ClientError> {
        if names.is_empty() {
            return Ok(());
        }
        let asked = Instant::now();
        let views = if names.len() > BY_NAME {
            self.list(None).await?
        } else {
            let mut views = Vec::new();
            for some in by_length(names) {
                let selector = format!("metadata.name in ({})", some.join(","));
                views.extend(self.list(Some(&selector)).await?);
            }
            views
        };
        let changes = self.world().read(views, asked, false);
        self.publish(&changes);
        Ok(())
    }

    async fn list(&self, selector: Option<&str>) -> Result<Vec<DeviceView>, ClientError> {
        let items = self.client.list_devices(selector).await?;
        Ok(items.iter().filter_map(DeviceView::of).collect())
    }

    /// Looks up which rendered version holds what was written.
    async fn verify(&self) -> Result<(), ClientError> {
        let names = self.world().unverified();
        let names = turns(&self.verifying).take(names, VERIFY);
        for name in names {
            let answer = self.client.rendered(&name).await;
            if let Some(error) = turns(&self.verifying).answered(&name, answer.as_ref().err()) {
                return Err(error);
            }
            match answer {
                Ok(rendered) => {
                    self.world().rendered(&name, &rendered);
                    self.wake.notify_one();
                }
                Err(error) => debug!(device = name, %error, "no rendered document"),
            }
        }
        Ok(())
    }

    /// Whether devices live that show nothing of a pod any more.
    async fn look_for_signs(&self) -> Result<(), ClientError> {
        let names = self.world().silent();
        let names = turns(&self.awaiting).take(names, VERIFY);
        for name in names {
            let answer = self.client.last_seen(&name).await;
            if let Some(error) = turns(&self.awaiting).answered(&name, answer.as_ref().err()) {
                return Err(error);
            }
            if let Ok(Some(seen)) = answer {
                self.world().seen(&name, &seen.text);
                self.wake.notify_one();
            }
        }
        Ok(())
    }

    /// When devices were last seen that may be away, or back.
    async fn ask_for_the_absent(&self) -> Result<(), ClientError> {
        let names = self.world().in_question();
        let share = self.client.requests_in(ABSENT) / 2;
        let names = turns(&self.asking).take(names, share.max(1));
        for name in names {
            let asked = Instant::now();
            let answer = self.client.last_seen(&name).await;
            if let Some(error) = turns(&self.asking).answered(&name, answer.as_ref().err()) {
                return Err(error);
            }
            match answer {
                Ok(seen) => self
                    .world()
                    .heard_of(&name, asked, seen.and_then(|s| s.at())),
                Err(error) => debug!(device = name, %error, "not told when it was last seen"),
            }
        }
        Ok(())
    }

    /// Devices that recent events name.
    async fn touched(
        &self,
        cursor: &mut Option<crate::client::EventCursor>,
    ) -> Result<BTreeSet<String>, ClientError> {
        let cursor = cursor.get_or_insert_with(crate::client::EventCursor::default);
        let names = self.client.devices_in_events(cursor).await?;
        Ok(names.into_iter().collect())
    }

    fn expecting(&self) -> BTreeSet<String> {
        let world = self.world();
        world
            .pods()
            .filter(|p| {
                // One that is back reads as disconnected until a heartbeat is saved:
                // what was just written is looked for anyway.
                world
                    .device(&p.device)
                    .is_some_and(|d| p.unsettled(d) && (!d.offline() || !p.settled()))
            })
            .map(|p| p.device.clone())
            .collect()
    }

    fn reached(&self, reachable: Result<(), String>) {
        let news = self.world().set_reachable(reachable);
        if news {
            self.publish(&Changes {
                nodes: true,
                problems: Vec::new(),
            });
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn turns(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names in as many groups as their length needs.
fn by_length(names: &BTreeSet<String>) -> Vec<Vec<&str>> {
    let mut groups: Vec<Vec<&str>> = Vec::new();
    let mut left = 0;
    for name in names {
        let takes = name.len() + COMMA;
        match groups.last_mut() {
            Some(group) if takes <= left => group.push(name),
            _ => {
                groups.push(vec![name]);
                left = NAMES;
            }
        }
        left = left.saturating_sub(takes);
    }
    groups
}

#[cfg(test)]
mod tests {
    mod absent;

    use super::*;

    #[test]
    fn long_names_are_asked_for_in_several_requests() {
        let long: BTreeSet<String> = (0..BY_NAME).map(|n| format!("{n:0>253}")).collect();
        let groups = by_length(&long);
        assert_eq!(groups.concat().len(), BY_NAME);
        assert!(groups.iter().all(|g| g.join("%2C").len() <= NAMES));
        let usual: BTreeSet<String> = (0..BY_NAME).map(|n| format!("{n:0>52}")).collect();
        assert_eq!(by_length(&usual).len(), 1);
    }
}
