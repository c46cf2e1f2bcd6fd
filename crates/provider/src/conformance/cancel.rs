//! Every call is dropped after its first poll, after its second, and so on
//! until it is done before that: whatever was sent by then may take effect.

use super::Fixture;
use super::call::cut;
use super::report::Outcome;
use super::rule::Rule;
use super::run::{GRACE, QUIET, Run};
use crate::error::BackendError;
use crate::key::PodKey;
use crate::request::PodRequest;

/// A call that wakes more often than this does the same thing in a loop.
const MOST_POLLS: u32 = 100;

/// Asked again at once: it runs, once.
pub async fn a_dropped_ensure_is_repeated(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    for polls in 1..=MOST_POLLS {
        let pod = run.pod("cut-ensure")?;
        let done = drop_ensure(&run, &pod, polls).await;
        runs_once(&run, &pod).await?;
        if done {
            break;
        }
    }
    Ok(())
}

/// No longer wanted: it ends, and nothing starts it later.
pub async fn a_dropped_ensure_is_stopped(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    let run = Run::begin(fixture).await;
    for polls in 1..=MOST_POLLS {
        let pod = run.pod("cut-and-stop")?;
        let done = drop_ensure(&run, &pod, polls).await;
        run.end(&pod.key, rule).await?;
        run.stays_ended(&pod.key, rule).await?;
        run.release(&pod.key, rule).await?;
        run.stays_ended(&pod.key, rule).await?;
        if done {
            break;
        }
    }
    Ok(())
}

/// The process dies in the middle of the call; the next one asks again.
pub async fn a_dropped_ensure_is_repeated_by_the_next_process(fixture: &dyn Fixture) -> Outcome {
    let mut run = Run::begin(fixture).await;
    for polls in 1..=MOST_POLLS {
        let pod = run.pod("cut-and-die")?;
        let done = drop_ensure(&run, &pod, polls).await;
        run.restart().await;
        // As the framework does: nothing starts before the remote was listed.
        run.listing().await?;
        runs_once(&run, &pod).await?;
        if done {
            break;
        }
    }
    Ok(())
}

/// Another image, asked for again: one start more, old before new.
pub async fn a_dropped_update_is_repeated(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    let run = Run::begin(fixture).await;
    for polls in 1..=MOST_POLLS {
        let pod = run.pod("cut-update")?;
        run.running(&pod, rule).await?;
        let second = run.updated(&pod)?;
        let done = drop_ensure(&run, &second, polls).await;
        run.running(&second, rule).await?;
        run.pass(QUIET).await;
        run.started(&pod.key, 2, rule)?;
        run.finish(&pod.key).await?;
        if done {
            break;
        }
    }
    Ok(())
}

/// Asked again, every other time by the next process: it ends.
pub async fn a_dropped_stop_is_repeated(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    let mut run = Run::begin(fixture).await;
    for polls in 1..=MOST_POLLS {
        for dies in [false, true] {
            let pod = run.pod("cut-stop")?;
            run.running(&pod, rule).await?;
            let answer = cut(run.backend.stop(&pod.key, GRACE), polls).await;
            if dies {
                run.restart().await;
            }
            ends(&run, &pod.key).await?;
            if answer.is_some() && dies {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Asked again: it is free.
pub async fn a_dropped_release_is_repeated(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    let run = Run::begin(fixture).await;
    for polls in 1..=MOST_POLLS {
        let pod = run.pod("cut-release")?;
        run.running(&pod, rule).await?;
        run.end(&pod.key, rule).await?;
        let answer = cut(run.backend.release(&pod.key), polls).await;
        run.release(&pod.key, rule).await?;
        run.stays_ended(&pod.key, rule).await?;
        if answer.is_some() {
            break;
        }
    }
    Ok(())
}

/// Asked again: it is whole, and the pod was left alone.
pub async fn a_dropped_listing_is_repeated(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    let run = Run::begin(fixture).await;
    let pod = run.pod("cut-list")?;
    run.running(&pod, rule).await?;
    for polls in 1..=MOST_POLLS {
        let answer: Option<Result<_, BackendError>> = cut(run.backend.list(), polls).await;
        run.applied(&pod, rule).await?;
        if answer.is_some() {
            break;
        }
    }
    run.started(&pod.key, 1, rule)?;
    run.finish(&pod.key).await
}

/// Whether the call was done before it was dropped.
async fn drop_ensure(run: &Run<'_>, pod: &PodRequest, polls: u32) -> bool {
    let (pod, cx) = run.call(pod);
    let answer = cut(run.backend.ensure(&pod, &cx), polls).await;
    cx.cancel.cancel();
    answer.is_some()
}

async fn runs_once(run: &Run<'_>, pod: &PodRequest) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    run.running(pod, rule).await?;
    run.pass(QUIET).await;
    run.started(&pod.key, 1, rule)?;
    ends(run, &pod.key).await
}

async fn ends(run: &Run<'_>, key: &PodKey) -> Outcome {
    let rule = Rule::RepeatIsSafe;
    run.end(key, rule).await?;
    run.release(key, rule).await?;
    run.stays_ended(key, rule).await
}
