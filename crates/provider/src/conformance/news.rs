//! `changes`: what is told, and that it comes to the same as a listing.

use std::collections::HashMap;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::Fixture;
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{GRACE, PATIENCE, Run};
use crate::facts::{Change, PodFacts};
use crate::key::Uid;
use crate::request::PodRequest;

/// More items at once than any backend has to say about three pods.
const FLOOD: usize = 10_000;

/// A pod that runs, one that gets another image, one that ends.
pub async fn changes_and_listing_agree(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let mut news = News::new(run.backend.changes());
    let pods = [run.pod("news-a")?, run.pod("news-b")?, run.pod("news-c")?];
    for pod in &pods {
        run.ensure(pod, Rule::EnsureTakesEffect).await?;
    }
    agree(&run, &mut news, &pods, |facts| facts.applied.is_some()).await?;
    let updated = run.updated(&pods[1])?;
    run.ensure(&updated, Rule::EnsureTakesEffect).await?;
    run.ask_stop(&pods[2].key, GRACE).await?;
    let revision = Some(updated.spec_revision);
    agree(&run, &mut news, &pods[1..2], |f| f.applied == revision).await?;
    agree(&run, &mut news, &pods[2..], |f| f.ended).await?;
    for pod in &pods {
        run.finish(&pod.key).await?;
    }
    Ok(())
}

/// Waits until news and listing say the same of each pod, and it is `done`.
async fn agree(
    run: &Run<'_>,
    news: &mut News,
    pods: &[PodRequest],
    done: impl Fn(&PodFacts) -> bool,
) -> Outcome {
    let mut last = None;
    for _ in 0..PATIENCE {
        news.hear()?;
        let listing = run.listing().await?;
        news.hear()?;
        last = pods.iter().find_map(|pod| {
            let told = news.newest.get(&pod.key.uid);
            let listed = listing.pods.iter().find(|f| f.key.uid == pod.key.uid);
            let same = match (told, listed) {
                (Some(told), Some(listed)) => same(told, listed) && done(told),
                // Looked at again and gone: there is nothing to tell of it.
                _ => false,
            };
            (!same).then(|| format!("of {:?} was told {told:?}, listed {listed:?}", pod.key))
        });
        if last.is_none() {
            return Ok(());
        }
        run.fixture.pass().await;
    }
    Err(Halt::broken(Rule::ChangesAgree, last.unwrap_or_default()))
}

/// The same of everything that does not tell when it was seen.
fn same(told: &PodFacts, listed: &PodFacts) -> bool {
    let states = |f: &PodFacts| -> Vec<_> {
        let all = f.init.iter().chain(&f.containers);
        all.map(|c| (c.name.clone(), c.state.clone())).collect()
    };
    told.key == listed.key
        && told.node == listed.node
        && told.accepted == listed.accepted
        && told.applied == listed.applied
        && told.ended == listed.ended
        && told.verdict == listed.verdict
        && told.pod_ips == listed.pod_ips
        && states(told) == states(listed)
}

/// The newest facts of each pod that were told: the highest `seq` wins.
struct News {
    stream: BoxStream<'static, Change>,
    newest: HashMap<Uid, PodFacts>,
}

impl News {
    fn new(stream: BoxStream<'static, Change>) -> Self {
        Self {
            stream,
            newest: HashMap::new(),
        }
    }

    /// Takes what is there, without waiting.
    fn hear(&mut self) -> Outcome {
        for _ in 0..FLOOD {
            match self.stream.next().now_or_never() {
                None => return Ok(()),
                Some(None) => {
                    return Err(Halt::broken(
                        Rule::ChangesAgree,
                        "the stream of changes ended before the backend did",
                    ));
                }
                Some(Some(Change::Facts(facts))) => {
                    let newer = |known: &PodFacts| known.seq <= facts.seq;
                    if self.newest.get(&facts.key.uid).is_none_or(newer) {
                        self.newest.insert(facts.key.uid.clone(), *facts);
                    }
                }
                Some(Some(Change::Look(_) | Change::Resync)) => {}
            }
        }
        Err(Halt::broken(
            Rule::ChangesAgree,
            format!("{FLOOD} changes in a row about three pods"),
        ))
    }
}
