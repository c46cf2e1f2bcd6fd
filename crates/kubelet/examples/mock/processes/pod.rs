//! A pod: its containers, and the steps between them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vk_provider::environment::Placement;
use vk_provider::{
    ContainerFact, ContainerState, PodFacts, PodKey, PodRequest, Revision, Terminated,
};

use super::Processes;
use super::run::Run;
use super::spawn::Named;

/// What the API server defaults.
const GRACE: Duration = Duration::from_secs(30);
/// Longer than anybody waits; the clock cannot count every duration.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 365);

/// A pod.
pub(super) struct Pod {
    pub(super) key: PodKey,
    pub(super) node: Arc<str>,
    /// What it was last told to run.
    pub(super) revision: Revision,
    /// What its containers were started from.
    applied: Option<Revision>,
    pub(super) containers: Vec<Container>,
    /// What takes their place when they have ended.
    next: Option<Vec<Named>>,
    folder: PathBuf,
    grace: Duration,
    /// Nothing starts any more.
    stopped: bool,
    seq: u64,
}

/// A container that was started.
pub(super) struct Container {
    pub(super) name: String,
    pub(super) now: Arc<Run>,
    /// The run before.
    pub(super) before: Option<Arc<Run>>,
}

impl Pod {
    /// Nothing of it runs yet.
    pub(super) fn new(pod: &PodRequest, folder: PathBuf, programs: Vec<Named>) -> Self {
        let grace = pod.spec().termination_grace_period_seconds;
        let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            key: pod.key.clone(),
            node: pod.node.clone(),
            revision: pod.spec_revision.clone(),
            applied: None,
            containers: Vec::new(),
            next: Some(programs),
            folder,
            grace: grace.map_or(GRACE, Duration::from_secs),
            stopped: false,
            seq: 0,
        }
    }

    pub(super) fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopped
    }

    fn idle(&self) -> bool {
        self.containers.iter().all(|c| c.now.end().is_some())
    }

    /// Nothing runs, and nothing is going to.
    pub(super) fn ended(&self) -> bool {
        self.idle() && self.next.is_none()
    }

    /// Others take the containers' place, as soon as they have ended.
    pub(super) fn replace(&mut self, revision: Revision, programs: Vec<Named>) {
        self.revision = revision;
        self.applied = None;
        self.next = Some(programs);
        self.end_within(self.grace);
    }

    /// Ends the pod for good.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.stopped = true;
        self.next = None;
        self.end_within(grace);
    }

    fn end_within(&self, grace: Duration) {
        let at = Instant::now() + grace.min(FOR_EVER);
        for container in &self.containers {
            container.now.stop(at);
        }
    }

    /// Starts what is next, if nothing runs.
    pub(super) fn advance(&mut self, world: &Processes) {
        if !self.idle() {
            return;
        }
        let Some(next) = self.next.take() else {
            return;
        };
        let mut old = std::mem::take(&mut self.containers);
        self.containers = next
            .into_iter()
            .map(|named| {
                let place = old.iter().position(|c| c.name == named.name);
                let before = place.map(|place| old.swap_remove(place).now);
                Container {
                    now: Run::start(world, &self.key.uid, &named, before.as_deref()),
                    name: named.name,
                    before,
                }
            })
            .collect();
        self.applied = Some(self.revision.clone());
    }

    /// How it is now: newer than whatever was told before.
    pub(super) fn facts(&mut self, place: &Placement) -> PodFacts {
        self.seq += 1;
        let mut facts = PodFacts::new(self.key.clone(), self.node.clone(), self.seq);
        facts.accepted = Some(self.revision.clone());
        facts.applied = self.applied.clone();
        facts.pod_ips = place.pod_ips.clone();
        facts.host_ips = place.host_ips.clone();
        facts.ended = self.ended();
        facts.containers = self.containers.iter().map(Container::fact).collect();
        facts
    }

    /// Frees what is left. What should still run is killed.
    pub(super) async fn free(self) -> io::Result<()> {
        self.end_within(Duration::ZERO);
        for container in &self.containers {
            container.now.ended().await;
        }
        match tokio::fs::remove_dir_all(&self.folder).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Container {
    fn fact(&self) -> ContainerFact {
        let state = match self.now.end() {
            Some(end) => ContainerState::Terminated(end),
            None => ContainerState::Running {
                started_at: Some(self.now.started_at()),
            },
        };
        ContainerFact {
            last: self.before.as_ref().and_then(|run| run.end()),
            container_id: Some(format!("process://{}", self.now.id())),
            ..ContainerFact::new(&self.name, state)
        }
    }
}

/// The end of something that could not be started, as containerd has it.
pub(super) fn start_error(error: &io::Error) -> Terminated {
    Terminated {
        exit_code: Some(128),
        reason: "StartError".into(),
        message: error.to_string(),
        ..Terminated::default()
    }
}
