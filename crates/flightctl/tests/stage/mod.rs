//! A whole world on the stepped clock: a cluster with its controllers, Flight
//! Control with devices, and the provider between them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use kube::client::middleware::BaseUriLayer;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use virtual_kubelet::metrics::Metrics;
use vk_flightctl::client::{Client, TokenSource};
use vk_flightctl::config::{ClusterAgents, Workloads};
use vk_flightctl::console::Consoles;
use vk_flightctl::fleet::Rules;
use vk_flightctl::run::{Parts, metrics, run};
use vk_provider::Clock;
use vk_sandbox::flightctl::{Device, DeviceSpec, FlightControl, Options};
use vk_sandbox::kubernetes::{Cluster, Controllers};

mod traffic;
pub use traffic::Traffic;

/// Longest wait for anything; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(600);

pub struct Stage {
    pub cluster: Cluster,
    pub flightctl: FlightControl,
    pub devices: Vec<Device>,
    pub rules: Rules,
    pub token: TokenSource,
    pub workloads: Workloads,
    /// Of the provider that was started last.
    pub metrics: Metrics,
    /// The next write gets no answer, and takes effect after 25 s.
    pub late: Arc<AtomicBool>,
    /// Devices read as `ConflictPaused`, as after Flight Control's database was put
    /// back: it renders nothing for them until someone resumes them.
    pub paused: Arc<AtomicBool>,
    /// What was asked of Flight Control.
    pub traffic: Arc<Mutex<Traffic>>,
    /// What devices of these names read as besides, by a merge into their documents.
    pub twists: Arc<Mutex<BTreeMap<String, Value>>>,
    start: Timestamp,
    begun: tokio::time::Instant,
    _controllers: Controllers,
    provider: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

impl Stage {
    /// `n` devices in `fleets` fleets, a provider without taints.
    pub async fn new(n: usize, fleets: usize, unassigned: usize) -> Self {
        let mut stage = Self::empty();
        stage.devices = (0..n)
            .map(|index| {
                let mut spec = DeviceSpec::new(&format!("device-{}", index + 1));
                spec.cpu_cores = Some(4);
                spec.memory_kb = Some(8 << 20);
                spec.address = Some(format!("10.42.0.{}/16", index + 1));
                // What operators are asked to set.
                spec.status_interval = Duration::from_secs(10);
                if index + unassigned < n {
                    spec = spec.label("fleet", &format!("edge-fleet-{}", index % fleets + 1));
                }
                stage.flightctl.add_device(spec)
            })
            .collect();
        stage.start_provider().await;
        stage
    }

    /// Nothing runs yet.
    pub fn empty() -> Self {
        Self::limited(None)
    }

    /// The same, behind a limit of requests a minute.
    pub fn limited(rate_limit: Option<u32>) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = vk_sandbox::clock::Clock::stepped(start);
        let cluster = Cluster::new(clock.clone());
        let options = Options {
            token: Some("secret".into()),
            rate_limit,
            ..Options::default()
        };
        let flightctl = FlightControl::new(clock, options);
        let mut rules = vk_flightctl::config::default_rules();
        rules.taints = Vec::new();
        Self {
            _controllers: cluster.start_controllers(),
            cluster,
            flightctl,
            devices: Vec::new(),
            rules,
            token: TokenSource::fixed("secret"),
            workloads: Workloads::default(),
            metrics: metrics(),
            late: Arc::default(),
            paused: Arc::default(),
            traffic: Arc::default(),
            twists: Arc::default(),
            start,
            begun: tokio::time::Instant::now(),
            provider: None,
        }
    }

    /// A client of the cluster.
    pub fn kube(&self) -> kube::Client {
        let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.test/"));
        let http = Http::builder(TokioExecutor::new()).build(self.cluster.endpoint().connector());
        kube::Client::new(base.layer(http), "default")
    }

