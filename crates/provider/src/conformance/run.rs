//! What the checks are written in: calls as the framework makes them, and rules
//! that hold at every one of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::call::{Journals, Remembered, Unheard, in_time, request};
use super::report::Halt;
use super::rule::Rule;
use super::{Fixture, Trouble};
use crate::backend::{Backend, PodCx};
use crate::error::BackendError;
use crate::facts::PodFacts;
use crate::key::{PodKey, Uid};
use crate::request::{PodChange, PodRequest};

/// Rounds of [`Fixture::pass`] that a remote may take to get anything done.
pub(super) const PATIENCE: u32 = 60;
/// Rounds after which what has not happened is taken not to happen.
pub(super) const QUIET: u32 = 4;
/// Grace of pods that end quickly when told to.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Pods of one process never share a name or UID, whatever check they are for.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One check at work.
pub(super) struct Run<'a> {
    pub(super) fixture: &'a dyn Fixture,
    pub(super) backend: Arc<dyn Backend>,
    /// The newest facts of each pod that this backend has shown.
    pub(super) shown: Mutex<HashMap<Uid, PodFacts>>,
    journals: Journals,
}

impl<'a> Run<'a> {
    /// Starts with a new backend.
    pub(super) async fn begin(fixture: &'a dyn Fixture) -> Self {
        Self {
            fixture,
            backend: fixture.start().await,
            shown: Mutex::default(),
            journals: Journals::default(),
        }
    }

    /// The process ends, another one starts.
    pub(super) async fn restart(&mut self) {
        self.backend = self.fixture.start().await;
        self.shown = Mutex::default();
    }

