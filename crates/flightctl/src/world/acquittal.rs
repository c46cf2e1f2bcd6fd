//! That no pod of ours is to blame for what a device refuses, and of what that is known.

use serde_json::Value;
use vk_provider::{Revision, Uid};

use crate::device::DeviceView;
use crate::items::Seen;
use crate::marker::Marker;
use crate::placed::{Placed, Stage};

/// What a device's spec holds of others.
#[derive(Debug, PartialEq)]
pub(super) struct Theirs {
    applications: Vec<Value>,
    items: Vec<Seen>,
}

impl Theirs {
    pub(super) fn of(view: &DeviceView, cluster: &str) -> Self {
        let ours = |app: &&Value| Marker::of(app).is_some_and(|m| *m.cluster == *cluster);
        let apps = view.applications.iter().filter(|app| !ours(app));
        let items = view.items.iter().flatten();
        Self {
            applications: apps.cloned().collect(),
            items: items.filter(|item| item.of.is_none()).cloned().collect(),
        }
    }
}

/// Without any of ours a device failed: nobody of those it knew of is to blame.
#[derive(Debug)]
pub(super) struct Acquittal {
    /// The version that the device runs meanwhile.
    runs: u64,
    /// What it held of others.
    theirs: Theirs,
    known: Vec<(Uid, Revision)>,
}

impl Acquittal {
    pub(super) fn of<'a>(
        view: &DeviceView,
        theirs: Theirs,
        known: impl Iterator<Item = &'a Placed>,
    ) -> Self {
        Self {
            runs: view.reported,
            theirs,
            known: known.flat_map(revisions).collect(),
        }
    }

    /// Whether it is about all that is on its way now, beside the same of others.
    pub(super) fn holds(
        &self,
        view: &DeviceView,
        theirs: &Theirs,
        on_their_way: &[&Placed],
    ) -> bool {
        let known = |placed: &&Placed| {
            matches!(&placed.stage, Stage::Written { revision, .. }
                if self.known.contains(&(placed.key.uid.clone(), revision.clone())))
        };
        self.runs == view.reported && self.theirs == *theirs && on_their_way.iter().all(known)
    }
}

/// The revisions of a pod that its device holds or shall hold.
fn revisions(placed: &Placed) -> impl Iterator<Item = (Uid, Revision)> {
    let asked = placed.request.as_ref().map(|r| r.spec_revision.clone());
    let written = match &placed.stage {
        Stage::Written { revision, .. } => Some(revision.clone()),
        _ => None,
    };
    let uid = placed.key.uid.clone();
    let all = [asked, written].into_iter().flatten();
    all.map(move |revision| (uid.clone(), revision))
}
