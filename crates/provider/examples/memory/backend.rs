//! How to write a backend, in about a hundred lines. `docs/writing-a-backend.md`
//! walks through it.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, ContainerFact, ContainerState, Grace, Listing,
    NodeFacts, NodeSet, PodChange, PodCx, PodFacts, PodKey, PodRequest, Revision, Terminated,
};

use vk_provider::podspec::{Declaration, no_meaning, refused};

use crate::remote::{Job, Phase, ROOMS, Refusal, Remote};

/// The only node.
pub const NODE: &str = "memory";

/// What it does with the fields of a pod: a field that no rule names is refused.
static POD_SPEC: Declaration = Declaration::new(&[
    no_meaning(
        "spec",
        "a job here has a name and an image, and nothing else",
    ),
    refused(
        "spec.ephemeralContainers",
        "nothing can be started in a job",
    ),
    refused("pods/resize", "a job has no size"),
]);

static CAPABILITIES: Capabilities = Capabilities {
    name: "memory",
    grace: Grace::Exact,
    restarts: false,
    pod_spec: &POD_SPEC,
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
        let set = NodeSet::from([(NODE.to_owned(), node)]);
        stream::once(async { set }).chain(stream::pending()).boxed()
    }

    async fn ensure(&self, pod: &PodRequest, _cx: &PodCx) -> Result<(), BackendError> {
        let job = job(pod)?;
        let known = self.0.get(&job.id).await.map_err(unavailable)?;
        if let Some(known) = &known {
            let again =
                pod.change == PodChange::Restart && matches!(known.phase, Phase::Ended { .. });
            if known.tags["revision"] == job.tags["revision"] && !again {
                return Ok(());
            }
        }
        // Compare and swap: whatever happened since the look is seen at the next one.
        let over = known.map(|job| job.version);
        self.0.put(job, over).await.map_err(unavailable)
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        self.0
            .stop(pod.uid.as_str(), grace)
            .await
            .map_err(unavailable)
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        self.0.delete(pod.uid.as_str()).await.map_err(unavailable)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let as_of = Instant::now();
        let (mut pods, mut answers) = (Vec::new(), 0);
        for room in ROOMS {
            // A room that does not answer says nothing about its pods.
            if let Ok(jobs) = self.0.list(room).await {
                pods.extend(jobs.iter().map(facts));
                answers += 1;
            }
        }
        if answers == 0 {
            return Err(unavailable(Refusal::Lost));
        }
        let complete = answers == ROOMS.len();
        Ok(Listing {
            pods,
            complete,
            as_of,
        })
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        stream::unfold(self.0.watch(), |mut news| async {
            match news.recv().await {
                Ok(job) => Some((Change::Facts(Box::new(facts(&job))), news)),
                Err(RecvError::Lagged(_)) => Some((Change::Resync, news)),
                Err(RecvError::Closed) => None,
            }
        })
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
        tags: [
            ("namespace", pod.key.namespace.to_string()),
            ("name", pod.key.name.to_string()),
            ("uid", uid.clone()),
            ("node", pod.node.to_string()),
            ("container", container.name.clone()),
            ("revision", pod.spec_revision.to_string()),
        ]
        .into(),
        id: uid,
        version: 0,
        phase: Phase::Accepted,
    })
}

/// What the job says about its pod, and nothing else.
pub fn facts(job: &Job) -> PodFacts {
    let key = PodKey::new(&job.tags["namespace"], &job.tags["name"], &job.tags["uid"]);
    let mut facts = PodFacts::new(key, job.tags["node"].as_str().into(), job.version);
    let revision = Revision::from_text(&job.tags["revision"]);
    facts.accepted = Some(revision.clone());
    facts.applied = (job.phase != Phase::Accepted).then_some(revision);
    facts.ended = matches!(job.phase, Phase::Ended { .. });
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
    facts
        .containers
        .push(ContainerFact::new(&job.tags["container"], state));
    facts
}

fn unavailable(refusal: Refusal) -> BackendError {
    match refusal {
        Refusal::NotFound => BackendError::NotFound,
        Refusal::Conflict => BackendError::Unavailable {
            message: "the job was changed by someone else meanwhile".into(),
            retry: Some(Duration::ZERO),
        },
        Refusal::Lost => BackendError::Unavailable {
            message: "the service does not answer".into(),
            retry: None,
        },
    }
}
