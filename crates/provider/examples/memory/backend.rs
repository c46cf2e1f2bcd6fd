//! How to write a backend, in a bit more than a hundred lines.
//! `docs/writing-a-backend.md` walks through it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use vk_provider::podspec::{Declaration, no_meaning, refused};
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, ContainerFact, ContainerState, Grace, Heeds,
    InputNeeds, Listing, NodeFacts, NodeSet, PodChange, PodCx, PodFacts, PodKey, PodRequest,
    Revision, Terminated,
};

use crate::remote::{Job, Phase, ROOMS, Refusal, Remote};

/// The only node.
pub const NODE: &str = "memory";

/// What it does with the fields of a pod: a field that no rule names is refused.
static POD_SPEC: Declaration = Declaration::new(&[
    no_meaning("spec", "a job has a name and an image, and nothing else"),
    refused("spec.ephemeralContainers", "a job is started once, whole"),
    refused("pods/resize", "a job has no size"),
]);

static CAPABILITIES: Capabilities = Capabilities {
    name: "memory",
    grace: Grace::Exact,
    restarts: false,
    heeds: Heeds::NOTHING,
    pod_spec: &POD_SPEC,
    inputs: InputNeeds::NOTHING,
};

/// Pods as jobs of a [`Remote`]. It remembers nothing: what has to be known
/// about a pod is in the tags of its job.
#[derive(Clone, Debug)]
pub struct Memory(pub Remote);

#[async_trait]
impl Backend for Memory {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        let size = Resources::new()
            .with("cpu", Amount::units(64))
            .with("memory", Amount::units(256 << 30))
            .with("pods", Amount::units(1000));
        let node = NodeFacts {
            capacity: size.clone(),
            allocatable: size,
            ..NodeFacts::default()
        };
        stream::iter([NodeSet::from([(NODE.to_owned(), node)])])
            .chain(stream::pending())
            .boxed()
    }

    async fn ensure(&self, pod: &PodRequest, _cx: &PodCx) -> Result<(), BackendError> {
        let job = job(pod)?;
        let known = self.0.get(&job.id).await?;
        if let Some(known) = &known {
            let again = pod.change == PodChange::Restart && known.phase.is_ended();
            if known.tags["revision"] == job.tags["revision"] && !again {
                return Ok(());
            }
        }
        // Compare and swap: whatever happened since the look is seen at the next one.
        Ok(self.0.put(job, known.map(|job| job.version)).await?)
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        Ok(self.0.stop(pod.uid.as_str(), grace).await?)
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        Ok(self.0.delete(pod.uid.as_str()).await?)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let as_of = Instant::now();
        let answers = join_all(ROOMS.map(|room| self.0.list(room))).await;
        // A room that does not answer says nothing about its pods.
        let rooms: Vec<Vec<Job>> = answers.into_iter().flatten().collect();
        if rooms.is_empty() {
            return Err(Refusal::Lost.into());
        }
        Ok(Listing {
            pods: rooms.iter().flatten().map(facts).collect(),
            complete: rooms.len() == ROOMS.len(),
            as_of,
        })
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let news = BroadcastStream::new(self.0.watch());
        // An error means that some were missed.
        news.map(|job| job.map_or(Change::Resync, |job| Change::Facts(Box::new(facts(&job)))))
            .boxed()
    }
}

/// The job of a pod, or the path of the field that it cannot have.
pub fn job(pod: &PodRequest) -> Result<Job, BackendError> {
    let [container] = &pod.spec().containers[..] else {
        return Err(BackendError::Unsupported {
            field: "spec.containers[1]".into(),
            message: "a job has one container".into(),
        });
    };
    let uid = pod.key.uid.to_string();
    Ok(Job {
        room: ROOMS[usize::from(uid.as_bytes().last().is_some_and(|digit| digit % 2 == 0))],
        image: container.image.clone().unwrap_or_default(),
        tags: BTreeMap::from([
            ("namespace", pod.key.namespace.to_string()),
            ("name", pod.key.name.to_string()),
            ("uid", uid.clone()),
            ("node", pod.node.to_string()),
            ("container", container.name.clone()),
            ("revision", pod.spec_revision.to_string()),
        ]),
        id: uid,
        version: 0,
        phase: Phase::Accepted,
    })
}

/// What the job says about its pod, and nothing else.
pub fn facts(job: &Job) -> PodFacts {
    let tag = |name| job.tags[name].as_str();
    let key = PodKey::new(tag("namespace"), tag("name"), tag("uid"));
    let mut facts = PodFacts::new(key, tag("node").into(), job.version);
    let revision = Revision::from_text(tag("revision"));
    facts.applied = (job.phase != Phase::Accepted).then(|| revision.clone());
    facts.accepted = Some(revision);
    facts.ended = job.phase.is_ended();
    let state = match job.phase {
        Phase::Accepted => ContainerState::Waiting {
            reason: "ContainerCreating".into(),
            message: String::new(),
        },
        Phase::Running { since } | Phase::Stopping { since, .. } => ContainerState::Running {
            started_at: Some(since),
        },
        // This service does not tell exit codes: unknown stays unknown.
        Phase::Ended { at } => ContainerState::Terminated(Terminated {
            finished_at: Some(at),
            ..Terminated::default()
        }),
    };
    facts.containers = vec![ContainerFact::new(tag("container"), state)];
    facts
}

impl From<Refusal> for BackendError {
    fn from(refusal: Refusal) -> Self {
        let (message, retry) = match refusal {
            Refusal::NotFound => return Self::NotFound,
            Refusal::Conflict => ("someone else changed the job", Some(Duration::ZERO)),
            Refusal::Lost => ("the service does not answer", None),
        };
        let message = message.into();
        Self::Unavailable { message, retry }
    }
}
