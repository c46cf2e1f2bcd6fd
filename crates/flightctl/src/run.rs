//! Puts the provider together and runs it: clients, backend, host, HTTP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use virtual_kubelet::admin::{self, Readiness};
use virtual_kubelet::cause::chain;
use virtual_kubelet::events::Recorder;
use virtual_kubelet::metrics::Metrics;
use virtual_kubelet::node::NodeSettings;
use virtual_kubelet::{ApiSettings, Host, InputSettings, Settings, Shutdown};
use vk_provider::{Backend, Clock};

use crate::backend::FlightControl;
use crate::client::Client;
use crate::config::{ClusterAgents, Workloads};
use crate::console::Consoles;
use crate::fleet::{self, Rules};
use crate::metrics::{Counters, show_devices};
use crate::rights;
use crate::world::{News, World};

/// Name in events and logs, as users know it.
pub const COMPONENT: &str = "vk-flightctl-provider";
/// Appended to the API server's version, for `kubectl get nodes`.
const VERSION_SUFFIX: &str = "vk-flightctl";
/// Deadline of one start-up question to the Kubernetes API.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Between tries while the Kubernetes API does not answer at start.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Said at the start, because what the API server says later names an address.
const NO_API: &str = "the nodes have no kubelet API, and kubectl logs and exec do not reach them: nothing says at which address the API server reaches this process (kubeletApi.address, or POD_IP in a pod), or kubeletApi.enabled is false";

/// What a running provider is made of.
pub struct Parts {
    /// Kubernetes, without automatic retries.
    pub kube: kube::Client,
    /// Kubernetes again, for leases alone.
    pub lease: kube::Client,
    /// Counts what this process does, requests of these clients among it; see
    /// [`metrics`].
    pub metrics: Metrics,
    /// Flight Control.
    pub flightctl: Client,
    /// How devices are grouped.
    pub rules: Rules,
    /// Between full readings of all devices.
    pub poll: Duration,
    /// What becomes of the agents of the cluster's machines.
    pub cluster_agents: ClusterAgents,
    /// What pods on devices are told of the cluster (for the framework, which
    /// fetches what pods refer to), and what they may do.
    pub workloads: Workloads,
    /// The kubelet API of the nodes; without it `kubectl logs` does not reach them.
    pub kubelet_api: Option<ApiSettings>,
    /// Of which devices the console is used.
    pub consoles: Consoles,
    /// Time.
    pub clock: Clock,
    /// Tells this process from others that serve the same nodes; at random
    /// where nothing does.
    pub identity: Option<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served, if anywhere.
    pub listener: Option<TcpListener>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("flightctl", &self.flightctl)
            .finish_non_exhaustive()
    }
}

/// Metrics of the provider in this version.
pub fn metrics() -> Metrics {
    Metrics::new(COMPONENT, env!("CARGO_PKG_VERSION"))
}

/// Runs until `stop`. Nodes and pods stay as they are.
///
/// # Errors
/// Kubernetes refuses what the provider needs at its start.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<()> {
    run_until(parts, stop, Shutdown::Keep).await
}

