//! `--keep`: the world stays after its story, for the user's own kubectl.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vk_sandbox::kubernetes::{Cluster, kubeconfig};
use vk_sandbox::{tls, transport};

/// Opens the API on loopback; anybody on this machine may try.
const TOKEN: &str = "demo";

/// The cluster's API, served; its kubeconfig goes with it.
pub struct Open {
    folder: TempDir,
    stop: CancellationToken,
    server: JoinHandle<()>,
    interrupt: Signal,
    terminate: Signal,
}

impl Open {
    pub async fn new(cluster: &Cluster) -> Result<Self> {
        // Before anything is told: whoever reads it may end us at once.
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let tls = tls::loopback()?;
        let address = ([127, 0, 0, 1], 0).into();
        let listener = transport::loopback(address).await;
        let listener = listener.context("no port of 127.0.0.1 is free for the Kubernetes API")?;
        let url = format!("https://{}", listener.local_addr()?);
        let folder = TempDir::with_prefix("vk-demo-").context("no temporary folder can be made")?;
        let text = kubeconfig::text(&url, &tls.ca_pem, TOKEN);
        std::fs::write(folder.path().join("kubeconfig"), text)?;
        cluster.set_ca(&tls.ca_pem);
        let endpoint = cluster.clone().with_token(TOKEN).endpoint();
        let stop = CancellationToken::new();
        let server = tokio::spawn(endpoint.listen(listener, Some(tls.acceptor), stop.clone()));
        Ok(Self {
            folder,
            stop,
            server,
            interrupt,
            terminate,
        })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// What can be tried now.
    pub fn invite(&self) {
        println!(
            "\nStays until Ctrl-C. In another terminal:\n\n  export KUBECONFIG={}\n  \
             kubectl get nodes,pods -o wide\n  kubectl describe node vk-flightctl-edge-fleet-1\n  \
             kubectl scale deployment hello-edge --replicas=3\n  \
             kubectl logs -f deployment/hello-edge\n  \
             kubectl exec deployment/hello-edge -- ls\n\n\
             Logs and processes go through the console of the device, which is root there:\n\
             it is on in this demo, and off unless a configuration says otherwise. They take\n\
             up to 5 s to begin: agents ask no more often.\n",
            self.kubeconfig().display()
        );
    }

    /// Until Ctrl-C or SIGTERM.
    pub async fn signalled(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Ends it; the folder goes.
    pub async fn close(self) -> Result<()> {
        self.stop.cancel();
        self.server.await?;
        self.folder.close().context("the temporary folder stays")
    }
}
