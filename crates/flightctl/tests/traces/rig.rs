//! The provider between a cluster and either the real service or a trace of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::client::middleware::BaseUriLayer;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tower::Layer as _;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::config::{ClusterAgents, Workloads};
use vk_flightctl::console::Consoles;
use vk_flightctl::run::{Parts, run};
use vk_provider::Clock;
use vk_sandbox::flightctl::{Device, DeviceSpec, start_agent};
use vk_sandbox::kubernetes::{Cluster, Controllers};

use crate::agent_link::AgentLink;
use crate::flightctl_service::{FlightControlService, Role};
use crate::player::Player;
use crate::recorder::Recorder;
use crate::trace::Trace;

const NODE: &str = "vk-flightctl-node";
const NAME: &str = "update-test";
/// Longest wait for anything: Flight Control misses a device after five minutes.
const PATIENCE: Duration = Duration::from_secs(500);
/// In which a pod that is gone has to stay that.
const CALM: Duration = Duration::from_secs(120);

pub struct Rig {
    pub far: Far,
    cluster: Cluster,
    begun: Instant,
    story: Arc<Mutex<Vec<String>>>,
    _watch: AbortOnDropHandle<()>,
    _controllers: Controllers,
    provider: (CancellationToken, JoinHandle<anyhow::Result<()>>),
}

/// What the provider talks to.
pub enum Far {
    Trace(Player),
    Real(Box<Real>),
}

pub struct Real {
    recorder: Recorder,
    device: Device,
    // Before the service: the agent would complain.
    _stop: DropGuard,
    _service: FlightControlService,
}

impl Far {
    /// Does something to the device.
    pub async fn act(&self, name: &str, act: impl FnOnce(&Device)) {
        match self {
            Self::Trace(player) => player.act(name).await,
            Self::Real(real) => {
                real.recorder.act(name);
                act(&real.device);
            }
        }
    }
}

