//! Which pods give way to their neighbours where a device does not get on: a version
//! is applied as a whole or not at all.

use std::collections::HashMap;

use vk_provider::{Revision, Uid};

use super::World;
use super::acquittal::{Acquittal, Theirs};
use super::course::Course;
use crate::blame::{self, Judgement, Kind, Obstacle, OnItsWay};
use crate::device::DeviceView;
use crate::hold::{Why, images_of};
use crate::mapping::Expected;
use crate::placed::{Placed, Stage, WayBack};
use crate::search::Step;

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

impl GivesWay {
    /// Whether the device's spec shows that it gave way.
    fn is_done(&self, view: &DeviceView) -> bool {
        let mut apps = view.applications.iter();
        match &self.how {
            WayBack::Restore(before) => apps.any(|app| *app == before.app),
            WayBack::End | WayBack::Remove => !view.has_application(&self.app),
        }
    }
}

impl World {
    /// Who gives way now, by device. Repeated until [`World::gave_way`].
    pub(crate) fn judge(&mut self) -> Vec<(String, Vec<GivesWay>)> {
        let mut of: HashMap<String, Vec<Uid>> = HashMap::new();
        for (uid, placed) in &self.pods {
            let device = self.devices.get(&placed.device);
            let concerned =
                placed.hold.is_some() || device.is_some_and(|device| placed.is_on_its_way(device));
            // Of what nobody has named here it is not known whose it is to judge: this
            // process may only stand by.
            if concerned && placed.request.is_some() {
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
        // What one says that is away, off or paused is not about its version.
        if !self.devices.get(device).is_some_and(DeviceView::usable) {
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
            // What kept it from its version may keep it again.
            if !Obstacle::is_yet_to_show(view) {
                self.refuses(course, view, course.busy(view));
            }
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
            Judgement::Others | Judgement::Unnamed if !course.is_about_it() => Vec::new(),
            Judgement::Others => {
                self.refuses(course, view, Some(refusal(view, &words)));
                Vec::new()
            }
            Judgement::Named(who) => {
                let named = who.into_iter().filter_map(|at| on_their_way.get(at));
                let named = named.map(|(uid, _, images)| (uid, obstacle.kind_for(images)));
                // Of an image it is right of every version that needs it.
                let named = named.filter(|(_, kind)| *kind == Kind::Pull || course.is_about_it());
                let named: Vec<_> = named
                    .map(|(uid, kind)| (uid.clone(), refused(kind, &words)))
                    .collect();
                if named.is_empty() {
                    return Vec::new();
                }
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
        let on_their_way: Vec<&Placed> = in_order(view, uids, &self.pods).collect();
        let theirs = Theirs::of(view, &self.cluster);
        if course
            .not_ours
            .as_ref()
            .is_some_and(|acquittal| acquittal.holds(view, &theirs, &on_their_way))
        {
            self.refuses(course, view, Some(refusal(view, words)));
            return Vec::new();
        }
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
                let known = uids.iter().filter_map(|uid| self.pods.get(uid));
                course.not_ours = Some(Acquittal::of(view, theirs, known));
                self.refuses(course, view, Some(refusal(view, words)));
                let out = course.search.end();
                self.let_back(out);
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
            let before = course.todo.len();
            course.todo.retain(|other| other.uid != one.uid);
            if course.todo.len() == before {
                // It was read to be, before the answer came.
                return;
            }
        }
        self.with_pod(&one.uid, |placed| {
            placed.gave_way(&one.how, one.revision.clone(), one.why.clone(), after);
        });
    }

    /// Takes from a reading who has given way by a write whose answer was lost, or is
    /// still to come: missed like after an edit of others it would be put back.
    pub(super) fn gave_way_unheard(&mut self, view: &DeviceView) {
        let Some(course) = self.courses.get(&view.name) else {
            return;
        };
        let Some(acted) = course.acted else { return };
        let out = |one: &&GivesWay| {
            let placed = self.pods.get(&one.uid);
            let written = |p: &Placed| matches!(&p.stage, Stage::Written { revision, .. } if *revision == one.revision);
            placed.is_some_and(written) && one.is_done(view)
        };
        let out: Vec<GivesWay> = course.todo.iter().filter(out).cloned().collect();
        for one in out {
            self.gave_way(&view.name, &one, acted);
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
