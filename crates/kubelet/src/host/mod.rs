//! Many nodes in one process, on shared connections: nodes come and go as the
//! backend says, each with its own registration, lease and pod watch.
//!
//! # Guarantees
//! A node whose pods are not all listed, or that has one, is not removed. While
//! the backend does not say what nodes it has, those that this provider
//! registered before are kept as they are. The end of the process leaves nodes
//! and pods as they are, unless a drain is asked for.

mod drain;
mod serving;
mod survey;
mod tend;

use std::sync::{Arc, Mutex};

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vk_provider::{Backend, Clock};

use crate::act::{Actor, Nodes, act};
use crate::api::{Api, ApiSettings};
use crate::events::Recorder;
use crate::inputs::{InputSettings, Parts, Store};
use crate::leadership::{Gate, Leadership};
use crate::metrics::{Metrics, show};
use crate::node::NodeSettings;
use crate::observe::observe;
use crate::publish::Publisher;
use crate::queue::Queue;
use crate::table::Table;
use crate::unending::unending;
pub use drain::{DRAIN_WITHIN, Drain, KeptNode, Shutdown, Undrained};
use serving::Serving;
use tend::Leased;

/// What a host is made of.
#[derive(Clone)]
pub struct Settings {
    /// For watches, statuses and deletes; without automatic retries.
    pub client: Client,
    /// For leases alone, so that no queue of writes can delay a heartbeat.
    pub lease_client: Client,
    /// What all nodes share; the name is filled in for each.
    pub node: NodeSettings,
    /// What pods are given of the cluster.
    pub inputs: InputSettings,
    /// The kubelet API, behind `kubectl logs`; without it nodes have none.
    pub api: Option<ApiSettings>,
    /// Where events go.
    pub events: Recorder,
    /// Counters.
    pub metrics: Metrics,
    /// Time.
    pub clock: Clock,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("node", &self.node)
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

/// Runs a backend's nodes and pods.
pub struct Host {
    settings: Settings,
    actor: Arc<Actor>,
    leadership: Leadership,
    api: Option<Api>,
    ready: watch::Sender<bool>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host for one backend.
    pub fn new(settings: Settings, backend: Arc<dyn Backend>) -> Self {
        let table = Table::heeding(backend.capabilities().heeds);
        let leadership = Leadership::default();
        let gate = Gate::new(leadership.clone(), table.clone());
        settings.events.gated(gate.clone());
        let queue = Queue::default();
        show(&settings.metrics, leadership.clone(), queue.clone());
        let inputs = Store::new(Parts {
            client: settings.client.clone(),
            settings: settings.inputs.clone(),
            needs: backend.capabilities().inputs,
            table: table.clone(),
            queue: queue.clone(),
            events: settings.events.clone(),
            metrics: settings.metrics.clone(),
        });
        let actor = Arc::new(Actor {
            table,
            queue,
            inputs,
            publisher: Publisher::new(settings.client.clone(), settings.metrics.clone())
                .gated(gate.clone()),
            gate,
            events: settings.events.clone(),
            metrics: settings.metrics.clone(),
            clock: settings.clock.clone(),
            nodes: Nodes::default(),
            admission: Mutex::new(()),
            run_agents: settings.node.run_agents,
            backend,
        });
        let api = settings.api.clone().map(|api| {
            Api::new(
                api,
                settings.client.clone(),
                actor.backend.clone(),
                actor.table.clone(),
                actor.queue.clone(),
                settings.metrics.clone(),
                settings.clock.clone(),
            )
        });
        Self {
            settings,
            actor,
            leadership,
            api,
            ready: watch::Sender::new(false),
        }
    }

    /// The pods it knows; clones share the table.
    pub fn table(&self) -> Table {
        self.actor.table.clone()
    }

    /// Turns true when the first set of nodes is served.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// How this process stands towards its nodes.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Runs until `stop`. Nodes and pods stay as they are, and the leases are
    /// given up: a process that takes over finds everything again.
    pub async fn run(self, stop: CancellationToken) {
        // Nothing is drained that could be left.
        let _ = self.run_until(stop, Shutdown::Keep).await;
    }

    /// Runs until `stop`, and does with nodes and pods what `shutdown` says.
    ///
    /// # Errors
    /// They were to go, and some are left.
    pub async fn run_until(
        self,
        stop: CancellationToken,
        shutdown: Shutdown,
    ) -> Result<(), Undrained> {
        // A drain needs everything that runs.
        let end = match &shutdown {
            Shutdown::Keep => stop.clone(),
            Shutdown::Drain(_) => CancellationToken::new(),
        };
        let _ended = matches!(shutdown, Shutdown::Drain(_)).then(|| end.clone().drop_guard());
        let actor = self.actor.clone();
        let backend = actor.backend.clone();
        let (table, queue) = (actor.table.clone(), actor.queue.clone());
        let acting = tokio::spawn(act(actor.clone(), end.clone()));
        let observing = tokio::spawn(observe(backend.clone(), table, queue, end.clone()));
        let (inputs, ended) = (actor.inputs.clone(), end.clone());
        let renewing = tokio::spawn(async move { inputs.keep_tokens(ended).await });
        if let Some(api) = self.api.clone() {
            let end = end.clone();
            tokio::spawn(async move { api.keep(end).await });
        }
        let sets = unending("nodes", move || backend.nodes());
        let mut serving = Serving::new(&self);
        serving.run(sets, &stop).await;
        let drained = match &shutdown {
            Shutdown::Keep => Ok(()),
            Shutdown::Drain(drain) => serving.drain(drain).await,
        };
        end.cancel();
        let leases = serving.end().await;
        // What is being written is written under the lease.
        let _ = tokio::join!(acting, observing, renewing);
        futures::future::join_all(leases.into_iter().map(Leased::end)).await;
        drained
    }
}
