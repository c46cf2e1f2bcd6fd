//! The tasks of one node: its registration, its lease and its pods. One that
//! panics is started again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};
use vk_provider::NodeFacts;

use super::Settings;
use crate::act::Actor;
use crate::api::Api;
use crate::leadership::Role;
use crate::node::{NodeSettings, NodeTask, Registration};
use crate::watch::watch_pods;

/// First pause before a task that ended is started again, doubled up to
/// [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// Within the time in which a node may be silent.
const AGAIN_MAX: Duration = Duration::from_secs(20);
/// A task that ran this long was well.
const WELL: Duration = Duration::from_secs(120);

/// A node with its tasks; [`Tended::end`] ends them, dropping it aborts them.
pub(super) struct Tended {
    pub(super) facts: watch::Sender<NodeFacts>,
    pub(super) registration: watch::Receiver<Registration>,
    pub(super) role: watch::Receiver<Role>,
    registering: Option<Stopping>,
    serving: Option<Stopping>,
    following: Stopping,
    lease: Stopping,
}

/// A task and how to end it.
struct Stopping {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Stopping {
    fn start<F>(run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(run(stop.clone())));
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        // It does not panic, and is not aborted while it is awaited.
        let _ = self.task.await;
    }
}

impl Tended {
    pub(super) fn start(
        name: &str,
        facts: NodeFacts,
        settings: &Settings,
        actor: &Arc<Actor>,
        leadership: &crate::leadership::Leadership,
        api: Option<&Api>,
    ) -> Self {
        let role = leadership.contend(name);
        let (facts, told) = watch::channel(facts);
        let opened = api.map(|api| api.open(name, leadership));
        let door = opened.as_ref().and_then(|opened| opened.as_ref().ok());
        let task = NodeTask {
            client: settings.client.clone(),
            lease_client: settings.lease_client.clone(),
            settings: NodeSettings {
                name: name.into(),
                events: Some(settings.events.clone()),
                metrics: Some(settings.metrics.clone()),
                listen_port: match api {
                    Some(_) => door.map(|door| door.port().into()),
                    None => settings.node.listen_port,
                },
                address: door.and(api).and_then(Api::address),
                features: {
                    let served = door.map(|door| door.features());
                    let own = settings.node.features.iter().cloned();
                    own.chain(served.into_iter().flatten()).collect()
                },
                ..settings.node.clone()
            },
            facts: told,
            registration: watch::Sender::default(),
            doubt: Arc::default(),
            heed: {
                let backend = actor.backend.clone();
                Arc::new(move |node, annotations| backend.heed(node, annotations))
            },
            leadership: leadership.clone(),
            clock: settings.clock.clone(),
        };
        let lease = Stopping::start(|stop| {
            let (name, task) = (name.to_owned(), task.clone());
            async move {
                restarted(&name, "lease", &stop, || {
                    let (task, stop) = (task.clone(), stop.clone());
                    async move { task.keep_lease(stop).await }
                })
                .await;
            }
        });
        let serving = opened.map(|opened| {
            Stopping::start(|stop| {
                let (name, task, role) = (name.to_owned(), task.clone(), role.clone());
                async move {
                    match opened {
                        Ok(door) => {
                            restarted(&name, "kubelet API", &stop, || {
                                let (door, settings) = (door.clone(), task.settings.clone());
                                door.serve(settings, task.facts.clone(), stop.clone())
                            })
                            .await;
                        }
                        Err(why) => tell_without_api(&task.settings, role, &why, &stop).await,
                    }
                }
            })
        });
        let registration = task.registration.subscribe();
        let registering = Stopping::start(|stop| {
            let name = name.to_owned();
            async move {
                restarted(&name, "node", &stop, || {
                    let (task, stop) = (task.clone(), stop.clone());
                    async move { task.keep_registered(stop).await }
                })
                .await;
            }
        });
        let following = Stopping::start(|stop| {
            let (name, role) = (name.to_owned(), role.clone());
            let (client, actor) = (settings.client.clone(), actor.clone());
            async move {
                restarted(&name, "pod watch", &stop, || {
                    let (client, node, actor) = (client.clone(), name.clone(), actor.clone());
                    let (role, stop) = (role.clone(), stop.clone());
                    async move { follow_pods(client, node, actor, role, stop).await }
                })
                .await;
            }
        });
        Self {
            facts,
            registration,
            role,
            registering: Some(registering),
            serving,
            following,
            lease,
        }
    }

