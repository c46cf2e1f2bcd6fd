//! The task that keeps a Node object.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use vk_provider::NodeFacts;

use super::object::{Wanted, annotated, features};
use super::recorded::is_foreign;
use super::withheld::Withheld;
use super::{CALL_DEADLINE, NodeTask, Registration, STATUS_EVERY, whole_seconds};
use crate::cause::chain;
use crate::pace::{named_pause, paced};

/// Between two passes that write: a fleet whose devices all report at once is
/// written once, and two writers that disagree cannot spin.
const SETTLE: Duration = Duration::from_secs(1);
/// First pause after a failure, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Kubernetes removes the pods of a missing node after 40 s.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Longest pause that the API server may ask for: a node that is not registered
/// loses its pods after 40 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between two words about a Node that is not ours to keep.
const FOREIGN_AGAIN: Duration = Duration::from_secs(60);
/// Conflicts and objects that came or went are read again at once, this often in
/// a row; then they count as failures.
const AT_ONCE: usize = 4;
/// Shown where the API server does not tell its version: the one this program's
/// API types are of.
const FALLBACK_VERSION: &str = "v1.36.0";

/// What is known of the Node in Kubernetes.
enum Known {
    /// Has to be read.
    Nothing,
    Absent,
    Present(Box<Node>),
}

struct Keeper<'a> {
    task: &'a NodeTask,
    name: &'a str,
    api: Api<Node>,
    version: Option<String>,
    known: Known,
    /// When the status was written last.
    written: Option<Instant>,
    registered: bool,
    withheld: Withheld,
    /// The API server did not keep the features that the node declares.
    undeclared: bool,
    /// What people had annotated on it when that was told last.
    heeded: Option<BTreeMap<String, String>>,
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        if let (true, Some(metrics)) = (self.registered, &self.task.settings.metrics) {
            metrics.node_registered(false);
        }
    }
}

/// Why a pass could not finish.
enum Trouble {
    /// What was known is old: read again.
    Stale(kube::Error),
    Failed(kube::Error),
    Late(&'static str),
    /// The Node is a machine's.
    Foreign(Box<Node>),
}

pub(super) async fn keep(task: &NodeTask, stop: CancellationToken) {
    let name = task.settings.name.as_str();
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(Api::<Node>::all(paced(task.client.clone())), config)
        .default_backoff()
        .modify(|node| node.metadata.managed_fields = None)
        .boxed();
    let mut listed = None;
    let mut keeper = Keeper {
        task,
        name,
        api: Api::all(task.client.clone()),
        version: None,
        known: Known::Nothing,
        written: None,
        registered: false,
        withheld: Withheld::default(),
        undeclared: false,
        heeded: None,
    };
    let mut facts = task.facts.clone();
    let mut role = task.leadership.contend(name);
    let mut due = Instant::now();
    let mut retry = RETRY_MIN;
    let mut told = true;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(due) => {
                let want = facts.borrow_and_update().clone();
                let pass = tokio::select! {
                    () = stop.cancelled() => break,
                    pass = keeper.pass(&want) => pass,
                };
                match pass {
                    Ok(wrote) => {
                        retry = RETRY_MIN;
                        let now = Instant::now();
                        // A standby has written nothing, or long ago.
                        let beat = keeper.written.filter(|_| keeper.may_write());
                        due = (beat.unwrap_or(now) + STATUS_EVERY).max(now + SETTLE);
                        if wrote {
                            // What a write left to the next one, and nothing otherwise.
                            due = now + SETTLE;
                        }
                    }
                    Err(trouble @ Trouble::Foreign(_)) => {
                        retry = RETRY_MIN;
                        due = Instant::now() + keeper.report(&trouble);
                    }
                    Err(trouble) => {
                        due = Instant::now() + keeper.report(&trouble).max(retry);
                        retry = (retry * 2).min(RETRY_MAX);
                    }
                }
            }
            () = task.doubt.notified() => {
                keeper.known = Known::Nothing;
                keeper.look_soon(&mut due, retry);
            }
            // Nobody tells any more: what is known holds.
            Ok(()) = role.changed() => due = Instant::now(),
            changed = facts.changed(), if told => {
                // Without a sender the last facts hold until `stop`.
                told = changed.is_ok();
                keeper.look_soon(&mut due, retry);
            }
            Some(event) = events.next() => {
                match event {
                    Ok(event) => {
                        if keeper.take(event, &mut listed) {
                            keeper.look_soon(&mut due, retry);
                        }
                    }
                    Err(error) => warn!(node = name, error = chain(&error), "node watch interrupted"),
                }
            }
        }
        keeper.heed();
    }
}

