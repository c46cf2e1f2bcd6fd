//! Creates and deletes pods and times them with its own clock: from the answer
//! to a create (or delete) to the watch event that shows the pod Running (or gone).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Where the pods are.
pub const NAMESPACE: &str = "bench";
/// Creates under way at once: more than a subject keeps up with.
const CREATES_AT_ONCE: usize = 32;
/// Deletes under way at once. Those who delete many (namespaces, `kubectl
/// delete --all`) do it one after another; a flood from here would measure how
/// the API server shares itself out, not how soon a subject answers.
const DELETES_AT_ONCE: usize = 2;
/// A burst that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the watch reads of a pod.
#[derive(Clone, Debug, Deserialize)]
struct Seen {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Phase,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Phase {
    phase: Option<String>,
}

impl Resource for Seen {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Default)]
struct Times {
    /// When the API server told of it first.
    told: HashMap<String, Instant>,
    running: HashMap<String, Instant>,
    gone: HashMap<String, Instant>,
}

/// What a burst took.
#[derive(Clone, Debug)]
pub struct Burst {
    /// From the first request to the last pod.
    pub whole: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
    /// From the answers to the creates to the API server's first word of them on
    /// a watch: nobody can be sooner. Sorted.
    told: Vec<Duration>,
}

impl Burst {
    fn new(
        begun: Instant,
        asked: &HashMap<String, Instant>,
        seen: &HashMap<String, Instant>,
    ) -> Self {
        let latencies = latencies(asked, seen);
        let last = asked.keys().map(|name| seen[name]).max().unwrap_or(begun);
        Self {
            whole: last - begun,
            latencies,
            told: Vec::new(),
        }
    }

    /// Pods per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.whole.as_secs_f64()
    }

    /// The latency that `part` of the pods stay under.
    pub fn quantile(&self, part: f64) -> Duration {
        quantile(&self.latencies, part)
    }

    /// The same, until the API server told a watch of their creation.
    pub fn told(&self, part: f64) -> Duration {
        quantile(&self.told, part)
    }
}

/// Sorted.
fn latencies(asked: &HashMap<String, Instant>, seen: &HashMap<String, Instant>) -> Vec<Duration> {
    let mut latencies: Vec<Duration> = asked
        .iter()
        .map(|(name, at)| seen[name].saturating_duration_since(*at))
        .collect();
    latencies.sort_unstable();
    latencies
}

fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len() - 1;
    sorted[(last as f64 * part).round() as usize]
}

/// The generator.
pub struct Generator {
    client: Client,
    times: Arc<Mutex<Times>>,
    news: Arc<Notify>,
    alive: Vec<String>,
    number: usize,
    watch: JoinHandle<()>,
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Generator {
    /// Makes the namespace and begins to watch it.
    pub async fn start(client: Client) -> Self {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
        let api: Api<Namespace> = Api::all(client.clone());
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        // No controller is here to make it.
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        api.create(&PostParams::default(), &account).await.unwrap();

        let (times, news) = (Arc::<Mutex<Times>>::default(), Arc::<Notify>::default());
        let watch = tokio::spawn(follow(client.clone(), times.clone(), news.clone()));
        Self {
            watch,
            client,
            times,
            news,
            alive: Vec::new(),
            number: 0,
        }
    }

    /// Forgets all times.
    pub fn clear(&mut self) {
        *self.times.lock().unwrap() = Times::default();
    }

    /// Creates pods, in turn on `nodes`, and waits until all are Running.
    pub async fn create(&mut self, count: usize, nodes: &[String]) -> Burst {
        self.create_with(count, nodes, pod).await
    }

    /// The same, with pods made by `pod` from a number and a node.
    pub async fn create_with(
        &mut self,
        count: usize,
        nodes: &[String],
        pod: fn(usize, &str) -> Pod,
    ) -> Burst {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let begun = Instant::now();
        let first = self.number;
        self.number += count;
        let asked: HashMap<String, Instant> = stream::iter(first..self.number)
            .map(|number| {
                let (api, node) = (api.clone(), nodes[number % nodes.len()].clone());
                tokio::spawn(async move {
                    let pod = pod(number, &node);
                    api.create(&PostParams::default(), &pod).await.unwrap();
                    (pod.metadata.name.unwrap(), Instant::now())
                })
            })
            .buffer_unordered(CREATES_AT_ONCE)
            .map(Result::unwrap)
            .collect()
            .await;
        self.until(|times| asked.keys().all(|name| times.running.contains_key(name)))
            .await;
        self.alive.extend(asked.keys().cloned());
        let times = self.times.lock().unwrap();
        Burst {
            told: latencies(&asked, &times.told),
            ..Burst::new(begun, &asked, &times.running)
        }
    }

    /// Deletes every pod with the grace of its spec and waits until all are gone.
    pub async fn delete(&mut self) -> Burst {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let begun = Instant::now();
        let asked: HashMap<String, Instant> = stream::iter(std::mem::take(&mut self.alive))
            .map(|name| {
                let api = api.clone();
                tokio::spawn(async move {
                    api.delete(&name, &DeleteParams::default()).await.unwrap();
                    (name, Instant::now())
                })
            })
            .buffer_unordered(DELETES_AT_ONCE)
            .map(Result::unwrap)
            .collect()
            .await;
        self.until(|times| asked.keys().all(|name| times.gone.contains_key(name)))
            .await;
        Burst::new(begun, &asked, &self.times.lock().unwrap().gone)
    }

    async fn until(&self, is: impl Fn(&Times) -> bool) {
        let waiting = async {
            while !is(&self.times.lock().unwrap()) {
                // Looking at thousands of names for each piece of news would
                // take the machine from the subject.
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.news.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("the burst comes to its end");
    }
}

async fn follow(client: Client, times: Arc<Mutex<Times>>, news: Arc<Notify>) {
    let api: Api<Seen> = Api::namespaced(client, NAMESPACE);
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let now = Instant::now();
        match event.expect("the generator's watch holds") {
            Event::Apply(pod) => {
                let name = pod.metadata.name.unwrap();
                let mut times = times.lock().unwrap();
                times.told.entry(name.clone()).or_insert(now);
                if pod.status.phase.as_deref() != Some("Running") {
                    continue;
                }
                times.running.entry(name).or_insert(now);
            }
            Event::Delete(pod) => {
                let name = pod.metadata.name.unwrap();
                times.lock().unwrap().gone.insert(name, now);
            }
            _ => continue,
        }
        news.notify_one();
    }
}

/// An ordinary pod.
pub fn pod(number: usize, node: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("pod-{number:06}"),
            "labels": {"app": "bench", "number": number.to_string()},
        },
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "app",
                "image": "registry.example/app:1.0",
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                "env": [{"name": "NUMBER", "value": number.to_string()}],
                "ports": [{"containerPort": 8080}],
            }],
        },
    }))
    .unwrap()
}
