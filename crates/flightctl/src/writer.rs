//! One writer per device: what arrives while a write is under way, or within a
//! second of the last one, travels together in one JSON Patch.
//!
//! The patch replaces `spec.applications`, and single items of `spec.config`, and
//! is guarded by `test /metadata/generation`, which the service evaluates on the
//! row it writes: a true compare-and-swap. Applications of others pass through as
//! read, items of others are not touched.

mod lane;
mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};
use vk_provider::BackendError;

use crate::away::tomb::Tomb;
use crate::client::{Client, ClientError};
use crate::device::DeviceView;
use crate::items::{Item, environment_item, volumes_item};
use crate::mapping::{self, Workload};
use crate::placed::Before;
use crate::world::World;
pub use lane::Hold;
use lane::{Lane, Next, Waiting};
use plan::plan;

/// Between two writes to one device: the agent begins polls at least 5 s apart,
/// so that faster ones gain nothing, and slower ones cost the user's time.
const GATHER: Duration = Duration::from_secs(1);
/// Repeats of one write whose guard failed, before its pods are told to wait.
const ATTEMPTS: u32 = 10;
/// Writes under way at once over all devices; the service gains nothing from
/// more (measured: 245/s with 8, 168/s with 32).
const WRITES_AT_ONCE: usize = 8;

/// A write that got no answer may still take effect for this long, as long as
/// nothing else was written: what stands in between gives up after a minute by
/// default, and the service then finishes what it has begun.
const LATE: Duration = Duration::from_secs(120);

/// One change of a device's spec.
#[derive(Clone, Debug)]
pub enum Change {
    /// Put this application and its files, replacing ours of the same name.
    Put(Box<Workload>),
    /// Put this application of ours back as it was, where there is one, with its
    /// variables; the files of its volumes stay.
    Restore(Box<Before>),
    /// Put these files of an application that is there; it stays as it is.
    Refresh {
        /// Its name.
        app: String,
        /// The files of its volumes.
        volumes: Item,
    },
    /// Take ours of this name out, with its files: of what does not run any more,
    /// or must not. An agent takes files away before it stops containers.
    Remove(String),
    /// Take ours of this name out and leave its files to its containers.
    End(String),
    /// The same on a device that is away, with a label that remembers it.
    Bury(Tomb),
    /// Take that label away: the device has confirmed the end.
    Unbury(Tomb),
    /// Take the files out of an application of ours that is not there any more.
    Clear(String),
}

impl Change {
    fn app(&self) -> &str {
        match self {
            Self::Put(workload) => workload.app["name"].as_str().unwrap_or_default(),
            Self::Restore(before) => before.app["name"].as_str().unwrap_or_default(),
            Self::Refresh { app, .. } | Self::Remove(app) | Self::End(app) | Self::Clear(app) => {
                app
            }
            Self::Bury(tomb) | Self::Unbury(tomb) => &tomb.app,
        }
    }

    /// What becomes of the items of the pod: `None` is taken out.
    fn items(&self) -> Vec<(String, Option<&Item>)> {
        let (volumes, environment) = (volumes_item(self.app()), environment_item(self.app()));
        match self {
            Self::Put(workload) => vec![
                (volumes, workload.volumes.as_ref()),
                (environment, workload.environment.as_ref()),
            ],
            Self::Refresh { volumes: item, .. } => vec![(volumes, Some(item))],
            Self::Remove(_) | Self::Clear(_) => vec![(volumes, None), (environment, None)],
            Self::Restore(before) => {
                let item = before.environment.as_ref();
                item.map(|item| (environment, Some(item)))
                    .into_iter()
                    .collect()
            }
            Self::End(_) | Self::Bury(_) | Self::Unbury(_) => Vec::new(),
        }
    }
}

/// The device after the write.
#[derive(Clone, Debug)]
pub struct Written {
    /// As the service answered it.
    pub device: Arc<DeviceView>,
    /// When it was asked.
    pub asked: Instant,
    /// The last rendered version that cannot hold the change yet; 0 when there
    /// was nothing to change, because then any version may.
    pub after: u64,
}

