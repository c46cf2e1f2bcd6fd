//! The system where pods really run, in memory. It outlives the process under
//! test, lives by its own timer, and knows how often every pod ran.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use vk_provider::{
    BackendError, Clock, ContainerFact, ContainerState, PodFacts, PodKey, PodRequest, Reach,
    Revision, Terminated, Uid, Verdict,
};

use crate::court::{Court, is_terminal, phase};
use crate::dice::Dice;
use crate::world::REFUSED;

#[path = "places.rs"]
mod places;

/// Between an end and the next start by the restart policy.
const BACK_OFF: Duration = Duration::from_secs(10);
/// A container is up after at most this.
const START: Duration = Duration::from_secs(4);
/// A container that is told to stop takes up to this, unless its grace ends first.
const STOP: Duration = Duration::from_secs(20);
/// How often no other place is free for a pod that lost its own, in percent.
const NO_PLACE: u64 = 30;
/// Why a pod is given up, and what one waits for that is run elsewhere.
pub const LOST_PLACE: &str = "PlaceLost";
/// An annotation of the remote's: the pod is on its way to another place.
pub const ELSEWHERE: &str = "sim.example.com/elsewhere";
/// An annotation by which people tell the remote something.
pub const HEEDED: &str = "sim.example.com/heeded";
/// Old states kept for listings that lag behind.
const PAST: usize = 200;

#[derive(Clone, Debug)]
enum At {
    Starting { until: Instant },
    Running { since: Timestamp },
    BackOff { until: Instant },
    Ended(Terminated),
}

#[derive(Clone, Debug)]
struct Pod {
    key: PodKey,
    node: Arc<str>,
    container: String,
    revision: Revision,
    policy: String,
    at: At,
    /// Told to stop: ends then, with this code.
    stop: Option<(Instant, i32)>,
    starts: u32,
    restarts: i32,
    last: Option<Terminated>,
    seq: u64,
    /// Its place says nothing since then; nothing that happens there shows.
    silent: Option<Timestamp>,
    /// It was given up: its object is to go.
    given_up: bool,
    /// Its place was taken from it, and it has no other yet.
    displaced: bool,
    /// It has another place than its first.
    moved: bool,
    /// What people said about it, as it was told.
    heeded: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<Uid, Pod>,
    seq: u64,
    past: VecDeque<(Instant, Vec<PodFacts>)>,
    news: Option<mpsc::UnboundedSender<PodFacts>>,
}

/// What a process knew of a pod when it began to ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge {
    /// It ended.
    pub end: bool,
    /// It ran, and the remote no longer has it.
    pub loss: bool,
}

/// Clones share one remote.
#[derive(Clone, Debug)]
pub struct Remote {
    state: Arc<Mutex<State>>,
    due: Arc<Notify>,
    pub court: Court,
    pub clock: Clock,
    dice: Dice,
}

