//! A kubelet process with an API, over any backend, in the sandbox's cluster, whose
//! reviews a test answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::{ApiSettings, ClientCa, Host, InputSettings, ServingCertificate, Settings};
use vk_provider::{Backend, Clock};
use vk_sandbox::kubernetes::Cluster;

use crate::suite::world::{eventually, node_settings};
use crate::wire::{Answer, Authority, Identity, Line, connect, say};

pub const NODE: &str = "api-0";
/// The token of a user who may do everything but what [`Reviews::forbid`] takes away.
pub const TOKEN: &str = "good";

/// The process; its node is [`NODE`].
pub struct Served {
    pub client: Client,
    pub address: SocketAddr,
    pub servers: Authority,
    pub clients: Authority,
    pub reviews: Reviews,
    backend: Arc<dyn Backend>,
    clock: Clock,
    api: ApiSettings,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _folder: TempDir,
}

/// What is asked about clients, and how it is answered.
#[derive(Clone, Default)]
pub struct Reviews(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    asked: Vec<Value>,
    forbidden: Vec<String>,
    away: bool,
    /// Parts of paths of Kubernetes that answer nothing.
    withheld: &'static [&'static str],
}

impl Reviews {
    /// Nobody may use these subresources of nodes.
    pub fn forbid(&self, subresources: &[&str]) {
        let forbidden = subresources.iter().map(|name| (*name).to_owned()).collect();
        self.0.lock().unwrap().forbidden = forbidden;
    }

    /// They are not answered.
    pub fn away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// Nor is Kubernetes itself, where a path has one of these in it.
    pub fn withhold(&self, parts: &'static [&'static str]) {
        self.0.lock().unwrap().withheld = parts;
    }

    fn withholds(&self, path: &str) -> bool {
        let state = self.0.lock().unwrap();
        state.withheld.iter().any(|part| path.contains(part))
    }

    /// Subresources that were asked about, in order.
    pub fn asked(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let parts = state.asked.iter().filter_map(|spec| {
            let part = spec["resourceAttributes"]["subresource"].as_str()?;
            Some(format!("{} {}", spec["user"].as_str()?, part))
        });
        parts.collect()
    }

    fn answer(&self, mut review: Value) -> Response<Body> {
        let mut state = self.0.lock().unwrap();
        if state.away {
            return away();
        }
        let spec = review["spec"].clone();
        review["status"] = match spec["token"].as_str() {
            Some(token) => json!({
                "authenticated": token == TOKEN,
                "user": {"username": "jane", "groups": ["dev"]},
            }),
            None => {
                let part = &spec["resourceAttributes"]["subresource"];
                let named = |name: &String| part.as_str() == Some(name);
                json!({"allowed": !state.forbidden.iter().any(named)})
            }
        };
        state.asked.push(spec);
        Response::new(Body::from(review.to_string().into_bytes()))
    }
}

impl Served {
    /// With settings that are changed first.
    pub async fn start(
        backend: Arc<dyn Backend>,
        clock: Clock,
        change: impl FnOnce(&mut ApiSettings),
    ) -> Self {
        let cluster = Cluster::new(vk_sandbox::clock::Clock::live());
        let reviews = Reviews::default();
        let client = client(&cluster, &reviews);
        let (servers, clients) = (Authority::new(), Authority::new());
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let server = servers.server("127.0.0.1");
        let mut api = ApiSettings {
            bind: [127, 0, 0, 1].into(),
            address: Some([127, 0, 0, 1].into()),
            certificate: ServingCertificate::Files {
                certificate: write("server.crt", &server.certificate.pem()),
                key: write("server.key", &server.key.serialize_pem()),
            },
            client_ca: ClientCa::File(write("clients.crt", &clients.pem)),
            ..ApiSettings::new(0..=0)
        };
        change(&mut api);
        let (stop, task) = host(&client, &backend, &clock, &api);
        let address = eventually("it tells its port", async || told(&client, NODE).await).await;
        let served = Self {
            client,
            address,
            servers,
            clients,
            reviews,
            backend,
            clock,
            api,
            stop,
            task,
            _folder: folder,
        };
        // The files are read by a task beside the listener.
        eventually("it answers", async || served.try_get("/healthz/ping").await).await;
        served
    }

    /// The process ends, and another one begins.
    pub async fn restart(&mut self) {
        ended(&self.stop, &mut self.task).await;
        (self.stop, self.task) = host(&self.client, &self.backend, &self.clock, &self.api);
    }

