//! `ensure`: idempotent, prompt, durable, old before new.

use std::sync::Arc;

use super::call::again;
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{QUIET, Run};
use super::{Fixture, Trouble};
use crate::error::BackendError;
use crate::request::PodChange;

/// An accepted pod runs, once.
///
/// # Errors
/// What was found; likewise in every check.
pub async fn it_takes_effect(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("effect")?;
    run.running(&pod, Rule::EnsureTakesEffect).await?;
    run.started(&pod.key, 1, Rule::EnsureTakesEffect)?;
    run.finish(&pod.key).await
}

/// The same call again and again, for every reason there is.
pub async fn repeating_it_does_nothing(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("repeat")?;
    run.ensure(&pod, Rule::EnsureIsIdempotent).await?;
    // Before it runs, and after.
    run.ensure(&pod, Rule::EnsureIsIdempotent).await?;
    run.applied(&pod, Rule::EnsureIsIdempotent).await?;
    for change in [
        PodChange::First,
        PodChange::Image,
        PodChange::Metadata,
        PodChange::Repeat,
    ] {
        run.ensure(&again(&pod, change), Rule::EnsureIsIdempotent)
            .await?;
    }
    run.pass(QUIET).await;
    run.started(&pod.key, 1, Rule::EnsureIsIdempotent)?;
    run.finish(&pod.key).await
}

/// Labels and annotations are not what containers are made from, those that the
/// backend reads included.
pub async fn metadata_restarts_nothing(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("metadata")?;
    run.running(&pod, Rule::EnsureIsIdempotent).await?;
    let heeds = run.backend.capabilities().heeds;
    for change in [PodChange::Payload, PodChange::Metadata] {
        let mut object = (*pod.pod).clone();
        let labels = object.metadata.labels.get_or_insert_default();
        for name in heeds.labels.iter().chain(&["conformance"]) {
            labels.insert((*name).into(), "changed".into());
        }
        let annotations = object.metadata.annotations.get_or_insert_default();
        for name in heeds.annotations {
            annotations.insert((*name).into(), "changed".into());
        }
        let mut changed = again(&pod, change);
        changed.pod = Arc::new(object);
        run.ensure(&changed, Rule::EnsureIsIdempotent).await?;
        run.pass(QUIET).await;
        run.started(&pod.key, 1, Rule::EnsureIsIdempotent)?;
        run.applied(&pod, Rule::EnsureIsIdempotent).await?;
    }
    run.finish(&pod.key).await
}

/// The remote's time stands still while the call is made, unless the fixture
/// lets it follow the runtime's: the call returns all the same.
pub async fn it_does_not_wait_for_the_workload(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("prompt")?;
    run.ensure(&pod, Rule::CallsReturn).await?;
    run.finish(&pod.key).await
}

/// The process dies right after Ok, and the next one is not asked again.
pub async fn it_outlives_the_process(fixture: &dyn Fixture) -> Outcome {
    let mut run = Run::begin(fixture).await;
    let pod = run.pod("durable")?;
    run.ensure(&pod, Rule::EnsureIsDurable).await?;
    run.restart().await;
    let accepted = run.facts(&pod.key).await?.and_then(|f| f.accepted);
    if accepted.as_ref() != Some(&pod.spec_revision) {
        return Err(Halt::broken(
            Rule::EnsureIsDurable,
            format!(
                "ensure of {:?} was Ok, the next process's listing shows {accepted:?} as accepted",
                pod.key
            ),
        ));
    }
    run.applied(&pod, Rule::EnsureIsDurable).await?;
    run.started(&pod.key, 1, Rule::EnsureIsDurable)?;
    run.finish(&pod.key).await
}

/// A new image, the first one again, and two changes in a row.
pub async fn another_image_takes_the_place_of_the_first(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let first = run.pod("image")?;
    run.running(&first, Rule::OldEndsBeforeNew).await?;
    let second = run.updated(&first)?;
    run.running(&second, Rule::OldEndsBeforeNew).await?;
    run.started(&first.key, 2, Rule::OldEndsBeforeNew)?;
    let back = again(&first, PodChange::Image);
    run.running(&back, Rule::OldEndsBeforeNew).await?;
    run.started(&first.key, 3, Rule::OldEndsBeforeNew)?;
    // The last one counts, whether or not the one between ever ran.
    run.ensure(&second, Rule::OldEndsBeforeNew).await?;
    run.ensure(&back, Rule::OldEndsBeforeNew).await?;
    run.pass(QUIET).await;
    run.applied(&back, Rule::OldEndsBeforeNew).await?;
    let record = fixture.record(&first.key.uid);
    if record.running != 1 || record.most_at_once != 1 {
        return Err(Halt::broken(
            Rule::OldEndsBeforeNew,
            format!("after two changes in a row the remote has {record:?}"),
        ));
    }
    run.finish(&first.key).await
}

/// Only for backends that do not restart by themselves.
pub async fn an_ended_pod_starts_again_only_when_asked(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    if run.backend.capabilities().restarts {
        return Ok(());
    }
    let rule = Rule::RestartIsAskedFor;
    let pod = run.pod("restart")?;
    run.running(&pod, rule).await?;
    // Of a pod that runs there is nothing to restart: late news.
    run.ensure(&again(&pod, PodChange::Restart), rule).await?;
    run.pass(QUIET).await;
    run.started(&pod.key, 1, rule)?;
    if !fixture.exit(&pod.key.uid).await {
        run.finish(&pod.key).await?;
        return Err(Halt::NotRun {
            lacks: "an exit of a container",
        });
    }
    run.pass(QUIET).await;
    for change in [PodChange::First, PodChange::Repeat] {
        run.ensure(&again(&pod, change), rule).await?;
    }
    run.stays_ended(&pod.key, rule).await?;
    if !run.facts(&pod.key).await?.is_some_and(|f| f.ended) {
        return Err(Halt::broken(
            rule,
            format!("{:?} has ended by itself, its facts do not say so", pod.key),
        ));
    }
    run.running(&again(&pod, PodChange::Restart), rule).await?;
    run.started(&pod.key, 2, rule)?;
    run.finish(&pod.key).await
}

/// What a silent remote cannot have accepted is not Ok, in whatever way it fails.
pub(super) fn honest(what: &str, answer: &Result<(), BackendError>, trouble: Trouble) -> Outcome {
    match answer {
        Err(BackendError::Unavailable { .. } | BackendError::Waiting { .. }) => Ok(()),
        other => Err(Halt::broken(
            Rule::OutageIsUnavailable,
            format!("under {trouble:?}, {what} answers {other:?}"),
        )),
    }
}
