//! A test aid, and nothing else: each container is its `command` as a child
//! process of this program, so that logs, exec, attach, signals, terminals and
//! port-forward are about something real.
//!
//! # Caveats
//! There is no isolation whatever: pods run as this program's user, see this
//! machine's files and processes and share its network. Images are not pulled;
//! instead `PATH` is a folder of busybox's applets. Whatever else would have to be
//! ignored is refused ([`declaration`]). A container of several that has ended
//! starts again when all of them have. Everything ends with the program; the next
//! one starts the pods anew.
//!
//! ```text
//! ensure ──▶ pod ──▶ run ──▶ spawn ──▶ process
//!                     │ └─▶ log ──▶ logs, attach
//!                     └──▶ exec
//! ```
//!
//! # Tasks
//! One for each container that runs ([`run`]); it alone signals and reaps its
//! process. Outside, one process waits for the end of this one ([`home`]).

mod attach;
pub(crate) mod declaration;
mod exec;
mod family;
mod forward;
mod home;
pub(crate) mod local;
mod log;
mod machine;
mod pod;
mod run;
mod spawn;
mod usage;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use tracing::{info, warn};
use vk_provider::environment::Placement;
use vk_provider::{
    Admission, Attach, Backend, BackendError, Capabilities, Change, Clock, Exec, Listing, Logs,
    NodeSet, NodeUse, PodChange, PodCx, PodKey, PodRequest, PortForward, Stats, Uid, node_fit,
};

use declaration::{CAPABILITIES, refusals};
use home::Home;
use pod::Pod;
use run::Run;

/// News that a slow reader may be behind before it has to list anew: a start and
/// an end of more pods than anybody runs with this.
const NEWS: usize = 1024;

/// The backend; clones share it.
#[derive(Clone)]
pub(crate) struct Processes(Arc<Inner>);

struct Inner {
    nodes: NodeSet,
    place: Placement,
    home: Home,
    clock: Clock,
    began: Timestamp,
    pods: Mutex<HashMap<Uid, Pod>>,
    told: broadcast::Sender<Change>,
}

impl Processes {
    /// Nodes called `<prefix>-0` and up, all of them this machine, which is
    /// reached at `address`.
    ///
    /// # Errors
    /// There is no busybox, or no folder can be made.
    pub(crate) async fn start(
        prefix: &str,
        nodes: usize,
        address: IpAddr,
        clock: Clock,
    ) -> io::Result<Self> {
        warn!("a test aid: commands of pods run on this machine, without any isolation");
        let node = machine::facts(address);
        Ok(Self(Arc::new(Inner {
            place: Placement {
                allocatable: node.allocatable.clone(),
                pod_ips: vec![address],
                host_ips: vec![address],
            },
            nodes: (0..nodes)
                .map(|number| (format!("{prefix}-{number}"), node.clone()))
                .collect(),
            home: Home::make().await?,
            began: clock.now(),
            clock,
            pods: Mutex::default(),
            told: broadcast::Sender::new(NEWS),
        })))
    }

    /// Kills everything that was started and removes its files, pods' folders and
    /// `PATH` too: for the program's end.
    pub(crate) async fn end(&self) {
        self.0.home.end().await;
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<Uid, Pod>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present run of a container.
    fn run(&self, pod: &PodKey, container: &str) -> Result<Arc<Run>, BackendError> {
        let pods = self.pods();
        let found = pods.get(&pod.uid).and_then(|pod| pod.container(container));
        found.map(|c| c.now.clone()).ok_or(BackendError::NotFound)
    }

    /// The same of a container that has not ended.
    fn alive(&self, pod: &PodKey, container: &str) -> Result<Arc<Run>, BackendError> {
        let run = self.run(pod, container)?;
        match run.end() {
            None => Ok(run),
            Some(_) => Err(BackendError::NotFound),
        }
    }

    /// Takes a pod's next step, if there is one now, and tells how it is.
    fn advance(&self, pod: &mut Pod) {
        pod.advance(self);
        // Nobody hears it only at the program's end.
        let facts = Box::new(pod.facts(&self.0.place));
        let _ = self.0.told.send(Change::Facts(facts));
    }

    /// A container has ended.
    fn ended(&self, uid: &Uid) {
        if let Some(pod) = self.pods().get_mut(uid) {
            self.advance(pod);
        }
    }
}

#[async_trait]
impl Backend for Processes {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        let nodes = self.0.nodes.clone();
        stream::once(async move { nodes })
            .chain(stream::pending())
            .boxed()
    }

    fn admit(&self, pod: &PodRequest, bound: &NodeUse) -> Admission {
        match refusals(pod).into_result() {
            Ok(()) => node_fit(pod, bound),
            Err(refusal) => Admission::Reject {
                reason: "Unsupported".into(),
                message: BackendError::from(refusal).to_string(),
                event: None,
            },
        }
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        refusals(pod).into_result()?;
        let mut pods = self.pods();
        let known = pods.get_mut(&pod.key.uid);
        let again = pod.change == PodChange::Restart;
        if let Some(known) = &known
            && (known.stopping()
                || (known.revision == pod.spec_revision && !(again && known.ended())))
        {
            return Ok(());
        }
        // Once for each start, as it is then.
        let rendered = pod.render(&self.0.place, &[])?;
        let folder = self.0.home.folder(&pod.key.uid).map_err(unavailable)?;
        let programs = spawn::programs(pod, &rendered, &folder, &self.0.home);
        match known {
            Some(known) => {
                known.replace(pod.spec_revision.clone(), programs);
                self.advance(known);
            }
            None => {
                const IGNORED: &str = "the image is not pulled: its command runs on this machine";
                info!(pod = %pod.key, "{IGNORED}");
                cx.events.normal("ImageIgnored", IGNORED);
                let mut new = Pod::new(pod, folder, programs);
                self.advance(&mut new);
                pods.insert(pod.key.uid.clone(), new);
            }
        }
        Ok(())
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        let mut pods = self.pods();
        let pod = pods.get_mut(&pod.uid).ok_or(BackendError::NotFound)?;
        pod.stop(grace);
        self.advance(pod);
        Ok(())
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        let removed = self.pods().remove(&pod.uid);
        let removed = removed.ok_or(BackendError::NotFound)?;
        removed.free().await.map_err(unavailable)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let as_of = Instant::now();
        let mut pods = self.pods();
        Ok(Listing {
            pods: pods
                .values_mut()
                .map(|pod| pod.facts(&self.0.place))
                .collect(),
            complete: true,
            as_of,
        })
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        BroadcastStream::new(self.0.told.subscribe())
            // An error means that some were missed.
            .map(|change| change.unwrap_or(Change::Resync))
            .boxed()
    }

    fn logs(&self) -> Option<&dyn Logs> {
        Some(self)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }

    fn attach(&self) -> Option<&dyn Attach> {
        Some(self)
    }

    fn port_forward(&self) -> Option<&dyn PortForward> {
        Some(self)
    }

    fn stats(&self) -> Option<&dyn Stats> {
        Some(self)
    }
}

/// The machine did not do what it was asked for.
fn unavailable(error: impl std::fmt::Display) -> BackendError {
    BackendError::Unavailable {
        message: error.to_string(),
        retry: None,
    }
}
