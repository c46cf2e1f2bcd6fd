//! Which nodes are served: those that the backend names, and those of ours that
//! Kubernetes has beside them until nothing is left on them.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Node;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use vk_provider::quantity::Resources;
use vk_provider::{NodeFacts, NodeSet};

use super::Host;
use super::drain::{self, Drain, KeptNode, Limit, Undrained};
use super::survey::survey;
use super::tend::{Leased, Tended};
use crate::node::{Registration, facts_of, remove_node};

/// Between looks at nodes that may go: nobody waits for that. A node is kept at
/// least from one look to the next, with nothing to give, so that no pod is on
/// its way to it when it goes.
const LOOK: Duration = Duration::from_secs(5);
/// Between lists of Nodes while pods name a node that is not served.
const SURVEY_EVERY: Duration = Duration::from_secs(30);
/// A backend that has not said what nodes it has for so long after the start is
/// away; an ordinary start is quicker.
const OUTAGE: Duration = Duration::from_secs(15);
/// First pause after a Node could not be removed, doubled up to [`REMOVE_MAX`].
const REMOVE_MIN: Duration = Duration::from_secs(1);
/// The same failure every minute is enough.
const REMOVE_MAX: Duration = Duration::from_secs(60);

enum Served {
    Tended {
        node: Box<Tended>,
        /// Not one of the backend's, since then.
        kept: Option<Instant>,
    },
    /// Its end is under way.
    Leaving,
}

/// The state of the loop that serves nodes.
pub(super) struct Serving<'a> {
    host: &'a Host,
    served: HashMap<String, Served>,
    /// What the backend says; `None` before its first word.
    set: Option<NodeSet>,
    leaving: JoinSet<String>,
    surveys: JoinSet<Vec<Node>>,
    surveyed: Instant,
    silent: bool,
}

