//! Why a device does not get on with the version that it was given, and who is to
//! blame: read from its own words. Pure.
//!
//! A version is applied as a whole or not at all, so that one bad application holds
//! up all others. What an agent says: `[time] While <phase>: <component> failed[ for
//! <element>]: <text>` when a version failed (Flight Control,
//! `internal/agent/device/errors/structured.go`), `<n>/<m> images complete, …` while
//! it pulls (`…/dependency/dependency.go`). An element is an application, an image, a
//! unit or a file; a long one is its last 64 bytes behind `...`.

use std::time::Duration;

use crate::device::DeviceView;
use crate::items::{ROOT, environment_item, volumes_item};
use crate::mapping::{app_id, folder};

/// What an agent keeps of an element that is longer.
const ELEMENT: usize = 64;
/// So much of a name tells whose it is where an agent cut off its beginning.
const TELLING: usize = 16;
/// An image that is not there after this long, without an error and while none of the
/// others has come either, does not keep its neighbours waiting any longer: an agent
/// that cannot reach a registry says no more than `pending`.
pub(crate) const PENDING: Duration = Duration::from_secs(60);
/// Parts of an agent whose failure no application has caused: the device's load, its
/// owner's update windows and hooks, its operating system.
const OWN: [&str; 8] = [
    "resources",
    "download policy",
    "update policy",
    "hooks",
    "systemd",
    "lifecycle",
    "os",
    "os reconciliation",
];

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image cannot be pulled.
    Pull,
    /// An application cannot be made or started: a unit that no generator takes, a file
    /// that cannot be written, or what is not said.
    Unit,
    /// Flight Control cannot render the device's spec.
    Config,
    /// The device itself: no application is to blame.
    Device,
}

/// A version that the device does not take, or tries again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// What is wrong.
    pub kind: Kind,
    /// The device's words, without the time.
    pub words: &'a str,
    /// They name what they are about.
    pub named: bool,
}

/// What keeps a device from its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle<'a> {
    /// An error.
    Refusal(Refusal<'a>),
    /// Images that have not come yet, of which the words name some.
    Pulling {
        /// The device's words.
        words: &'a str,
    },
}

impl<'a> Obstacle<'a> {
    /// What a device says, whatever version it is about.
    pub fn of(device: &'a DeviceView) -> Option<Self> {
        if let Some(words) = &device.spec_invalid {
            return Some(Self::Refusal(Refusal {
                kind: Kind::Config,
                words,
                named: true,
            }));
        }
        let update = &device.updating;
        let words = words(&update.message);
        if update.failed() || (update.active && component(words).is_some()) {
            return Some(Self::Refusal(Refusal::of(words)));
        }
        if !update.active || complete(words).is_none() {
            return None;
        }
        Some(if words.contains(" retrying: ") {
            Self::Refusal(Refusal {
                kind: Kind::Pull,
                words,
                named: true,
            })
        } else {
            Self::Pulling { words }
        })
    }

    /// Whether a device has only begun with its version, for the first time or once more:
    /// that tells nothing of how far it will get. An agent that waits for images begins
    /// anew each time that it looks for them.
    pub fn is_yet_to_show(device: &DeviceView) -> bool {
        let update = &device.updating;
        let words = words(&update.message);
        let told = complete(words).is_some() || component(words).is_some();
        update.active && update.reason == "Preparing" && !told
    }

    /// The device's words.
    pub fn words(&self) -> &'a str {
        match self {
            Self::Refusal(refusal) => refusal.words,
            Self::Pulling { words } => words,
        }
    }

    /// What is wrong, as far as it concerns an application of these images.
    pub fn kind_for(&self, images: &[String]) -> Kind {
        let pull = images.iter().any(|image| names_image(self.words(), image));
        match self {
            Self::Refusal(refusal) if refusal.kind != Kind::Pull => refusal.kind,
            _ if pull => Kind::Pull,
            // It names the application, and not what of it.
            _ => Kind::Unit,
        }
    }
}

impl<'a> Refusal<'a> {
    fn of(words: &'a str) -> Self {
        let kind = match component(words) {
            Some("prefetch") => Kind::Pull,
            Some(own) if OWN.contains(&own) => Kind::Device,
            _ => Kind::Unit,
        };
        Self {
            kind,
            words,
            named: element(words).is_some(),
        }
    }
}

/// An application of ours that a device has not applied yet.
#[derive(Clone, Debug)]
pub struct OnItsWay<'a> {
    /// Its name.
    pub app: &'a str,
    /// Its images, as its units spell them.
    pub images: &'a [String],
    /// It was refused before, and is tried again.
    pub again: bool,
}

/// Who has to give way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nobody yet.
    Wait,
    /// These, by their places.
    Named(Vec<usize>),
    /// One of those on their way, and nothing says which.
    Unnamed,
    /// None of ours.
    Others,
}

