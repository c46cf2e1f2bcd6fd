//! A pod into its device's spec, and what becomes of it where that fails.

use tracing::info;
use vk_provider::environment::Environment;
use vk_provider::{BackendError, PodChange, PodCx, PodRequest, RenderError, Uid};

use super::{CHANGED, FlightControl, SYNC_RETRY};
use crate::device::DeviceView;
use crate::edit::Edit;
use crate::items::{Seal, environment_item, volumes_item};
use crate::mapping;
use crate::placed::{Placed, Stage};
use crate::writer;

impl FlightControl {
    /// Takes the device as a write left it.
    pub(super) fn wrote(&self, written: &writer::Written) {
        let views = vec![DeviceView::clone(&written.device)];
        let changes = self.world().read(views, written.asked, false);
        self.follower.publish(&changes);
        self.follower.nudge();
        self.wake.notify_one();
    }

    /// A pod of which nothing was written is placed anew. Where that is not
    /// certain it stays: it must not run twice.
    fn give_back(&self, uid: &Uid, device: &str) -> bool {
        let reserved = |p: &Placed| p.stage == Stage::Reserved;
        let sure = self.writers.unsure(device).is_none();
        let mut world = self.world();
        let given = sure && world.pod(uid).is_some_and(reserved);
        if given {
            world.forget(uid);
            world.mark_waiting();
        }
        given
    }

    /// What a write that failed means for its pod.
    async fn refused(
        &self,
        request: &PodRequest,
        device: &str,
        mut error: BackendError,
    ) -> BackendError {
        let uid = &request.key.uid;
        if matches!(error, BackendError::Unavailable { .. }) {
            return error;
        }
        if self.give_back(uid, device) {
            self.follower.look_at(device).await;
            let closed = |d: &DeviceView| d.closed().is_some();
            if let BackendError::Waiting { retry, .. } = &mut error
                && self.world().device(device).is_none_or(closed)
            {
                *retry = Some(SYNC_RETRY);
            }
        } else if let BackendError::Waiting {
            reason, message, ..
        } = &error
        {
            let refused = Some((reason.clone(), message.clone()));
            self.world()
                .with_pod(uid, |placed| placed.refused = refused);
        }
        self.wake.notify_one();
        error
    }

    pub(super) async fn put(
        &self,
        request: &PodRequest,
        device: &str,
        cx: &PodCx,
    ) -> Result<(), BackendError> {
        let workload = {
            let mut world = self.world();
            let made = mapping::workload(request, &world.placement(device), &world.cluster);
            if made.is_err() {
                // It had its turn, and others wait for theirs.
                world.with_pod(&request.key.uid, Placed::is_not_tried);
            }
            made?
        };
        let change = writer::Change::Put(Box::new(workload.clone()));
        self.world().about_to_write(&request.key.uid);
        let written = match self.writers.submit(device, change).await {
            Err(BackendError::NotFound) => {
                self.world().device_deleted(device);
                self.give_back(&request.key.uid, device);
                return Err(BackendError::Waiting {
                    reason: "DeviceDeleted".into(),
                    message: format!("Device {device} was deleted while the pod was placed on it"),
                    retry: Some(SYNC_RETRY),
                });
            }
            Err(error) => {
                self.world()
                    .with_pod(&request.key.uid, Placed::is_not_tried);
                return Err(self.refused(request, device, error).await);
            }
            Ok(written) => written,
        };
        self.world().with_pod(&request.key.uid, |placed| {
            placed.refused = None;
            placed.shown_anew();
            placed.stage = Stage::Written {
                revision: request.spec_revision.clone(),
                version: None,
                after: written.after,
            };
            placed.wrote(
                [&workload.volumes, &workload.environment]
                    .into_iter()
                    .flatten(),
            );
            placed.told.clear();
        });
        for sentence in &workload.skipped {
            cx.events.warning(Environment::SKIPPED_REASON, sentence);
        }
        self.wrote(&written);
        Ok(())
    }

    /// Brings the files of a pod's volumes to what its objects hold now, and leaves
    /// its application, and with it its containers, as they are.
    ///
    /// While they cannot be made they stay as they are, as on any node. The caller
    /// is told where it asked for them, or where someone changed them
    /// (`restoring`); it is never a reason to end a pod that runs.
    pub(super) async fn refresh(
        &self,
        request: &PodRequest,
        device: &str,
        restoring: bool,
        cx: &PodCx,
    ) -> Result<(), BackendError> {
        let uid = &request.key.uid;
        let app = mapping::app_name(uid);
        // Before what may fail: an edit has to be noticed in any case.
        let held = self.find_items(uid, device, &app);
        let place = self.world().placement(device);
        let volumes = match mapping::volumes(request, &place) {
            Ok(Some(volumes)) => volumes,
            Ok(None) => return Ok(()),
            Err(error @ BackendError::Inputs(_))
                if restoring || request.change == PodChange::Payload =>
            {
                return Err(error);
            }
            Err(error) => {
                let reason = RenderError::VOLUMES_REASON;
                cx.events.warning(reason, &error.to_string());
                return Ok(());
            }
        };
        let keep = || self.world().with_told(uid, |placed| placed.keeps(&volumes));
        if held.as_ref() == Some(volumes.seal()) {
            keep();
            return Ok(());
        }
        let change = writer::Change::Refresh {
            app,
            volumes: volumes.clone(),
        };
        let written = self.writers.submit(device, change).await?;
        info!(operation = "refresh", pod = %request.key, device, bytes = volumes.bytes(), "files of volumes written anew");
        keep();
        self.wrote(&written);
        Ok(())
    }

    /// What someone changed is as it was again, which is told once.
    pub(super) fn put_back(&self, uid: &Uid, edit: &Edit, cx: &PodCx) {
        let mut world = self.world();
        let message = world.pod(uid).and_then(|placed| {
            let device = world.device(&placed.device)?;
            let changed = edit.words(placed.application(device)?);
            let (app, device) = (&placed.app, device.shown());
            Some(format!(
                "{app} on device {device} was changed in Flight Control, and is put back; changed: {changed}"
            ))
        });
        world.with_told(uid, |placed| {
            let told = std::mem::take(&mut placed.contest.told);
            placed.contest.again();
            if let Some(message) = message.filter(|_| !told) {
                cx.events.warning(CHANGED, &message);
            }
        });
    }

    /// Takes the pod's items as they stand for right, where nothing better is known;
    /// the seal of its volumes.
    fn find_items(&self, uid: &Uid, device: &str, app: &str) -> Option<Seal> {
        let mut world = self.world();
        let seal = |name: &str| {
            let view = world.device(device)?;
            Some(view.item(name)?.seal.clone())
        };
        let [volumes, environment] = [volumes_item(app), environment_item(app)];
        let stand = [seal(&volumes), seal(&environment)];
        world.with_told(uid, |placed| {
            for (item, seal) in [&volumes, &environment].into_iter().zip(&stand) {
                if let Some(seal) = seal {
                    placed.found(item, seal.clone());
                }
            }
        });
        let [volumes, _] = stand;
        volumes
    }
}