impl<'a> Serving<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        Self {
            host,
            served: HashMap::new(),
            set: None,
            leaving: JoinSet::new(),
            surveys: JoinSet::new(),
            surveyed: Instant::now(),
            silent: false,
        }
    }

    /// Runs until `stop`.
    pub(super) async fn run(
        &mut self,
        mut sets: BoxStream<'static, NodeSet>,
        stop: &CancellationToken,
    ) {
        let silent_from = Instant::now() + OUTAGE;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.survey();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(set) = sets.next() => self.take(set),
                Some(found) = self.surveys.join_next() => match found {
                    Ok(found) => self.adopt(&found),
                    Err(error) => error!(%error, "listing own nodes failed"),
                },
                Some(Ok(name)) = self.leaving.join_next() => self.left(&name),
                _ = looks.tick() => self.look(),
                () = sleep_until(silent_from), if self.set.is_none() && !self.silent => {
                    self.show_outage();
                }
            }
        }
    }

    /// The backend's nodes are these.
    fn take(&mut self, set: NodeSet) {
        *self
            .host
            .actor
            .nodes
            .write()
            .unwrap_or_else(PoisonError::into_inner) = set.clone().into_iter().collect();
        for (name, facts) in &set {
            match self.served.get_mut(name) {
                Some(Served::Tended { node, kept }) => {
                    node.set(facts);
                    if kept.take().is_some() {
                        let actor = &self.host.actor;
                        let waiting = actor.table.wake(name);
                        waiting.iter().for_each(|uid| actor.queue.mark(uid));
                    }
                }
                // Served again when its end is done.
                Some(Served::Leaving) => {}
                None => self.start(name, facts.clone(), None),
            }
        }
        for (name, served) in &mut self.served {
            if let Served::Tended { node, kept } = served
                && kept.is_none()
                && !set.contains_key(name)
            {
                *kept = Some(Instant::now());
                keep_empty(name, node);
            }
        }
        self.set = Some(set);
        self.host.ready.send_replace(true);
    }

    /// Nodes of ours that Kubernetes has.
    fn adopt(&mut self, found: &[Node]) {
        for node in found {
            let Some(name) = node.metadata.name.as_deref() else {
                continue;
            };
            if self.served.contains_key(name) {
                continue;
            }
            info!(node = name, "serving a node that was ours before");
            let mut facts = facts_of(node);
            if self.silent
                && let Some(outage) = &self.host.settings.node.outage
            {
                outage.show(&mut facts);
            }
            let kept = self.set.is_some().then(Instant::now);
            self.start(name, facts, kept);
            if let (Some(_), Some(Served::Tended { node, .. })) = (kept, self.served.get(name)) {
                keep_empty(name, node);
            }
        }
    }

    /// The backend is away: its nodes of before show it.
    fn show_outage(&mut self) {
        self.silent = true;
        let Some(outage) = &self.host.settings.node.outage else {
            return;
        };
        for served in self.served.values() {
            if let Served::Tended { node, .. } = served {
                node.facts.send_modify(|facts| outage.show(facts));
            }
        }
    }

    /// Lets go of what nobody needs, and looks for what nobody serves.
    fn look(&mut self) {
        let table = &self.host.actor.table;
        let stranded = |name: &str| !table.has_pods(name);
        let mut going = Vec::new();
        for (name, served) in &self.served {
            let Served::Tended { node, kept } = served else {
                continue;
            };
            if !kept.is_some_and(|since| since.elapsed() >= LOOK) {
                continue;
            }
            let leads = self.host.leadership.may_write(name);
            let empty = table.is_synced(name) && stranded(name);
            let gone = *node.registration.borrow() == Registration::Absent;
            if leads && node.role.borrow().leads() && empty || !leads && gone {
                going.push((name.clone(), leads));
            }
        }
        for (name, remove) in going {
            self.leave(&name, remove);
        }
        let unserved = table
            .nodes()
            .iter()
            .any(|name| !self.served.contains_key(&**name));
        if unserved && self.surveys.is_empty() && self.surveyed.elapsed() >= SURVEY_EVERY {
            self.survey();
        }
    }

    fn survey(&mut self) {
        self.surveyed = Instant::now();
        let settings = &self.host.settings;
        self.surveys.spawn(survey(
            settings.client.clone(),
            settings.node.instance.clone(),
            self.host.actor.table.nodes(),
        ));
    }

    fn start(&mut self, name: &str, facts: NodeFacts, kept: Option<Instant>) {
        info!(node = name, "serving node");
        let Host {
            settings,
            actor,
            leadership,
            api,
            ..
        } = self.host;
        let node = Tended::start(name, facts, settings, actor, leadership, api.as_ref());
        let node = Box::new(node);
        self.served
            .insert(name.into(), Served::Tended { node, kept });
    }

    /// Ends a node's tasks, and removes its Node if asked to.
    fn leave(&mut self, name: &str, remove: bool) {
        let Some(Served::Tended { node, .. }) = self.served.insert(name.into(), Served::Leaving)
        else {
            return;
        };
        info!(node = name, "node is gone");
        let (client, name) = (self.host.settings.client.clone(), name.to_owned());
        let leadership = self.host.leadership.clone();
        self.leaving.spawn(async move {
            // First, or it would be registered again.
            let lease = node.end_work().await;
            let mut retry = REMOVE_MIN;
            while remove && leadership.may_write(&name) {
                match remove_node(client.clone(), &name).await {
                    Ok(_) => break,
                    Err(error) => {
                        warn!(node = name, %error, "could not remove the node, trying again")
                    }
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(REMOVE_MAX);
            }
            lease.end().await;
            name
        });
    }

    /// The end of a node is done.
    fn left(&mut self, name: &str) {
        self.served.remove(name);
        self.host.actor.table.leave(name);
        self.host.leadership.leave(name);
        let wanted = self.set.as_ref().and_then(|set| set.get(name)).cloned();
        if let Some(facts) = wanted {
            self.start(name, facts, None);
        }
    }

    /// Empties and removes all nodes that this process leads.
    pub(super) async fn drain(&mut self, drain: &Drain) -> Result<(), Undrained> {
        let limit = Limit::new(drain);
        let mut left = Vec::new();
        // Nodes of ours that are not served yet are ours all the same.
        while !self.surveys.is_empty() {
            match limit.within(self.surveys.join_next()).await {
                Some(Some(Ok(found))) => self.adopt(&found),
                Some(_) => {}
                None => {
                    left.push(KeptNode {
                        node: "*".into(),
                        why: Some("the nodes of this provider could not be listed".into()),
                        pods: Vec::new(),
                    });
                    break;
                }
            }
        }
        while limit
            .within(self.leaving.join_next())
            .await
            .flatten()
            .is_some()
        {}
        info!(
            nodes = self.served.len(),
            within = ?drain.within,
            "draining all nodes before the end"
        );
        let host = self.host;
        let shared = drain::Shared::new(
            host.settings.client.clone(),
            host.actor.table.clone(),
            host.leadership.clone(),
        );
        let draining = self
            .served
            .drain()
            .filter_map(|(name, served)| match served {
                Served::Tended { node, .. } => {
                    Some(drain::drain(shared.clone(), name, node, limit.clone()))
                }
                Served::Leaving => None,
            });
        let ended = futures::future::join_all(draining.collect::<Vec<_>>()).await;
        for (node, kept) in ended.into_iter().filter_map(Result::err) {
            let served = Served::Tended { node, kept: None };
            self.served.insert(kept.node.clone(), served);
            left.push(kept);
        }
        left.sort_by(|a, b| a.node.cmp(&b.node));
        if left.is_empty() {
            return Ok(());
        }
        Err(Undrained { nodes: left })
    }

    /// Ends all work; returns the nodes' leases, which are still held.
    pub(super) async fn end(self) -> Vec<Leased> {
        let ending = self.served.into_values().filter_map(|served| match served {
            Served::Tended { node, .. } => Some(node.end_work()),
            Served::Leaving => None,
        });
        futures::future::join_all(ending).await
    }
}

/// A node of which the backend says nothing has nothing to give.
fn keep_empty(name: &str, node: &Tended) {
    warn!(
        node = name,
        "nothing is behind the node; kept with nothing allocatable until its pods are gone"
    );
    node.facts.send_modify(|facts| {
        facts.capacity = Resources::new();
        facts.allocatable = Resources::new();
    });
}
