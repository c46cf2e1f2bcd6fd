//! `list`: whole, fresh, honest about what it misses.

use tokio::time::Instant;

use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::Run;
use super::{Fixture, Trouble};
use crate::facts::PodFacts;
use crate::request::PodRequest;

/// Pods that are spread over places, so that a place that is away has some.
const SPREAD: usize = 6;

/// Each pod once, as it was asked for, as of now.
pub async fn it_is_whole_and_fresh(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pods = several(&run).await?;
    for round in 0..2 {
        let listing = run.listing().await?;
        for pod in &pods {
            whole(&listing.pods, pod)?;
        }
        if round == 0 {
            run.pass(1).await;
        }
    }
    finish(&run, &pods).await
}

/// Nobody reads `changes`: what they would have said is in the listing.
pub async fn a_lost_notification_is_healed(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::ListingHeals;
    let run = Run::begin(fixture).await;
    let pod = run.pod("unheard")?;
    run.running(&pod, rule).await?;
    let second = run.updated(&pod)?;
    run.running(&second, rule).await?;
    run.end(&pod.key, rule).await?;
    run.finish(&pod.key).await
}

/// A place does not answer: its pods are shown, or the listing is not complete.
pub async fn a_missing_place_is_declared(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pods = several(&run).await?;
    run.trouble(Trouble::PlaceAway, true).await?;
    let began = Instant::now();
    if let Ok(listing) = run.try_list().await?
        && listing.complete
        && listing.as_of >= began
    {
        for pod in &pods {
            if !listing.pods.iter().any(|f| f.key.uid == pod.key.uid) {
                return Err(Halt::broken(
                    Rule::PartialIsDeclared,
                    format!(
                        "{:?} runs at a place that does not answer, and a complete listing misses it",
                        pod.key
                    ),
                ));
            }
        }
    }
    run.trouble(Trouble::PlaceAway, false).await?;
    let listing = run.listing().await?;
    for pod in &pods {
        whole(&listing.pods, pod)?;
        run.started(&pod.key, 1, Rule::PartialIsDeclared)?;
    }
    finish(&run, &pods).await
}

async fn several(run: &Run<'_>) -> Result<Vec<PodRequest>, Halt> {
    let mut pods = Vec::new();
    for _ in 0..SPREAD {
        let pod = run.pod("listed")?;
        run.running(&pod, Rule::EnsureTakesEffect).await?;
        pods.push(pod);
    }
    Ok(pods)
}

fn whole(shown: &[PodFacts], pod: &PodRequest) -> Outcome {
    match shown.iter().find(|f| f.key.uid == pod.key.uid) {
        Some(facts) if facts.key == pod.key && facts.node == pod.node => Ok(()),
        other => Err(Halt::broken(
            Rule::ListingIsWhole,
            format!(
                "{:?} on {} runs, a complete listing shows {other:?}",
                pod.key, pod.node
            ),
        )),
    }
}

async fn finish(run: &Run<'_>, pods: &[PodRequest]) -> Outcome {
    for pod in pods {
        run.finish(&pod.key).await?;
    }
    Ok(())
}