impl Remote {
    /// A remote with its timer running.
    pub fn start(court: Court, clock: Clock, dice: Dice) -> Self {
        let remote = Self {
            state: Arc::default(),
            due: Arc::default(),
            court,
            clock,
            dice,
        };
        let timer = remote.clone();
        tokio::spawn(async move {
            loop {
                let woken = timer.due.notified();
                match timer.advance() {
                    Some(at) => tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(at) => {}
                    },
                    None => woken.await,
                }
            }
        });
        remote
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new process listens; whoever listened before hears nothing more.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<PodFacts> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().news = Some(sender);
        receiver
    }

    /// Lets happen what is due; when the next thing is.
    fn advance(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let due: Vec<Uid> = state
            .pods
            .iter()
            .filter(|(_, pod)| pod.next().is_some_and(|at| at <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            if let Some(pod) = state.pods.get_mut(&uid) {
                self.step(pod, now);
            }
            self.tell(&mut state, &uid);
        }
        state.pods.values().filter_map(Pod::next).min()
    }

    fn step(&self, pod: &mut Pod, now: Instant) {
        if let Some((at, code)) = pod.stop
            && at <= now
        {
            return self.end(pod, code);
        }
        match pod.at {
            At::Starting { until } if until <= now => {
                self.court.note(format!("  remote: {} runs", pod.called()));
                pod.at = At::Running {
                    since: self.clock.now(),
                };
            }
            At::BackOff { until } if until <= now => {
                pod.restarts += 1;
                self.begin(pod);
            }
            _ => {}
        }
    }

    /// A container starts.
    fn begin(&self, pod: &mut Pod) {
        pod.starts += 1;
        pod.at = At::Starting {
            until: Instant::now() + self.dice.within(START),
        };
        self.court.fated(pod.key.uid.as_str(), |fate| {
            fate.starts += 1;
            fate.alive = true;
        });
    }

    /// Everything of a pod has ended, for good.
    fn end(&self, pod: &mut Pod, code: i32) {
        if matches!(pod.at, At::Ended(_)) {
            return;
        }
        self.court
            .note(format!("  remote: {} ended with {code}", pod.called()));
        pod.stop = None;
        pod.at = At::Ended(pod.terminated(code, self.clock.now()));
        self.court.fated(pod.key.uid.as_str(), |fate| {
            fate.alive = false;
            fate.ended = true;
        });
    }

    /// Brings a pod to a revision; says so in the court when that breaks a rule.
    /// A pod that has ended for good is not run again, and asking for it is
    /// wrong of a process that `knew` of the end.
    pub fn ensure(&self, request: &PodRequest, knew: Knowledge) -> Result<(), BackendError> {
        self.advance();
        let uid = request.key.uid.clone();
        let fate = self.court.fate(uid.as_str());
        let policy = request.spec().restart_policy.clone().unwrap_or_default();
        let mut state = self.lock();
        let known = state.pods.get(&uid);
        let displaced = known.is_some_and(|pod| pod.displaced);
        if displaced && self.dice.percent(NO_PLACE) {
            return Err(BackendError::Waiting {
                reason: LOST_PLACE.into(),
                message: "no other place is free".into(),
                retry: None,
            });
        }
        let heeded = request.annotation(HEEDED).map(str::to_owned);
        if known.is_some_and(|pod| pod.revision == request.spec_revision && !pod.displaced) {
            if let Some(pod) = state.pods.get_mut(&uid) {
                pod.heeded = heeded;
            }
            return Ok(());
        }
        if known.is_some_and(|pod| pod.given_up) {
            // What is to go is not begun again.
            return Ok(());
        }
        let called = called(&request.key);
        if let Some(shown) = self.court.pod(uid.as_str())
            && is_terminal(phase(&shown))
        {
            self.court
                .wrong(format!("{called} is started after its terminal phase"));
        }
        if request.spec().host_network == Some(true) {
            self.court
                .wrong(format!("{called} is run without the {REFUSED} it asks for"));
        }
        if request.pod.metadata.owner_references.is_some() {
            self.court.wrong(format!("the agent {called} is run"));
        }
        let ended_there = known.is_some_and(|pod| matches!(pod.at, At::Ended(_)));
        let ended = ended_there && knew.end || known.is_none() && fate.ended && !fate.lost;
        let once =
            policy == "Never" && known.is_none() && fate.starts > 0 && (!fate.lost || knew.loss);
        if once || (ended && policy != "Always") {
            self.court
                .wrong(format!("{called} ({policy}) is started again"));
        }
        if ended_there && policy != "Always" {
            return Ok(());
        }
        let mut pod = Pod {
            key: request.key.clone(),
            node: request.node.clone(),
            container: request.spec().containers[0].name.clone(),
            revision: request.spec_revision.clone(),
            policy,
            at: At::BackOff {
                until: Instant::now(),
            },
            stop: None,
            starts: fate.starts,
            // Another place counts anew, and knows of no end.
            restarts: known.map_or(0, |pod| if displaced { 0 } else { pod.restarts + 1 }),
            last: known
                .filter(|_| !displaced)
                .map(|pod| pod.terminated(0, self.clock.now())),
            seq: 0,
            silent: known.and_then(|pod| pod.silent.filter(|_| !displaced)),
            given_up: false,
            displaced: false,
            moved: displaced || known.is_some_and(|pod| pod.moved),
            heeded,
        };
        self.court
            .note(format!("  remote: {called} accepted at {}", pod.revision));
        self.begin(&mut pod);
        state.pods.insert(uid.clone(), pod);
        self.tell(&mut state, &uid);
        Ok(())
    }

    /// A second container of a pod that has one: only broken backends ask for it.
    pub fn start_beside(&self, uid: &Uid) {
        let state = self.lock();
        if let Some(pod) = state.pods.get(uid)
            && pod.is_alive()
        {
            self.court
                .wrong(format!("{} runs twice at once", pod.called()));
        }
    }

    pub fn stop(&self, key: &PodKey, grace: Duration) -> Result<(), BackendError> {
        self.advance();
        let uid = key.uid.as_str();
        let fate = self.court.fate(uid);
        if self.court.wants(uid) && !fate.lost && !fate.given_up {
            self.court.wrong(format!(
                "{} is stopped and Kubernetes wants it",
                called(key)
            ));
        }
        let mut state = self.lock();
        let Some(pod) = state.pods.get_mut(&key.uid) else {
            return Err(BackendError::NotFound);
        };
        self.court
            .note(format!("  remote: {} stops within {grace:?}", pod.called()));
        self.court.fated(uid, |fate| fate.let_go = true);
        if !matches!(pod.at, At::Ended(_)) {
            let now = Instant::now();
            let needs = self.dice.within(STOP);
            let asked = if needs <= grace {
                (now + needs, 0)
            } else {
                (now + grace, 137)
            };
            pod.stop = Some(pod.stop.map_or(asked, |stop| stop.min(asked)));
        }
        drop(state);
        self.due.notify_one();
        Ok(())
    }

    pub fn release(&self, key: &PodKey) -> Result<(), BackendError> {
        self.advance();
        if self.court.pod(key.uid.as_str()).is_some() {
            self.court
                .wrong(format!("{} is released and Kubernetes has it", called(key)));
        }
        let mut state = self.lock();
        let Some(pod) = state.pods.remove(&key.uid) else {
            return Err(BackendError::NotFound);
        };
        if pod.is_alive() {
            self.court
                .wrong(format!("{} is released while it runs", called(key)));
        }
        self.remember(&mut state);
        Ok(())
    }

    /// Everything, as it is now.
    pub fn list(&self) -> (Vec<PodFacts>, Instant) {
        self.advance();
        let mut state = self.lock();
        let State { pods, seq, .. } = &mut *state;
        for pod in pods.values_mut() {
            *seq += 1;
            pod.seq = *seq;
        }
        (
            state.pods.values().map(Pod::facts).collect(),
            Instant::now(),
        )
    }

    /// Everything as it was some time ago, and when that was.
    pub fn list_of(&self, age: Duration) -> (Vec<PodFacts>, Instant) {
        let as_of = Instant::now() - age;
        let state = self.lock();
        let mut past = state.past.iter().rev();
        let known = past
            .find(|(at, _)| *at <= as_of)
            .map(|(_, pods)| pods.clone());
        (known.unwrap_or_default(), as_of)
    }

    /// The main container of a pod ends by itself.
    pub fn exit(&self, uid: &Uid, code: i32) {
        self.advance();
        let mut state = self.lock();
        let Some(pod) = state.pods.get_mut(uid) else {
            return;
        };
        let silent = pod.silent.is_some() || pod.displaced;
        if !matches!(pod.at, At::Running { .. }) || pod.stop.is_some() || silent {
            return;
        }
        if pod.policy == "Never" || (pod.policy == "OnFailure" && code == 0) {
            self.end(pod, code);
        } else {
            self.court.note(format!(
                "  remote: {} exits with {code}, to be restarted",
                pod.called()
            ));
            pod.last = Some(pod.terminated(code, self.clock.now()));
            pod.at = At::BackOff {
                until: Instant::now() + BACK_OFF,
            };
        }
        self.tell(&mut state, uid);
    }

    /// The remote loses a pod without telling.
    pub fn lose(&self, uid: &Uid) {
        let mut state = self.lock();
        if let Some(pod) = state.pods.remove(uid) {
            self.court
                .note(format!("  remote: {} is lost", pod.called()));
            self.court.fated(uid.as_str(), |fate| {
                fate.alive = false;
                fate.lost = true;
            });
        }
        self.remember(&mut state);
    }

    /// A pod of ours is there that nobody in Kubernetes knows.
    pub fn plant(&self, key: &PodKey, node: &str) {
        let mut state = self.lock();
        let mut pod = Pod {
            key: key.clone(),
            node: node.into(),
            container: "app".into(),
            revision: Revision::from_text("planted"),
            policy: "Always".into(),
            at: At::BackOff {
                until: Instant::now(),
            },
            stop: None,
            starts: 0,
            restarts: 0,
            last: None,
            seq: 0,
            silent: None,
            given_up: false,
            displaced: false,
            moved: false,
            heeded: None,
        };
        self.begin(&mut pod);
        state.pods.insert(key.uid.clone(), pod);
        self.tell(&mut state, &key.uid);
    }

    /// Pods there, with their revision and whether they run; an end with its code.
    pub fn pods(&self) -> BTreeMap<String, (Revision, Result<bool, i32>)> {
        let state = self.lock();
        let now = |pod: &Pod| match &pod.at {
            At::Running { .. } => Ok(pod.stop.is_none()),
            At::Ended(end) => Err(end.exit_code.unwrap_or_default()),
            _ => Ok(false),
        };
        let all = state.pods.values();
        all.map(|pod| (pod.key.uid.to_string(), (pod.revision.clone(), now(pod))))
            .collect()
    }

    fn tell(&self, state: &mut State, uid: &Uid) {
        state.seq += 1;
        let seq = state.seq;
        if let Some(pod) = state.pods.get_mut(uid) {
            pod.seq = seq;
            let facts = pod.facts();
            if let Some(news) = &state.news {
                // A process that is gone does not listen.
                let _ = news.send(facts);
            }
        }
        self.remember(state);
        self.due.notify_one();
    }

    fn remember(&self, state: &mut State) {
        let pods = state.pods.values().map(Pod::facts).collect();
        state.past.push_back((Instant::now(), pods));
        if state.past.len() > PAST {
            state.past.pop_front();
        }
    }
}

