//! The yardstick for the framework: virtual nodes whose pods start and stop at
//! once, in memory. `make bench` measures it; see `docs/benchmarks.md`.

mod backend;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use backend::Mock;
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use virtual_kubelet::admin::{self, Readiness};
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::{Host, Settings};
use vk_provider::Clock;

/// Name in events and logs.
const COMPONENT: &str = "vk-mock";

/// Virtual nodes with a backend in memory.
#[derive(Parser)]
struct Cli {
    /// The cluster to join.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// How many nodes.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Nodes are called PREFIX-0 and up.
    #[arg(long, default_value = "mock")]
    node_prefix: String,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone())?);

    let clock = Clock::live();
    let metrics = Metrics::new(COMPONENT, env!("CARGO_PKG_VERSION"));
    let readiness = Readiness::waiting("no node is served yet");
    let serving = tokio::spawn(admin::run(
        TcpListener::bind(cli.listen).await?,
        metrics.clone(),
        readiness.clone(),
        stop.clone(),
    ));
    let client = kubernetes(&cli).await?;
    let settings = Settings {
        lease_client: kubernetes(&cli).await?,
        node: NodeSettings::new("mock", COMPONENT),
        events: Recorder::start(client.clone(), COMPONENT, &metrics, clock.clone()),
        client,
        metrics,
        clock: clock.clone(),
    };
    let backend = Mock::new(&cli.node_prefix, cli.nodes, clock);
    let host = Host::new(settings, Arc::new(backend));
    let mut ready = host.ready();
    let becoming_ready = async {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            readiness.ready();
        }
    };
    tokio::join!(host.run(stop), becoming_ready);
    serving.await??;
    Ok(())
}

/// A client of its own, without automatic retries: the framework repeats.
async fn kubernetes(cli: &Cli) -> Result<Client, Box<dyn Error>> {
    let file = Kubeconfig::read_from(&cli.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn cancel_on_signal(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        stop.cancel();
    })
}