/// How a write ended.
pub type Outcome = Result<Written, BackendError>;

/// All writers; clones share them.
#[derive(Clone, Debug)]
pub struct Writers {
    client: Client,
    world: Arc<Mutex<World>>,
    devices: Arc<Mutex<HashMap<String, Lane>>>,
    permits: Arc<Semaphore>,
    /// Writes without an answer by device: when, and over which generation.
    unsure: Arc<Mutex<HashMap<String, (Instant, i64)>>>,
}

impl Writers {
    /// Writers that start from what the world knows of a device.
    pub fn new(client: Client, world: Arc<Mutex<World>>) -> Self {
        Self {
            client,
            world,
            devices: Arc::default(),
            permits: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
            unsure: Arc::default(),
        }
    }

    /// Makes a change; returns when the device's spec holds it. Dropping the
    /// future does not take the change back, and leaves those it travels with
    /// alone.
    ///
    /// # Errors
    /// `Waiting` where the device refuses for a reason that may pass,
    /// `Rejected` where the application itself is refused, alone and by its
    /// name, `Unavailable` when the outcome is not known.
    pub async fn submit(&self, device: &str, change: Change) -> Outcome {
        let (reply, answer) = oneshot::channel();
        self.queue(device, |lane| lane.add(change, reply));
        answer.await.unwrap_or_else(|_| {
            Err(BackendError::Unavailable {
                message: format!("the write to device {device} was given up"),
                retry: None,
            })
        })
    }

    /// Keeps writes of ours from a device, for someone whose own write would undo
    /// them: returns when none is under way, and the last one has been rendered.
    /// Writes wait until the hold is dropped, for at most 5 s. Cancel-safe.
    pub async fn hold(&self, device: &str) -> Option<Hold> {
        let (reply, answer) = oneshot::channel();
        self.queue(device, |lane| lane.hold(reply));
        answer.await.ok()
    }

    /// Gives a lane something to do, and someone who does it.
    fn queue(&self, device: &str, add: impl FnOnce(&mut Lane)) {
        let idle = {
            let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = !devices.contains_key(device);
            add(devices.entry(device.into()).or_default());
            idle
        };
        if idle {
            let (writers, device) = (self.clone(), device.to_owned());
            tokio::spawn(async move { writers.work(&device).await });
        }
    }

