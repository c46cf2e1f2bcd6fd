//! A remote that is a map in memory: pods start and stop at once, and those of
//! restart policy Always run for ever, as do all others that nobody stops.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeAddress, Pod};
use tokio::sync::{Mutex as Turn, mpsc};
use tokio::time::Instant;
use vk_provider::environment::Placement;
use vk_provider::podspec::{Declaration, no_meaning, refused};
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{
    Backend, BackendError, Capabilities, Change, Clock, ContainerFact, ContainerState, Grace,
    Heeds, InputNeeds, Listing, NodeFacts, NodeInfo, NodeSet, PodCx, PodFacts, PodKey, PodRequest,
    Revision, Terminated, Uid,
};

/// What each node offers: more than any benchmark asks for.
const PODS: i64 = 100_000;
/// Each node's CPUs.
const CPUS: i64 = 100_000;
/// Each node's memory: 100 TiB.
const MEMORY: i64 = 100 << 40;
/// Where all pods are said to run; an address of the documentation's block.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

static CAPABILITIES: Capabilities = capabilities(InputNeeds::NOTHING);
static WITH_INPUTS: Capabilities = capabilities(InputNeeds {
    objects: true,
    services: false,
});

const fn capabilities(inputs: InputNeeds) -> Capabilities {
    Capabilities {
        name: "mock",
        grace: Grace::Exact,
        restarts: true,
        heeds: Heeds::NOTHING,
        pod_spec: &POD_SPEC,
        inputs,
    }
}

static POD_SPEC: Declaration = Declaration::new(&[
    no_meaning("spec", "nothing of a pod is made real"),
    refused("spec.ephemeralContainers", "nothing can be started in it"),
    refused("pods/resize", "nothing has a size"),
]);

/// The backend; clones share it.
#[derive(Clone)]
pub(crate) struct Mock(Arc<Inner>);

struct Inner {
    nodes: NodeSet,
    capabilities: &'static Capabilities,
    clock: Clock,
    pods: Mutex<HashMap<Uid, Runs>>,
    /// Bounded by two per pod, a start and a stop: each is told once.
    told: mpsc::UnboundedSender<Change>,
    /// Taken by the one reader of [`Backend::changes`].
    heard: Arc<Turn<mpsc::UnboundedReceiver<Change>>>,
}

/// A pod that runs: what its facts are made from.
struct Runs {
    key: PodKey,
    node: Arc<str>,
    revision: Revision,
    containers: Box<[(Box<str>, Timestamp)]>,
}

impl Mock {
    /// `nodes` nodes called `<prefix>-0` and up.
    pub(crate) fn new(prefix: &str, nodes: usize, inputs: bool, clock: Clock) -> Self {
        let (told, heard) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            nodes: (0..nodes)
                .map(|number| (format!("{prefix}-{number}"), facts_of_a_node()))
                .collect(),
            capabilities: if inputs { &WITH_INPUTS } else { &CAPABILITIES },
            clock,
            pods: Mutex::default(),
            told,
            heard: Arc::new(Turn::new(heard)),
        }))
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<Uid, Runs>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, facts: PodFacts) {
        // Nobody hears it only at the process's end.
        let _ = self.0.told.send(Change::Facts(Box::new(facts)));
    }
}

impl Runs {
    /// A pod that is new here and that Kubernetes shows as running has been
    /// running since then: at a real remote it outlives the process too.
    fn of(pod: &PodRequest, new: bool, now: Timestamp) -> Self {
        let containers = &pod.spec().containers;
        Self {
            key: pod.key.clone(),
            node: pod.node.clone(),
            revision: pod.spec_revision.clone(),
            containers: containers
                .iter()
                .map(|c| {
                    let known = running_since(&pod.pod, &c.name).filter(|_| new);
                    (c.name.as_str().into(), known.unwrap_or(now))
                })
                .collect(),
        }
    }

    fn facts(&self, seq: u64, ended: Option<Timestamp>) -> PodFacts {
        let mut facts = PodFacts::new(self.key.clone(), self.node.clone(), seq);
        facts.accepted = Some(self.revision.clone());
        facts.applied = Some(self.revision.clone());
        facts.pod_ips.push(address(&self.key.uid));
        facts.host_ips.push(HOST);
        facts.ended = ended.is_some();
        facts.containers = self
            .containers
            .iter()
            .map(|(name, since)| {
                let state = match ended {
                    None => ContainerState::Running {
                        started_at: Some(*since),
                    },
                    Some(at) => ContainerState::Terminated(Terminated {
                        exit_code: Some(0),
                        started_at: Some(*since),
                        finished_at: Some(at),
                        ..Terminated::default()
                    }),
                };
                ContainerFact::new(name, state)
            })
            .collect();
        facts
    }
}

/// Running facts of a pod, the oldest; then those of its end.
const STARTED: u64 = 1;
const ENDED: u64 = 2;

fn running_since(pod: &Pod, container: &str) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|s| s.name == container)?;
    let running = status.state.as_ref()?.running.as_ref()?;
    Some(running.started_at.as_ref()?.0)
}

/// The same address for the same pod, also in the next process.
fn address(uid: &Uid) -> IpAddr {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let [a, b, c, ..] = hasher.finish().to_be_bytes();
    Ipv4Addr::new(10, a, b, c.clamp(1, 254)).into()
}

fn facts_of_a_node() -> NodeFacts {
    let size = Resources::new()
        .with("cpu", Amount::units(CPUS))
        .with("memory", Amount::units(MEMORY))
        .with("pods", Amount::units(PODS));
    NodeFacts {
        capacity: size.clone(),
        allocatable: size,
        addresses: vec![NodeAddress {
            type_: "InternalIP".into(),
            address: HOST.to_string(),
        }],
        info: NodeInfo {
            architecture: "amd64".into(),
            operating_system: "linux".into(),
            os_image: "mock".into(),
            ..NodeInfo::default()
        },
        ..NodeFacts::default()
    }
}

#[async_trait]
impl Backend for Mock {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        let nodes = self.0.nodes.clone();
        stream::once(async move { nodes })
            .chain(stream::pending())
            .boxed()
    }

    async fn ensure(&self, pod: &PodRequest, _cx: &PodCx) -> Result<(), BackendError> {
        if self.0.capabilities.inputs.objects {
            pod.render(&Placement::default(), &[])?;
        }
        let facts = {
            let mut pods = self.pods();
            let known = pods.get(&pod.key.uid);
            if known.is_some_and(|runs| runs.revision == pod.spec_revision) {
                return Ok(());
            }
            let runs = Runs::of(pod, known.is_none(), self.0.clock.now());
            let facts = runs.facts(STARTED, None);
            pods.insert(pod.key.uid.clone(), runs);
            facts
        };
        self.tell(facts);
        Ok(())
    }

    async fn stop(&self, pod: &PodKey, _grace: Duration) -> Result<(), BackendError> {
        let runs = self.pods().remove(&pod.uid).ok_or(BackendError::NotFound)?;
        self.tell(runs.facts(ENDED, Some(self.0.clock.now())));
        Ok(())
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        let removed = self.pods().remove(&pod.uid);
        removed.map(|_| ()).ok_or(BackendError::NotFound)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let as_of = Instant::now();
        let pods = self.pods();
        Ok(Listing {
            pods: pods
                .values()
                .map(|runs| runs.facts(STARTED, None))
                .collect(),
            complete: true,
            as_of,
        })
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let heard = self.0.heard.clone();
        stream::unfold(heard, |heard| async move {
            let change = heard.lock().await.recv().await?;
            Some((change, heard))
        })
        .boxed()
    }
}