impl Pod {
    fn next(&self) -> Option<Instant> {
        if self.silent.is_some() {
            return None;
        }
        let own = match self.at {
            At::Starting { until } | At::BackOff { until } => Some(until),
            At::Running { .. } | At::Ended(_) => None,
        };
        own.into_iter().chain(self.stop.map(|(at, _)| at)).min()
    }

    fn id(&self) -> String {
        format!("sim://{}-{}", self.key.uid, self.starts)
    }

    fn is_alive(&self) -> bool {
        !matches!(self.at, At::Ended(_))
    }

    fn called(&self) -> String {
        called(&self.key)
    }

    fn terminated(&self, code: i32, now: Timestamp) -> Terminated {
        if let At::Ended(end) = &self.at {
            return end.clone();
        }
        let started_at = match self.at {
            At::Running { since } => Some(since),
            _ => None,
        };
        Terminated {
            exit_code: Some(code),
            started_at,
            finished_at: Some(now),
            ..Terminated::default()
        }
    }

    fn facts(&self) -> PodFacts {
        let mut facts = PodFacts::new(self.key.clone(), self.node.clone(), self.seq);
        if !self.displaced {
            facts.accepted = Some(self.revision.clone());
            facts.applied = Some(self.revision.clone());
        }
        if let Some(since) = self.silent {
            facts.reach = Reach::Unreachable {
                since,
                reason: "PlaceSilent".into(),
                message: "its place says nothing".into(),
            };
        }
        facts.verdict = self.given_up.then(|| Verdict::Fail {
            reason: LOST_PLACE.into(),
            message: "its place is silent".into(),
            disruption: Some(LOST_PLACE.into()),
            replace: true,
        });
        if self.displaced || self.moved {
            let runs = matches!(self.at, At::Running { .. }) && !self.displaced;
            let value = (!runs).then(|| "soon".to_owned());
            facts.annotations.insert(ELSEWHERE.into(), value);
        }
        facts.host_ips.push([192, 0, 2, 1].into());
        facts.pod_ips.push([10, 0, 0, 1].into());
        facts.ended = matches!(self.at, At::Ended(_));
        let waiting = |reason: &str| ContainerState::Waiting {
            reason: reason.into(),
            message: String::new(),
        };
        let state = match &self.at {
            At::Ended(end) => ContainerState::Terminated(end.clone()),
            _ if self.displaced => waiting(""),
            At::Starting { .. } => waiting("ContainerCreating"),
            At::Running { since } => ContainerState::Running {
                started_at: Some(*since),
            },
            At::BackOff { .. } => waiting("CrashLoopBackOff"),
        };
        let mut container = ContainerFact::new(&self.container, state);
        if !self.displaced {
            container.restarts = Some(self.restarts);
            container.last.clone_from(&self.last);
            container.container_id = Some(self.id());
        }
        facts.containers.push(container);
        facts
    }
}

fn called(key: &PodKey) -> String {
    let uid = key.uid.as_str();
    format!("{}/{}", key.name, &uid[uid.len().saturating_sub(4)..])
}