    /// Where a Node says that its API is, once it says so.
    pub async fn told(&self, node: &str) -> Option<SocketAddr> {
        told(&self.client, node).await
    }

    /// A client that speaks HTTP/2 alone, over one connection, with no certificate.
    pub fn http2(&self) -> HttpClient<HttpsConnector<HttpConnector>, Empty<Bytes>> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.servers.config(None))
            .https_only()
            .enable_http2()
            .build();
        HttpClient::builder(TokioExecutor::new())
            .http2_only(true)
            .build(connector)
    }

    /// A request with the good token.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("connects")
    }

    /// The same; `None` where no connection is to be had.
    pub async fn try_get(&self, path: &str) -> Option<Answer> {
        let mut line = connect(self.address, self.servers.config(None))
            .await
            .ok()?;
        Some(Answer::parse(&say(&mut line, &request("GET", path)).await))
    }

    /// A connection without a certificate.
    pub async fn line(&self) -> Line {
        let config = self.servers.config(None);
        connect(self.address, config).await.unwrap()
    }

    /// A request as text, of a client with this certificate.
    pub async fn ask(&self, identity: Option<&Identity>, text: &str) -> Answer {
        let config = self.servers.config(identity);
        let mut line = connect(self.address, config).await.unwrap();
        Answer::parse(&say(&mut line, text.as_bytes()).await)
    }

    /// Creates a pod on the node, with these containers, and waits until it runs.
    pub async fn runs_pod(&self, name: &str, containers: Value) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let pod = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": NODE,
                "automountServiceAccountToken": false,
                "containers": containers,
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        pods.create(&Default::default(), &pod).await.unwrap();
        let runs = async || {
            let pod = pods.get(name).await.unwrap();
            let running = crate::suite::world::ready(&pod);
            running.then(|| pod.metadata.uid.unwrap())
        };
        eventually("the pod runs", runs).await
    }

    /// Ends the process.
    pub async fn end(mut self) {
        ended(&self.stop, &mut self.task).await;
    }
}

fn host(
    client: &Client,
    backend: &Arc<dyn Backend>,
    clock: &Clock,
    api: &ApiSettings,
) -> (CancellationToken, JoinHandle<()>) {
    let (clock, metrics) = (clock.clone(), Metrics::default());
    let settings = Settings {
        client: client.clone(),
        lease_client: client.clone(),
        node: node_settings("default"),
        inputs: InputSettings::default(),
        api: Some(api.clone()),
        events: Recorder::start(client.clone(), "vk-memory", &metrics, clock.clone()),
        metrics,
        clock,
    };
    let host = Host::new(settings, backend.clone());
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(host.run(stop)))
}

async fn ended(stop: &CancellationToken, task: &mut JoinHandle<()>) {
    stop.cancel();
    let ended = timeout(std::time::Duration::from_secs(5), task).await;
    ended.expect("ends within 5 s").unwrap();
}

fn away() -> Response<Body> {
    let mut answer = Response::new(Body::from(b"away".to_vec()));
    *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// With the good token; the connection ends after it.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// Where a Node says that its API is.
async fn told(client: &Client, node: &str) -> Option<SocketAddr> {
    let nodes: Api<Node> = Api::all(client.clone());
    let status = nodes.get_opt(node).await.unwrap()?.status?;
    let port = status.daemon_endpoints?.kubelet_endpoint?.port;
    let first = status.addresses?.into_iter().next()?;
    assert_eq!(first.type_, "InternalIP");
    Some(SocketAddr::new(
        first.address.parse().unwrap(),
        u16::try_from(port).unwrap(),
    ))
}

fn client(cluster: &Cluster, reviews: &Reviews) -> Client {
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .build(cluster.endpoint().connector());
    let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.test/"));
    let cluster = Client::new(base.layer(http), "default");
    let reviews = reviews.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (cluster, reviews) = (cluster.clone(), reviews.clone());
        async move {
            if reviews.withholds(request.uri().path()) {
                return Ok(away());
            }
            if !request.uri().path().ends_with("reviews") {
                return cluster.send(request).await.map_err(tower::BoxError::from);
            }
            let bytes = request.into_body().collect_bytes().await?;
            Ok(reviews.answer(serde_json::from_slice(&bytes)?))
        }
    });
    Client::new(service, "default")
}
