//! Many nodes in one process, on shared connections: nodes come and go as the
//! backend says, each with its own registration, lease and pod watch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vk_provider::{Backend, Clock, NodeFacts, NodeSet};

use crate::act::{Actor, Nodes, act};
use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::node::{NodeSettings, remove_node, run_node};
use crate::observe::observe;
use crate::publish::Publisher;
use crate::queue::Queue;
use crate::table::Table;
use crate::watch::watch_pods;

/// What a host is made of.
#[derive(Clone)]
pub struct Settings {
    /// For watches, statuses and deletes; without automatic retries.
    pub client: Client,
    /// For leases alone, so that no queue of writes can delay a heartbeat.
    pub lease_client: Client,
    /// What all nodes share; the name is filled in for each.
    pub node: NodeSettings,
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
            .finish_non_exhaustive()
    }
}

/// Runs a backend's nodes and pods.
pub struct Host {
    settings: Settings,
    actor: Arc<Actor>,
    ready: watch::Sender<bool>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

struct ServedNode {
    facts: watch::Sender<NodeFacts>,
    stop: CancellationToken,
}

impl Host {
    /// A host for one backend.
    pub fn new(settings: Settings, backend: Arc<dyn Backend>) -> Self {
        let actor = Arc::new(Actor {
            table: Table::default(),
            queue: Queue::default(),
            publisher: Publisher::new(settings.client.clone()),
            events: settings.events.clone(),
            metrics: settings.metrics.clone(),
            clock: settings.clock.clone(),
            nodes: Nodes::default(),
            admission: Mutex::new(()),
            backend,
        });
        Self {
            settings,
            actor,
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

    /// Runs until `stop`. Nodes and pods stay as they are: a process that takes
    /// over finds everything again.
    pub async fn run(self, stop: CancellationToken) {
        let actor = self.actor.clone();
        let backend = actor.backend.clone();
        let (table, queue) = (actor.table.clone(), actor.queue.clone());
        let acting = tokio::spawn(act(actor.clone(), stop.clone()));
        let observing = tokio::spawn(observe(
            backend.clone(),
            table,
            queue,
            actor.clock.clone(),
            stop.clone(),
        ));
        self.serve_nodes(backend.nodes(), &stop).await;
        stop.cancelled().await;
        let _ = tokio::join!(acting, observing);
    }

    async fn serve_nodes(
        &self,
        mut sets: futures::stream::BoxStream<'static, NodeSet>,
        stop: &CancellationToken,
    ) {
        let mut served: HashMap<String, ServedNode> = HashMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let set = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended {
                        warn!(%error, "a node's task ended unexpectedly");
                    }
                    continue;
                }
                set = sets.next() => set,
            };
            let Some(set) = set else { break };
            *self
                .actor
                .nodes
                .write()
                .unwrap_or_else(PoisonError::into_inner) = set.clone().into_iter().collect();
            for (name, facts) in &set {
                match served.get(name) {
                    Some(node) => {
                        node.facts.send_if_modified(|known| {
                            let changed = known != facts;
                            known.clone_from(facts);
                            changed
                        });
                    }
                    None => {
                        served.insert(name.clone(), self.start_node(name, facts, stop, &mut tasks));
                    }
                }
            }
            self.retire(&set, &mut served, &mut tasks);
            self.ready.send_replace(true);
        }
        while tasks.join_next().await.is_some() {}
    }

    fn start_node(
        &self,
        name: &str,
        facts: &NodeFacts,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> ServedNode {
        info!(node = name, "serving node");
        let stop = stop.child_token();
        let (sender, receiver) = watch::channel(facts.clone());
        let settings = NodeSettings {
            name: name.into(),
            events: Some(self.settings.events.clone()),
            metrics: Some(self.settings.metrics.clone()),
            ..self.settings.node.clone()
        };
        self.actor.table.serve(name);
        tasks.spawn(run_node(
            self.settings.client.clone(),
            self.settings.lease_client.clone(),
            settings,
            receiver,
            self.settings.clock.clone(),
            stop.clone(),
        ));
        tasks.spawn(watch_pods(
            self.settings.client.clone(),
            name.into(),
            self.actor.table.clone(),
            self.actor.queue.clone(),
            stop.clone(),
        ));
        ServedNode {
            facts: sender,
            stop,
        }
    }

    /// Nodes that the backend no longer names: removed when nothing is bound to
    /// them, otherwise kept with nothing to give until their pods are gone.
    fn retire(
        &self,
        set: &NodeSet,
        served: &mut HashMap<String, ServedNode>,
        tasks: &mut JoinSet<()>,
    ) {
        served.retain(|name, node| {
            if set.contains_key(name) {
                return true;
            }
            if self.actor.table.has_pods(name) {
                warn!(
                    node = name,
                    "node has no devices left but pods; kept with nothing allocatable"
                );
                node.facts.send_modify(|facts| {
                    facts.capacity = vk_provider::quantity::Resources::new();
                    facts.allocatable = vk_provider::quantity::Resources::new();
                });
                return true;
            }
            info!(node = name, "node is gone");
            node.stop.cancel();
            self.actor.table.leave(name);
            let (client, name) = (self.settings.client.clone(), name.clone());
            tasks.spawn(async move {
                if let Err(error) = remove_node(client, &name).await {
                    warn!(node = name, %error, "could not remove the node");
                }
            });
            false
        });
    }
}
