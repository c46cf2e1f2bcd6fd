//! Many pods at once.

use std::collections::HashMap;

use futures::future::{join_all, try_join_all};
use tokio::time::timeout;

use super::Fixture;
use super::call::{DEADLINE, cut};
use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{GRACE, PATIENCE, QUIET, Run};
use crate::error::BackendError;
use crate::facts::PodFacts;
use crate::request::PodRequest;

/// Pods asked for at the same moment: more than any fixed number of workers,
/// few enough for two small devices.
const MANY: usize = 300;
/// Of these, one in so many is dropped at its first await and asked for later.
const DROPPED: usize = 5;

/// All are accepted, run once, end and are freed.
pub async fn hundreds_are_served_at_once(fixture: &dyn Fixture) -> Outcome {
    let rule = Rule::CrowdIsServed;
    let run = Run::begin(fixture).await;
    let pods: Vec<PodRequest> = (0..MANY)
        .map(|_| run.pod("crowd"))
        .collect::<Result<_, _>>()?;
    run.listing().await?;
    let calls = pods.iter().enumerate().map(|(index, pod)| {
        let run = &run;
        async move {
            if index % DROPPED == 0 {
                let (pod, cx) = run.call(pod);
                cut(run.backend.ensure(&pod, &cx), 1).await;
                return Ok(());
            }
            accepted(run, pod).await
        }
    });
    try_join_all(calls).await?;
    try_join_all(pods.iter().step_by(DROPPED).map(|pod| accepted(&run, pod))).await?;
    all(&run, &pods, "runs", |pod, shown| {
        shown.is_some_and(|f| f.applied.as_ref() == Some(&pod.spec_revision))
            && run.fixture.record(&pod.key.uid).running > 0
    })
    .await?;
    run.pass(QUIET).await;
    for pod in &pods {
        run.started(&pod.key, 1, rule)?;
    }
    try_join_all(pods.iter().map(|pod| stopped(&run, pod))).await?;
    all(&run, &pods, "ends", |pod, shown| {
        shown.is_none_or(|f| f.ended) && run.fixture.record(&pod.key.uid).running == 0
    })
    .await?;
    join_all(
        pods.iter()
            .map(|pod| timeout(DEADLINE, run.backend.release(&pod.key))),
    )
    .await;
    all(&run, &pods, "is freed", |_, shown| shown.is_none()).await
}

/// `ensure` until Ok. With hundreds pending one may take longer than a single
/// call has: the framework repeats it then.
async fn accepted(run: &Run<'_>, pod: &PodRequest) -> Outcome {
    let mut last = None;
    for _ in 0..PATIENCE {
        let (pod, cx) = run.call(pod);
        let call = timeout(DEADLINE, run.backend.ensure(&pod, &cx)).await;
        let Ok(answer) = call else { continue };
        match answer {
            Ok(()) => return Ok(()),
            Err(BackendError::Unavailable { .. } | BackendError::Waiting { .. }) => {}
            Err(error) => {
                last = Some(error);
                break;
            }
        }
        run.fixture.pass().await;
    }
    Err(Halt::broken(
        Rule::CrowdIsServed,
        format!(
            "with {MANY} calls pending, ensure of {:?} is never Ok: {last:?}",
            pod.key
        ),
    ))
}

/// `stop` until it is taken.
async fn stopped(run: &Run<'_>, pod: &PodRequest) -> Outcome {
    let mut last = None;
    for _ in 0..PATIENCE {
        match timeout(DEADLINE, run.backend.stop(&pod.key, GRACE)).await {
            Ok(Ok(()) | Err(BackendError::NotFound)) => return Ok(()),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {}
        }
        run.fixture.pass().await;
    }
    Err(Halt::broken(
        Rule::CrowdIsServed,
        format!(
            "with {MANY} calls pending, stop of {:?} is never taken: {last:?}",
            pod.key
        ),
    ))
}

async fn all(
    run: &Run<'_>,
    pods: &[PodRequest],
    what: &str,
    done: impl Fn(&PodRequest, Option<&PodFacts>) -> bool,
) -> Outcome {
    let mut last = 0;
    for _ in 0..PATIENCE {
        let listing = run.listing().await?;
        let by_uid: HashMap<_, _> = listing.pods.iter().map(|f| (&f.key.uid, f)).collect();
        let left = pods
            .iter()
            .filter(|pod| !done(pod, by_uid.get(&pod.key.uid).copied()));
        last = left.count();
        if last == 0 {
            return Ok(());
        }
        run.fixture.pass().await;
    }
    Err(Halt::broken(
        Rule::CrowdIsServed,
        format!(
            "of {} pods at once, {last} never get there: each {what}",
            pods.len()
        ),
    ))
}
