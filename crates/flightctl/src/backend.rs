//! The Flight Control backend: pods as quadlet applications of devices.

mod absent;
mod heal;
mod offers;
mod put;
mod tidy;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tracing::info;
use vk_provider::{
    Admission, Backend, BackendError, Capabilities, Change, Clock, Exec, Grace, Heeds, InputNeeds,
    Listing, Logs, NodeSet, NodeUse, PodChange, PodCx, PodKey, PodRequest, Uid,
};

use crate::away::outcome::{
    LOST_ANNOTATION, ONCE_ANNOTATION, RECONNECT_TIMEOUT, TIMEOUT_ANNOTATION, timeout,
};
use crate::away::storm::RESUME_ANNOTATION;
use crate::client::Client;
use crate::console::Console;
use crate::follow::Follower;
use crate::hold::Hold;
use crate::mapping;
use crate::place::{DEVICE_KEY, NoPlace, SELECTOR_ANNOTATION};
use crate::placed::{Placed, Stage};
use crate::world::{News, Summary, World};
use crate::writer::{self, Writers};

/// Before every device has been read once nothing can be placed; ask again soon.
const SYNC_RETRY: Duration = Duration::from_secs(1);

/// Why a pod whose device did not come back is placed anew, or nowhere.
const TIMEOUT: &str = "DeviceTimeout";

/// Someone else changed an application of ours.
const CHANGED: &str = "ChangedByOthers";

/// Between looks whether a write that got no answer has taken effect.
const LANDED: Duration = Duration::from_secs(5);

/// The backend; clones share everything.
#[derive(Clone, Debug)]
pub struct FlightControl {
    world: Arc<Mutex<World>>,
    writers: Writers,
    follower: Follower,
    clock: Clock,
    nodes: watch::Sender<Option<NodeSet>>,
    wake: Arc<Notify>,
    client: Client,
    /// Where any may be used.
    console: Option<Console>,
    /// Namespaces whose pods may get hold of their devices.
    privileged: Arc<BTreeSet<String>>,
}

static CAPABILITIES: Capabilities = Capabilities {
    name: "flightctl",
    grace: Grace::AtStart,
    restarts: true,
    heeds: Heeds {
        labels: &[],
        annotations: &[
            DEVICE_KEY,
            SELECTOR_ANNOTATION,
            LOST_ANNOTATION,
            ONCE_ANNOTATION,
            TIMEOUT_ANNOTATION,
        ],
        replaced: &[TIMEOUT],
    },
    pod_spec: &mapping::POD_SPEC,
    inputs: InputNeeds {
        objects: true,
        services: false,
    },
};

impl FlightControl {
    /// A backend over a client; [`FlightControl::follow`] has to run beside it.
    pub fn new(client: Client, world: World, clock: Clock, poll: Duration) -> Self {
        let world = Arc::new(Mutex::new(world));
        let nodes = watch::Sender::new(None);
        let wake = Arc::new(Notify::new());
        Self {
            writers: Writers::new(client.clone(), world.clone()),
            follower: Follower::new(
                client.clone(),
                world.clone(),
                nodes.clone(),
                wake.clone(),
                poll,
            ),
            world,
            clock,
            nodes,
            wake,
            client,
            console: None,
            privileged: Arc::default(),
        }
    }

    /// Follows the devices, takes out what must not run there and what holds up its
    /// neighbours, and gives up those that do not come back, until the future is dropped.
    pub async fn follow(&self) {
        tokio::join!(
            self.follower.run(),
            self.tidy(),
            self.heal(),
            self.look_after_the_absent(),
        );
    }

    /// What happens to devices from now on, for the events of their nodes.
    pub(crate) fn news(&self) -> broadcast::Receiver<News> {
        self.follower.news()
    }

