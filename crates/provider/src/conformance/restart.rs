//! A new process over the same remote.

use super::Fixture;
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{GRACE, QUIET, Run};

/// One pod runs, one has just been accepted: twice a new process.
pub async fn everything_is_found_again(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RestartFindsAll;
    let mut run = Run::begin(fixture).await;
    let pods = [run.pod("survivor")?, run.pod("newborn")?];
    run.running(&pods[0], rule).await?;
    run.ensure(&pods[1], rule).await?;
    for _ in 0..2 {
        run.restart().await;
        let listing = run.listing().await?;
        for pod in &pods {
            let shown = listing.pods.iter().find(|f| f.key.uid == pod.key.uid);
            let found = shown.is_some_and(|f| {
                f.key == pod.key
                    && f.node == pod.node
                    && f.accepted.as_ref() == Some(&pod.spec_revision)
            });
            if !found {
                return Err(Halt::broken(
                    rule,
                    format!("a new process lists {:?} as {shown:?}", pod.key),
                ));
            }
            run.running(pod, rule).await?;
        }
        run.pass(QUIET).await;
        for pod in &pods {
            run.started(&pod.key, 1, rule)?;
        }
    }
    // The first thing that the next process is asked.
    run.restart().await;
    run.end(&pods[0].key, rule).await?;
    for pod in &pods {
        run.finish(&pod.key).await?;
    }
    Ok(())
}

/// The process dies between stop and end, and between end and release.
pub async fn what_was_ending_ends(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RestartFindsAll;
    let mut run = Run::begin(fixture).await;
    let pod = run.pod("ending")?;
    run.running(&pod, rule).await?;
    run.ask_stop(&pod.key, GRACE).await?;
    run.restart().await;
    run.end(&pod.key, rule).await?;
    run.restart().await;
    run.end(&pod.key, rule).await?;
    run.stays_ended(&pod.key, rule).await?;
    run.release(&pod.key, rule).await?;
    run.restart().await;
    match run.facts(&pod.key).await? {
        None => Ok(()),
        Some(facts) => Err(Halt::broken(
            rule,
            format!("a new process lists a pod that was released: {facts:?}"),
        )),
    }
}
