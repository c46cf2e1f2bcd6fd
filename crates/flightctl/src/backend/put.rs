//! A pod into its device's spec, and what becomes of it where that fails.

use vk_provider::{BackendError, PodRequest, Uid};

use super::{FlightControl, SYNC_RETRY};
use crate::device::DeviceView;
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

    pub(super) async fn put(&self, request: &PodRequest, device: &str) -> Result<(), BackendError> {
        let cluster = self.world().cluster.clone();
        let app = mapping::application(request, &cluster)?;
        let written = match self.writers.submit(device, writer::Change::Put(app)).await {
            Err(BackendError::NotFound) => {
                self.world().device_deleted(device);
                self.give_back(&request.key.uid, device);
                return Err(BackendError::Waiting {
                    reason: "DeviceDeleted".into(),
                    message: format!("Device {device} was deleted while the pod was placed on it"),
                    retry: Some(SYNC_RETRY),
                });
            }
            Err(error) => return Err(self.refused(request, device, error).await),
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
            placed.told.clear();
        });
        self.wrote(&written);
        Ok(())
    }
}