    /// A client of Flight Control, with what the tests put between.
    pub fn client(&self) -> Client {
        let flightctl =
            Http::builder(TokioExecutor::new()).build(self.flightctl.endpoint().connector());
        let (late, paused, twists) = (self.late.clone(), self.paused.clone(), self.twists.clone());
        let traffic = self.traffic.clone();
        let flightctl = tower::service_fn(move |request: http::Request<Full<Bytes>>| {
            let flightctl: Http<_, _> = flightctl.clone();
            let (late, paused, twists) = (late.clone(), paused.clone(), twists.clone());
            let traffic = traffic.clone();
            async move {
                let write = request.method() == http::Method::PATCH;
                if write && late.swap(false, Ordering::SeqCst) {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(25)).await;
                        let _ = flightctl.request(request).await;
                    });
                    return std::future::pending().await;
                }
                let asked = traffic.lock().unwrap().asks(&request);
                let patch = request.body().clone().collect().await?.to_bytes();
                let (parts, body) = flightctl.request(request).await?.into_parts();
                let mut body = body.collect().await?.to_bytes();
                traffic
                    .lock()
                    .unwrap()
                    .answered(asked, parts.status, &patch);
                if paused.load(Ordering::SeqCst) {
                    body = as_paused(&body);
                }
                let twists = twists.lock().unwrap().clone();
                if !twists.is_empty() {
                    body = twisted(&body, &twists);
                }
                let answer = http::Response::from_parts(parts, Full::new(body));
                Ok::<_, tower::BoxError>(answer)
            }
        });
        Client::new(
            flightctl,
            &http::Uri::from_static("http://flightctl.test/"),
            self.token.clone(),
        )
    }

    pub async fn start_provider(&mut self) {
        self.metrics = metrics();
        let parts = Parts {
            kube: self.kube(),
            lease: self.kube(),
            metrics: self.metrics.clone(),
            flightctl: self.client(),
            rules: self.rules.clone(),
            poll: Duration::from_secs(30),
            cluster_agents: ClusterAgents::default(),
            workloads: self.workloads.clone(),
            kubelet_api: None,
            consoles: Consoles::default(),
            clock: Clock::stepped(self.start.checked_add(self.begun.elapsed()).unwrap()),
            identity: None,
            listener: None,
        };
        let stop = CancellationToken::new();
        self.provider = Some((stop.clone(), tokio::spawn(run(parts, stop))));
        self.until("the provider's node", |c| {
            c.get_value("nodes", "", "vk-flightctl-node")
        })
        .await;
    }

    pub async fn stop_provider(&mut self) {
        if let Some((stop, task)) = self.provider.take() {
            stop.cancel();
            timeout(Duration::from_secs(5), task)
                .await
                .expect("ends within 5 s")
                .unwrap()
                .unwrap();
        }
    }

    /// Waits until `look` finds something in the cluster.
    pub async fn until<T>(&self, what: &str, look: impl FnMut(&Cluster) -> Option<T>) -> T {
        self.patiently(what, self.cluster.until(look)).await
    }

    pub async fn patiently<T>(&self, what: &str, wait: impl Future<Output = T>) -> T {
        match timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!(
                "never: {what}\npods: {:#}\ndevices: {:#}",
                Value::from(self.cluster.list_values("pods", None)),
                Value::from_iter(
                    self.devices
                        .iter()
                        .map(|d| self.flightctl.device_value(d.name()))
                ),
            ),
        }
    }

    pub fn create(&self, pod: Value) -> String {
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        self.cluster.create(&pod).unwrap().metadata.uid.unwrap()
    }

    pub fn pod(&self, name: &str) -> Option<Value> {
        self.cluster.get_value("pods", "default", name)
    }

    pub async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until(&format!("{name} {phase}"), |c| {
            c.get_value("pods", "default", name)
                .filter(|p| p["status"]["phase"] == phase)
        })
        .await
    }

    pub async fn ready(&self, name: &str) -> Value {
        self.until(&format!("{name} ready"), |c| {
            c.get_value("pods", "default", name)
                .filter(|p| condition(p, "Ready") == "True")
        })
        .await
    }

    pub async fn gone(&self, name: &str) {
        self.until(&format!("{name} gone"), |c| {
            c.get_value("pods", "default", name).is_none().then_some(())
        })
        .await;
    }

    pub async fn event(&self, pod: &str, reason: &str) -> String {
        self.until(&format!("event {reason} of {pod}"), |c| {
            c.list_values("events", Some("default"))
                .into_iter()
                .find(|e| {
                    let object = if e["regarding"].is_object() {
                        &e["regarding"]
                    } else {
                        &e["involvedObject"]
                    };
                    object["name"] == pod && e["reason"] == reason
                })
                .map(|e| {
                    let text = if e["note"].is_string() {
                        &e["note"]
                    } else {
                        &e["message"]
                    };
                    text.as_str().unwrap_or_default().to_owned()
                })
        })
        .await
    }

    /// What the events of this reason say about a pod by now.
    pub fn events(&self, pod: &str, reason: &str) -> Vec<String> {
        let all = self.cluster.list_values("events", Some("default"));
        let of = all.iter().filter(|e| {
            let object = ["regarding", "involvedObject"].map(|key| &e[key]["name"]);
            object.contains(&&Value::from(pod)) && e["reason"] == reason
        });
        of.map(|e| {
            let text = ["note", "message"].map(|key| e[key].as_str().unwrap_or_default());
            text.concat()
        })
        .collect()
    }

    /// Names of the applications in a device's spec.
    pub fn applications(&self, device: &str) -> Vec<String> {
        let json = self.flightctl.device_value(device).unwrap_or_default();
        json["spec"]["applications"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|a| a["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// What a device's spec holds.
    pub fn spec_applications(&self, device: &str) -> Value {
        self.flightctl.device_value(device).unwrap_or_default()["spec"]["applications"].clone()
    }

    /// Someone else sets a device's applications.
    pub async fn edit_applications(&self, device: &str, applications: &Value) {
        let patch = json!([{"op": "add", "path": "/spec/applications", "value": applications}]);
        self.request("PATCH", &format!("/api/v1/devices/{device}"), patch)
            .await;
    }

    /// Someone else at Flight Control's API.
    pub async fn request(&self, method: &str, path: &str, body: Value) {
        let http = Http::builder(TokioExecutor::new()).build(self.flightctl.endpoint().connector());
        let kind = if method == "PATCH" {
            "application/json-patch+json"
        } else {
            "application/json"
        };
        let content = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://flightctl.test{path}"))
            .header("authorization", "Bearer secret")
            .header("content-type", kind)
            .body(Full::new(Bytes::from(content)))
            .unwrap();
        let answer = http.request(request).await.unwrap();
        assert!(
            answer.status().is_success(),
            "{method} {path}: {}",
            answer.status()
        );
    }

    pub fn device_of(&self, pod: &Value) -> &Device {
        let name = pod["metadata"]["labels"]["flightctl.io/device"]
            .as_str()
            .expect("a device label");
        self.devices
            .iter()
            .find(|d| d.name() == name)
            .expect("a known device")
    }
}

/// An answer in which devices are paused.
fn as_paused(body: &Bytes) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else {
        return body.clone();
    };
    let pause = |device: &mut Value| {
        if let Some(summary) = device.pointer_mut("/status/summary/status") {
            *summary = "ConflictPaused".into();
        }
    };
    pause(&mut answer);
    let listed = answer["items"].as_array_mut();
    listed.into_iter().flatten().for_each(pause);
    answer.to_string().into()
}

/// An answer in which devices read otherwise.
fn twisted(body: &Bytes, twists: &BTreeMap<String, Value>) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else {
        return body.clone();
    };
    let twist = |device: &mut Value| {
        let name = device["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(twist) = twists.get(name).cloned() {
            merge(device, twist);
        }
    };
    if answer["items"].is_array() {
        answer["items"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .for_each(twist);
    } else {
        twist(&mut answer);
    }
    answer.to_string().into()
}

fn merge(into: &mut Value, from: Value) {
    match from {
        Value::Object(from) => {
            for (key, value) in from {
                merge(&mut into[key], value);
            }
        }
        other => *into = other,
    }
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == kind)
        .and_then(|c| c["status"].as_str())
        .unwrap_or_default()
}

/// A pod as a user would type it.
pub fn pod(name: &str, node: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "containers": [{
                "name": "app",
                "image": image,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            }],
        },
    })
}
