//! Credentials and certificates that change while the process runs: over
//! loopback sockets with TLS, on the live clock.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::middleware::BaseUriLayer;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::Layer;
use vk_sandbox::kubernetes::Cluster;
use vk_sandbox::tls::{Authority, Tls};
use vk_sandbox::transport::loopback;

use crate::suite::memory::Call;
use crate::suite::world::{World, phase, ready};

/// kube reads a token's file again 50 s after it did at the latest; then some
/// write that was refused is tried again, at most 30 s later.
const REREAD: Duration = Duration::from_secs(100);

/// An API server on a socket that can be restarted.
struct Server {
    cluster: Cluster,
    address: SocketAddr,
    serving: Option<(CancellationToken, JoinHandle<()>)>,
    folder: TempDir,
}

impl Server {
    async fn start(token: &str, tls: Tls) -> Self {
        let clock = vk_sandbox::clock::Clock::live();
        let mut server = Self {
            cluster: Cluster::new(clock).with_token(token),
            address: "127.0.0.1:0".parse().unwrap(),
            serving: None,
            folder: TempDir::new().unwrap(),
        };
        std::fs::write(server.folder.path().join("ca.pem"), &tls.ca_pem).unwrap();
        server.set_file(token);
        server.restart(tls).await;
        server
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn set_file(&self, token: &str) {
        std::fs::write(self.token_file(), token).unwrap();
    }

    /// Every connection ends; new ones meet this certificate.
    async fn restart(&mut self, tls: Tls) {
        self.stop().await;
        let listener = loopback(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (endpoint, stop) = (self.cluster.endpoint(), CancellationToken::new());
        let serving = endpoint.listen(listener, Some(tls.acceptor), stop.clone());
        self.serving = Some((stop, tokio::spawn(serving)));
    }

    async fn stop(&mut self) {
        if let Some((stop, task)) = self.serving.take() {
            stop.cancel();
            task.await.unwrap();
        }
    }

    /// A client as a pod in the cluster has it: a CA and a token in files.
    async fn client(&self) -> Client {
        let folder = self.folder.path();
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority": folder.join("ca.pem")}}],
            "users": [{"name": "u", "user": {"tokenFile": self.token_file()}}],
        }))
        .unwrap();
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// The user's own way to the same cluster, which stays well.
    fn by_memory(&self, token: &'static str) -> Client {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .build(self.cluster.endpoint().connector());
        let base = BaseUriLayer::new(http::Uri::from_static("http://cluster.test/")).layer(http);
        let service = tower::util::MapRequest::new(base, move |mut request: http::Request<_>| {
            let value = http::HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            request
                .headers_mut()
                .insert(http::header::AUTHORIZATION, value);
            request
        });
        Client::new(service, "default")
    }

    async fn world(&self) -> World {
        let clock = vk_provider::Clock::live();
        World::new(self.client().await, clock, "default").await
    }
}

/// Waits until the pod runs, for so long.
async fn runs(world: &World, name: &str, limit: Duration) {
    let begun = Instant::now();
    loop {
        let pod = world.pods().get(name).await.unwrap();
        if phase(&pod) == "Running" && ready(&pod) {
            return;
        }
        assert!(begun.elapsed() < limit, "{name} does not run: {pod:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

fn small(world: &World, name: &str) -> k8s_openapi::api::core::v1::Pod {
    let mut pod = world.pod(name, "Always");
    pod.spec.as_mut().unwrap().containers[0].resources = None;
    pod
}

#[tokio::test]
async fn a_token_that_was_rotated_is_read_again_and_ends_nothing() {
    let authority = Authority::new().unwrap();
    let server = Server::start("first", authority.issue().unwrap()).await;
    let mut world = server.world().await;
    world.create(&small(&world, "before")).await;
    world.running("before").await;
    // The old one is good no longer, as after a stolen key: harsher than a
    // kubelet, which rotates at four fifths of a token's life.
    server.set_file("second");
    server.cluster.rotate_token("second");
    world.client = server.by_memory("second");
    world.create(&small(&world, "after")).await;
    runs(&world, "after", REREAD).await;
    runs(&world, "before", Duration::ZERO).await;
    assert_eq!(world.remote.ensures("after"), 1);
    assert_eq!(world.remote.ensures("before"), 1);
    let stops = |call: &Call| matches!(call, Call::Stop(..) | Call::Release(_));
    assert!(!world.remote.calls().iter().any(stops));
    world.stop().await;
}

#[tokio::test]
async fn a_new_certificate_goes_on_and_a_foreign_one_is_told_and_waited_out() {
    let logs = Logs::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .with_writer({
            let logs = logs.clone();
            move || logs.clone()
        })
        .finish();
    // Of the whole binary: whether a line of code logs is decided once for all
    // threads. No other test here has to do with certificates.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let authority = Authority::new().unwrap();
    let mut server = Server::start("token", authority.issue().unwrap()).await;
    let mut world = server.world().await;
    world.create(&small(&world, "one")).await;
    world.running("one").await;
    world.client = server.by_memory("token");

    server.restart(authority.issue().unwrap()).await;
    world.create(&small(&world, "two")).await;
    runs(&world, "two", Duration::from_secs(30)).await;
    assert!(!logs.text().contains("certificate"), "{}", logs.text());

    let foreign = Authority::new().unwrap();
    server.restart(foreign.issue().unwrap()).await;
    world.create(&small(&world, "three")).await;
    let begun = Instant::now();
    let told = |line: &str| line.contains("lease not renewed") && line.contains("certificate");
    while !logs.text().lines().any(told) {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "nothing is told: {}",
            logs.text()
        );
        sleep(Duration::from_millis(200)).await;
    }
    let unseen = world.pods().get("three").await.unwrap();
    assert_eq!(phase(&unseen), "Pending");
    assert_eq!(world.remote.ensures("three"), 0);

    server.restart(authority.issue().unwrap()).await;
    runs(&world, "three", Duration::from_secs(60)).await;
    for name in ["one", "two", "three"] {
        runs(&world, name, Duration::ZERO).await;
        assert_eq!(world.remote.ensures(name), 1, "{:?}", world.remote.calls());
    }
    world.stop().await;
    server.stop().await;
}

/// What was logged.
#[derive(Clone, Debug, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