    /// What a lane does next; one that has nothing to do is forgotten.
    fn next(&self, device: &str) -> Option<Next> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let next = devices.get_mut(device)?.next();
        if next.is_none() {
            devices.remove(device);
        }
        next
    }

    async fn work(&self, device: &str) {
        while let Some(next) = self.next(device) {
            match next {
                Next::Write(batch) => {
                    let begun = Instant::now();
                    self.write_batch(device, batch).await;
                    tokio::time::sleep_until(begun + GATHER).await;
                }
                Next::Hold(reply) => Hold::give(reply).await,
            }
        }
    }

    /// How long a write to this device that got no answer may still take effect.
    pub fn unsure(&self, device: &str) -> Option<Duration> {
        let now = self.world().device(device).map(|d| d.generation);
        let mut unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, generation) = *unsure.get(device)?;
        // Its guard does not hold any more once the device has moved on.
        let left = LATE.checked_sub(at.elapsed());
        let left = left.filter(|_| now.is_some_and(|now| now <= generation));
        if left.is_none() {
            unsure.remove(device);
        }
        left
    }

    async fn write_batch(&self, device: &str, batch: Vec<Waiting>) {
        let changes: Vec<&Change> = batch.iter().map(|w| &w.change).collect();
        debug!(
            operation = "write",
            device,
            changes = changes.len(),
            "writing"
        );
        let outcome = self.write(device, &changes).await;
        let alone = batch.len() == 1;
        for (index, Waiting { change, replies }) in batch.into_iter().enumerate() {
            // One bad application must not take the others with it: one by one.
            let outcome = match &outcome {
                Err(ClientError::Invalid { .. }) if !alone => {
                    let outcome = self.write(device, &[&change]).await;
                    outcome.map(|(written, left)| (written, left.into_iter().next().flatten()))
                }
                Ok((written, left)) => Ok((written.clone(), left.get(index).cloned().flatten())),
                Err(error) => Err(error.clone()),
            };
            let outcome = match outcome {
                Ok((written, None)) => Ok(written),
                Ok((_, Some(too_large))) => Err(BackendError::Waiting {
                    reason: "DeviceFilesFull".into(),
                    message: format!("Device {device}: {too_large}"),
                    retry: None,
                }),
                Err(error) => Err(refusal(device, &error, &change)),
            };
            for reply in replies {
                let _ = reply.send(outcome.clone());
            }
        }
    }

    /// Writes what fits; for each change why it did not, if so.
    async fn write(
        &self,
        device: &str,
        changes: &[&Change],
    ) -> Result<(Written, Vec<Option<String>>), ClientError> {
        // Never closed; without a permit the writes would only be less orderly.
        let _permit = self.permits.acquire().await;
        let (cluster, mut known) = {
            let world = self.world();
            (world.cluster.clone(), world.device(device).cloned())
        };
        for attempt in 1..=ATTEMPTS {
            let mut asked = Instant::now();
            let fresh = known.is_none();
            let view = match known.take() {
                Some(view) => view,
                None => self.read(device).await?,
            };
            let plan = plan(&view, changes, &cluster);
            let Some(patch) = plan.patch else {
                if fresh {
                    let written = Written {
                        device: Arc::new(view),
                        asked,
                        after: 0,
                    };
                    return Ok((written, plan.left));
                }
                // Nothing to do, says the cache; only the service can say so.
                continue;
            };
            asked = Instant::now();
            match self.client.patch_device(device, &patch).await {
                Ok(json) => {
                    let view = DeviceView::of(&json).ok_or_else(|| no_device(device))?;
                    // Labels are no part of any version.
                    let after = if plan.versioned { view.rendered } else { 0 };
                    let written = Written {
                        device: Arc::new(view),
                        asked,
                        after,
                    };
                    return Ok((written, plan.left));
                }
                Err(ClientError::TestFailed { .. }) => {
                    debug!(
                        operation = "write",
                        device, attempt, "someone else wrote first, repeating"
                    );
                }
                Err(error) => {
                    if error.outcome_unknown() {
                        self.unsure
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(device.to_owned(), (Instant::now(), view.generation));
                    }
                    return Err(error);
                }
            }
        }
        warn!(
            operation = "write",
            device, "gave way to other writers too often"
        );
        Err(ClientError::TestFailed {
            object: device.into(),
        })
    }

    async fn read(&self, device: &str) -> Result<DeviceView, ClientError> {
        let json = self.client.get_device(device).await?;
        DeviceView::of(&json).ok_or_else(|| no_device(device))
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_device(device: &str) -> ClientError {
    ClientError::Decode {
        object: device.into(),
        why: "it is no device".into(),
    }
}

/// Whether Flight Control's refusal is about this application or its files, and
/// not about the device or another of its applications.
fn blames(message: &str, app: &str) -> bool {
    let folder = format!("{}/", mapping::folder(app));
    message.lines().any(|line| {
        line.contains(app)
            || line.contains(&folder)
            || line
                .split("spec.applications")
                .skip(1)
                .any(|rest| rest.strip_prefix('[').is_none_or(|r| r.starts_with(']')))
    })
}

/// What a failed write means for the pod of this change.
fn refusal(device: &str, error: &ClientError, change: &Change) -> BackendError {
    match error {
        ClientError::NotFound { .. } => BackendError::NotFound,
        ClientError::Owned { .. } => BackendError::Waiting {
            reason: "FleetManaged".into(),
            message: format!(
                "Device {device} is owned by a Flight Control Fleet, which refuses changes; take it out of the Fleet's selector"
            ),
            retry: None,
        },
        ClientError::Invalid { message, .. } => match change {
            // Final for the pod, so only what is certainly about it.
            Change::Put(_) if blames(message, change.app()) => BackendError::Rejected {
                reason: "InvalidWorkload".into(),
                message: format!("Flight Control refuses the workload: {error}"),
            },
            Change::Put(_) | Change::Refresh { .. } => BackendError::Waiting {
                reason: "RefusedByFlightControl".into(),
                message: error.to_string(),
                retry: None,
            },
            Change::Restore(_)
            | Change::Remove(_)
            | Change::End(_)
            | Change::Bury(_)
            | Change::Unbury(_)
            | Change::Clear(_) => unavailable(device, &error.to_string(), None),
        },
        ClientError::TestFailed { .. } => {
            unavailable(device, "other writers change it all the time", None)
        }
        ClientError::TooManyRequests { retry_after, .. } => {
            unavailable(device, &error.to_string(), Some(*retry_after))
        }
        _ => unavailable(device, &error.to_string(), None),
    }
}

fn unavailable(device: &str, why: &str, retry: Option<Duration>) -> BackendError {
    BackendError::Unavailable {
        message: format!("device {device}: {why}"),
        retry,
    }
}

#[cfg(test)]
mod tests {
    mod served;

    use super::*;
    use serde_json::{Value, json};

    /// An application without files.
    fn change(app: Value) -> Change {
        Change::Put(Box::new(Workload {
            app,
            volumes: None,
            environment: None,
            skipped: Vec::new(),
        }))
    }

    #[tokio::test]
    async fn a_change_said_again_takes_the_place_of_the_one_that_waits() {
        let mut lane = Lane::default();
        let mut answers = Vec::new();
        let mut add = |change| {
            let (reply, answer) = oneshot::channel();
            lane.add(change, reply);
            answers.push(answer);
            lane.waiting.len()
        };
        let put = |image: &str| change(json!({"name": "a", "image": image}));
        assert_eq!(add(put("1")), 1);
        assert_eq!(add(put("2")), 1);
        assert_eq!(add(Change::Remove("b".into())), 2);
        assert_eq!(add(Change::Remove("a".into())), 3, "in its order");
        assert_eq!(add(put("3")), 4, "not before its removal");
        let Change::Put(first) = &lane.waiting[0].change else {
            panic!()
        };
        assert_eq!(first.app["image"], "2");
        assert_eq!(lane.waiting[0].replies.len(), 2, "nobody is forgotten");
    }

    #[test]
    fn only_a_refusal_of_the_application_itself_is_final() {
        let put = change(json!({"name": "vk-u1"}));
        let judge = |message: &str, change: &Change| {
            let error = ClientError::Invalid {
                object: "dev0".into(),
                message: message.into(),
            };
            refusal("dev0", &error, change)
        };
        for message in [
            "spec.applications[vk-u1].envVars: Required value",
            "spec.applications[].inline[1].content: Too long: may not be more than 1048576 bytes",
            "metadata.labels: odd\nduplicate application name: vk-u1",
            "spec.config[].inline[0].path: odd: \"/var/lib/virtual-kubelet/u1/v/key\"",
        ] {
            let error = judge(message, &put);
            assert!(matches!(error, BackendError::Rejected { .. }), "{error}");
        }
        for message in [
            "spec.decommissioning cannot be changed via patch request",
            "spec.applications[theirs].envVars: Required value",
            "API Error: request body has an error: reading failed",
            "spec.config[].inline[0].path: odd: \"/var/lib/virtual-kubelet/u11/v/key\"",
            "",
        ] {
            let error = judge(message, &put);
            assert!(matches!(error, BackendError::Waiting { .. }), "{error}");
        }
        let remove = Change::Remove("vk-u1".into());
        let error = judge("spec.applications[vk-u1]: odd", &remove);
        assert!(matches!(error, BackendError::Unavailable { .. }), "{error}");
    }
}
