//! A backend whose remote is a map in memory. Pods start and stop at once,
//! unless a test says otherwise; every call is recorded.

#[path = "given.rs"]
pub mod given;
#[path = "logs.rs"]
mod logs;
#[path = "measured.rs"]
mod measured;
#[path = "places.rs"]
mod places;
#[path = "processes.rs"]
pub mod processes;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::Taint;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use vk_provider::podspec::{Declaration, honoured, no_meaning, refused};
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{
    Admission, Backend, BackendError, Capabilities, Change, Clock, ContainerFact, ContainerState,
    Grace, Heeds, InputNeeds, Listing, NodeFacts, NodeInfo, NodeSet, NodeUse, PodChange, PodCx,
    PodFacts, PodKey, PodRequest, Reach, RenderError, Terminated, Uid, Verdict, node_fit,
};

use given::Given;

/// What the framework asked of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Ensure(String),
    Stop(String, Duration),
    Release(String),
}

/// The remote; it outlives the process that talks to it.
#[derive(Clone, Debug)]
pub struct Remote {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    nodes: watch::Sender<NodeSet>,
    /// While true, `ensure` does not come to its end.
    held_ensures: watch::Sender<bool>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<Uid, PodFacts>,
    calls: Vec<Call>,
    dirty: Vec<Uid>,
    seq: u64,
    /// `ensure` answers this, once per entry.
    fail_next: Vec<BackendError>,
    /// `stop` finds no remote.
    refuse_stops: bool,
    /// `stop` leaves the pod running until [`Remote::finish`].
    hold_stops: bool,
    panic_next: bool,
    /// What it accepts for a pod that runs it does not apply.
    applies_nothing: bool,
    restarts_nothing: bool,
    wants_inputs: bool,
    reads_metadata: bool,
    /// Why each `ensure` was called.
    asked: Vec<(String, PodChange)>,
    /// What was annotated on nodes, as it was told.
    heard: Vec<(String, BTreeMap<String, String>)>,
    /// What each pod was given, where that is wanted.
    given: HashMap<Uid, Given>,
    logs: logs::Written,
    processes: processes::Processes,
    measured: measured::Measured,
}

/// More calls than any test comes to.
const STORM: usize = 50_000;

/// `ensure` of a pod with this annotation writes its journal first.
pub const JOURNALS: &str = "test/journals";

static RESTARTS_NOTHING: Capabilities = capabilities(false, InputNeeds::NOTHING);
static CAPABILITIES: Capabilities = capabilities(true, InputNeeds::NOTHING);
static WANTS_INPUTS: Capabilities = capabilities(true, given::NEEDS);
static READS_METADATA: Capabilities = Capabilities {
    heeds: Heeds {
        labels: &[HEEDED],
        annotations: &[HEEDED],
        replaced: &[],
    },
    ..capabilities(true, InputNeeds::NOTHING)
};

/// Label and annotation of a pod that it reads, where it does.
pub const HEEDED: &str = "test/heeded";

const fn capabilities(restarts: bool, inputs: InputNeeds) -> Capabilities {
    Capabilities {
        name: "memory",
        grace: Grace::Exact,
        restarts,
        heeds: Heeds::NOTHING,
        pod_spec: &POD_SPEC,
        inputs,
    }
}

/// Its containers are entries of a map: few fields can show an effect.
pub static POD_SPEC: Declaration = Declaration::new(&[
    no_meaning("spec", "nothing of a pod is made real"),
    honoured("spec.nodeName", "a_pod_runs_and_goes"),
    honoured(
        "spec.containers[].image",
        "an_image_update_replaces_the_container_in_its_place",
    ),
    honoured(
        "spec.containers[].resources.requests",
        "what_does_not_fit_is_rejected_as_a_kubelet_rejects",
    ),
    honoured(
        "spec.{nodeSelector,affinity.nodeAffinity}",
        "a_selector_counts_labels_of_others_too",
    ),
    honoured("spec.restartPolicy", "a_job_like_pod_ends_and_stays_ended"),
    honoured(
        "spec.terminationGracePeriodSeconds",
        "grace_is_given_and_can_be_shortened",
    ),
    honoured(
        "spec.activeDeadlineSeconds",
        "a_pod_past_its_active_deadline_fails_and_is_stopped",
    ),
    refused(
        "spec.{containers,initContainers}[].lifecycle.{postStart,preStop}",
        "nothing runs that could be called",
    ),
    refused("spec.ephemeralContainers", "nothing can be started in it"),
    refused("pods/resize", "nothing has a size"),
]);