impl Keeper<'_> {
    /// Brings the next pass forward, but neither into a burst of writes nor into
    /// the pause after a failure.
    fn look_soon(&self, due: &mut Instant, retry: Duration) {
        let foreign = *self.task.registration.borrow() == Registration::Foreign;
        if retry > RETRY_MIN || foreign && matches!(self.known, Known::Present(_)) {
            return;
        }
        let now = Instant::now();
        let earliest = self.written.map_or(now, |at| at + SETTLE).max(now);
        // A missing node is worth no waiting.
        let soon = if matches!(self.known, Known::Absent) {
            now
        } else {
            earliest
        };
        *due = (*due).min(soon);
    }

    /// Notes what the watch shows; whether that is news.
    fn take(&mut self, event: Event<Node>, listed: &mut Option<Node>) -> bool {
        match event {
            Event::Init => {
                *listed = None;
                false
            }
            Event::InitApply(node) => {
                *listed = Some(node);
                false
            }
            Event::InitDone => match listed.take() {
                Some(node) => self.seen(node),
                None => {
                    let gone = matches!(self.known, Known::Present(_));
                    // Read it before believing that: it may be younger than the list.
                    self.known = Known::Nothing;
                    gone
                }
            },
            Event::Apply(node) => self.seen(node),
            Event::Delete(node) => match &self.known {
                Known::Present(known) if known.metadata.uid == node.metadata.uid => {
                    info!(
                        node = self.name,
                        "someone deleted the node; registering it again"
                    );
                    self.known = Known::Absent;
                    true
                }
                _ => false,
            },
        }
    }

    /// Tells what people have annotated, where that is news.
    fn heed(&mut self) {
        let Known::Present(node) = &self.known else {
            return;
        };
        if is_foreign(node) {
            return;
        }
        let annotations = annotated(node);
        if self.heeded.as_ref() == Some(&annotations) {
            return;
        }
        let told = AssertUnwindSafe(|| (self.task.heed)(self.name, &annotations));
        if catch_unwind(told).is_err() {
            error!(
                node = self.name,
                "the backend panicked, told of annotations"
            );
        }
        self.heeded = Some(annotations);
    }

    fn seen(&mut self, node: Node) -> bool {
        if let Known::Present(known) = &self.known
            && known.metadata.uid == node.metadata.uid
            && revision(known) >= revision(&node)
        {
            return false;
        }
        self.known = Known::Present(Box::new(node));
        true
    }

    /// Everything that is to be done now; whether anything was written.
    async fn pass(&mut self, facts: &NodeFacts) -> Result<bool, Trouble> {
        let mut stale = None;
        for _ in 0..AT_ONCE {
            match self.attempt(facts).await {
                Err(Trouble::Stale(error)) => {
                    self.known = Known::Nothing;
                    stale = Some(Trouble::Failed(error));
                }
                Err(Trouble::Failed(error)) if self.withhold(&error) => {
                    self.known = Known::Nothing;
                    stale = Some(Trouble::Failed(error));
                }
                other => return other,
            }
        }
        stale.map_or(Ok(false), Err)
    }

    /// Whether a refusal is about labels that the node can do without.
    fn withhold(&mut self, error: &kube::Error) -> bool {
        let labels = self.withheld.learn(error);
        if labels.is_empty() {
            return false;
        }
        let (node, labels) = (self.name, labels.join(", "));
        let message = format!(
            "Kubernetes does not let this process set labels of the node, which goes without them: {labels}. NodeRestriction refuses them to a user who is a node; a ServiceAccount may set them"
        );
        warn!(node, %error, message);
        if let Some(events) = &self.task.settings.events {
            events.for_node(node).warning("LabelsForbidden", &message);
        }
        true
    }

    async fn attempt(&mut self, facts: &NodeFacts) -> Result<bool, Trouble> {
        let version = self.version().await?;
        let mut want = Wanted::new(&self.task.settings, &version, facts);
        if let Known::Nothing = self.known {
            let found = called("get", self.api.get_opt(self.name)).await?;
            self.known = found.map_or(Known::Absent, |node| Known::Present(Box::new(node)));
        }
        self.judge()?;
        let node = match &self.known {
            Known::Present(node) => Some(&**node),
            Known::Absent | Known::Nothing => None,
        };
        self.withheld.leave(&mut want.labels, node);
        if !self.may_write() {
            return Ok(false);
        }
        let mut wrote = false;
        let mut node = match std::mem::replace(&mut self.known, Known::Nothing) {
            Known::Present(node) => *node,
            Known::Absent | Known::Nothing => {
                let object = want.object(whole_seconds(self.task.clock.now()));
                let node =
                    called("create", self.api.create(&PostParams::default(), &object)).await?;
                self.written = Some(Instant::now());
                wrote = true;
                self.undeclared = features(&node) != want.features;
                info!(node = self.name, operation = "register", "node registered");
                node
            }
        };
        let params = PatchParams::default();
        if let Some(body) = want.metadata_patch(&node)
            && self.may_write()
        {
            let patch = Patch::Merge(body);
            node = called("patch", self.api.patch(self.name, &params, &patch)).await?;
            wrote = true;
        }
        let refresh = self.written.is_none_or(|at| at.elapsed() >= STATUS_EVERY);
        // Asked again with the next full status: servers are upgraded.
        let held_back = self.undeclared && !refresh;
        if held_back {
            want.features = features(&node).to_vec();
        }
        let now = whole_seconds(self.task.clock.now());
        if let Some(body) = want.status_patch(&node, refresh, now)
            && self.may_write()
        {
            let patch = Patch::Strategic(body);
            let call = self.api.patch_status(self.name, &params, &patch);
            let stored = called("patch status", call).await?;
            self.tell_turns(&want, &node);
            self.undeclared = held_back || features(&stored) != want.features;
            self.written = Some(Instant::now());
            wrote = true;
            node = stored;
        }
        self.present(node, &want);
        Ok(wrote)
    }

    /// Tells how the Node stands.
    fn judge(&mut self) -> Result<(), Trouble> {
        let registration = match &self.known {
            Known::Nothing => Registration::Unknown,
            Known::Absent => Registration::Absent,
            Known::Present(node) if is_foreign(node) => Registration::Foreign,
            Known::Present(node) => {
                Registration::Ours(node.metadata.uid.clone().unwrap_or_default())
            }
        };
        let foreign = registration == Registration::Foreign;
        self.tell(registration);
        match std::mem::replace(&mut self.known, Known::Nothing) {
            Known::Present(node) if foreign => Err(Trouble::Foreign(node)),
            known => {
                self.known = known;
                Ok(())
            }
        }
    }

    fn tell(&self, registration: Registration) {
        self.task.registration.send_if_modified(|known| {
            let changed = *known != registration;
            *known = registration;
            changed
        });
    }

    fn may_write(&self) -> bool {
        self.task.leadership.may_write(self.name)
    }

    /// The node is as it should be.
    fn present(&mut self, node: Node, want: &Wanted) {
        self.tell(Registration::Ours(
            node.metadata.uid.clone().unwrap_or_default(),
        ));
        if !self.registered {
            self.registered = true;
            info!(
                "Virtual node '{}' initialized with capacity: {}",
                self.name,
                want.size()
            );
            if let Some(metrics) = &self.task.settings.metrics {
                metrics.node_registered(true);
            }
        }
        self.known = Known::Present(Box::new(node));
    }

    fn tell_turns(&self, want: &Wanted, have: &Node) {
        let Some(events) = &self.task.settings.events else {
            return;
        };
        let events = events.for_node(self.name);
        for condition in want.turned(have) {
            let reason = condition.reason.as_deref().unwrap_or(&condition.type_);
            let message = condition.message.as_deref().unwrap_or_default();
            if condition.status == "True" {
                events.normal(reason, message);
            } else {
                events.warning(reason, message);
            }
        }
    }

    /// The API server's version, asked once.
    async fn version(&mut self) -> Result<String, Trouble> {
        if let Some(version) = &self.version {
            return Ok(version.clone());
        }
        let version = match called("version", self.task.client.apiserver_version()).await {
            Ok(info) => info.git_version,
            Err(
                Trouble::Failed(kube::Error::Api(status))
                | Trouble::Stale(kube::Error::Api(status)),
            ) if matches!(status.code, 403 | 404 | 501) => {
                warn!(
                    code = status.code,
                    "the API server does not tell its version"
                );
                FALLBACK_VERSION.into()
            }
            Err(trouble) => return Err(trouble),
        };
        Ok(self.version.insert(version).clone())
    }

    /// Logs and counts; how long the server wants to be left alone.
    fn report(&mut self, trouble: &Trouble) -> Duration {
        let node = self.name;
        // What was sent may have taken effect.
        self.known = Known::Nothing;
        match trouble {
            Trouble::Stale(error) | Trouble::Failed(error) => {
                warn!(node, %error, "node not up to date in Kubernetes");
                if let Some(metrics) = &self.task.settings.metrics {
                    metrics.api_error("node", error);
                }
                named_pause(error).unwrap_or_default().min(LONGEST_PAUSE)
            }
            Trouble::Foreign(found) => {
                let message = format!(
                    "a Node named {node} exists and is no virtual one; it is left alone, and nothing runs here under this name: rename one of the two"
                );
                error!(node, message);
                if let Some(events) = &self.task.settings.events {
                    events
                        .for_node_of_another(node)
                        .warning("NodeNameTaken", &message);
                }
                self.known = Known::Present(found.clone());
                FOREIGN_AGAIN
            }
            Trouble::Late(operation) => {
                warn!(node, operation, "no answer from the API server");
                if let Some(metrics) = &self.task.settings.metrics {
                    metrics.count_error("node", 0);
                }
                Duration::ZERO
            }
        }
    }
}

async fn called<T>(
    operation: &'static str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Trouble> {
    match timeout(CALL_DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            Err(Trouble::Stale(kube::Error::Api(status)))
        }
        Ok(Err(error)) => Err(Trouble::Failed(error)),
        Err(_) => Err(Trouble::Late(operation)),
    }
}

fn revision(node: &Node) -> Option<u64> {
    node.metadata.resource_version.as_deref()?.parse().ok()
}