/// Who of those on their way is to blame for what has stood in the way for so long.
pub fn judge(obstacle: &Obstacle<'_>, on_their_way: &[OnItsWay<'_>], stood: Duration) -> Judgement {
    let words = obstacle.words();
    let pulls = |one: &OnItsWay<'_>| one.images.iter().any(|image| names_image(words, image));
    // An image may be called like another one's application.
    let image = on_their_way.iter().any(pulls);
    let named = |one: &OnItsWay<'_>| match image {
        true => pulls(one),
        false => names(words, one.app),
    };
    let (blamed, free): (Vec<usize>, Vec<usize>) =
        (0..on_their_way.len()).partition(|at| on_their_way.get(*at).is_some_and(named));
    match obstacle {
        Obstacle::Refusal(refusal) if refusal.kind == Kind::Device => Judgement::Others,
        Obstacle::Refusal(_) if !blamed.is_empty() => Judgement::Named(blamed),
        Obstacle::Refusal(refusal) if refusal.named => Judgement::Others,
        Obstacle::Refusal(_) => Judgement::Unnamed,
        // Alone it may take its time.
        Obstacle::Pulling { .. } if blamed.is_empty() || free.is_empty() => Judgement::Wait,
        Obstacle::Pulling { .. } if stood >= PENDING => Judgement::Named(blamed),
        Obstacle::Pulling { .. } => {
            // What was refused before makes room at once.
            let again = |at: &usize| on_their_way.get(*at).is_some_and(|one| one.again);
            let again: Vec<usize> = blamed.into_iter().filter(again).collect();
            if again.is_empty() {
                Judgement::Wait
            } else {
                Judgement::Named(again)
            }
        }
    }
}

/// The words of a message, without the time in front.
pub fn words(message: &str) -> &str {
    message
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .map_or(message, |(_, words)| words)
}

/// How many images of a version are there, where the words are about that.
pub(crate) fn complete(words: &str) -> Option<usize> {
    let (count, _) = words.split_once(" images complete")?;
    let (complete, _) = count.split_once('/')?;
    complete.parse().ok()
}

/// `While <phase>: <component> failed…`
fn component(words: &str) -> Option<&str> {
    let (_phase, rest) = words.strip_prefix("While ")?.split_once(": ")?;
    let (component, _) = rest.split_once(" failed")?;
    Some(component)
}

/// `… failed for <element>: <text>`
fn element(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once(" failed for ")?;
    let (element, _) = rest.split_once(": ")?;
    Some(element)
}

/// What words are about: the element that failed, the images that are looked for
/// again, the items that cannot be rendered. The text behind may quote anything.
fn subjects(words: &str) -> Vec<&str> {
    if component(words).is_some() {
        return element(words).into_iter().collect();
    }
    if let Some((_, images)) = words.split_once(" images complete, retrying: ") {
        let images = images.split(", ");
        return images
            .filter_map(|image| image.split(": ").next())
            .collect();
    }
    vec![
        words
            .split_once(". Error: ")
            .map_or(words, |(items, _)| items),
    ]
}

/// Whether words name an application: by its name or the agent's, one of its units,
/// its files or its items.
pub fn names(words: &str, app: &str) -> bool {
    if app.is_empty() {
        return false;
    }
    let id = app_id(app);
    let unit = format!("{id}-");
    let folder = format!("{}/", folder(app));
    let own = [app, &id, &volumes_item(app), &environment_item(app)];
    let named = |subject: &str| {
        own.iter().any(|name| holds_word(subject, name))
            || begins(subject, &unit, |before| {
                // In a folder of the system, and not one of another pod's files.
                before.starts_with('/') && before.ends_with('/') && !before.starts_with(ROOT)
            })
            || begins(subject, &folder, |_| false)
    };
    subjects(words).into_iter().any(named)
        || cut(words).is_some_and(|end| ends_begin(&unit, end) || ends_begin(&folder, end))
}

/// Whether words name an image, and not one whose name only begins alike.
pub fn names_image(words: &str, image: &str) -> bool {
    let long = |end| image.len() > ELEMENT && image.ends_with(end);
    let named = |subject: &str| holds_word(subject, image);
    subjects(words).into_iter().any(named) || cut(words).is_some_and(long)
}

/// What is left of an element whose beginning was cut off.
fn cut(words: &str) -> Option<&str> {
    let end = element(words)?.strip_prefix("...")?;
    (end.len() >= ELEMENT).then_some(end)
}

/// Whether `text` begins with enough of the end of `name` to be told by it.
fn ends_begin(name: &str, text: &str) -> bool {
    let from = name.len().saturating_sub(TELLING);
    (0..=from)
        .filter_map(|at| name.get(at..))
        .any(|end| text.starts_with(end))
}

/// What names are made of.
fn part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-/@:".contains(c)
}

/// Whether a word begins with `name`, or has it behind what `may_precede`.
fn begins(words: &str, name: &str, may_precede: impl Fn(&str) -> bool) -> bool {
    words.match_indices(name).any(|(at, _)| {
        let before = words.get(..at).unwrap_or_default();
        let before = before.rsplit(|c| !part(c)).next().unwrap_or_default();
        before.is_empty() || may_precede(before)
    })
}

fn holds_word(words: &str, name: &str) -> bool {
    !name.is_empty()
        && words.match_indices(name).any(|(at, _)| {
            let before = words.get(..at).and_then(|w| w.chars().next_back());
            let rest = words.get(at + name.len()..).unwrap_or_default();
            // Punctuation of the sentence may follow.
            let rest = rest.strip_prefix([':', '.']).unwrap_or(rest);
            before.is_none_or(|c| !part(c)) && rest.chars().next().is_none_or(|c| !part(c))
        })
}

#[cfg(test)]
mod tests;
