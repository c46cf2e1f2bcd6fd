//! The backend with one device of the sandbox.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use vk_flightctl::backend::FlightControl;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::console::Consoles;
use vk_flightctl::mapping::app_name;
use vk_flightctl::world::World;
use vk_provider::{
    Backend, BackendError, Clock, Inputs, Journal, PodChange, PodCx, PodEvents, PodFacts, PodKey,
    PodRequest, Revision,
};
use vk_sandbox::flightctl::{self as service, Device, DeviceSpec, Occurrence};

/// Longest wait for anything; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between looks at what nobody announces.
const LOOK: Duration = Duration::from_millis(200);

/// A request for a pod, whose UID its name is.
pub fn pod(name: &str, spec: Value, inputs: Inputs, change: PodChange) -> PodRequest {
    let spec: PodSpec = serde_json::from_value(spec).unwrap();
    let mut pod = Pod {
        spec: Some(spec.clone()),
        ..Pod::default()
    };
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("shop".into());
    pod.metadata.uid = Some(name.into());
    pod.metadata.labels = Some([("tier".to_owned(), "front".to_owned())].into());
    PodRequest {
        key: PodKey::new("shop", name, name),
        node: "vk-flightctl-node".into(),
        spec_revision: Revision::of(&spec),
        pod: Arc::new(pod),
        change,
        journal: None,
        inputs: Arc::new(inputs),
    }
}

/// Every event, as reason and message.
#[derive(Default)]
pub struct Told(Mutex<Vec<String>>);

impl Told {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, reason: &str, message: &str) {
        self.0.lock().unwrap().push(format!("{reason} {message}"));
    }
}

impl PodEvents for Told {
    fn normal(&self, reason: &str, message: &str) {
        self.note(reason, message);
    }
    fn warning(&self, reason: &str, message: &str) {
        self.note(reason, message);
    }
}

#[async_trait]
impl Journal for Told {
    async fn persist(&self, _: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

/// All that this thread logs.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn collect(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub struct Bench {
    pub service: service::FlightControl,
    pub device: Device,
    pub backend: FlightControl,
    pub told: Arc<Told>,
    pub clock: Clock,
    following: JoinHandle<()>,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Some("10.42.0.1/16")).await
    }

    pub async fn without_address() -> Self {
        Self::with(None).await
    }

    async fn with(address: Option<&str>) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = vk_sandbox::clock::Clock::stepped(start);
        let service = service::FlightControl::new(clock, service::Options::default());
        let mut spec = DeviceSpec::new("device-1");
        spec.address = address.map(str::to_owned);
        spec.status_interval = Duration::from_secs(10);
        let device = service.add_device(spec);
        let clock = Clock::stepped(start);
        let (backend, following) = start_backend(&service, &clock);
        let bench = Self {
            service,
            device,
            backend,
            told: Arc::default(),
            clock,
            following,
        };
        bench.synced().await;
        bench
    }

    /// Another process takes over.
    pub async fn restart(&mut self) {
        self.following.abort();
        (self.backend, self.following) = start_backend(&self.service, &self.clock);
        self.synced().await;
    }

    /// Until the device has reported what it is.
    async fn synced(&self) {
        self.pass(30).await;
        self.backend.list().await.unwrap();
    }

    pub async fn pass(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    pub async fn ensure(&self, request: &PodRequest) -> Result<(), BackendError> {
        let cx = PodCx {
            events: self.told.clone(),
            journal: self.told.clone(),
            cancel: CancellationToken::new(),
        };
        self.backend.ensure(request, &cx).await
    }

    /// As the framework does it: again until it is done.
    pub async fn ensure_after_a_while(&self, request: &PodRequest) {
        let done = async {
            while self.ensure(request).await.is_err() {
                sleep(LOOK * 25).await;
            }
        };
        timeout(PATIENCE, done).await.expect("accepted at last");
    }

    /// Until something holds; changes on a device are not announced.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let held = async {
            while !holds(self) {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, held).await.expect("it comes to hold");
    }

    pub async fn until_facts(&self, request: &PodRequest, holds: impl Fn(&PodFacts) -> bool) {
        let held = async {
            while !holds(&self.facts(request).await) {
                // Each look reads the device whole.
                sleep(LOOK * 5).await;
            }
        };
        timeout(PATIENCE, held).await.expect("it is reported");
    }

    /// Until a container was started so often, and its pod is reported to run.
    pub async fn runs(&self, request: &PodRequest, container: &str, starts: usize) {
        self.until(|b| {
            b.starts(request) == starts
                && b.device
                    .container(&app_name(&request.key.uid), container)
                    .is_some()
        })
        .await;
        self.until_facts(request, |facts| {
            facts.applied.as_ref() == Some(&request.spec_revision)
        })
        .await;
    }

    /// How often containers of a pod were started.
    pub fn starts(&self, request: &PodRequest) -> usize {
        let app = app_name(&request.key.uid);
        let journal = self.device.journal();
        let starts = journal
            .iter()
            .filter(|e| e.app == app && e.event == Occurrence::Start);
        starts.count()
    }

    pub async fn facts(&self, request: &PodRequest) -> PodFacts {
        let listing = self.backend.list().await.unwrap();
        let mut pods = listing.pods.into_iter();
        pods.find(|facts| facts.key.uid == request.key.uid)
            .expect("it is known")
    }

    /// The device's spec as Flight Control holds it.
    pub fn spec(&self) -> Value {
        self.device.value().unwrap()["spec"].clone()
    }

    pub fn generation(&self) -> Value {
        self.device.value().unwrap()["metadata"]["generation"].clone()
    }

    /// Somebody else writes the device.
    pub async fn edit(&self, patch: Value) {
        let client = client(&self.service);
        client.patch_device("device-1", &patch).await.unwrap();
    }
}

fn client(service: &service::FlightControl) -> Client {
    let http = Http::builder(TokioExecutor::new()).build(service.endpoint().connector());
    let base = http::Uri::from_static("http://flightctl.test/");
    Client::new(http, &base, TokenSource::fixed("any"))
}

fn start_backend(
    service: &service::FlightControl,
    clock: &Clock,
) -> (FlightControl, JoinHandle<()>) {
    let backend = FlightControl::new(
        client(service),
        World::new("cluster", vk_flightctl::config::default_rules()),
        clock.clone(),
        Duration::from_secs(30),
    )
    .with_consoles(Consoles {
        enabled: true,
        ..Consoles::default()
    });
    let followed = backend.clone();
    let following = tokio::spawn(async move { followed.follow().await });
    (backend, following)
}
