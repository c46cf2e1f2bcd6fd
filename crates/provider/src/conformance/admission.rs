//! Nodes, `admit` and `heed`.

use std::collections::BTreeMap;

use futures::StreamExt;
use tokio::time::timeout;

use super::report::{Halt, Outcome};
use super::rule::Rule;
use super::run::{QUIET, Run};
use super::{Fixture, Trouble};
use crate::admission::{Admission, NodeUse};
use crate::node::NodeFacts;
use crate::request::PodRequest;

/// Others that are asked about meanwhile; none of them is started.
const OTHERS: usize = 500;
/// A backend reads everything once before it publishes.
const FIRST_NODES: std::time::Duration = std::time::Duration::from_secs(60);

/// The node that pods are bound to is there, with room.
pub async fn nodes_are_published(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("bound")?;
    node(&run, &pod).await.map(|_| ())
}

/// Asked three times, for hundreds of pods, in silence: the same answer, and
/// nothing happens at the remote.
pub async fn asking_changes_nothing(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("admit")?;
    let bound = NodeUse {
        node: node(&run, &pod).await?,
        ..NodeUse::default()
    };
    let admit = |when: &str| match run.backend.admit(&pod, &bound) {
        Admission::Accept => Ok(()),
        other => Err(Halt::broken(
            Rule::AdmitIsPure,
            format!("{when}, the fixture's pod is answered {other:?}"),
        )),
    };
    for _ in 0..3 {
        admit("on an empty node")?;
    }
    for _ in 0..OTHERS {
        let other = run.pod("admit-other")?;
        let _ = run.backend.admit(&other, &bound);
    }
    admit("after hundreds were asked about and none started")?;
    match run.trouble(Trouble::Silent, true).await {
        Ok(()) => {
            admit("while the remote is silent")?;
            run.trouble(Trouble::Silent, false).await?;
        }
        Err(Halt::NotRun { .. }) => {}
        Err(broken) => return Err(broken),
    }
    run.pass(QUIET).await;
    let record = fixture.record(&pod.key.uid);
    if record.starts > 0 || run.facts(&pod.key).await?.is_some() {
        return Err(Halt::broken(
            Rule::AdmitIsPure,
            format!(
                "{:?} was only asked about, and the remote has {record:?}",
                pod.key
            ),
        ));
    }
    Ok(())
}

/// People annotate a node as they like, and take it back.
pub async fn annotations_of_a_node_change_nothing_that_runs(fixture: &dyn Fixture) -> Outcome {
    let run = Run::begin(fixture).await;
    let pod = run.pod("annotated")?;
    run.running(&pod, Rule::HeedIsNoted).await?;
    let said = BTreeMap::from([("conformance".to_owned(), "changed".to_owned())]);
    for annotations in [&BTreeMap::new(), &said, &said, &BTreeMap::new()] {
        run.backend.heed(&pod.node, annotations);
        run.backend.heed("conformance-no-such-node", annotations);
        run.pass(QUIET).await;
        run.started(&pod.key, 1, Rule::HeedIsNoted)?;
    }
    run.applied(&pod, Rule::HeedIsNoted).await?;
    run.finish(&pod.key).await
}

async fn node(run: &Run<'_>, pod: &PodRequest) -> Result<NodeFacts, Halt> {
    let broken = |seen: String| Halt::broken(Rule::NodesArePublished, seen);
    let set = timeout(FIRST_NODES, run.backend.nodes().next())
        .await
        .map_err(|_| broken(format!("no nodes within {} s", FIRST_NODES.as_secs())))?
        .ok_or_else(|| broken("the stream of nodes is empty".into()))?;
    let names: Vec<_> = set.keys().cloned().collect();
    set.get(&*pod.node)
        .cloned()
        .ok_or_else(|| broken(format!("{} is not among {names:?}", pod.node)))
}