impl Remote {
    pub fn new(clock: Clock, nodes: &[&str]) -> Self {
        let set = nodes
            .iter()
            .map(|name| ((*name).to_owned(), facts()))
            .collect();
        Self {
            state: Arc::default(),
            changed: Arc::default(),
            nodes: watch::Sender::new(set),
            held_ensures: watch::Sender::new(false),
            clock,
        }
    }

    /// A new process's view of the same remote.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.clone())
    }

    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub fn ensures(&self, name: &str) -> usize {
        self.calls()
            .iter()
            .filter(|c| **c == Call::Ensure(name.into()))
            .count()
    }

    pub fn runs(&self, uid: &str) -> bool {
        self.lock().pods.contains_key(&Uid::new(uid))
    }

    /// Nothing of the pod runs any more.
    pub fn ended(&self, uid: &str) -> bool {
        self.lock().pods.get(&Uid::new(uid)).is_none_or(|f| f.ended)
    }

    pub fn is_empty(&self) -> bool {
        self.lock().pods.is_empty()
    }

    pub fn fail_next(&self, error: BackendError) {
        self.lock().fail_next.push(error);
    }

    /// Updates are accepted, and the pod runs on as it was.
    pub fn apply_nothing(&self, nothing: bool) {
        self.lock().applies_nothing = nothing;
    }

    pub fn hold_stops(&self, hold: bool) {
        self.lock().hold_stops = hold;
    }

    pub fn hold_ensures(&self, hold: bool) {
        self.held_ensures.send_replace(hold);
    }

    /// All nodes get this taint, for scheduling only.
    pub fn taint_nodes(&self, key: &str) {
        self.nodes.send_modify(|nodes| {
            for facts in nodes.values_mut() {
                facts.taints = vec![Taint {
                    key: key.into(),
                    effect: "NoSchedule".into(),
                    ..Taint::default()
                }];
            }
        });
    }

    pub fn set_nodes(&self, nodes: &[&str]) {
        self.nodes.send_replace(
            nodes
                .iter()
                .map(|name| ((*name).to_owned(), facts()))
                .collect(),
        );
    }

    /// Every node has room for so many pods.
    pub fn set_room(&self, pods: i64) {
        self.nodes.send_modify(|nodes| {
            for node in nodes.values_mut() {
                node.allocatable.set("pods", Amount::units(pods));
            }
        });
    }

    /// The containers of a pod end with this code.
    pub fn exit(&self, uid: &str, code: i32) {
        let now = self.clock.now();
        self.edit(uid, |facts| {
            facts.ended = true;
            for container in &mut facts.containers {
                container.state = ContainerState::Terminated(Terminated {
                    exit_code: Some(code),
                    finished_at: Some(now),
                    ..Terminated::default()
                });
            }
        });
    }

    /// The pod gets another address: news that has to be written.
    pub fn readdress(&self, uid: &str) {
        self.edit(uid, |facts| facts.pod_ips = vec![[10, 0, 0, 9].into()]);
    }

    /// The backend asks for the pod's end as a whole.
    pub fn judge(&self, uid: &str, verdict: Verdict) {
        self.edit(uid, |facts| facts.verdict = Some(verdict));
    }

    /// The remote starts nothing again by itself.
    pub fn restart_nothing(&self) {
        self.lock().restarts_nothing = true;
    }

    /// Pods are given what they refer to. To be said before a process starts.
    pub fn want_inputs(&self) {
        self.lock().wants_inputs = true;
    }

    /// What a pod was given.
    pub fn given(&self, uid: &str) -> Option<Given> {
        self.lock().given.get(&Uid::new(uid)).cloned()
    }

    /// `ensure` panics, once.
    pub fn panic_next(&self) {
        self.lock().panic_next = true;
    }

    /// The remote loses a pod without telling.
    pub fn lose(&self, uid: &str) {
        self.lock().pods.remove(&Uid::new(uid));
    }

    /// Puts facts of an unknown pod there.
    pub fn plant(&self, facts: PodFacts) {
        let mut state = self.lock();
        state.dirty.push(facts.key.uid.clone());
        state.pods.insert(facts.key.uid.clone(), facts);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The remote has news of a pod.
    pub fn edit(&self, uid: &str, change: impl FnOnce(&mut PodFacts)) {
        let mut state = self.lock();
        state.seq += 1;
        let seq = state.seq;
        if let Some(facts) = state.pods.get_mut(&Uid::new(uid)) {
            facts.seq = seq;
            change(facts);
        }
        state.dirty.push(Uid::new(uid));
        drop(state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a node has and offers.
fn size() -> Resources {
    Resources::new()
        .with("cpu", Amount::units(8))
        .with("memory", Amount::units(16 << 30))
        .with("pods", Amount::units(10_000))
}

fn facts() -> NodeFacts {
    let size = size();
    NodeFacts {
        capacity: size.clone(),
        allocatable: size,
        info: NodeInfo {
            architecture: "amd64".into(),
            operating_system: "linux".into(),
            ..NodeInfo::default()
        },
        ..NodeFacts::default()
    }
}

#[async_trait]
impl Backend for Remote {
    fn capabilities(&self) -> &Capabilities {
        let state = self.lock();
        match (state.wants_inputs, state.restarts_nothing) {
            _ if state.reads_metadata => &READS_METADATA,
            (true, _) => &WANTS_INPUTS,
            (false, true) => &RESTARTS_NOTHING,
            (false, false) => &CAPABILITIES,
        }
    }

    fn nodes(&self) -> BoxStream<'static, NodeSet> {
        WatchStream::new(self.nodes.subscribe()).boxed()
    }

    fn admit(&self, pod: &PodRequest, bound: &NodeUse) -> Admission {
        // It looks at all that it can before anything was read.
        if self.lock().wants_inputs
            && let Err(RenderError::Refused(refusal)) = pod.render(&given::place(), &[])
        {
            return Admission::Reject {
                reason: "Unsupported".into(),
                message: BackendError::from(refusal).to_string(),
                event: None,
            };
        }
        node_fit(pod, bound)
    }

    async fn ensure(&self, pod: &PodRequest, cx: &PodCx) -> Result<(), BackendError> {
        if pod.annotation(JOURNALS).is_some() {
            cx.journal.persist("about to start").await?;
        }
        let calls = {
            let mut state = self.lock();
            state.calls.push(Call::Ensure(pod.key.name.to_string()));
            state.asked.push((pod.key.name.to_string(), pod.change));
            state.calls.len()
        };
        // On the stepped clock a storm of calls takes no time and never ends.
        assert!(calls < STORM, "{calls} calls: a storm");
        let panics = std::mem::take(&mut self.lock().panic_next);
        assert!(!panics, "the test asks for it");
        let mut held = self.held_ensures.subscribe();
        held.wait_for(|held| !held)
            .await
            .expect("the sender is in self");
        let now = self.clock.now();
        let mut state = self.lock();
        if !state.fail_next.is_empty() {
            return Err(state.fail_next.remove(0));
        }
        let known = state.pods.get(&pod.key.uid);
        if pod.change != PodChange::Restart
            && known.is_some_and(|f| f.accepted.as_ref() == Some(&pod.spec_revision))
        {
            if let Some(given) = state.given.get_mut(&pod.key.uid) {
                match given.refresh(pod) {
                    // Asked for or not, it runs on with what it has.
                    Err(error) if pod.change != PodChange::Payload => {
                        let reason = RenderError::VOLUMES_REASON;
                        cx.events.warning(reason, &error.to_string());
                    }
                    answer => answer?,
                }
            }
            return Ok(());
        }
        if state.wants_inputs {
            let before = state.given.get(&pod.key.uid);
            let given = Given::start(pod, cx, before)?;
            state.given.insert(pod.key.uid.clone(), given);
        }
        state.seq += 1;
        let (seq, nothing) = (state.seq, state.applies_nothing);
        if let Some(facts) = state.pods.get_mut(&pod.key.uid).filter(|_| nothing) {
            facts.seq = seq;
            facts.accepted = Some(pod.spec_revision.clone());
            facts.applied = None;
            return Ok(());
        }
        let mut facts = PodFacts::new(pod.key.clone(), pod.node.clone(), state.seq);
        facts.accepted = Some(pod.spec_revision.clone());
        facts.applied = Some(pod.spec_revision.clone());
        facts.pod_ips.push([10, 0, 0, 1].into());
        facts.host_ips.push([192, 0, 2, 1].into());
        for container in &pod.spec().containers {
            let running = ContainerState::Running {
                started_at: Some(now),
            };
            facts.containers.push(ContainerFact {
                container_id: Some(format!("memory://{}", state.seq)),
                ..ContainerFact::new(&container.name, running)
            });
        }
        state.pods.insert(pod.key.uid.clone(), facts);
        state.dirty.push(pod.key.uid.clone());
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn stop(&self, pod: &PodKey, grace: Duration) -> Result<(), BackendError> {
        let mut state = self.lock();
        state.calls.push(Call::Stop(pod.name.to_string(), grace));
        if state.refuse_stops {
            return Err(BackendError::Unavailable {
                message: "no answer".into(),
                retry: Some(Duration::from_secs(1)),
            });
        }
        let Some(facts) = state.pods.get(&pod.uid) else {
            return Err(BackendError::NotFound);
        };
        let silent = facts.reach != Reach::Reachable;
        let hold = silent || (state.hold_stops && !grace.is_zero());
        drop(state);
        if !hold {
            self.exit(pod.uid.as_str(), 0);
        }
        Ok(())
    }

    async fn release(&self, pod: &PodKey) -> Result<(), BackendError> {
        let mut state = self.lock();
        state.calls.push(Call::Release(pod.name.to_string()));
        state
            .pods
            .remove(&pod.uid)
            .map(|_| ())
            .ok_or(BackendError::NotFound)
    }

    fn heed(&self, node: &str, annotations: &BTreeMap<String, String>) {
        let told = (node.to_owned(), annotations.clone());
        self.lock().heard.push(told);
    }

    fn logs(&self) -> Option<&dyn vk_provider::Logs> {
        self.has("logs").then_some(self)
    }

    fn exec(&self) -> Option<&dyn vk_provider::Exec> {
        self.has("exec").then_some(self)
    }

    fn attach(&self) -> Option<&dyn vk_provider::Attach> {
        self.has("attach").then_some(self)
    }

    fn port_forward(&self) -> Option<&dyn vk_provider::PortForward> {
        self.has("port-forward").then_some(self)
    }

    fn stats(&self) -> Option<&dyn vk_provider::Stats> {
        self.lock().measured.is_some().then_some(self)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let as_of = Instant::now();
        let mut state = self.lock();
        state.seq += 1;
        let seq = state.seq;
        for facts in state.pods.values_mut() {
            facts.seq = seq;
        }
        Ok(Listing {
            pods: state.pods.values().cloned().collect(),
            complete: true,
            as_of,
        })
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        stream::unfold(self.clone(), |remote| async move {
            loop {
                let changed = remote.changed.clone();
                let mut woken = std::pin::pin!(changed.notified());
                woken.as_mut().enable();
                let next = {
                    let mut state = remote.lock();
                    state
                        .dirty
                        .pop()
                        .and_then(|uid| state.pods.get(&uid).cloned())
                };
                if let Some(facts) = next {
                    return Some((Change::Facts(Box::new(facts)), remote.clone()));
                }
                woken.await;
            }
        })
        .boxed()
    }
}
