//! Pods are told apart by their UIDs.

use super::Fixture;
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{GRACE, QUIET, Run};
use crate::error::BackendError;

/// A StatefulSet's way: the same name at once, while the old pod still ends.
pub async fn a_name_comes_back_with_another_uid(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::UidIsIdentity;
    let run = Run::begin(fixture).await;
    let old = run.pod("reborn")?;
    run.running(&old, rule).await?;
    let new = run.named(&old.key.name)?;
    run.ask_stop(&old.key, GRACE).await?;
    run.ensure(&new, rule).await?;
    run.end(&old.key, rule).await?;
    run.applied(&new, rule).await?;
    // News of the old one, late.
    run.ask_stop(&old.key, GRACE).await?;
    run.release(&old.key, rule).await?;
    run.ask_stop(&old.key, GRACE).await?;
    run.pass(QUIET).await;
    run.started(&new.key, 1, rule)?;
    run.stays_ended(&old.key, rule).await?;
    match run.facts(&new.key).await? {
        Some(facts) if facts.key == new.key && facts.node == new.node && !facts.ended => {}
        other => {
            return Err(Halt::broken(
                rule,
                format!("{:?} runs, the listing shows {other:?}", new.key),
            ));
        }
    }
    run.finish(&new.key).await
}

/// Another UID under the name of a pod that runs.
pub async fn a_stranger_with_a_known_name_is_not_found(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::UidIsIdentity;
    let run = Run::begin(fixture).await;
    let pod = run.pod("known")?;
    run.running(&pod, rule).await?;
    let stranger = run.named(&pod.key.name)?;
    let answer = run.try_stop(&stranger.key, GRACE).await?;
    if answer != Err(BackendError::NotFound) {
        return Err(Halt::broken(
            rule,
            format!(
                "{:?} runs, stop of {:?} answers {answer:?}",
                pod.key, stranger.key
            ),
        ));
    }
    run.release(&stranger.key, rule).await?;
    run.pass(QUIET).await;
    run.started(&pod.key, 1, rule)?;
    run.finish(&pod.key).await
}
