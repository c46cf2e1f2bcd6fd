//! How each device gets on with the versions it is given, and which pods give way
//! where it does not: a version is applied as a whole or not at all.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use vk_provider::{BackendError, PodKey, Revision, Uid};

use super::World;
use crate::blame::{self, Judgement, Kind, Obstacle, OnItsWay};
use crate::device::{DeviceView, Updating};
use crate::hold::{Hold, Why, images_of};
use crate::mapping::Expected;
use crate::placed::{Placed, Stage, WayBack};
use crate::search::{Search, Step};

/// What a device said before a version was rendered may be about the one before it.
/// Standing this long it is not: agents begin polls 5 s apart at most, and say at once
/// that they begin.
const STALE: Duration = Duration::from_secs(20);

/// Updates of many pods with the usual grace periods were seen to take less.
const BUSY: Duration = Duration::from_secs(120);

/// Who was let back is written within seconds; one that something else keeps from it
/// holds up the search no longer than this.
const RETURN: Duration = Duration::from_secs(30);

/// A device on its way to its version.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The version that is wanted.
    version: u64,
    /// What the device says.
    said: Option<Said>,
    /// It has said something else since this version was first read.
    moved: bool,
    /// Since when it says this, of this version.
    says: Option<Instant>,
    /// Since when it has not got on, whatever version it was given since.
    stands: Option<Instant>,
    /// The last version that somebody gave way for: of that one all is said.
    acted: Option<u64>,
    /// Who was to give way, and has not been written yet.
    todo: Vec<GivesWay>,
    /// Whom it refuses without a name.
    search: Search,
    /// Those that have come back from it last, and are not written yet.
    back: Vec<Uid>,
    /// Since when.
    back_since: Option<Instant>,
    /// The version that it runs while it refuses others that nobody here is to blame for.
    not_ours: Option<u64>,
    /// What keeps it, as the event's reason and a sentence, where that is none of ours.
    refusal: Option<(&'static str, String)>,
}

/// What counts as another word.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    updating: Updating,
    spec_invalid: Option<String>,
}

/// A pod that gives way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GivesWay {
    pub(crate) uid: Uid,
    /// Its application.
    pub(crate) app: String,
    /// How.
    pub(crate) how: WayBack,
    /// The revision that does not get through.
    revision: Revision,
    why: Why,
}

impl Course {
    /// The device was read.
    pub(super) fn read(&mut self, view: &DeviceView) {
        let said = Said {
            updating: view.updating.clone(),
            spec_invalid: view.spec_invalid.clone(),
        };
        let now = Some(Instant::now());
        let anew = self.version != view.rendered || self.said.is_none();
        let other = self.said.as_ref() != Some(&said);
        if anew || other {
            self.says = now;
        }
        if !self.said.as_ref().is_some_and(|s| s.is_as_far_as(&said)) {
            self.stands = now;
        }
        self.moved = !anew && (self.moved || other);
        self.version = view.rendered;
        self.said = Some(said);
    }

    fn stood(&self) -> Duration {
        self.stands.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether what the device says is about the version that is wanted.
    fn is_about_it(&self) -> bool {
        self.moved || self.says.is_some_and(|since| since.elapsed() >= STALE)
    }

    /// It has been at it for long, and does nothing else meanwhile.
    fn busy(&self, view: &DeviceView) -> Option<(&'static str, String)> {
        let applying = view.updating.active && view.updating.reason == "ApplyingUpdate";
        (applying && self.stood() >= BUSY).then(|| {
            let sentence = format!(
                "Device {} has been applying version {} for more than {} s: a unit that does not start or stop holds it up, and until it has it tells nothing new of any pod",
                view.shown(),
                view.rendered,
                BUSY.as_secs()
            );
            ("DeviceBusy", sentence)
        })
    }

    /// What keeps the device from its version, if anything does.
    fn obstacle<'a>(&self, view: &'a DeviceView) -> Option<Obstacle<'a>> {
        let behind = view.reported < view.rendered;
        let acted = self.acted.is_some_and(|acted| view.rendered <= acted);
        let counts = if view.spec_invalid.is_some() {
            is_invalid(view)
        } else {
            behind && !acted
        };
        Obstacle::of(view).filter(|_| counts)
    }
}

impl Said {
    /// The same, or pulling with no image more than before.
    fn is_as_far_as(&self, other: &Self) -> bool {
        let complete = |said: &Self| {
            let update = &said.updating;
            blame::complete(&update.message).filter(|_| update.active)
        };
        self == other || (complete(self).is_some() && complete(self) == complete(other))
    }
}