impl Rig {
    /// Plays a cycle against its trace; what the pod showed meanwhile, in turn.
    pub async fn replay(name: &str, cycle: impl AsyncFnOnce(&Self)) -> Vec<String> {
        let trace = Trace::load(name);
        let begun = trace.begun;
        let player = Player::new(trace);
        let service = player.clone();
        let http = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let answer = service.clone().ask(request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let base = Uri::from_static("http://flightctl.test/");
        let client = Client::new(http, &base, TokenSource::fixed("recorded"));
        let rig = Self::start(Far::Trace(player.clone()), client, Some(begun)).await;
        cycle(&rig).await;
        sleep(CALM).await;
        assert_eq!(player.wrong(), None);
        assert_eq!(player.left(), [], "what the recording has more");
        rig.end().await
    }

    /// Plays a cycle on the real service and writes its trace.
    pub async fn record(name: &str, cycle: impl AsyncFnOnce(&Self)) {
        let bin = std::env::var_os("FLIGHTCTL_BIN").expect("FLIGHTCTL_BIN is set");
        let bin = PathBuf::from(bin);
        let service = tokio::task::spawn_blocking(move || FlightControlService::start(&bin))
            .await
            .unwrap();
        let link = AgentLink::enroll(&service, &BTreeMap::new()).await;
        let mut spec = DeviceSpec::new(link.name());
        spec.cpu_cores = Some(4);
        spec.memory_kb = Some(8 << 20);
        spec.address = Some("10.42.0.1/24".into());
        spec.status_interval = Duration::from_secs(2);
        let stop = CancellationToken::new();
        let clock = vk_sandbox::clock::Clock::live();
        let device = start_agent(link, spec, clock, stop.clone());
        service.has_seen(device.name()).await;
        let recorder = Recorder::new(device.name());
        let (https, told) = (service.user_as(Role::Operator), recorder.clone());
        let http = tower::service_fn(move |request: Request<Full<Bytes>>| {
            told.clone().ask(https.clone(), request)
        });
        let base: Uri = service.url().parse().unwrap();
        let token = service.token(Role::Operator);
        let client = Client::new(http, &base, TokenSource::fixed(&token));
        let far = Far::Real(Box::new(Real {
            recorder: recorder.clone(),
            device,
            _stop: stop.drop_guard(),
            _service: service,
        }));
        let rig = Self::start(far, client, None).await;
        cycle(&rig).await;
        let trace = recorder.trace();
        println!("{name}: {:#?}", rig.end().await);
        trace.save(name);
    }

    async fn start(far: Far, client: Client, stepped: Option<Timestamp>) -> Self {
        let (clock, sandbox) = match stepped {
            None => (Clock::live(), vk_sandbox::clock::Clock::live()),
            Some(begun) => (
                Clock::stepped(begun),
                vk_sandbox::clock::Clock::stepped(begun),
            ),
        };
        let cluster = Cluster::new(sandbox);
        let base = BaseUriLayer::new(Uri::from_static("http://cluster.test/"));
        let kube = || {
            let connector = cluster.endpoint().connector();
            let http: Http<_, kube::client::Body> =
                Http::builder(TokioExecutor::new()).build(connector);
            kube::Client::new(base.layer(http), "default")
        };
        let mut rules = vk_flightctl::config::default_rules();
        rules.taints = Vec::new();
        let parts = Parts {
            kube: kube(),
            lease: kube(),
            metrics: vk_flightctl::run::metrics(),
            flightctl: client,
            rules,
            poll: Duration::from_secs(30),
            cluster_agents: ClusterAgents::default(),
            workloads: Workloads::default(),
            kubelet_api: None,
            consoles: Consoles::default(),
            clock,
            identity: None,
            listener: None,
        };
        let stop = CancellationToken::new();
        let provider = tokio::spawn(run(parts, stop.clone()));
        let story = Arc::new(Mutex::new(Vec::new()));
        let watch = tokio::spawn(watch(cluster.clone(), story.clone()));
        let rig = Self {
            far,
            begun: Instant::now(),
            story,
            _watch: AbortOnDropHandle::new(watch),
            _controllers: cluster.start_controllers(),
            cluster,
            provider: (stop, provider),
        };
        let node = |c: &Cluster| c.get_value("nodes", "", NODE);
        rig.until("the node", node).await;
        rig
    }

    /// Ends the provider; what the pod showed.
    async fn end(self) -> Vec<String> {
        let (stop, provider) = self.provider;
        stop.cancel();
        provider.await.unwrap().unwrap();
        let story = self.story.lock().unwrap();
        story.clone()
    }

    pub fn create(&self, image: &str) {
        let create = || {
            let pod = json!({
                "metadata": {"name": NAME, "namespace": "default"},
                "spec": {
                    "nodeName": NODE,
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{"name": "app", "image": image}],
                },
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            self.cluster.create(&pod).unwrap().metadata.uid.unwrap()
        };
        match &self.far {
            Far::Trace(player) => player.create(&create()),
            Far::Real(real) => real.recorder.create(create),
        }
    }

    pub fn set_image(&self, image: &str) {
        let mut pod: Pod = self.cluster.get("default", NAME).unwrap();
        pod.spec.as_mut().unwrap().containers[0].image = Some(image.into());
        self.cluster.update(&pod).unwrap();
    }

    pub fn delete(&self) {
        self.cluster.delete::<Pod>("default", NAME, None).unwrap();
    }

    /// Waits for a line of the story that has this in it.
    pub async fn shows(&self, text: &str) {
        let shown = |c: &Cluster| {
            let pod = c.get_value("pods", "default", NAME)?;
            summary(&pod).contains(text).then_some(())
        };
        self.until(text, shown).await;
    }

    pub async fn gone(&self) {
        let gone = |c: &Cluster| c.get_value("pods", "default", NAME).is_none().then_some(());
        self.until("gone", gone).await;
    }

    async fn until<T>(&self, what: &str, look: impl FnMut(&Cluster) -> Option<T>) -> T {
        let Ok(found) = timeout(PATIENCE, self.cluster.until(look)).await else {
            let story = self.story.lock().unwrap();
            let wrong = match &self.far {
                Far::Trace(player) => player.wrong(),
                Far::Real(_) => None,
            };
            panic!("never: {what}\n{story:#?}\n{wrong:?}");
        };
        println!("{what} ({:.1} s)", self.begun.elapsed().as_secs_f64());
        found
    }
}

/// Writes down what the pod shows, each time it is something else.
async fn watch(cluster: Cluster, story: Arc<Mutex<Vec<String>>>) {
    let look = |c: &Cluster| -> Option<()> {
        let pod = c.get_value("pods", "default", NAME);
        let mut story = story.lock().unwrap();
        let line = match &pod {
            Some(pod) => summary(pod),
            None if story.is_empty() => return None,
            None => "gone".into(),
        };
        if story.last() != Some(&line) {
            story.push(line);
        }
        None
    };
    cluster.until(look).await;
}

/// A pod in a line: phase, readiness, and its container's state and image.
fn summary(pod: &Value) -> String {
    let status = &pod["status"];
    let mut words = Vec::new();
    if pod["metadata"]["deletionTimestamp"].is_string() {
        words.push("Terminating");
    }
    words.extend(status["phase"].as_str());
    let conditions = status["conditions"].as_array().into_iter().flatten();
    for ready in conditions.filter(|c| c["type"] == "Ready") {
        match ready["status"].as_str() {
            Some("True") => words.push("ready"),
            Some("Unknown") => words.extend(ready["reason"].as_str()),
            _ => {}
        }
    }
    let container = &status["containerStatuses"][0];
    let state = &container["state"];
    words.extend(state["waiting"]["reason"].as_str());
    words.extend(state["terminated"]["reason"].as_str());
    if state["running"].is_object() {
        words.extend(container["image"].as_str());
    }
    words.join(" ")
}