    /// A new pod.
    pub(super) fn pod(&self, what: &str) -> Result<PodRequest, Halt> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.named(&format!("conformance-{what}-{number}"))
    }

    /// A new pod with this name.
    pub(super) fn named(&self, name: &str) -> Result<PodRequest, Halt> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut pod = self.fixture.pod(name);
        // The remote may still hold what an earlier process left.
        let run = self.fixture.now().as_second() & 0xffff_ffff;
        pod.metadata.uid = Some(format!("{run:08x}-0000-4000-8000-{number:012x}"));
        request(&pod, PodChange::First)
    }

    /// The pod with another image.
    pub(super) fn updated(&self, first: &PodRequest) -> Result<PodRequest, Halt> {
        let second = request(&self.fixture.updated(&first.pod), PodChange::Image)?;
        if second.spec_revision == first.spec_revision || second.key != first.key {
            return Err(Halt::broken(
                Rule::FixtureKeepsItsWord,
                "updated() gives the same pod another image",
            ));
        }
        Ok(second)
    }

    /// Some of the remote's time.
    pub(super) async fn pass(&self, rounds: u32) {
        for _ in 0..rounds {
            self.fixture.pass().await;
        }
    }

    pub(super) async fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), Halt> {
        match self.fixture.trouble(trouble, on).await {
            true => Ok(()),
            false => Err(Halt::lacks(trouble)),
        }
    }

    /// One `ensure`.
    pub(super) async fn try_ensure(
        &self,
        pod: &PodRequest,
    ) -> Result<Result<(), BackendError>, Halt> {
        let (pod, cx) = self.call(pod);
        in_time("ensure", self.backend.ensure(&pod, &cx)).await
    }

    /// What one `ensure` is handed.
    pub(super) fn call(&self, pod: &PodRequest) -> (PodRequest, PodCx) {
        let journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let pod = PodRequest {
            journal: journals.get(&pod.key.uid).cloned(),
            ..pod.clone()
        };
        let cx = PodCx {
            events: Arc::new(Unheard),
            journal: Arc::new(Remembered {
                uid: pod.key.uid.clone(),
                journals: self.journals.clone(),
            }),
            cancel: CancellationToken::new(),
        };
        (pod, cx)
    }

    /// `ensure` until it is accepted.
    pub(super) async fn ensure(&self, pod: &PodRequest, rule: Rule) -> Result<(), Halt> {
        let mut last = None;
        for _ in 0..PATIENCE {
            match self.try_ensure(pod).await? {
                Ok(()) => return Ok(()),
                Err(error @ (BackendError::Unavailable { .. } | BackendError::Waiting { .. })) => {
                    last = Some(error)
                }
                Err(error) => {
                    return Err(Halt::broken(
                        rule,
                        format!("ensure of {:?} answers {error:?}", pod.key),
                    ));
                }
            }
            self.fixture.pass().await;
        }
        Err(Halt::broken(
            rule,
            format!("ensure of {:?} is never accepted: {last:?}", pod.key),
        ))
    }

    /// `ensure`, and it runs.
    pub(super) async fn running(&self, pod: &PodRequest, rule: Rule) -> Result<(), Halt> {
        self.ensure(pod, rule).await?;
        self.applied(pod, rule).await
    }

    /// One `stop`. `NotFound` is checked against the remote.
    pub(super) async fn try_stop(
        &self,
        key: &PodKey,
        grace: Duration,
    ) -> Result<Result<(), BackendError>, Halt> {
        let answer = in_time("stop", self.backend.stop(key, grace)).await?;
        let record = self.fixture.record(&key.uid);
        if answer == Err(BackendError::NotFound) && record.running > 0 {
            return Err(Halt::broken(
                Rule::NotFoundIsCertain,
                format!("stop of {key:?} answers NotFound, and the remote has {record:?}"),
            ));
        }
        match answer {
            Ok(()) | Err(BackendError::NotFound | BackendError::Unavailable { .. }) => Ok(answer),
            Err(error) => Err(Halt::broken(
                Rule::StopEnds,
                format!("stop of {key:?} answers {error:?}, which is no answer to it"),
            )),
        }
    }

    /// One `stop`, whatever comes of it.
    pub(super) async fn ask_stop(&self, key: &PodKey, grace: Duration) -> Result<(), Halt> {
        let _ = self.try_stop(key, grace).await?;
        Ok(())
    }

    /// `stop` until the end is observed.
    pub(super) async fn end(&self, key: &PodKey, rule: Rule) -> Result<(), Halt> {
        let mut last = None;
        for _ in 0..PATIENCE {
            if self.try_stop(key, GRACE).await? == Err(BackendError::NotFound) {
                return Ok(());
            }
            last = self.facts(key).await?;
            if last.as_ref().is_some_and(|f| f.ended) {
                return Ok(());
            }
            self.fixture.pass().await;
        }
        let record = self.fixture.record(&key.uid);
        Err(Halt::broken(
            rule,
            format!("the end of {key:?} is never observed: {last:?}, the remote has {record:?}"),
        ))
    }

    /// `release` until it works, and the listing agrees.
    pub(super) async fn release(&self, key: &PodKey, rule: Rule) -> Result<(), Halt> {
        for _ in 0..PATIENCE {
            match in_time("release", self.backend.release(key)).await? {
                Ok(()) | Err(BackendError::NotFound) => {
                    return match self.facts(key).await? {
                        None => Ok(()),
                        Some(facts) => Err(Halt::broken(
                            rule,
                            format!("the listing shows a pod that was released: {facts:?}"),
                        )),
                    };
                }
                Err(BackendError::Unavailable { .. }) => self.fixture.pass().await,
                Err(error) => {
                    return Err(Halt::broken(
                        rule,
                        format!("release of {key:?} answers {error:?}"),
                    ));
                }
            }
        }
        Err(Halt::broken(
            rule,
            format!("release of {key:?} never works"),
        ))
    }

    /// Stops, waits for the end, releases; nothing of it may come back.
    pub(super) async fn finish(&self, key: &PodKey) -> Result<(), Halt> {
        self.end(key, Rule::StopEnds).await?;
        self.release(key, Rule::ReleaseFrees).await?;
        self.stays_ended(key, Rule::EndedIsTrue).await
    }
}