impl World {
    /// Who gives way now, by device. Repeated until [`World::gave_way`].
    pub(crate) fn judge(&mut self) -> Vec<(String, Vec<GivesWay>)> {
        let mut of: HashMap<String, Vec<Uid>> = HashMap::new();
        for (uid, placed) in &self.pods {
            let concerned = placed.hold.is_some()
                || self
                    .devices
                    .get(&placed.device)
                    .is_some_and(|device| placed.is_on_its_way(device));
            if concerned {
                of.entry(placed.device.clone())
                    .or_default()
                    .push(uid.clone());
            }
        }
        // One that nobody is on the way to any more has nothing to refuse.
        for (device, course) in &mut self.courses {
            if !of.contains_key(device) {
                course.refusal = None;
            }
        }
        let judged = of.into_iter().map(|(device, uids)| {
            let give_way = self.judge_device(&device, &uids);
            (device, give_way)
        });
        judged
            .filter(|(_, give_way)| !give_way.is_empty())
            .collect()
    }

    fn judge_device(&mut self, device: &str, uids: &[Uid]) -> Vec<GivesWay> {
        let out_of_reach = |view: &DeviceView| {
            view.disconnected() || view.decommissioned() || view.owner.is_some()
        };
        if self.devices.get(device).is_none_or(out_of_reach) {
            return Vec::new();
        }
        // Both come back below.
        let both = (self.devices.remove(device), self.courses.remove(device));
        let (Some(view), course) = both else {
            return Vec::new();
        };
        let mut course = course.unwrap_or_default();
        let there = |uid: &Uid| self.pods.get(uid).is_some_and(|p| p.device == device);
        course.search.keep(there);
        course.todo.retain(|one| there(&one.uid));
        if course.acted != Some(view.rendered) {
            course.todo.clear();
        }
        if course.todo.is_empty() {
            course.todo = self.course_of(&mut course, &view, uids);
        }
        let give_way = course.todo.clone();
        self.devices.insert(device.to_owned(), view);
        self.courses.insert(device.to_owned(), course);
        give_way
    }

    fn course_of(&mut self, course: &mut Course, view: &DeviceView, uids: &[Uid]) -> Vec<GivesWay> {
        let Some(obstacle) = course.obstacle(view) else {
            self.refuses(course, view, course.busy(view));
            if view.reported >= view.rendered && !view.updating.active {
                self.got_there(course, view, uids);
            }
            return Vec::new();
        };
        let words = obstacle.words().to_owned();
        let on_their_way: Vec<(Uid, String, Vec<String>)> = in_order(view, uids, &self.pods)
            .map(|p| (p.key.uid.clone(), p.app.clone(), images(p, view)))
            .collect();
        let judged: Vec<OnItsWay<'_>> = on_their_way
            .iter()
            .map(|(uid, app, images)| OnItsWay {
                app,
                images,
                again: self.pods.get(uid).is_some_and(|p| p.hold.is_some()),
            })
            .collect();
        match blame::judge(&obstacle, &judged, course.stood()) {
            Judgement::Wait => Vec::new(),
            // Of those who are named it is right of this version too.
            Judgement::Others | Judgement::Unnamed if !course.is_about_it() => Vec::new(),
            Judgement::Others => {
                self.refuses(course, view, Some(refusal(view, &words)));
                Vec::new()
            }
            Judgement::Named(who) => {
                let named = who.into_iter().filter_map(|at| on_their_way.get(at));
                let named = named.map(|(uid, _, images)| {
                    let kind = obstacle.kind_for(images);
                    (uid.clone(), refused(kind, &words))
                });
                let named: Vec<_> = named.collect();
                self.refuses(course, view, None);
                self.give_way(course, view, named)
            }
            Judgement::Unnamed => self.look_for_it(course, view, uids, &words),
        }
    }

    /// Halves what may be to blame.
    fn look_for_it(
        &mut self,
        course: &mut Course,
        view: &DeviceView,
        uids: &[Uid],
        words: &str,
    ) -> Vec<GivesWay> {
        if course.not_ours == Some(view.reported) {
            self.refuses(course, view, Some(refusal(view, words)));
            return Vec::new();
        }
        let on_their_way: Vec<&Placed> = in_order(view, uids, &self.pods).collect();
        let judged: Option<Vec<(bool, &Placed)>> = on_their_way
            .into_iter()
            .map(|p| Some((p.is_suspect(view)?, p)))
            .collect();
        // Of some it is not known yet.
        let Some(judged) = judged else {
            return Vec::new();
        };
        let suspects = judged.into_iter().filter(|(suspect, _)| *suspect);
        let suspects: Vec<Uid> = suspects.map(|(_, p)| p.key.uid.clone()).collect();
        match course.search.failed(&suspects) {
            Step::Nobody => {
                course.not_ours = Some(view.reported);
                self.refuses(course, view, Some(refusal(view, words)));
                let out = course.search.end();
                self.release(out);
                let acquitted: Vec<Uid> = uids
                    .iter()
                    .filter(|uid| {
                        let hold = self.pods.get(*uid).and_then(|p| p.hold.as_ref());
                        hold.is_some_and(|hold| !hold.proven && !hold.trying)
                    })
                    .cloned()
                    .collect();
                self.release(acquitted);
                Vec::new()
            }
            Step::Culprit(uid) => {
                self.give_way(course, view, vec![(uid, refused(Kind::Unit, words))])
            }
            Step::Out(out) => {
                let turn = || Why::Turn {
                    words: words.to_owned(),
                };
                let out = out.into_iter().map(|uid| (uid, turn())).collect();
                self.give_way(course, view, out)
            }
        }
    }