    /// Sets what the backend says; whether it is news.
    pub(super) fn set(&self, facts: &NodeFacts) -> bool {
        self.facts.send_if_modified(|known| {
            let changed = known != facts;
            known.clone_from(facts);
            changed
        })
    }

    /// Leaves the Node alone from now on; its pods are still followed.
    pub(super) async fn unregister(&mut self) {
        if let Some(registering) = self.registering.take() {
            registering.end().await;
        }
    }

    /// Ends everything but the lease, which says who may still write.
    pub(super) async fn end_work(mut self) -> Leased {
        let registering = self.registering.take();
        let registered = async {
            if let Some(registering) = registering {
                registering.end().await;
            }
        };
        let served = async {
            if let Some(serving) = self.serving.take() {
                serving.end().await;
            }
        };
        tokio::join!(registered, self.following.end(), served);
        Leased(self.lease)
    }
}

/// What is left of a node: its lease.
pub(super) struct Leased(Stopping);

impl Leased {
    /// Gives the lease up.
    pub(super) async fn end(self) {
        self.0.end().await;
    }
}

/// Tells on the Node, once it is ours, that it has no API.
async fn tell_without_api(
    node: &NodeSettings,
    mut role: watch::Receiver<Role>,
    why: &str,
    stop: &CancellationToken,
) {
    let led = tokio::select! {
        () = stop.cancelled() => false,
        led = role.wait_for(Role::leads) => led.is_ok(),
    };
    if led && let Some(events) = &node.events {
        events.for_node(&node.name).warning("NoKubeletAPI", why);
    }
}

/// Follows the pods of a node while this process leads.
async fn follow_pods(
    client: kube::Client,
    node: String,
    actor: Arc<Actor>,
    mut role: watch::Receiver<Role>,
    stop: CancellationToken,
) {
    loop {
        let led = tokio::select! {
            () = stop.cancelled() => return,
            led = role.wait_for(Role::leads) => led.is_ok(),
        };
        if !led {
            return;
        }
        actor.table.serve(&node);
        let watching = watch_pods(
            client.clone(),
            node.as_str().into(),
            actor.table.clone(),
            actor.queue.clone(),
            stop.clone(),
        );
        tokio::select! {
            () = watching => return,
            _ = role.wait_for(|role| !role.leads()) => {
                // What is kept for them is let go of.
                let others = actor.table.disown(&node);
                others.iter().for_each(|uid| actor.queue.mark(uid));
            }
        }
    }
}

/// Runs what `make` makes until `stop`, again whenever it ends before.
async fn restarted<F>(
    node: &str,
    what: &'static str,
    stop: &CancellationToken,
    mut make: impl FnMut() -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut pause = AGAIN_MIN;
    loop {
        let begun = Instant::now();
        let task: JoinHandle<()> = tokio::spawn(make());
        let ended = AbortOnDropHandle::new(task).await;
        if stop.is_cancelled() {
            return;
        }
        match ended {
            Ok(()) => warn!(
                node,
                what, "a task ended before its time; starting it again"
            ),
            Err(error) => error!(node, what, %error, "a task failed; starting it again"),
        }
        if begun.elapsed() >= WELL {
            pause = AGAIN_MIN;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_ever_more_rarely_until_it_is_well() {
        let (starts, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let begun = Instant::now();
        let make = || {
            let (number, stop) = (starts.fetch_add(1, Ordering::SeqCst), stop.clone());
            async move {
                assert!(number >= 4, "panics four times");
                stop.cancel();
            }
        };
        restarted("n", "test", &stop, make).await;
        assert_eq!(starts.load(Ordering::SeqCst), 5);
        assert_eq!(begun.elapsed(), Duration::from_secs(1 + 2 + 4 + 8));
    }
}
