//! How a device gets on with the versions it is given. Without I/O.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;
use vk_provider::Uid;

use super::acquittal::Acquittal;
use super::judge::GivesWay;
use crate::blame::{self, Obstacle};
use crate::device::{DeviceView, Updating};
use crate::search::Search;

/// What a device said before a version was rendered may be about the one before it.
/// Standing this long it is not: agents begin polls 5 s apart at most, and say at once
/// that they begin.
const STALE: Duration = Duration::from_secs(20);

/// What it said of the version before it goes on saying until it has the next one:
/// agents that were heard of meanwhile were seen to have one after 128 s.
const FORGETS: Duration = Duration::from_secs(600);

/// Versions of one device that are remembered while it runs none of them; it is back
/// at one of the last ones when somebody gives way.
const GIVEN: usize = 64;

/// Updates of many pods with the usual grace periods were seen to take less.
const BUSY: Duration = Duration::from_secs(120);

/// A device on its way to its version.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The version that is wanted.
    version: u64,
    /// What the device says.
    said: Option<Said>,
    /// The last of it that told how far it is.
    told: Option<Said>,
    /// It was not to be reached when it was read last.
    away: bool,
    /// What it was given since it last ran all it was given: what of that has failed
    /// an agent does not try again, nor say anything of it.
    given: VecDeque<u64>,
    /// Its spec holds one of these once more.
    dead: bool,
    /// When this version was first read.
    since: Option<Instant>,
    /// The device has asked for its version since, and so it has this one.
    fetched: bool,
    /// What it said, with the time, when this version was first read.
    before: Option<String>,
    /// It has said something else since this version was first read.
    moved: bool,
    /// Since when it says this, of this version.
    says: Option<Instant>,
    /// Since when it has not got on, whatever version it was given since.
    stands: Option<Instant>,
    /// The last version that somebody gave way for: of that one all is said.
    pub(super) acted: Option<u64>,
    /// Who was to give way, and has not been written yet.
    pub(super) todo: Vec<GivesWay>,
    /// Whom it refuses without a name.
    pub(super) search: Search,
    /// Those that have come back from it last, and are not written yet.
    pub(super) back: Vec<Uid>,
    /// Since when.
    pub(super) back_since: Option<Instant>,
    /// That nobody here is to blame for what it refuses.
    pub(super) not_ours: Option<Acquittal>,
    /// What keeps it, as the event's reason and a sentence, where that is none of ours.
    pub(super) refusal: Option<(&'static str, String)>,
}

/// What counts as another word.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    updating: Updating,
    spec_invalid: Option<String>,
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
        let away = !view.usable();
        if anew || other || away || self.away {
            self.says = now;
        }
        self.away = away;
        if self.version != view.rendered {
            let message = self.said.as_ref().map(|said| &said.updating.message);
            self.before = message.filter(|m| blame::words(m) != m.as_str()).cloned();
        }
        if view.reported >= view.rendered {
            self.given.clear();
        } else if anew {
            (self.since, self.fetched) = (now, false);
            let spec = of_spec(view);
            self.dead = self.given.contains(&spec);
            if self.given.len() == GIVEN {
                self.given.pop_front();
            }
            self.given.push_back(spec);
        }
        if self.told.is_none() || !Obstacle::is_yet_to_show(view) {
            if !self.told.as_ref().is_some_and(|s| s.is_as_far_as(&said)) {
                self.stands = now;
            }
            self.told = Some(said.clone());
        }
        self.moved = !anew && (self.moved || other);
        self.version = view.rendered;
        self.said = Some(said);
    }

    pub(super) fn stood(&self) -> Duration {
        self.stands.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether what the device says is about the version that is wanted.
    pub(super) fn is_about_it(&self) -> bool {
        let stands = |least| self.says.is_some_and(|since| since.elapsed() >= least);
        if self.waits_for_sign() {
            return stands(FORGETS);
        }
        self.moved || stands(STALE)
    }

    /// It says what it said of the version before, and may not have this one yet.
    pub(super) fn waits_for_sign(&self) -> bool {
        self.repeats() && !self.dead && !self.fetched
    }

    /// The device was heard of then: agents are, when they ask for a version, and one
    /// that is there already they get at once.
    pub(super) fn heard(&mut self, at: Instant) {
        self.fetched |= self.since.is_some_and(|since| at > since);
    }

    /// An error of the very time of one that it said of the version before is that one.
    fn repeats(&self) -> bool {
        let said = self
            .said
            .as_ref()
            .filter(|said| said.spec_invalid.is_none());
        said.is_some_and(|said| self.before.as_ref() == Some(&said.updating.message))
    }

    /// It has been at it for long, and does nothing else meanwhile.
    pub(super) fn busy(&self, view: &DeviceView) -> Option<(&'static str, String)> {
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
    pub(super) fn obstacle<'a>(&self, view: &'a DeviceView) -> Option<Obstacle<'a>> {
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

/// What a spec holds, as far as pods and what is beside them go.
fn of_spec(view: &DeviceView) -> u64 {
    let mut hasher = DefaultHasher::new();
    for app in &view.applications {
        app.to_string().hash(&mut hasher);
    }
    view.items.hash(&mut hasher);
    hasher.finish()
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

/// Whether Flight Control cannot render what the spec holds now. It goes on saying so
/// when the cause is gone, until it renders something else.
pub(super) fn is_invalid(view: &DeviceView) -> bool {
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
