//! The world a suite runs in: a Kubernetes API, sandboxed or real, and a
//! virtual kubelet over the in-memory backend.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::table::Table;
use virtual_kubelet::{ApiSettings, Host, InputSettings, Settings};
use vk_provider::Clock;

use super::gate::{self, Gate};
use super::memory::Remote;

/// Longest wait for anything; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One cluster and one remote.
pub struct World {
    /// Of the test itself.
    pub client: Client,
    /// The kubelet's way to Kubernetes.
    pub gate: Gate,
    line: Client,
    /// What the kubelet knows.
    pub table: Option<Table>,
    pub namespace: String,
    pub node: String,
    pub remote: Remote,
    pub clock: Clock,
    /// What pods are given, from the next start on.
    pub inputs: InputSettings,
    /// The node's API, from the next start on.
    pub api: Option<ApiSettings>,
    pub metrics: Metrics,
    kubelet: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    pub async fn new(client: Client, clock: Clock, namespace: &str) -> Self {
        let mut world = Self::idle(client, clock, namespace);
        world.start().await;
        world
    }

    /// The same before a kubelet is started.
    pub fn idle(client: Client, clock: Clock, namespace: &str) -> Self {
        let node = format!("vk-{namespace}");
        let remote = Remote::new(clock.clone(), &[&node]);
        let (line, gate) = gate::through(client.clone());
        Self {
            client,
            gate,
            line,
            table: None,
            namespace: namespace.into(),
            node,
            remote,
            clock,
            inputs: InputSettings::default(),
            api: None,
            metrics: Metrics::default(),
            kubelet: None,
        }
    }

    /// Starts a kubelet process.
    pub async fn start(&mut self) {
        let metrics = Metrics::default();
        let node = node_settings(&self.namespace);
        let settings = Settings {
            client: self.line.clone(),
            lease_client: self.line.clone(),
            node,
            inputs: self.inputs.clone(),
            api: self.api.clone(),
            events: Recorder::start(self.line.clone(), "vk-memory", &metrics, self.clock.clone()),
            metrics: metrics.clone(),
            clock: self.clock.clone(),
        };
        self.metrics = metrics;
        let host = Host::new(settings, self.remote.backend());
        self.table = Some(host.table());
        let stop = CancellationToken::new();
        let task = tokio::spawn(host.run(stop.clone()));
        self.kubelet = Some((stop, task));
        let nodes: Api<Node> = Api::all(self.client.clone());
        let there = await_condition(nodes, &self.node, |n: Option<&Node>| n.is_some());
        timeout(PATIENCE, there)
            .await
            .expect("node registers")
            .unwrap();
    }

    /// Ends the process as SIGTERM does.
    pub async fn stop(&mut self) {
        if let Some((stop, task)) = self.kubelet.take() {
            stop.cancel();
            timeout(Duration::from_secs(5), task)
                .await
                .expect("ends within 5 s")
                .unwrap();
        }
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// All pods that a label selector finds.
    pub async fn labelled(&self, selector: &str) -> Vec<Pod> {
        let params = ListParams::default().labels(selector);
        self.pods().list(&params).await.unwrap().items
    }

    pub fn pod(&self, name: &str, policy: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "nodeName": self.node,
                "restartPolicy": policy,
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": "app:1", "resources": {"requests": {"cpu": "1"}}}],
            },
        }))
        .unwrap()
    }

    pub async fn create(&self, pod: &Pod) -> Pod {
        self.pods()
            .create(&PostParams::default(), pod)
            .await
            .unwrap()
    }

    pub async fn wait(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&Pod) -> bool + Clone,
    ) -> Pod {
        let met = move |pod: Option<&Pod>| pod.is_some_and(&condition);
        let waited = timeout(PATIENCE, await_condition(self.pods(), name, met)).await;
        match waited {
            Ok(pod) => pod.unwrap().expect("the condition needs a pod"),
            Err(_) => panic!(
                "{name} never is {what}: {:#?}",
                self.pods().get_opt(name).await
            ),
        }
    }

    pub async fn running(&self, name: &str) -> Pod {
        self.wait(name, "Running", |p| phase(p) == "Running" && ready(p))
            .await
    }

    pub async fn gone(&self, name: &str, uid: &str) {
        let uid = uid.to_owned();
        let met =
            move |pod: Option<&Pod>| pod.is_none_or(|p| p.metadata.uid.as_deref() != Some(&uid));
        let waited = timeout(PATIENCE, await_condition(self.pods(), name, met)).await;
        assert!(
            waited.is_ok(),
            "{name} never goes: {:#?}",
            self.pods().get_opt(name).await
        );
    }

    pub async fn delete(&self, name: &str, grace: Option<u32>) {
        let params = DeleteParams {
            grace_period_seconds: grace,
            ..Default::default()
        };
        self.pods().delete(name, &params).await.unwrap();
    }

    /// Waits for an event with this reason.
    pub async fn told(&self, reason: &str) -> Event {
        eventually(&format!("{reason} is told"), async || {
            let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
            let events = events.list(&ListParams::default()).await.unwrap();
            let mut events = events.into_iter();
            events.find(|e| e.reason.as_deref() == Some(reason))
        })
        .await
    }

    /// Waits until the remote has nothing left.
    pub async fn emptied(&self) {
        for _ in 0..600 {
            if self.remote.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the remote still has pods: {:?}", self.remote);
    }
}

/// Of any process in the world of this namespace. Worlds may share a cluster,
/// and their nodes are not each other's.
pub fn node_settings(namespace: &str) -> NodeSettings {
    let mut settings = NodeSettings::new("memory", "vk-memory");
    settings.taints.clear();
    settings.instance = namespace.into();
    settings
}

/// Looks until it finds, for as long as patience lasts.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap()
}

pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

pub fn ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
