//! Whose turn it is where a device has refused something: one at a time, in a quiet
//! moment.

use std::time::Duration;

use tokio::time::Instant;
use vk_provider::{BackendError, PodKey, Revision, Uid};

use super::World;
use super::course::{Course, is_invalid};
use crate::device::DeviceView;
use crate::hold::{Hold, Why, images_of};
use crate::mapping::Expected;
use crate::placed::{Placed, Stage};

/// Who was let back is written within seconds; one that something else keeps from it
/// holds up the search no longer than this.
const RETURN: Duration = Duration::from_secs(30);

impl World {
    /// The device runs what it was given: it is somebody's turn.
    pub(super) fn got_there(&mut self, course: &mut Course, view: &DeviceView, uids: &[Uid]) {
        course.not_ours = None;
        for uid in uids {
            if let Some(hold) = self.pods.get_mut(uid).and_then(|p| p.hold.as_mut()) {
                hold.proven = true;
            }
        }
        let kept_out = |uid: &Uid| self.pods.get(uid).is_some_and(|p| p.hold.is_some());
        let somebody_waits =
            !course.back.is_empty() || !course.search.is_over() || uids.iter().any(kept_out);
        // Asked last: it looks at every pod, for every device, every second.
        if !somebody_waits || !self.is_quiet(view) {
            return;
        }
        // Those that were let back are to be in a version before others follow.
        course
            .back
            .retain(|uid| self.pods.get(uid).is_some_and(|p| !p.is_as_asked()));
        let waits = course
            .back_since
            .is_some_and(|since| since.elapsed() < RETURN);
        if !course.back.is_empty() && waits {
            return;
        }
        if !course.search.is_over() {
            course.back = course.search.applied();
            course.back_since = Some(Instant::now());
            self.let_back(course.back.clone());
            return;
        }
        let holds = uids.iter().filter_map(|uid| {
            let hold = self.pods.get(uid)?.hold.as_ref()?;
            hold.is_due().then_some((hold.until, uid))
        });
        if let Some((_, uid)) = holds.min() {
            self.looks.insert(uid.clone());
        }
    }

    /// Those that a search took out; one that was refused by its name meanwhile waits on.
    pub(super) fn let_back(&mut self, mut uids: Vec<Uid>) {
        uids.retain(|uid| {
            let hold = self.pods.get(uid).and_then(|p| p.hold.as_ref());
            hold.is_none_or(|hold| matches!(hold.why, Why::Turn { .. }))
        });
        self.release(uids);
    }

    /// Nothing keeps them out any more.
    pub(super) fn release(&mut self, uids: Vec<Uid>) {
        for uid in uids {
            if let Some(placed) = self.pods.get_mut(&uid) {
                placed.hold = None;
                self.looks.insert(uid.clone());
                self.dirty.insert(uid);
            }
        }
    }

    /// A device that runs all it was given, and that nobody else wants anything of.
    fn is_quiet(&self, view: &DeviceView) -> bool {
        let calm = |placed: &Placed| match &placed.stage {
            Stage::Written { version, .. } => {
                version.is_some_and(|v| v <= view.reported) && !tries(placed)
            }
            Stage::Withdrawn { .. } => !tries(placed),
            Stage::Removed { version, .. } => version.is_some(),
            // It may wait for what it refers to, for ever.
            Stage::Reserved | Stage::Gone | Stage::DeviceDeleted | Stage::Displaced => true,
        };
        !is_invalid(view)
            && view.usable()
            && view.reported >= view.rendered
            && !view.updating.active
            && self
                .pods
                .values()
                .filter(|p| p.device == view.name)
                .all(calm)
    }

    /// Whether a pod may be written to its device now; if not, what it waits for. One
    /// that was refused has its turn when nothing else is on the way: then it is its
    /// own from here on, until [`World::with_pod`] says otherwise.
    ///
    /// # Errors
    /// `Waiting`.
    pub(crate) fn turn(&mut self, key: &PodKey, revision: &Revision) -> Result<(), BackendError> {
        let Some(placed) = self.pods.get(&key.uid) else {
            return Ok(());
        };
        let Some(hold) = &placed.hold else {
            return Ok(());
        };
        if hold.trying {
            return Ok(());
        }
        let other = hold.revision != *revision;
        let view = self.devices.get(&placed.device);
        let quiet = || view.is_some_and(|view| self.is_quiet(view));
        let now = other || (hold.is_due() && quiet());
        if !now {
            let device = view.map_or_else(|| placed.device.clone(), DeviceView::shown);
            let images = placed.request.as_deref().map(Expected::of);
            return Err(hold.answer(&device, &images.as_ref().map(images_of).unwrap_or_default()));
        }
        self.with_pod(&key.uid, |placed| {
            if other {
                placed.hold = None;
            } else if let Some(hold) = &mut placed.hold {
                hold.trying = true;
            }
        });
        Ok(())
    }

    /// A pod is about to be written to its device.
    pub(crate) fn about_to_write(&mut self, uid: &Uid) {
        let Some(placed) = self.pods.get_mut(uid) else {
            return;
        };
        if let Some(view) = self.devices.get(&placed.device) {
            placed.keeps_way_back(view);
        }
    }

    /// Takes over from an earlier process what it kept out.
    pub(crate) fn keep_out(&mut self, uid: &Uid, hold: Hold) {
        self.with_pod(uid, |placed| {
            placed.hold = Some(hold);
            placed.stage = Stage::Withdrawn {
                version: None,
                after: 0,
            };
        });
    }

    /// A pod whose turn has come.
    pub(crate) fn take_look(&mut self) -> Option<PodKey> {
        while let Some(uid) = self.looks.pop_first() {
            if let Some(placed) = self.pods.get(&uid) {
                return Some(placed.key.clone());
            }
        }
        None
    }
}

fn tries(placed: &Placed) -> bool {
    placed.hold.as_ref().is_some_and(|hold| hold.trying)
}
