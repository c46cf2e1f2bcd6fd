//! The example's backend with one thing wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;
use vk_provider::{
    Admission, Backend, BackendError, Capabilities, Change, Listing, NodeSet, NodeUse, PodChange,
    PodCx, PodFacts, PodKey, PodRequest, Uid, node_fit,
};

use crate::backend::{Memory, job};
use crate::remote::{Phase, ROOMS, Refusal, Remote};
use crate::shelf::{Shelf, files};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    NoNodes,
    AdmitReserves,
    EnsureDoesNothing,
    EnsureStartsAgain,
    LabelsStartAgain,
    MetadataStartsAgain,
    HeedStartsAgain,
    OkBeforeWriting,
    WaitsForRunning,
    NewBesideOld,
    KeepsFirstImage,
    StartsEndedPods,
    IgnoresRestart,
    UnknownIsOk,
    NotFoundAtOnce,
    StopDoesNothing,
    NoGrace,
    FirstGraceOnly,
    EndedWhenAsked,
    ReleaseDoesNothing,
    StopsByName,
    ListsTwice,
    DatedAtStart,
    CacheConfirmsItself,
    SilentRoomIsEmpty,
    ListsWhatWasTold,
    SeqFalls,
    SeqStays,
    TellsNothing,
    TellsOnce,
    NewsEnd,
    NotedBeforeWritten,
    NameOfItsOwn,
    StopNotedFirst,
    DoorStaysLocked,
    SilenceIsOk,
    SilenceRejects,
    SilenceIsAbsence,
    OwnPodsOnly,
    TurnsCrowdAway,
    NewFilesStartAgain,
    FirstFilesStay,
    StartsWithoutInputs,
    GoneInputsEnd,
}

/// A backend of one process.
pub struct Faulty {
    good: Memory,
    remote: Remote,
    fault: Fault,
    started: Instant,
    state: Arc<Mutex<State>>,
    /// Where it wants what pods refer to.
    shelf: Option<Shelf>,
    capabilities: Capabilities,
}

/// What the broken ones remember, and should not.
#[derive(Default)]
struct State {
    asked: usize,
    pending: usize,
    attempts: usize,
    locked: bool,
    queue: Vec<PodRequest>,
    known: HashSet<Uid>,
    stopping: HashSet<Uid>,
    names: HashMap<String, PodKey>,
    listed: Option<Listing>,
    told: HashMap<Uid, PodFacts>,
}

impl Faulty {
    pub fn new(remote: Remote, fault: Fault) -> Self {
        let good = Memory(remote.clone());
        Self {
            capabilities: good.capabilities().clone(),
            good,
            started: Instant::now(),
            remote,
            fault,
            state: Arc::default(),
            shelf: None,
        }
    }

    /// It wants what pods refer to, and puts their files there.
    pub fn with_shelf(mut self, shelf: Shelf) -> Self {
        self.shelf = Some(shelf);
        self.capabilities.inputs.objects = true;
        self
    }