    /// The devices by fleet and status, and what they can hold, as last read.
    pub(crate) fn summary(&self) -> Summary {
        self.world().summary()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for FlightControl {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        WatchStream::new(self.nodes.subscribe())
            .filter_map(|set| async { set })
            .boxed()
    }

    fn admit(&self, pod: &PodRequest, _bound: &NodeUse) -> Admission {
        match mapping::check(pod, &self.privileged) {
            Ok(()) => {}
            Err(BackendError::Waiting {
                reason, message, ..
            }) => return Admission::Wait { reason, message },
            Err(error) => {
                return Admission::Reject {
                    reason: "Unsupported".into(),
                    message: error.to_string(),
                    event: None,
                };
            }
        }
        match self.world().choose(pod, true) {
            Ok(_) => Admission::Accept,
            Err(NoPlace::TooBig { resource, message }) => Admission::Reject {
                reason: format!("OutOf{resource}"),
                message,
                event: Some("FailedScheduling".into()),
            },
            Err(NoPlace::BadSelector(message)) => Admission::Wait {
                reason: "InvalidDeviceSelector".into(),
                message,
            },
            Err(NoPlace::NoMatch(message)) => Admission::Wait {
                reason: "NoMatchingDevice".into(),
                message,
            },
            Err(NoPlace::NotNow(message)) => Admission::Wait {
                reason: "FailedScheduling".into(),
                message,
            },
            Err(NoPlace::Earlier(message)) => Admission::Wait {
                reason: TIMEOUT.into(),
                message,
            },
            Err(NoPlace::Overdue(message)) => Admission::Reject {
                reason: "Unplaceable".into(),
                message,
                event: Some("FailedScheduling".into()),
            },
            Err(NoPlace::Unsupported { field, message }) => Admission::Reject {
                reason: "Unsupported".into(),
                message: BackendError::Unsupported { field, message }.to_string(),
                event: None,
            },
        }
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        let app = mapping::app_name(&pod.key.uid);
        let known = {
            let world = self.world();
            if !world.synced() {
                return Err(BackendError::Unavailable {
                    message: "the devices have not been read yet".into(),
                    retry: Some(SYNC_RETRY),
                });
            }
            world.pod(&pod.key.uid).is_some()
        };
        // One that runs is not judged again: what it was made from may be gone.
        if !known {
            mapping::check(pod, &self.privileged)?;
        }
        let (device, done, edit) = {
            let mut world = self.world();
            let displaced = |p: &Placed| p.stage == Stage::Displaced;
            if world.pod(&pod.key.uid).is_none_or(displaced) {
                let from = world.pod(&pod.key.uid).map(|placed| placed.device.clone());
                let from = from.map(|name| world.shown(&name));
                let device = world
                    .reserve(pod, &app, cx.events.clone())
                    .map_err(no_place)?;
                let shown = world.shown(&device);
                info!(operation = "place", pod = %pod.key, node = &*pod.node, fleet = world.fleet_of(&device), device, "Device selected");
                cx.events
                    .normal("DeviceSelected", &format!("Selected device {shown}"));
                for (reason, message) in mapping::warnings(pod) {
                    cx.events.warning(reason, &message);
                }
                warn_of_timeout(pod, cx);
                let hold = Hold::found(&pod.pod, &pod.spec_revision);
                if let Some(from) = from {
                    let moved = format!("Moved from device {from} to device {shown}");
                    cx.events.normal("Rescheduled", &moved);
                } else if let Some(hold) = hold {
                    world.keep_out(&pod.key.uid, hold);
                }
                (device, false, None)
            } else {
                let label = pod.pod.metadata.labels.as_ref();
                let label = label.and_then(|all| all.get(DEVICE_KEY));
                world.settle_copies(&pod.key.uid, label.map(String::as_str));
                world.with_pod(&pod.key.uid, |placed| {
                    placed.names(pod);
                    placed.events = Some(cx.events.clone());
                });
                world.learn_absence(pod);
                if pod.change == PodChange::Metadata {
                    warn_of_timeout(pod, cx);
                }
                let Some(placed) = world.pod(&pod.key.uid) else {
                    return Err(BackendError::Unavailable {
                        message: "placement lost".into(),
                        retry: None,
                    });
                };
                let device = world.device(&placed.device);
                let accepted = device.and_then(|d| placed.accepted(d));
                let restoring = accepted.is_none()
                    && matches!(placed.stage, Stage::Written { .. })
                    && device.is_some_and(|d| d.owner.is_none());
                if restoring && let Some(wait) = placed.contest.wait() {
                    let message = format!(
                        "someone keeps changing {} on device {} in Flight Control; it is put back in {} s",
                        placed.app,
                        placed.device,
                        wait.as_secs() + 1
                    );
                    world.with_told(&pod.key.uid, |placed| placed.contest.told = true);
                    return Err(BackendError::Waiting {
                        reason: CHANGED.into(),
                        message,
                        retry: Some(wait),
                    });
                }
                let started = device.and_then(|d| placed.started(d));
                let done = started.as_ref() == Some(&pod.spec_revision);
                let edit = device.filter(|_| restoring).map(|d| placed.edit(d));
                (placed.device.clone(), done, edit)
            }
        };
        self.wake.notify_one();
        if done {
            self.refresh(pod, &device, edit.is_some(), cx).await?;
        } else {
            self.world().turn(&pod.key, &pod.spec_revision)?;
            self.put(pod, &device, cx).await?;
        }
        if let Some(edit) = edit {
            self.put_back(&pod.key.uid, &edit, cx);
        }
        Ok(())
    }

    async fn stop(&self, pod: &PodKey, _grace: Duration) -> Result<(), BackendError> {
        let (device, app, stage) = {
            let mut world = self.world();
            if world.pod(&pod.uid).is_none() {
                if !world.synced() {
                    return Err(BackendError::Unavailable {
                        message: "the devices have not been read yet".into(),
                        retry: Some(SYNC_RETRY),
                    });
                }
                world.claim(pod, &mapping::app_name(&pod.uid));
            }
            let Some(p) = world.pod(&pod.uid) else {
                return Err(BackendError::NotFound);
            };
            (p.device.clone(), p.app.clone(), p.stage.clone())
        };
        match stage {
            // The device that it was on before may still run it.
            Stage::Gone | Stage::Displaced if self.world().may_still_run(&pod.uid).is_some() => {
                return Ok(());
            }
            Stage::Gone | Stage::Displaced | Stage::DeviceDeleted => {
                return Err(BackendError::NotFound);
            }
            Stage::Removed { .. } => return Ok(()),
            Stage::Reserved | Stage::Written { .. } | Stage::Withdrawn { .. } => {}
        }
        let end = self.world().end_of(&device, pod, &app);
        let written = match self.writers.submit(&device, end).await {
            Err(BackendError::NotFound) => {
                self.world().device_deleted(&device);
                return Err(BackendError::NotFound);
            }
            other => other?,
        };
        info!(operation = "stop", pod = %pod, device, "removed from the device's spec");
        // Never written, and the service has just said that it is not there:
        // nothing has to be confirmed by the device.
        let never = stage == Stage::Reserved && written.after == 0;
        if never && let Some(left) = self.writers.unsure(&device) {
            return Err(BackendError::Unavailable {
                message: format!("a write to device {device} got no answer and may still land"),
                retry: Some(left.min(LANDED)),
            });
        }
        let gone = self
            .world()
            .taken_out(&pod.uid, &written.device, written.after);
        self.wrote(&written);
        self.say_why_it_stays(&pod.uid);
        let elsewhere = self.world().may_still_run(&pod.uid).is_some();
        if (never || gone) && !elsewhere {
            Err(BackendError::NotFound)
        } else {
            Ok(())
        }
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        let left = self.world().left_in_spec(&pod.uid);
        if let Some((device, app)) = left {
            // It completed by itself: the application is still in the spec.
            match self
                .writers
                .submit(&device, writer::Change::Remove(app))
                .await
            {
                Ok(written) => self.wrote(&written),
                Err(BackendError::NotFound) => self.world().device_deleted(&device),
                Err(error) => return Err(error),
            }
        }
        {
            let mut world = self.world();
            world.forget(&pod.uid);
            world.mark_waiting();
        }
        self.wake.notify_one();
        Ok(())
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let (as_of, now) = (Instant::now(), self.clock.now());
        self.follower
            .sweep()
            .await
            .map_err(|error| BackendError::Unavailable {
                message: error.to_string(),
                retry: None,
            })?;
        let mut world = self.world();
        let uids: Vec<Uid> = world.pods().map(|p| p.key.uid.clone()).collect();
        let pods = uids
            .iter()
            .filter_map(|uid| Self::facts(&mut world, uid, now))
            .collect();
        Ok(Listing {
            pods,
            complete: true,
            as_of,
        })
    }

    fn heed(&self, node: &str, annotations: &BTreeMap<String, String>) {
        let resumed = annotations.get(RESUME_ANNOTATION);
        if let Some(at) = resumed.and_then(|text| text.parse().ok()) {
            self.world().resume(node, at);
        }
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        stream::unfold(self.clone(), |backend| async move {
            loop {
                let woken = backend.wake.notified();
                if let Some(change) = backend.next_change() {
                    return Some((change, backend.clone()));
                }
                woken.await;
            }
        })
        .boxed()
    }

    fn logs(&self) -> Option<&dyn Logs> {
        self.console.as_ref().map(|console| console as &dyn Logs)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        self.console.as_ref().map(|console| console as &dyn Exec)
    }
}

/// A pod may say how long it waits for its device; what it says may be no time.
fn warn_of_timeout(pod: &PodRequest, cx: &PodCx) {
    if let Err(why) = timeout(&pod.pod, RECONNECT_TIMEOUT) {
        cx.events.warning("InvalidReconnectTimeout", &why);
    }
}

fn no_place(no: NoPlace) -> BackendError {
    match no {
        NoPlace::TooBig { resource, message } => BackendError::Rejected {
            reason: format!("OutOf{resource}"),
            message,
        },
        NoPlace::BadSelector(message) => BackendError::Waiting {
            reason: "InvalidDeviceSelector".into(),
            message,
            retry: None,
        },
        NoPlace::NoMatch(message) => BackendError::Waiting {
            reason: "NoMatchingDevice".into(),
            message,
            retry: None,
        },
        NoPlace::NotNow(message) => BackendError::Waiting {
            reason: "FailedScheduling".into(),
            message,
            retry: None,
        },
        NoPlace::Earlier(message) => BackendError::Waiting {
            reason: TIMEOUT.into(),
            message,
            retry: None,
        },
        NoPlace::Overdue(message) => BackendError::Rejected {
            reason: "Unplaceable".into(),
            message,
        },
        NoPlace::Unsupported { field, message } => BackendError::Unsupported { field, message },
    }
}

#[cfg(test)]
mod tests;
