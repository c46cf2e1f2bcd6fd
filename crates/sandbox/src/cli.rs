//! The command line: which service, where it listens, and the line that says
//! it is ready.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use vk_sandbox::clock::Clock;
use vk_sandbox::flightctl::{FlightControl, Options};
use vk_sandbox::kubernetes::{Cluster, kubeconfig};
use vk_sandbox::tls;
use vk_sandbox::transport::{Endpoint, loopback};

/// Serves one fake of the sandbox on loopback, with TLS. When it is ready it
/// prints one JSON line that says how to reach it; SIGTERM and SIGINT end it.
/// Faults: GET, POST (a rule) and DELETE /_sandbox/faults. The time: GET
/// /_sandbox/clock.
#[derive(Debug, Parser)]
#[command(name = "vk-sandbox", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum Service {
    /// The Kubernetes API, with a scheduler and the usual workloads.
    Kubernetes(Kubernetes),
    /// The Flight Control API, with simulated devices.
    Flightctl(Flightctl),
}

#[derive(Debug, Args)]
struct Listen {
    /// Loopback address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The bearer token that clients must show.
    #[arg(long, default_value = "sandbox")]
    token: String,
}

#[derive(Debug, Args)]
struct Kubernetes {
    #[command(flatten)]
    listen: Listen,
    /// The API alone: no scheduler, no workloads, no garbage collection.
    #[arg(long)]
    without_controllers: bool,
}

#[derive(Debug, Args)]
struct Flightctl {
    #[command(flatten)]
    listen: Listen,
    /// How many devices: device-1 to device-N.
    #[arg(long, default_value_t = 6)]
    devices: usize,
    /// How many fleets they belong to in turn, by label: edge-fleet-1 to edge-fleet-M.
    #[arg(long, default_value_t = 2)]
    fleets: usize,
    /// How many of the last devices belong to none.
    #[arg(long, default_value_t = 0)]
    unassigned: usize,
    /// Requests a minute before 429; no limit unless given, as shipped.
    #[arg(long)]
    rate_limit: Option<u32>,
}

impl Cli {
    pub(crate) async fn run(self) -> Result<()> {
        match self.service {
            Service::Kubernetes(options) => kubernetes(options).await,
            Service::Flightctl(options) => flightctl(options).await,
        }
    }
}

async fn kubernetes(options: Kubernetes) -> Result<()> {
    let cluster = Cluster::new(Clock::live()).with_token(&options.listen.token);
    let _controllers = (!options.without_controllers).then(|| cluster.start_controllers());
    let token = options.listen.token.clone();
    serve(
        options.listen.listen,
        cluster.endpoint(),
        |url, folder, ca| {
            cluster.set_ca(ca);
            let path = folder.join("kubeconfig");
            std::fs::write(&path, kubeconfig::text(url, ca, &token))?;
            Ok(json!({"url": url, "token": token, "ca": folder.join("ca.pem"), "kubeconfig": path}))
        },
    )
    .await
}

async fn flightctl(options: Flightctl) -> Result<()> {
    let token = options.listen.token;
    let service = FlightControl::new(
        Clock::live(),
        Options {
            token: Some(token.clone()),
            rate_limit: options.rate_limit,
            ..Options::default()
        },
    );
    // The agents run for as long as their handles are held.
    let _devices = service.spawn_devices(options.devices, options.fleets, options.unassigned);
    serve(
        options.listen.listen,
        service.endpoint(),
        |url, folder, _| Ok(json!({"url": url, "token": token, "ca": folder.join("ca.pem")})),
    )
    .await
}

/// Serves until a signal comes. `announce` writes what clients need into the
/// folder, which goes when this returns, and says what to print.
async fn serve(
    address: SocketAddr,
    endpoint: Endpoint,
    announce: impl FnOnce(&str, &Path, &str) -> Result<serde_json::Value>,
) -> Result<()> {
    // Before the announcement: whoever reads it may end us at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tls = tls::loopback()?;
    let listener = loopback(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let url = format!("https://{}", listener.local_addr()?);
    let folder = TempDir::with_prefix("vk-sandbox-").context("cannot make a temporary folder")?;
    std::fs::write(folder.path().join("ca.pem"), &tls.ca_pem)?;
    println!("{}", announce(&url, folder.path(), &tls.ca_pem)?);
    let stop = CancellationToken::new();
    let server = tokio::spawn(endpoint.listen(listener, Some(tls.acceptor), stop.clone()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    server.await?;
    folder.close().context("cannot remove the temporary folder")
}
