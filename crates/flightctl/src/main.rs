//! `vk-flightctl-provider`: see the library.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use mimalloc::MiMalloc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use virtual_kubelet::connect::connect;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::{Drain, Shutdown};
use vk_flightctl::client::{Client, Tls, fallback_authorities};
use vk_flightctl::config::cli::{Cli, Command};
use vk_flightctl::config::{Config, Environment, OnShutdown};
use vk_flightctl::doctor::{Needs, Outcome, Patient, examine};
use vk_flightctl::explain::{Question, explain};
use vk_flightctl::logs;
use vk_flightctl::run::{self, Parts, run_until};
use vk_provider::Clock;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The exit code of `explain` where no device can have the pod.
const NO_PLACE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vk-flightctl-provider: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<ExitCode> {
    let config = Config::load(cli, &Environment::of_process())?;
    let filter = EnvFilter::try_new(&config.log_level).with_context(|| {
        format!(
            "log level {:?}: write error, warn, info, debug or trace",
            config.log_level
        )
    })?;
    if cli.validate_config {
        println!("configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    if cli.command.is_none() {
        logs::init(config.log_format, filter);
    }
    // One provider for the whole process: kube and the Flight Control client share it.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("another TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    match cli.command.clone() {
        None => runtime.block_on(serve(config)).map(|()| ExitCode::SUCCESS),
        Some(Command::Doctor) => runtime.block_on(doctor(config)),
        Some(Command::Explain { pod, namespace }) => {
            runtime.block_on(answer(config, namespace, pod))
        }
    }
}

async fn doctor(config: Config) -> Result<ExitCode> {
    let patient = Patient {
        flightctl: flight_control(&config)?,
        kube: kubernetes(&config, &run::metrics())
            .await
            .map_err(|e| format!("{e:#}")),
        token: config.token,
        organization: config.organization,
        rules: config.rules,
        consoles: config.consoles.any(),
        needs: Needs {
            kubelet_api: config.kubelet_api,
            drain: config.on_shutdown != OnShutdown::Keep,
            tokens: config.workloads.token_namespaces,
        },
    };
    let report = examine(&patient).await;
    println!("{report}");
    Ok(match report.outcome() {
        Outcome::Problem => ExitCode::FAILURE,
        Outcome::Ok | Outcome::Warning => ExitCode::SUCCESS,
    })
}

/// Answers one question about a pod.
async fn answer(config: Config, namespace: String, pod: String) -> Result<ExitCode> {
    let answer = explain(Question {
        kube: kubernetes(&config, &run::metrics()).await?,
        flightctl: flight_control(&config)?,
        rules: config.rules,
        privileged: config.workloads.privileged_namespaces,
        namespace,
        pod,
    })
    .await?;
    print!("{}", answer.text);
    Ok(ExitCode::from(if answer.fits { 0 } else { NO_PLACE }))
}

fn flight_control(config: &Config) -> Result<Client> {
    let client = Client::https(&config.url, &config.tls, config.token.clone())?;
    Ok(client
        .with_organization(config.organization.as_deref())
        .with_budget(config.requests_per_minute))
}

async fn serve(config: Config) -> Result<()> {
    info!(url = %config.url, "Starting VK-Flightctl Provider...");
    if config.tls == Tls::Insecure {
        warn!("Flight Control's certificate is not checked (insecure TLS): for tests only");
    }
    let flightctl = flight_control(&config)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen: {} cannot be bound", config.listen))?;
    let (stop, at_once) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(cancel_on_signals([stop.clone(), at_once.clone()]));
    let shutdown = match config.on_shutdown {
        OnShutdown::Keep => Shutdown::Keep,
        OnShutdown::Drain { within } => Shutdown::Drain(Drain { within, at_once }),
    };
    let metrics = run::metrics();
    let parts = Parts {
        kube: kubernetes(&config, &metrics).await?,
        lease: kubernetes(&config, &metrics).await?,
        metrics,
        flightctl,
        rules: config.rules,
        poll: config.poll,
        cluster_agents: config.cluster_agents,
        workloads: config.workloads,
        kubelet_api: config.kubelet_api,
        consoles: config.consoles,
        clock: Clock::live(),
        identity: config.identity,
        listener: Some(listener),
    };
    run_until(parts, stop, shutdown).await
}

/// A client of its own, without automatic retries: repeating is decided by the
/// framework, and a heartbeat must not wait inside a client.
async fn kubernetes(config: &Config, metrics: &Metrics) -> Result<kube::Client> {
    let mut kube = match &config.kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path)
                .with_context(|| format!("--kubeconfig {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(file, &Default::default())
                .await
                .with_context(|| format!("--kubeconfig {}", path.display()))?
        }
        None => kube::Config::infer()
            .await
            .context("no way to reach Kubernetes: run in a cluster, or give --kubeconfig")?,
    };
    kube.default_retry = false;
    let fallback = fallback_authorities();
    if kube.root_cert.is_none() && !fallback.is_empty() {
        kube.root_cert = Some(fallback.iter().map(|der| der.to_vec()).collect());
    }
    connect(kube, metrics).context("the Kubernetes client cannot be set up")
}

/// Each signal cancels the next token.
async fn cancel_on_signals(tokens: [CancellationToken; 2]) {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        warn!("signals cannot be received; end the process by force");
        return;
    };
    for token in tokens {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        info!(signal = name, "stopping");
        token.cancel();
    }
}
