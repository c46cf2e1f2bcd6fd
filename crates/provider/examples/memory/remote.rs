//! The remote of this example: a service that runs jobs in two rooms. It stands
//! for whatever your backend talks to, and knows nothing of Kubernetes. What
//! goes wrong with real services can be switched on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;
use vk_provider::conformance::{Record, Trouble};

/// Where jobs run; each answers for itself.
pub const ROOMS: [&str; 2] = ["north", "south"];
/// The room that [`Trouble::PlaceAway`] is about.
const AWAY: &str = "south";
/// The image of containers that end only when their grace period does.
pub const STUBBORN: &str = "stubborn";
/// News that a slow reader may be behind by; further ones are lost.
const NEWS: usize = 64;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Accepted,
    Running { since: Timestamp },
    Stopping { since: Timestamp, until: Timestamp },
    Ended { at: Timestamp },
}

impl Phase {
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// A job. `tags` are the owner's: the service keeps them and looks at none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    pub room: &'static str,
    pub image: String,
    pub tags: BTreeMap<&'static str, String>,
    /// Rises with every change of any job.
    pub version: u64,
    pub phase: Phase,
}

/// What the service answers instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    /// Someone else wrote first.
    Conflict,
    /// No answer. What was asked may have happened, or not.
    Lost,
}

/// The service; clones talk to the same one.
#[derive(Clone, Debug)]
pub struct Remote {
    state: Arc<Mutex<State>>,
    news: broadcast::Sender<Job>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    version: u64,
    jobs: BTreeMap<String, Job>,
    /// What really ran, by the tag `uid`.
    records: HashMap<String, Record>,
    troubles: HashSet<Trouble>,
}

impl Remote {
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                now: Timestamp::UNIX_EPOCH,
                version: 0,
                jobs: BTreeMap::new(),
                records: HashMap::new(),
                troubles: HashSet::new(),
            })),
            news: broadcast::Sender::new(NEWS),
        }
    }

    /// The job, if there is one.
    pub async fn get(&self, id: &str) -> Result<Option<Job>, Refusal> {
        self.call(None, false, |state| Ok(state.jobs.get(id).cloned()))
            .await
    }

    /// Puts a job in the place of version `over`, or where there is none. What
    /// the old one ran is ended first.
    pub async fn put(&self, job: Job, over: Option<u64>) -> Result<(), Refusal> {
        self.call(Some(job.room), true, move |state| {
            if state.jobs.get(&job.id).map(|j| j.version) != over {
                return Err(Refusal::Conflict);
            }
            state.end(&job.id);
            state.jobs.insert(job.id.clone(), job.clone());
            state.change(&job.id, Phase::Accepted);
            Ok(())
        })
        .await
    }

    /// Begins to end a job; a second call can only hurry.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), Refusal> {
        self.call(None, true, |state| {
            let now = state.now;
            let asked = now.checked_add(grace).unwrap_or(Timestamp::MAX);
            let job = state.jobs.get(id).ok_or(Refusal::NotFound)?;
            match job.phase {
                Phase::Accepted => state.change(id, Phase::Ended { at: now }),
                Phase::Running { since } => {
                    let until = asked;
                    state.change(id, Phase::Stopping { since, until });
                }
                Phase::Stopping { since, until } => {
                    let until = until.min(asked);
                    state.change(id, Phase::Stopping { since, until });
                }
                Phase::Ended { .. } => {}
            }
            Ok(())
        })
        .await
    }

    /// Removes a job and whatever it runs.
    pub async fn delete(&self, id: &str) -> Result<(), Refusal> {
        self.call(None, true, |state| {
            state.end(id);
            state.jobs.remove(id).map(|_| ()).ok_or(Refusal::NotFound)
        })
        .await
    }

    /// All jobs of a room, as of that time.
    pub async fn list(&self, room: &'static str) -> Result<Vec<Job>, Refusal> {
        self.call(Some(room), false, move |state| {
            let jobs = state.jobs.values().filter(|j| j.room == room);
            Ok(jobs.cloned().collect())
        })
        .await
    }

    /// Jobs as they change.
    pub fn watch(&self) -> broadcast::Receiver<Job> {
        self.news.subscribe()
    }

    /// One call: on its way, done, on its way back. It may be dropped at either.
    async fn call<T>(
        &self,
        room: Option<&str>,
        write: bool,
        effect: impl FnOnce(&mut State) -> Result<T, Refusal> + Send,
    ) -> Result<T, Refusal> {
        tokio::task::yield_now().await;
        let answer = {
            let mut state = self.lock();
            let silent = state.troubles.contains(&Trouble::Silent);
            let away = room == Some(AWAY) && state.troubles.contains(&Trouble::PlaceAway);
            if silent || away {
                return Err(Refusal::Lost);
            }
            let before = state.version;
            let answer = effect(&mut state);
            self.tell(&state, before);
            if write && state.troubles.contains(&Trouble::AnswersLost) {
                return Err(Refusal::Lost);
            }
            answer
        };
        tokio::task::yield_now().await;
        answer
    }

    fn tell(&self, state: &State, before: u64) {
        for job in state.jobs.values().filter(|j| j.version > before) {
            // Nobody listens: that is no one's loss.
            let _ = self.news.send(job.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What only the world around the service can do and see.
impl Remote {
    pub fn now(&self) -> Timestamp {
        self.lock().now
    }

    /// Time passes, jobs go on.
    pub fn pass(&self, time: Duration) {
        let mut state = self.lock();
        state.now = state.now.checked_add(time).unwrap_or(Timestamp::MAX);
        let (now, before) = (state.now, state.version);
        let ids: Vec<String> = state.jobs.keys().cloned().collect();
        for id in ids {
            let job = &state.jobs[&id];
            match job.phase {
                Phase::Accepted => state.begin(&id),
                Phase::Stopping { until, .. } if until <= now || job.image != STUBBORN => {
                    state.end(&id);
                }
                _ => {}
            }
        }
        self.tell(&state, before);
    }

    pub fn exit(&self, uid: &str) {
        let mut state = self.lock();
        let before = state.version;
        state.end(uid);
        self.tell(&state, before);
    }

    pub fn record(&self, uid: &str) -> Record {
        self.lock().records.get(uid).copied().unwrap_or_default()
    }

    pub fn trouble(&self, trouble: Trouble, on: bool) {
        let troubles = &mut self.lock().troubles;
        match on {
            true => troubles.insert(trouble),
            false => troubles.remove(&trouble),
        };
    }
}

impl State {
    fn change(&mut self, id: &str, phase: Phase) {
        self.version += 1;
        if let Some(job) = self.jobs.get_mut(id) {
            job.phase = phase;
            job.version = self.version;
        }
    }

    fn begin(&mut self, id: &str) {
        let since = self.now;
        self.change(id, Phase::Running { since });
        let record = self.record(id);
        record.starts += 1;
        record.running += 1;
        record.most_at_once = record.most_at_once.max(record.running);
    }

    fn end(&mut self, id: &str) {
        let Some(job) = self.jobs.get(id) else { return };
        if matches!(job.phase, Phase::Running { .. } | Phase::Stopping { .. }) {
            self.record(id).running -= 1;
            let at = self.now;
            self.change(id, Phase::Ended { at });
        }
    }

    fn record(&mut self, id: &str) -> &mut Record {
        let uid = self.jobs[id].tags["uid"].clone();
        self.records.entry(uid).or_default()
    }
}
