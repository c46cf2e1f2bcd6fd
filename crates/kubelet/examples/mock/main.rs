//! The yardstick for the framework: virtual nodes whose pods start and stop at
//! once, in memory. `make bench` measures it; see `docs/benchmarks.md`.
//! With `--processes` it is a test aid instead; see `docs/kubelet-api.md`.

mod backend;
mod processes;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backend::Mock;
use clap::{Parser, ValueEnum};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mimalloc::MiMalloc;
use processes::Processes;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use virtual_kubelet::admin::{self, Readiness};
use virtual_kubelet::connect::connect;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::{ApiSettings, Drain, Host, ServingCertificate, Settings, Shutdown};
use vk_provider::{Backend, Clock};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    /// At the end keep nodes and pods, or drain and remove the nodes.
    #[arg(long, value_enum, default_value_t = OnShutdown::Keep)]
    on_shutdown: OnShutdown,
    /// How long a drain may take, in seconds.
    #[arg(long, default_value_t = 300)]
    drain_timeout: u64,
    /// Give pods what they refer to: ConfigMaps and Secrets, rendered and thrown
    /// away. Otherwise all of that is ignored.
    #[arg(long)]
    inputs: bool,
    /// kube's own client, with HTTP/1.1 alone: for comparison.
    #[arg(long)]
    http1: bool,
    /// A TEST AID: runs the command of each container as a process of this machine,
    /// WITHOUT ANY ISOLATION, as the user who runs this. Refuses API servers that
    /// are not on this machine. Images are not pulled: PATH is busybox's applets.
    #[arg(long, conflicts_with = "inputs")]
    processes: bool,
    /// Serve the kubelet API of the nodes at this address of this machine, at which
    /// the API server reaches them.
    #[arg(long)]
    kubelet_api_address: Option<IpAddr>,
    /// Its ports, one for each node: FIRST-LAST.
    #[arg(long, default_value = "10250-10349", value_parser = ports)]
    kubelet_api_ports: RangeInclusive<u16>,
    /// What it shows: a certificate of its own making, or one that is requested
    /// from the cluster and that someone has to approve.
    #[arg(long, value_enum, default_value_t = Certificate::SelfSigned)]
    kubelet_api_certificate: Certificate,
}

#[derive(Clone, Copy, ValueEnum)]
enum Certificate {
    SelfSigned,
    Requested,
}

/// `FIRST-LAST`.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed = text
        .split_once('-')
        .and_then(|(first, last)| Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?));
    match parsed {
        Some(range) if !range.is_empty() => Ok(range),
        _ => Err(format!("{text:?} is not like 10250-10349")),
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum OnShutdown {
    Keep,
    Drain,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let (stop, at_once) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(cancel_on_signals([stop.clone(), at_once.clone()])?);

    let clock = Clock::live();
    let metrics = Metrics::new(COMPONENT, env!("CARGO_PKG_VERSION"));
    let readiness = Readiness::waiting("no node is served yet");
    let ended = CancellationToken::new();
    let serving = tokio::spawn(admin::run(
        TcpListener::bind(cli.listen).await?,
        metrics.clone(),
        readiness.clone(),
        ended.clone(),
    ));
    let client = kubernetes(&cli, &metrics).await?;
    let settings = Settings {
        lease_client: kubernetes(&cli, &metrics).await?,
        node: NodeSettings {
            // Several mocks may share a cluster.
            instance: format!("mock {}", cli.node_prefix),
            ..NodeSettings::new("mock", COMPONENT)
        },
        inputs: virtual_kubelet::InputSettings::default(),
        api: api(&cli),
        events: Recorder::start(client.clone(), COMPONENT, &metrics, clock.clone()),
        client,
        metrics,
        clock: clock.clone(),
    };
    let mut processes = None;
    let backend: Arc<dyn Backend> = if cli.processes {
        let address = cli.kubelet_api_address;
        let address = address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let started = Processes::start(&cli.node_prefix, cli.nodes, address, clock).await?;
        Arc::new(processes.insert(started).clone())
    } else {
        let mock = Mock::new(&cli.node_prefix, cli.nodes, cli.inputs, clock);
        Arc::new(mock)
    };
    let host = Host::new(settings, backend);
    let mut ready = host.ready();
    let noting = admin::note_standby(host.leadership(), readiness.clone(), ended.clone());
    let noting = tokio::spawn(noting);
    let becoming_ready = async {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            readiness.ready();
        }
    };
    let shutdown = match cli.on_shutdown {
        OnShutdown::Keep => Shutdown::Keep,
        OnShutdown::Drain => Shutdown::Drain(Drain {
            within: Duration::from_secs(cli.drain_timeout),
            at_once,
        }),
    };
    let (drained, ()) = tokio::join!(host.run_until(stop, shutdown), becoming_ready);
    ended.cancel();
    noting.await?;
    serving.await??;
    if let Some(processes) = processes {
        processes.end().await;
    }
    // In words: what `main` returns is printed as a value of Rust.
    Ok(drained.map_err(|undrained| undrained.to_string())?)
}

fn api(cli: &Cli) -> Option<ApiSettings> {
    let address = cli.kubelet_api_address?;
    Some(ApiSettings {
        bind: address,
        address: Some(address),
        certificate: match cli.kubelet_api_certificate {
            Certificate::SelfSigned => ServingCertificate::SelfSigned,
            Certificate::Requested => ServingCertificate::Requested,
        },
        ..ApiSettings::new(cli.kubelet_api_ports.clone())
    })
}

/// A client of its own, without automatic retries: the framework repeats.
async fn kubernetes(cli: &Cli, metrics: &Metrics) -> Result<Client, Box<dyn Error>> {
    let file = Kubeconfig::read_from(&cli.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    if cli.processes {
        processes::local::check(&config.cluster_url, config.proxy_url.as_ref()).await?;
    }
    if cli.http1 {
        return Ok(Client::try_from(config)?);
    }
    Ok(connect(config, metrics)?)
}

/// Each signal cancels the next token.
fn cancel_on_signals(tokens: [CancellationToken; 2]) -> std::io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        for token in tokens {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            token.cancel();
        }
    })
}
