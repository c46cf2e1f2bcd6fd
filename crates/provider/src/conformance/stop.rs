//! `stop` and `release`: the end is begun, observed and true.

use std::time::Duration;

use super::Fixture;
use super::call::request;
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{GRACE, QUIET, Run};
use crate::backend::Grace;
use crate::error::BackendError;
use crate::request::PodChange;

/// Longer than the kit ever waits.
const A_DAY: Duration = Duration::from_secs(86_400);

/// Nobody has ever heard of it.
pub async fn an_unknown_pod_is_not_found(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("nobody")?;
    // A backend may have to look around first.
    run.listing().await?;
    for _ in 0..2 {
        let answer = run.try_stop(&pod.key, GRACE).await?;
        if answer != Err(BackendError::NotFound) {
            return Err(Halt::broken(
                Rule::UnknownIsNotFound,
                format!("stop of {:?} answers {answer:?}", pod.key),
            ));
        }
    }
    run.release(&pod.key, Rule::ReleaseFrees).await
}

/// What runs ends.
pub async fn it_ends_what_runs(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("stop")?;
    run.running(&pod, Rule::EnsureTakesEffect).await?;
    run.end(&pod.key, Rule::StopEnds).await?;
    run.stays_ended(&pod.key, Rule::EndedIsTrue).await?;
    run.finish(&pod.key).await
}

/// Accepted a moment ago, nothing runs yet.
pub async fn it_may_come_before_the_start(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("early-stop")?;
    run.ensure(&pod, Rule::EnsureTakesEffect).await?;
    run.end(&pod.key, Rule::StopEnds).await?;
    run.stays_ended(&pod.key, Rule::EndedIsTrue).await?;
    run.release(&pod.key, Rule::ReleaseFrees).await?;
    run.stays_ended(&pod.key, Rule::EndedIsTrue).await
}

/// At once, later, and after the end.
pub async fn it_may_be_repeated(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("stop-again")?;
    run.running(&pod, Rule::EnsureTakesEffect).await?;
    for _ in 0..3 {
        run.ask_stop(&pod.key, GRACE).await?;
    }
    run.end(&pod.key, Rule::StopEnds).await?;
    for _ in 0..2 {
        // Still ended, whatever was asked since.
        run.end(&pod.key, Rule::StopEnds).await?;
        run.pass(1).await;
    }
    run.stays_ended(&pod.key, Rule::EndedIsTrue).await?;
    run.finish(&pod.key).await
}

/// A container that does not heed TERM is told to hurry.
pub async fn less_grace_hurries(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("stubborn")?;
    let Some(stubborn) = fixture.stubborn(&pod.pod) else {
        return Err(Halt::NotRun {
            lacks: "a stubborn pod",
        });
    };
    let pod = request(&stubborn, PodChange::First)?;
    run.running(&pod, Rule::EnsureTakesEffect).await?;
    let exact = run.backend.capabilities().grace == Grace::Exact;
    run.ask_stop(&pod.key, A_DAY).await?;
    if exact {
        run.pass(QUIET).await;
        let record = fixture.record(&pod.key.uid);
        if record.running != 1 {
            return Err(Halt::broken(
                Rule::GraceIsKept,
                format!(
                    "{:?} was given a day to end, and the remote has {record:?}",
                    pod.key
                ),
            ));
        }
    }
    for _ in 0..2 {
        run.ask_stop(&pod.key, Duration::ZERO).await?;
    }
    run.end(&pod.key, Rule::GraceIsKept).await?;
    run.finish(&pod.key).await
}

/// Released once, twice, and never seen again.
pub async fn release_frees(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("release")?;
    run.running(&pod, Rule::EnsureTakesEffect).await?;
    run.end(&pod.key, Rule::StopEnds).await?;
    for _ in 0..2 {
        run.release(&pod.key, Rule::ReleaseFrees).await?;
    }
    run.pass(QUIET).await;
    if let Some(facts) = run.facts(&pod.key).await? {
        return Err(Halt::broken(
            Rule::ReleaseFrees,
            format!("a released pod comes back in the listing: {facts:?}"),
        ));
    }
    let answer = run.try_stop(&pod.key, GRACE).await?;
    if answer != Err(BackendError::NotFound) {
        return Err(Halt::broken(
            Rule::ReleaseFrees,
            format!("stop of a released pod answers {answer:?}"),
        ));
    }
    run.stays_ended(&pod.key, Rule::EndedIsTrue).await
}
