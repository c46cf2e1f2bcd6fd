//! A remote that says nothing, and one whose answers are lost.

use tokio::time::Instant;

use super::call::in_time;
use super::ensure::honest;
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{GRACE, QUIET, Run};
use super::{Fixture, Trouble};

/// What could not be asked did not happen.
pub async fn silence_is_no_answer(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::OutageIsUnavailable;
    let run = Run::begin(fixture).await;
    let old = run.pod("before")?;
    run.running(&old, rule).await?;
    let new = run.pod("during")?;
    run.trouble(Trouble::Silent, true).await?;
    for _ in 0..2 {
        honest("ensure", &run.try_ensure(&new).await?, Trouble::Silent)?;
        honest(
            "stop",
            &run.try_stop(&old.key, GRACE).await?,
            Trouble::Silent,
        )?;
        let began = Instant::now();
        if let Ok(listing) = run.try_list().await?
            && listing.complete
            && listing.as_of >= began
        {
            return Err(Halt::broken(
                Rule::ListingIsFresh,
                "nothing answers, and a listing asked for since is complete".to_owned(),
            ));
        }
        run.pass(1).await;
    }
    run.started(&old.key, 1, rule)?;
    run.trouble(Trouble::Silent, false).await?;
    run.running(&new, rule).await?;
    run.started(&new.key, 1, rule)?;
    run.finish(&old.key).await?;
    run.finish(&new.key).await
}

/// A process that starts now has heard of nothing, and says so.
pub async fn a_start_in_silence_knows_nothing(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::OutageIsUnavailable;
    let mut run = Run::begin(fixture).await;
    let pod = run.pod("before-start")?;
    run.running(&pod, rule).await?;
    run.trouble(Trouble::Silent, true).await?;
    run.restart().await;
    let answer = in_time("stop", run.backend.stop(&pod.key, GRACE)).await?;
    honest(
        "stop by a process that has just started",
        &answer,
        Trouble::Silent,
    )?;
    honest(
        "ensure by a process that has just started",
        &run.try_ensure(&pod).await?,
        Trouble::Silent,
    )?;
    run.trouble(Trouble::Silent, false).await?;
    run.running(&pod, rule).await?;
    run.started(&pod.key, 1, rule)?;
    run.finish(&pod.key).await
}

/// Start, update, stop and release take effect and nobody hears of it.
pub async fn a_lost_answer_is_repeated(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    let run = Run::begin(fixture).await;
    let pod = run.pod("lost-answer")?;
    for (starts, pod) in [(1, pod.clone()), (2, run.updated(&pod)?)] {
        run.trouble(Trouble::AnswersLost, true).await?;
        let _ = run.try_ensure(&pod).await?;
        run.trouble(Trouble::AnswersLost, false).await?;
        run.running(&pod, rule).await?;
        run.pass(QUIET).await;
        run.started(&pod.key, starts, rule)?;
    }
    run.trouble(Trouble::AnswersLost, true).await?;
    run.ask_stop(&pod.key, GRACE).await?;
    run.trouble(Trouble::AnswersLost, false).await?;
    run.end(&pod.key, rule).await?;
    run.trouble(Trouble::AnswersLost, true).await?;
    let _ = in_time("release", run.backend.release(&pod.key)).await?;
    run.trouble(Trouble::AnswersLost, false).await?;
    run.release(&pod.key, rule).await?;
    run.stays_ended(&pod.key, rule).await
}
