//! What is seen of pods, through the backend and at the remote, and what has to
//! hold whenever something is.

use std::collections::HashSet;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::call::in_time;
use super::report::Halt;
use super::rule::Rule;
use super::run::{PATIENCE, QUIET, Run};
use crate::error::BackendError;
use crate::facts::{Listing, PodFacts};
use crate::key::PodKey;
use crate::request::PodRequest;

impl Run<'_> {
    /// The pod runs, and the listing says so.
    pub(super) async fn applied(&self, pod: &PodRequest, rule: Rule) -> Result<(), Halt> {
        let mut last = None;
        for _ in 0..PATIENCE {
            let facts = self.facts(&pod.key).await?;
            let applied = facts.as_ref().and_then(|f| f.applied.as_ref());
            let record = self.fixture.record(&pod.key.uid);
            if applied == Some(&pod.spec_revision) && record.running > 0 {
                return Ok(());
            }
            last = Some((facts, record));
            self.fixture.pass().await;
        }
        Err(Halt::broken(
            rule,
            format!(
                "{:?} at revision {} never runs as the listing says: {last:?}",
                pod.key, pod.spec_revision
            ),
        ))
    }

    /// It was started so often in all, never two at once, and one runs.
    pub(super) fn started(&self, key: &PodKey, times: u32, rule: Rule) -> Result<(), Halt> {
        let record = self.fixture.record(&key.uid);
        if record.starts == times && record.running == 1 && record.most_at_once == 1 {
            return Ok(());
        }
        Err(Halt::broken(
            rule,
            format!(
                "{key:?} should have been started {times} times, one copy at a time: {record:?}"
            ),
        ))
    }

    /// Nothing of it runs, now and for a while.
    pub(super) async fn stays_ended(&self, key: &PodKey, rule: Rule) -> Result<(), Halt> {
        for _ in 0..QUIET {
            let record = self.fixture.record(&key.uid);
            if record.running > 0 {
                return Err(Halt::broken(
                    rule,
                    format!("{key:?} runs after its end: {record:?}"),
                ));
            }
            self.fixture.pass().await;
        }
        Ok(())
    }

    /// What a complete listing says of a pod.
    pub(super) async fn facts(&self, key: &PodKey) -> Result<Option<PodFacts>, Halt> {
        let listing = self.listing().await?;
        Ok(listing.pods.into_iter().find(|f| f.key.uid == key.uid))
    }

    /// A complete listing of a remote that works.
    pub(super) async fn listing(&self) -> Result<Listing, Halt> {
        let mut last = None;
        for _ in 0..PATIENCE {
            let began = Instant::now();
            match self.try_list().await? {
                Ok(listing) if listing.complete => {
                    if listing.as_of < began {
                        return Err(Halt::broken(
                            Rule::ListingIsFresh,
                            format!(
                                "a complete listing is as of {:?} before it was asked for",
                                began - listing.as_of
                            ),
                        ));
                    }
                    return Ok(listing);
                }
                other => last = Some(other.map(|l| l.pods.len())),
            }
            self.fixture.pass().await;
        }
        Err(Halt::broken(
            Rule::ListingIsWhole,
            format!("the listing of a remote that works is never complete: {last:?}"),
        ))
    }

    /// One `list`, examined.
    pub(super) async fn try_list(&self) -> Result<Result<Listing, BackendError>, Halt> {
        let answer = in_time("list", self.backend.list()).await?;
        if let Ok(listing) = &answer {
            self.examine(listing)?;
        }
        Ok(answer)
    }

    fn examine(&self, listing: &Listing) -> Result<(), Halt> {
        let now = Instant::now();
        if listing.as_of > now {
            return Err(Halt::broken(
                Rule::ListingIsFresh,
                format!("a listing is as of {:?} from now", listing.as_of - now),
            ));
        }
        let mut seen = HashSet::new();
        for facts in &listing.pods {
            if !seen.insert(&facts.key.uid) {
                return Err(Halt::broken(
                    Rule::ListingIsWhole,
                    format!("one listing shows {:?} twice", facts.key),
                ));
            }
            self.look(facts)?;
        }
        Ok(())
    }

    /// What holds for facts wherever they come from.
    pub(super) fn look(&self, facts: &PodFacts) -> Result<(), Halt> {
        let record = self.fixture.record(&facts.key.uid);
        if facts.ended && record.running > 0 {
            return Err(Halt::broken(
                Rule::EndedIsTrue,
                format!("{facts:?}, and the remote has {record:?}"),
            ));
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shown.get(&facts.key.uid)
            && (facts.seq < known.seq || (facts.seq == known.seq && facts != known))
        {
            return Err(Halt::broken(
                Rule::SeqRises,
                format!("{facts:?} were listed after {known:?}"),
            ));
        }
        shown.insert(facts.key.uid.clone(), facts.clone());
        Ok(())
    }
}