/// Runs until `stop`, and does with nodes and pods what `shutdown` says.
///
/// # Errors
/// Kubernetes refuses what the provider needs at its start; or nodes were to be
/// drained, and pods are left.
pub async fn run_until(parts: Parts, stop: CancellationToken, shutdown: Shutdown) -> Result<()> {
    // A drain needs all of it.
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let metrics = parts.metrics;
    let readiness = Readiness::waiting("not connected to Kubernetes yet");
    let serving = parts.listener.map(|listener| {
        tokio::spawn(admin::run(
            listener,
            metrics.clone(),
            readiness.clone(),
            ended.clone(),
        ))
    });
    let Some(cluster) = identify(&parts.kube, &stop).await? else {
        return Ok(());
    };
    readiness.not_ready("Flight Control's devices have not been read yet");
    let asking = match &parts.kubelet_api {
        Some(api) => {
            let asking = rights::tell_missing(parts.kube.clone(), api.clone());
            Some(AbortOnDropHandle::new(tokio::spawn(asking)))
        }
        None => {
            info!("{NO_API}");
            None
        }
    };

    // One Flight Control may serve a cluster through several providers, each with
    // a node of its own beside the fleets'.
    let instance = format!(
        "flightctl {} {}",
        parts.flightctl.scope(),
        parts.rules.node_name
    );
    let world = World::new(&cluster, parts.rules);
    let counters = Counters::new(&metrics);
    let flightctl = parts
        .flightctl
        .with_observer(move |call| counters.observe(call));
    if parts.consoles.any() {
        warn!(
            "consoles of devices are enabled: whoever may use kubectl logs or exec on pods there has podman run for it as root on the device"
        );
    }
    let backend = FlightControl::new(flightctl, world, parts.clock.clone(), parts.poll)
        .with_consoles(parts.consoles)
        .with_privileged(parts.workloads.privileged_namespaces);
    show_devices(&metrics, {
        let backend = backend.clone();
        move || backend.summary()
    });
    // The rules hold all taints: the default one is among them.
    let mut node = NodeSettings {
        taints: Vec::new(),
        instance,
        outage: Some(fleet::outage()),
        run_agents: parts.cluster_agents == ClusterAgents::Run,
        ..NodeSettings::new("flightctl", VERSION_SUFFIX)
    };
    if let Some(identity) = parts.identity {
        node.identity = identity;
    }
    let settings = Settings {
        client: parts.kube.clone(),
        lease_client: parts.lease,
        node,
        inputs: InputSettings {
            token_namespaces: parts.workloads.token_namespaces,
            api_server: parts.workloads.api_server,
            api_server_ca: parts.workloads.api_server_ca,
        },
        api: parts.kubelet_api,
        events: Recorder::start(parts.kube, COMPONENT, &metrics, parts.clock.clone()),
        metrics,
        clock: parts.clock,
    };
    let telling = tokio::spawn(tell_news(backend.news(), settings.events.clone()));
    let host = Host::new(settings, Arc::new(backend.clone()));
    let draining = matches!(shutdown, Shutdown::Drain(_));
    let mut ready = host.ready();
    let noting = admin::note_standby(host.leadership(), readiness.clone(), ended.clone());
    let noting = tokio::spawn(noting);
    let following = {
        let (backend, ended) = (backend.clone(), ended.clone());
        tokio::spawn(async move {
            tokio::select! { () = ended.cancelled() => {}, () = backend.follow() => {} }
        })
    };
    let greeting = tokio::spawn(say_connected(backend, stop.clone()));
    let becoming_ready = async {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            readiness.ready();
        }
        stop.cancelled().await;
        if draining {
            readiness.not_ready("draining: the nodes are being emptied and removed");
        }
    };
    let running = host.run_until(stop.clone(), shutdown);
    let (drained, ()) = tokio::join!(running, becoming_ready);
    ended.cancel();
    following.abort();
    telling.abort();
    drop(asking);
    noting.abort();
    greeting.abort();
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    drained?;
    if draining {
        info!("stopped; nodes are drained and removed");
    } else {
        info!("stopped; nodes and pods stay as they are");
    }
    Ok(())
}

/// Which cluster this is. Waits for an API server that does
/// not answer; `None` when stopped meanwhile.
async fn identify(kube: &kube::Client, stop: &CancellationToken) -> Result<Option<String>> {
    loop {
        let question = async {
            let namespaces: Api<Namespace> = Api::all(kube.clone());
            namespaces.get("kube-system").await
        };
        match timeout(ASK_DEADLINE, question).await {
            Ok(Ok(system)) => {
                let uid = system
                    .metadata
                    .uid
                    .context("the namespace kube-system has no UID")?;
                return Ok(Some(uid));
            }
            Ok(Err(kube::Error::Api(status))) if [401, 403].contains(&status.code) => {
                anyhow::bail!(
                    "Kubernetes refuses to show the namespace kube-system ({}); apply config/rbac.yaml and run with that ServiceAccount",
                    status.message
                );
            }
            Ok(Err(error)) => {
                // Only the causes say whether it is the address or the certificate.
                warn!(
                    error = chain(&error),
                    "Kubernetes does not answer, trying again; its address and certificate authority are those of --kubeconfig, or of the cluster's ServiceAccount"
                );
            }
            Err(_) => warn!("Kubernetes does not answer in time, trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(ASK_AGAIN) => {}
        }
    }
}

/// Tells what happens to devices as events of their nodes.
async fn tell_news(mut news: broadcast::Receiver<News>, events: Recorder) {
    loop {
        match news.recv().await {
            Ok(News {
                node,
                reason,
                message,
                warning,
            }) => {
                info!(node = &*node, reason, message, "device");
                let events = events.for_node(&node);
                match warning {
                    true => events.warning(reason, &message),
                    false => events.normal(reason, &message),
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                warn!(
                    missed,
                    "events of devices were left out; the nodes' conditions are current"
                );
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Says once that Flight Control was read.
async fn say_connected(backend: FlightControl, stop: CancellationToken) {
    let set = tokio::select! {
        () = stop.cancelled() => return,
        set = async { backend.nodes().next().await } => set,
    };
    if set.is_some() {
        let devices: usize = backend
            .summary()
            .values()
            .flat_map(|fleet| fleet.statuses.values())
            .sum();
        info!(devices, "Successfully connected to Flightctl API");
    }
}
