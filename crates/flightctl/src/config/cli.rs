//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Kubernetes pods on edge devices managed by Flight Control.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "vk-flightctl-provider", version)]
pub struct Cli {
    /// Configuration file (YAML, apiVersion vk-flightctl.io/v1alpha1, kind ProviderConfig).
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Kubernetes access [env: KUBECONFIG]; without it ~/.kube/config, or the pod's own account.
    // Not clap's `env`: KUBECONFIG may name several files, which kube merges.
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Node of the devices that belong to no fleet [env: NODE_NAME] [default: vk-flightctl-node].
    #[arg(long, value_name = "NAME", global = true)]
    pub node_name: Option<String>,
    /// error, warn, info, debug or trace, or a filter such as info,vk_flightctl=debug [env: LOG_LEVEL] [default: info].
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// What becomes of the nodes at the end: keep, or drain (evict their pods and remove them) [env: ON_SHUTDOWN] [default: keep].
    #[arg(long, value_name = "keep|drain")]
    pub on_shutdown: Option<String>,
    /// Check the configuration and end.
    #[arg(long)]
    pub validate_config: bool,
    /// Something else than to serve the nodes.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else there is to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Look at everything that has to be right before pods run, and say what to do about the rest.
    ///
    /// Changes nothing. Ends with 0 if there is no problem; warnings are none.
    Doctor,
    /// Say for each device of a pod's node why it would be chosen for the pod, or not.
    ///
    /// Reads Kubernetes and Flight Control, with the configuration of the provider.
    /// Ends with 0 where a device can have the pod, with 2 where none can, and with 1
    /// where that cannot be found out.
    Explain {
        /// The pod's name.
        pod: String,
        /// The pod's namespace.
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
}
