//! How a device's images and containers behave, as tests want it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// From the start job to a running process, of a container whose image is on
/// the device (measured: 0.3 to 0.5 s).
const START_DELAY: Duration = Duration::from_millis(300);

/// What a container that heeds TERM takes to end.
const STOP_TAKES: Duration = Duration::from_millis(100);

/// What pulling an image comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The image is on the device already (the default).
    Local,
    /// It arrives after this time.
    Takes(Duration),
    /// The registry does not know it; the version fails after half a minute.
    NotFound,
    /// The registry wants other credentials; the version fails likewise.
    Unauthorized,
    /// The registry does not answer; the update stays pending.
    Unreachable,
    /// It fails with this text and is tried again, without end.
    Retrying(String),
}

/// Behaviour of the containers that match. Later scripts win, field by field.
#[derive(Clone, Debug, Default)]
pub struct Script {
    app: Option<String>,
    container: Option<String>,
    image: Option<String>,
    pull: Option<Pull>,
    start_delay: Option<Duration>,
    exits: Option<Vec<Option<(Duration, i32)>>>,
    stop: Option<Stop>,
    prints: Option<Vec<Line>>,
    never_created: bool,
    rejected: bool,
}

/// What TERM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Ends the process after a while, with a code.
    Heeded(Duration, i32),
    /// Nothing: KILL ends it when the unit's timeout is over.
    Ignored,
}

/// What a run writes.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Since the line before.
    pub(crate) after: Duration,
    pub(crate) stderr: bool,
    pub(crate) text: String,
}

impl Script {
    /// For every container of the device.
    pub fn any() -> Self {
        Self::default()
    }

    /// For every container with this image.
    pub fn image(image: &str) -> Self {
        Self {
            image: Some(image.into()),
            ..Self::default()
        }
    }

    /// For every container of this application.
    pub fn app(app: &str) -> Self {
        Self {
            app: Some(app.into()),
            ..Self::default()
        }
    }

    /// For every container of this name, in any application.
    pub fn container(container: &str) -> Self {
        Self {
            container: Some(container.into()),
            ..Self::default()
        }
    }

    /// What pulling its image comes to.
    #[must_use]
    pub fn pull(mut self, pull: Pull) -> Self {
        self.pull = Some(pull);
        self
    }

    /// From the start job to the running process.
    #[must_use]
    pub fn start_delay(mut self, delay: Duration) -> Self {
        self.start_delay = Some(delay);
        self
    }

    /// Every run ends by itself after this time, with this code.
    #[must_use]
    pub fn exits(self, after: Duration, code: i32) -> Self {
        self.exits_in_turn(vec![Some((after, code))])
    }

    /// One entry a run, the last one for all further runs; None runs on.
    #[must_use]
    pub fn exits_in_turn(mut self, runs: Vec<Option<(Duration, i32)>>) -> Self {
        self.exits = Some(runs);
        self
    }

    /// Every run ends at once with code 1.
    #[must_use]
    pub fn crash_loops(self) -> Self {
        self.exits(Duration::from_millis(200), 1)
    }

    /// TERM is ignored: KILL when the unit's timeout is over, code 137.
    #[must_use]
    pub fn ignores_term(mut self) -> Self {
        self.stop = Some(Stop::Ignored);
        self
    }

    /// TERM ends the process after this time, with this code.
    #[must_use]
    pub fn stops(mut self, after: Duration, code: i32) -> Self {
        self.stop = Some(Stop::Heeded(after, code));
        self
    }

    /// Every run writes this to its standard output, each line so long after the one
    /// before.
    #[must_use]
    pub fn prints(mut self, every: Duration, lines: &[&str]) -> Self {
        let line = |text: &&str| Line {
            after: every,
            stderr: false,
            text: (*text).to_owned(),
        };
        self.prints
            .get_or_insert_default()
            .extend(lines.iter().map(line));
        self
    }

    /// And this to its standard error.
    #[must_use]
    pub fn complains(mut self, after: Duration, text: &str) -> Self {
        self.prints.get_or_insert_default().push(Line {
            after,
            stderr: true,
            text: text.to_owned(),
        });
        self
    }

    /// Podman cannot create it (a missing host path, a port in use): the unit
    /// fails and Flight Control counts one container less.
    #[must_use]
    pub fn never_created(mut self) -> Self {
        self.never_created = true;
        self
    }

    /// The quadlet generator rejects its unit: the whole version fails.
    #[must_use]
    pub fn generator_rejects(mut self) -> Self {
        self.rejected = true;
        self
    }

    fn is_for(&self, app: &str, container: &str, image: &str) -> bool {
        let fits = |want: &Option<String>, have: &str| want.as_deref().is_none_or(|w| w == have);
        fits(&self.app, app) && fits(&self.container, container) && fits(&self.image, image)
    }
}

/// One run of one container.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) start_delay: Duration,
    pub(crate) exit: Option<(Duration, i32)>,
    pub(crate) stop: Stop,
    pub(crate) prints: Vec<Line>,
    pub(crate) never_created: bool,
}

/// All scripts of a device; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scripts(Arc<Mutex<Vec<Script>>>);

impl Scripts {
    pub(crate) fn add(&self, script: Script) {
        self.lock().push(script);
    }

    pub(crate) fn pull(&self, image: &str) -> Pull {
        let scripts = self.lock();
        let found = scripts
            .iter()
            .rev()
            .filter(|script| script.image.as_deref().is_none_or(|one| one == image))
            .find_map(|script| script.pull.clone());
        found.unwrap_or(Pull::Local)
    }

    pub(crate) fn rejected(&self, app: &str, container: &str, image: &str) -> bool {
        self.lock()
            .iter()
            .any(|script| script.rejected && script.is_for(app, container, image))
    }

    /// How run number `run` (from 0) of a container goes.
    pub(crate) fn behaviour(
        &self,
        app: &str,
        container: &str,
        image: &str,
        run: usize,
    ) -> Behaviour {
        let mut behaviour = Behaviour {
            start_delay: START_DELAY,
            exit: None,
            stop: Stop::Heeded(STOP_TAKES, 0),
            prints: Vec::new(),
            never_created: false,
        };
        for script in self.lock().iter() {
            if !script.is_for(app, container, image) {
                continue;
            }
            if let Some(delay) = script.start_delay {
                behaviour.start_delay = delay;
            }
            if let Some(exits) = &script.exits {
                behaviour.exit = exits.get(run).or(exits.last()).copied().flatten();
            }
            if let Some(prints) = &script.prints {
                behaviour.prints.clone_from(prints);
            }
            if let Some(stop) = script.stop {
                behaviour.stop = stop;
            }
            behaviour.never_created |= script.never_created;
        }
        behaviour
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Script>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