    /// Files first, then the job: it starts with them.
    async fn put_files(&self, pod: &PodRequest, shelf: &Shelf) -> Result<(), BackendError> {
        let uid = &pod.key.uid;
        let there = self.exists(uid).await?;
        let files = match files(pod) {
            Ok(files) => files,
            Err(_) if self.is(Fault::StartsWithoutInputs) => return Ok(()),
            Err(error) if there && self.is(Fault::GoneInputsEnd) => {
                self.good.stop(&pod.key, Duration::ZERO).await?;
                return Err(error.into());
            }
            // It runs on with what it has.
            Err(_) if there && pod.change != PodChange::Payload => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let known = shelf.lock().unwrap().get(uid).cloned();
        let is_new = known.as_ref() != Some(&files);
        match self.fault {
            Fault::NewFilesStartAgain if there && is_new => self.put(pod, uid.as_str()).await?,
            Fault::FirstFilesStay if known.is_some() => return Ok(()),
            _ => {}
        }
        shelf.lock().unwrap().insert(uid.clone(), files);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The job is put as it is, whatever is there: it starts again.
    async fn put(&self, pod: &PodRequest, id: &str) -> Result<(), BackendError> {
        let mut job = job(pod)?;
        job.id = id.into();
        let known = self.remote.get(id).await.map_err(lost)?;
        self.remote
            .put(job, known.map(|j| j.version))
            .await
            .map_err(lost)
    }

    /// One pod under several names at the remote.
    async fn put_elsewhere(&self, pod: &PodRequest) -> Result<(), BackendError> {
        let attempt = {
            let mut state = self.state();
            state.attempts += 1;
            state.attempts
        };
        self.put(pod, &format!("{}-{attempt}", pod.key.uid)).await
    }

    /// The names of a pod's jobs: more than one only where a fault gave it more.
    async fn ids(&self, uid: &Uid) -> Result<Vec<String>, BackendError> {
        if !matches!(self.fault, Fault::NameOfItsOwn | Fault::NewBesideOld) {
            return Ok(vec![uid.to_string()]);
        }
        let mut ids = Vec::new();
        for room in ROOMS {
            let jobs = self.remote.list(room).await.map_err(lost)?;
            let ours = jobs.into_iter().filter(|j| j.tags["uid"] == uid.as_str());
            ids.extend(ours.map(|j| j.id));
        }
        Ok(ids)
    }

    async fn exists(&self, uid: &Uid) -> Result<bool, BackendError> {
        let job = self.remote.get(uid.as_str()).await.map_err(lost)?;
        Ok(job.is_some())
    }

    async fn ended(&self, uid: &Uid) -> bool {
        let job = self.remote.get(uid.as_str()).await;
        job.is_ok_and(|j| j.is_some_and(|j| matches!(j.phase, Phase::Ended { .. })))
    }
}

fn lost(refusal: Refusal) -> BackendError {
    match refusal {
        Refusal::NotFound => BackendError::NotFound,
        other => BackendError::Unavailable {
            message: format!("{other:?}"),
            retry: None,
        },
    }
}

/// Of several facts of one pod, those of the job that changed last.
fn newest(pods: Vec<PodFacts>) -> Vec<PodFacts> {
    let mut by_uid: HashMap<Uid, PodFacts> = HashMap::new();
    for facts in pods {
        let known = by_uid.get(&facts.key.uid);
        if known.is_none_or(|k| k.seq < facts.seq) {
            by_uid.insert(facts.key.uid.clone(), facts);
        }
    }
    by_uid.into_values().collect()
}

#[async_trait]
impl Backend for Faulty {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        match self.fault {
            Fault::NoNodes => stream::pending().boxed(),
            _ => self.good.nodes(),
        }
    }

    fn admit(&self, pod: &PodRequest, bound: &NodeUse) -> Admission {
        let mut state = self.state();
        state.asked += 1;
        if self.is(Fault::AdmitReserves) && state.asked > 100 {
            return Admission::Wait {
                reason: "Full".into(),
                message: String::new(),
            };
        }
        node_fit(pod, bound)
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        let uid = &pod.key.uid;
        if let Some(shelf) = &self.shelf {
            self.put_files(pod, shelf).await?;
        }
        match self.fault {
            Fault::EnsureDoesNothing => return Ok(()),
            Fault::EnsureStartsAgain => return self.put(pod, uid.as_str()).await,
            Fault::LabelsStartAgain if pod.change == PodChange::Payload => {
                return self.put(pod, uid.as_str()).await;
            }
            Fault::MetadataStartsAgain if pod.change == PodChange::Metadata => {
                return self.put(pod, uid.as_str()).await;
            }
            Fault::HeedStartsAgain => self.state().queue = vec![pod.clone()],
            Fault::OkBeforeWriting => {
                self.state().queue.push(pod.clone());
                return Ok(());
            }
            Fault::KeepsFirstImage if self.exists(uid).await? => return Ok(()),
            Fault::StartsEndedPods if self.ended(uid).await => {
                return self.put(pod, uid.as_str()).await;
            }
            Fault::IgnoresRestart if pod.change == PodChange::Restart => return Ok(()),
            Fault::NewBesideOld if pod.change == PodChange::Image => {
                return self.put_elsewhere(pod).await;
            }
            Fault::StopsByName => {
                let name = pod.key.name.to_string();
                self.state().names.insert(name, pod.key.clone());
            }
            Fault::NotedBeforeWritten if !self.state().known.insert(uid.clone()) => return Ok(()),
            Fault::NameOfItsOwn => {
                if self.state().known.contains(uid) {
                    return Ok(());
                }
                self.put_elsewhere(pod).await?;
                self.state().known.insert(uid.clone());
                return Ok(());
            }
            Fault::DoorStaysLocked => {
                if std::mem::replace(&mut self.state().locked, true) {
                    return Err(lost(Refusal::Conflict));
                }
                let answer = self.good.ensure(pod, cx).await;
                self.state().locked = false;
                return answer;
            }
            Fault::OwnPodsOnly => {
                self.state().known.insert(uid.clone());
            }
            Fault::TurnsCrowdAway => {
                self.state().pending += 1;
                if self.state().pending > 100 {
                    self.state().pending -= 1;
                    return Err(BackendError::Rejected {
                        reason: "TooMany".into(),
                        message: String::new(),
                    });
                }
            }
            _ => {}
        }
        let answer = self.good.ensure(pod, cx).await;
        match (self.fault, answer) {
            (Fault::TurnsCrowdAway, answer) => {
                self.state().pending -= 1;
                answer
            }
            (Fault::WaitsForRunning, Ok(())) => loop {
                let job = self.remote.get(uid.as_str()).await.map_err(lost)?;
                if job.is_none_or(|j| j.phase != Phase::Accepted) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            },
            (Fault::SilenceIsOk, _) => Ok(()),
            (Fault::SilenceRejects, Err(error)) => Err(BackendError::Rejected {
                reason: "Failed".into(),
                message: error.to_string(),
            }),
            (_, answer) => answer,
        }
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        let mut pod = pod.clone();
        let mut grace = grace;
        match self.fault {
            Fault::StopDoesNothing => return Ok(()),
            Fault::StopsByName => {
                if let Some(named) = self.state().names.get(&*pod.name) {
                    pod = named.clone();
                }
            }
            Fault::NoGrace => grace = Duration::ZERO,
            Fault::FirstGraceOnly | Fault::StopNotedFirst
                if !self.state().stopping.insert(pod.uid.clone()) =>
            {
                return Ok(());
            }
            _ => {}
        }
        let mut answer = Err(BackendError::NotFound);
        for id in self.ids(&pod.uid).await? {
            answer = self.remote.stop(&id, grace).await.map_err(lost);
        }
        if answer.is_ok() {
            self.state().stopping.insert(pod.uid.clone());
        }
        match self.fault {
            Fault::UnknownIsOk if answer == Err(BackendError::NotFound) => Ok(()),
            Fault::NotFoundAtOnce => Err(BackendError::NotFound),
            Fault::SilenceIsAbsence if answer.is_err() => Err(BackendError::NotFound),
            _ => answer,
        }
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        match self.fault {
            Fault::ReleaseDoesNothing => Ok(()),
            _ => {
                for id in self.ids(&pod.uid).await? {
                    self.remote.delete(&id).await.map_err(lost)?;
                }
                Ok(())
            }
        }
    }

    fn heed(&self, _: &str, _: &BTreeMap<String, String>) {
        if !self.is(Fault::HeedStartsAgain) {
            return;
        }
        let again = std::mem::take(&mut self.state().queue);
        let remote = self.remote.clone();
        tokio::spawn(async move {
            for job in again.iter().filter_map(|pod| job(pod).ok()) {
                let known = remote.get(&job.id).await.ok().flatten();
                let _ = remote.put(job, known.map(|known| known.version)).await;
            }
        });
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let queue = match self.fault {
            Fault::OkBeforeWriting => std::mem::take(&mut self.state().queue),
            _ => Vec::new(),
        };
        for pod in queue {
            let job = job(&pod)?;
            let _ = self.remote.put(job, None).await;
        }
        let answer = self.good.list().await;
        let mut state = self.state();
        let mut listing = match (answer, self.fault, &state.listed) {
            (Err(_), Fault::CacheConfirmsItself, Some(listed)) => listed.clone(),
            (answer, ..) => answer?,
        };
        state.listed = Some(listing.clone());
        match self.fault {
            Fault::CacheConfirmsItself => listing.as_of = Instant::now(),
            Fault::DatedAtStart => listing.as_of = self.started,
            Fault::SilentRoomIsEmpty => listing.complete = true,
            Fault::ListsTwice => listing.pods.extend(listing.pods.clone()),
            Fault::OwnPodsOnly => listing.pods.retain(|f| state.known.contains(&f.key.uid)),
            Fault::NewBesideOld | Fault::NameOfItsOwn => listing.pods = newest(listing.pods),
            _ => {}
        }
        for facts in &mut listing.pods {
            match self.fault {
                Fault::SeqFalls => facts.seq = u64::MAX - facts.seq,
                Fault::SeqStays => facts.seq = 1,
                Fault::EndedWhenAsked => facts.ended |= state.stopping.contains(&facts.key.uid),
                Fault::ListsWhatWasTold => {
                    let told = state.told.entry(facts.key.uid.clone());
                    *facts = told.or_insert_with(|| facts.clone()).clone();
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let (fault, state) = (self.fault, self.state.clone());
        match fault {
            Fault::TellsNothing => stream::pending().boxed(),
            Fault::NewsEnd => stream::empty().boxed(),
            _ => self
                .good
                .changes()
                .filter(move |change| {
                    let mut state = state.lock().unwrap();
                    let known = match change {
                        Change::Facts(facts) => state
                            .told
                            .insert(facts.key.uid.clone(), (**facts).clone())
                            .is_some(),
                        _ => false,
                    };
                    let kept = !(fault == Fault::TellsOnce && known);
                    async move { kept }
                })
                .boxed(),
        }
    }
}
