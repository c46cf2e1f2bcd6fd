//! One cluster, one remote, one process under test at a time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::table::Table;
use virtual_kubelet::{Host, InputSettings, Settings};
use vk_sandbox::kubernetes::Cluster;

use crate::broken::Guard;
use crate::court::{Actor, Court};
use crate::dice::Dice;
use crate::handle::Handle;
use crate::life::Life;
use crate::remote::Remote;
use crate::weather::Weather;
use crate::wire::Wire;

pub const NAMESPACE: &str = "default";
pub const NODE: &str = "vk";
/// Kubernetes takes a node for lost when its lease is older than this.
const LEASE: Duration = Duration::from_secs(40);
/// A watch that says nothing is given up after this.
const STALL: Duration = Duration::from_secs(300);
/// After a fault ends or a process starts the node has this long to be well.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// A field that the backend cannot have.
pub const REFUSED: &str = "spec.hostNetwork";

/// What kind of pod it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One like any other.
    Plain,
    /// It asks for [`REFUSED`].
    Refused,
    /// An agent of the cluster's machines, as kube-proxy is.
    Agent,
}

/// Requests of all processes, in order.
pub type Log = Arc<Mutex<Vec<(Method, String)>>>;

struct Process {
    life: Life,
    stop: CancellationToken,
    table: Table,
    task: JoinHandle<()>,
}

pub struct World {
    pub cluster: Cluster,
    pub court: Court,
    pub remote: Remote,
    pub weather: Weather,
    pub dice: Dice,
    pub log: Log,
    pub guard: Guard,
    /// The process's; the cluster and the remote have their own, which are right.
    pub wall: vk_provider::Clock,
    process: Option<Process>,
    /// Since then nothing has disturbed the node's way to the API server.
    undisturbed: Instant,
}

impl World {
    pub fn new(seed: u64, guard: Guard) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let cluster = Cluster::new(vk_sandbox::clock::Clock::stepped(start));
        let wall = vk_provider::Clock::stepped(start);
        let dice = Dice::new(seed);
        let court = Court::new(cluster.clone());
        Self {
            remote: Remote::start(
                court.clone(),
                vk_provider::Clock::stepped(start),
                Dice::new(dice.below(u64::MAX)),
            ),
            cluster,
            court,
            weather: Weather::default(),
            dice,
            log: Log::default(),
            guard,
            wall,
            process: None,
            undisturbed: Instant::now(),
        }
    }

    /// Starts a process; one at a time.
    pub fn start(&mut self) {
        self.start_with(Life::default());
    }

    pub fn start_with(&mut self, life: Life) {
        assert!(self.process.is_none(), "one process at a time");
        self.court.note("process starts");
        self.court.begins();
        self.disturbed();
        let dice = Dice::new(self.dice.below(u64::MAX));
        let client = Client::new(
            Wire {
                cluster: self.cluster.clone(),
                court: self.court.clone(),
                life: life.clone(),
                weather: self.weather.clone(),
                dice: dice.clone(),
                clock: self.wall.clone(),
                guard: self.guard,
                log: self.log.clone(),
            },
            NAMESPACE,
        );
        let metrics = Metrics::default();
        let clock = self.wall.clone();
        let mut node = NodeSettings::new("simulated", "vk-simulated");
        node.taints.clear();
        // As a container that is restarted in its pod: the lease is still its own.
        node.identity = "same-pod".into();
        let settings = Settings {
            client: client.clone(),
            lease_client: client.clone(),
            node,
            inputs: InputSettings::default(),
            api: None,
            events: Recorder::start(client, "vk-simulated", &metrics, clock.clone()),
            metrics,
            clock,
        };
        let handle = Handle {
            remote: self.remote.clone(),
            node: NODE.into(),
            life: life.clone(),
            weather: self.weather.clone(),
            dice,
        };
        let host = Host::new(settings, self.guard.backend(handle));
        let (stop, table) = (CancellationToken::new(), host.table());
        let task = tokio::spawn(host.run(stop.clone()));
        self.process = Some(Process {
            life,
            stop,
            table,
            task,
        });
    }

    /// Ends the process as SIGKILL does.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            self.court.note("process killed");
            process.life.kill();
            // Its tasks are dropped at leisure: they reach nothing any more.
            process.stop.cancel();
        }
    }

    /// Ends the process as SIGTERM does.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            self.court.note("process told to end");
            process.stop.cancel();
            if tokio::time::timeout(Duration::from_secs(5), process.task)
                .await
                .is_err()
            {
                self.court
                    .wrong("the process does not end within 5 s of SIGTERM");
            }
            process.life.kill();
        }
    }

    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Pods that the process knows.
    pub fn known(&self) -> usize {
        self.process
            .as_ref()
            .map_or(0, |process| process.table.len())
    }

    /// What the process knows of its pods, for people.
    pub fn records(&self) -> String {
        format!("{:?}", self.process.as_ref().map(|process| &process.table))
    }

    /// Something stands between the node and the API server from now on, or did
    /// until now.
    pub fn disturbed(&mut self) {
        self.undisturbed = self.undisturbed.max(Instant::now());
    }

    /// Watches may say nothing until they are given up.
    pub fn stalled(&mut self) {
        self.undisturbed = Instant::now() + STALL;
    }

    /// Lease and Ready must be there when only the backend is in trouble.
    pub fn look_at_node(&self) {
        if !self.is_up()
            || self.is_api_disturbed()
            || self.undisturbed + WELL_AFTER > Instant::now()
        {
            return;
        }
        let renewed = self.court.renewed().map(|at| at.elapsed());
        if renewed.is_none_or(|age| age > LEASE) {
            self.court
                .wrong(format!("the lease was renewed {renewed:?} ago"));
        }
        let node = self
            .cluster
            .get::<Node>("", NODE)
            .and_then(|node| node.status);
        let ready = node
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if !ready {
            self.court.wrong("the node is not Ready");
        }
    }

    pub fn create(&self, name: &str, policy: &str, finalizer: bool, kind: Kind) {
        let grace = [1, 5, 30][usize::try_from(self.dice.below(3)).unwrap()];
        let finalizers = if finalizer {
            vec!["example.com/held"]
        } else {
            vec![]
        };
        let mut pod = json!({
            "metadata": {"name": name, "namespace": NAMESPACE, "finalizers": finalizers},
            "spec": {
                "nodeName": NODE,
                "restartPolicy": policy,
                "terminationGracePeriodSeconds": grace,
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": "app:1", "resources": {"requests": {"cpu": "1"}}}],
            },
        });
        match kind {
            Kind::Plain => {}
            Kind::Refused => pod["spec"]["hostNetwork"] = json!(true),
            Kind::Agent => {
                pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
                pod["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "proxy",
                    "uid": "proxy", "controller": true,
                }]);
            }
        }
        let pod: Pod = serde_json::from_value(pod).unwrap();
        // Refused while one of that name is there.
        let _ = self.cluster.create(&pod);
        self.court.look(Actor::User);
    }

    pub fn delete(&self, name: &str, grace: Option<i64>) {
        let _ = self.cluster.delete::<Pod>(NAMESPACE, name, grace);
        self.court.look(Actor::User);
    }

    /// A merge patch by a person; of a pod that may be gone.
    pub fn patch(&self, name: &str, merge: &serde_json::Value) {
        let _ = self.cluster.patch::<Pod>(NAMESPACE, name, merge);
        self.court.look(Actor::User);
    }

    pub fn pods(&self) -> Vec<serde_json::Value> {
        self.cluster.list_values("pods", Some(NAMESPACE))
    }
}