    fn give_way(
        &mut self,
        course: &mut Course,
        view: &DeviceView,
        who: Vec<(Uid, Why)>,
    ) -> Vec<GivesWay> {
        course.acted = Some(view.rendered);
        who.into_iter()
            .filter_map(|(uid, why)| {
                let placed = self.pods.get(&uid)?;
                let Stage::Written { revision, .. } = &placed.stage else {
                    return None;
                };
                Some(GivesWay {
                    app: placed.app.clone(),
                    how: placed.way_back(view),
                    revision: revision.clone(),
                    why,
                    uid,
                })
            })
            .collect()
    }

    /// The device's spec is without it, after this version.
    pub(crate) fn gave_way(&mut self, device: &str, one: &GivesWay, after: u64) {
        if let Some(course) = self.courses.get_mut(device) {
            course.todo.retain(|other| other.uid != one.uid);
        }
        self.with_pod(&one.uid, |placed| {
            placed.gave_way(&one.how, one.revision.clone(), one.why.clone(), after);
        });
    }

    /// The device runs what it was given: it is somebody's turn.
    fn got_there(&mut self, course: &mut Course, view: &DeviceView, uids: &[Uid]) {
        course.not_ours = None;
        for uid in uids {
            if let Some(hold) = self.pods.get_mut(uid).and_then(|p| p.hold.as_mut()) {
                hold.proven = true;
            }
        }
        if !self.is_quiet(view) {
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
            self.release(course.back.clone());
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

    /// Nothing keeps them out any more.
    fn release(&mut self, uids: Vec<Uid>) {
        for uid in uids {
            if let Some(placed) = self.pods.get_mut(&uid) {
                placed.hold = None;
                self.looks.insert(uid.clone());
                self.dirty.insert(uid);
            }
        }
    }

    /// What keeps the device that is none of ours; those who wait for it say so.
    fn refuses(
        &mut self,
        course: &mut Course,
        view: &DeviceView,
        refusal: Option<(&'static str, String)>,
    ) {
        if course.refusal == refusal {
            return;
        }
        course.refusal = refusal;
        let waiting = self.pods.iter().filter(|(_, p)| p.device == view.name);
        self.dirty.extend(waiting.map(|(uid, _)| uid.clone()));
    }

    /// Why a device does not get on, where that is not for a pod of ours: the reason
    /// of an event, and a sentence.
    pub(crate) fn refusal(&self, device: &str) -> Option<(&'static str, &str)> {
        let (reason, sentence) = self.courses.get(device)?.refusal.as_ref()?;
        Some((reason, sentence))
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
            Stage::Reserved | Stage::Gone | Stage::DeviceDeleted => true,
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
        if !other && !(hold.is_due() && view.is_some_and(|view| self.is_quiet(view))) {
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
                version: Some(0),
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

/// Of things of others that a device does not take.
fn refusal(view: &DeviceView, words: &str) -> (&'static str, String) {
    let device = view.shown();
    let sentence = match &view.spec_invalid {
        Some(_) => format!("Flight Control cannot render the spec of device {device}: {words}"),
        None => format!("Device {device} refuses version {}: {words}", view.rendered),
    };
    ("DeviceUpdateFailed", sentence)
}

fn refused(kind: Kind, words: &str) -> Why {
    Why::Refused {
        kind,
        words: words.to_owned(),
    }
}

fn tries(placed: &Placed) -> bool {
    placed.hold.as_ref().is_some_and(|hold| hold.trying)
}

/// Those on their way, oldest first: new ones are added at the end of a spec.
fn in_order<'a>(
    view: &'a DeviceView,
    uids: &[Uid],
    pods: &'a HashMap<Uid, Placed>,
) -> impl Iterator<Item = &'a Placed> {
    let mut found: Vec<(usize, &Placed)> = uids
        .iter()
        .filter_map(|uid| pods.get(uid))
        .filter(|placed| placed.is_on_its_way(view))
        .filter_map(|placed| {
            let mut apps = view.applications.iter();
            Some((
                apps.position(|app| app["name"] == placed.app.as_str())?,
                placed,
            ))
        })
        .collect();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, placed)| placed)
}

fn images(placed: &Placed, view: &DeviceView) -> Vec<String> {
    let expected = placed.application(view).and_then(Expected::of_application);
    expected.as_ref().map(images_of).unwrap_or_default()
}

/// Whether Flight Control cannot render what the spec holds now. It goes on saying so
/// when the cause is gone, until it renders something else.
fn is_invalid(view: &DeviceView) -> bool {
    let Some(words) = &view.spec_invalid else {
        return false;
    };
    let items = view.items.iter().flatten().map(|item| item.name.as_str());
    let apps = view.applications.iter();
    let mut there = items.chain(apps.filter_map(|app| app["name"].as_str()));
    there.any(|name| blame::names(words, name))
}

#[cfg(test)]
mod tests;
