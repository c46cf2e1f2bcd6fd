//! Configuration: flags, environment, file, defaults, in that order, made into
//! one validated value before anything starts.

mod absence;
pub mod cli;
pub mod client_yaml;
mod connection;
mod credentials;
pub(crate) mod duration;
mod file;
mod grouping;
mod kubelet_api;
mod policy;
mod shutdown;
mod workloads;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use virtual_kubelet::ApiSettings;

use crate::client::{Tls, TokenSource};
use crate::console::Consoles;
use crate::fleet::Rules;
use cli::Cli;
use connection::Connection;
use file::At;
pub use file::File;
pub use grouping::default_rules;
pub use shutdown::OnShutdown;
pub use workloads::Workloads;

/// Between full readings of all devices.
const STATUS_POLL: Duration = Duration::from_secs(30);
/// Shorter polls would use up the request budget in large estates.
const STATUS_POLL_MIN: Duration = Duration::from_secs(5);
/// Where `/healthz`, `/readyz` and `/metrics` are served.
const LISTEN: &str = "0.0.0.0:8080";

/// A configuration that cannot be used. The text names the place, the key and
/// the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// What happened.
        why: String,
    },
    /// The file is not what it should be.
    #[error("{place}: {why}")]
    Parse {
        /// File and line.
        place: String,
        /// Key and suggestion.
        why: String,
    },
    /// A value cannot be used.
    #[error("{place}{key}: {why}")]
    Value {
        /// File and line with `: `, or nothing for flags and the environment.
        place: String,
        /// The key, as in the file.
        key: String,
        /// What is wrong and what to write.
        why: String,
    },
}

fn value(key: impl Into<String>, why: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        place: String::new(),
        key: key.into(),
        why: why.into(),
    }
}

impl ConfigError {
    /// The same, with the place of the value in the file.
    fn at<T>(mut self, path: &str, value: &At<T>) -> Self {
        if let Self::Value { place, .. } = &mut self {
            *place = format!("{}: ", file::place(path, value.referenced.line()));
        }
        self
    }
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// What becomes of pods that are made for machines with a kubelet: mirrors of
/// static pods, and those of DaemonSets that tolerate every taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterAgents {
    /// They stay Pending, with one event.
    #[default]
    Pending,
    /// They run like any pod, as far as a device can.
    Run,
}

/// The environment as far as it counts; a value, so that tests have their own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `FLIGHTCTL_API_URL`.
    pub api_url: Option<String>,
    /// `FLIGHTCTL_AUTH_TOKEN`.
    pub auth_token: Option<String>,
    /// `FLIGHTCTL_AUTH_TOKEN_FILE`: read again when it changes, as a mounted
    /// Secret does.
    pub auth_token_file: Option<String>,
    /// `FLIGHTCTL_INSECURE_TLS`.
    pub insecure_tls: Option<String>,
    /// `NODE_NAME`.
    pub node_name: Option<String>,
    /// `LOG_LEVEL`.
    pub log_level: Option<String>,
    /// `ON_SHUTDOWN`.
    pub on_shutdown: Option<String>,
    /// `POD_UID`: of the pod this process runs in.
    pub pod_uid: Option<String>,
    /// `POD_IP`: the address of that pod.
    pub pod_ip: Option<String>,
}

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        let read = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            api_url: read("FLIGHTCTL_API_URL"),
            auth_token: read("FLIGHTCTL_AUTH_TOKEN"),
            auth_token_file: read("FLIGHTCTL_AUTH_TOKEN_FILE"),
            insecure_tls: read("FLIGHTCTL_INSECURE_TLS"),
            node_name: read("NODE_NAME"),
            log_level: read("LOG_LEVEL"),
            on_shutdown: read("ON_SHUTDOWN"),
            pod_uid: read("POD_UID"),
            pod_ip: read("POD_IP"),
        }
    }
}

/// Everything the provider is told, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// Flight Control's URL.
    pub url: Uri,
    /// What its certificate is checked against.
    pub tls: Tls,
    /// Its token.
    pub token: TokenSource,
    /// Its organization, by UUID.
    pub organization: Option<String>,
    /// Requests per minute.
    pub requests_per_minute: u32,
    /// How devices are grouped.
    pub rules: Rules,
    /// Between full readings of all devices.
    pub poll: Duration,
    /// What becomes of the agents of the cluster's machines.
    pub cluster_agents: ClusterAgents,
    /// What pods on devices are told of the cluster.
    pub workloads: Workloads,
    /// The kubelet API of the nodes, if they have one.
    pub kubelet_api: Option<ApiSettings>,
    /// Of which devices the console is used, for logs and processes.
    pub consoles: Consoles,
    /// Log filter.
    pub log_level: String,
    /// Log format.
    pub log_format: LogFormat,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// The same for a container that is started again in its pod, which need not
    /// wait for the lease of the one before it.
    pub identity: Option<String>,
    /// What becomes of nodes and pods at the end.
    pub on_shutdown: OnShutdown,
    /// Kubernetes; without one the cluster's own account, or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
}

impl Config {
    /// Flags over environment over file over defaults.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn load(cli: &Cli, environment: &Environment) -> Result<Self, ConfigError> {
        let file = match &cli.config {
            None => File::default(),
            Some(path) => {
                let text = read(path)?;
                File::parse(&path.display().to_string(), &text)?
            }
        };
        Self::merge(cli, environment, &file)
    }

    fn merge(cli: &Cli, environment: &Environment, file: &File) -> Result<Self, ConfigError> {
        let flag = cli.node_name.as_deref().map(|name| ("--node-name", name));
        let variable = environment
            .node_name
            .as_deref()
            .map(|name| ("NODE_NAME", name));
        let Connection {
            url,
            tls,
            token,
            organization,
            requests_per_minute,
        } = Connection::of(environment, file)?;
        let rules = grouping::rules(file, flag.or(variable))?;
        // The fleets', and that of the devices in none.
        let nodes = rules.fleets.len() + 1;
        let levels = [&cli.log_level, &environment.log_level, &file.logging.level];
        Ok(Self {
            url,
            tls,
            token,
            organization,
            requests_per_minute,
            rules,
            poll: poll(file)?,
            cluster_agents: file.cluster_agents.unwrap_or_default(),
            workloads: workloads::workloads(file)?,
            kubelet_api: kubelet_api::kubelet_api(environment, file, nodes)?,
            consoles: consoles(file),
            log_level: levels
                .into_iter()
                .flatten()
                .next()
                .map_or_else(|| "info".into(), Clone::clone),
            log_format: file.logging.format.unwrap_or_default(),
            listen: listen(file)?,
            identity: environment.pod_uid.clone(),
            on_shutdown: shutdown::on_shutdown(cli, environment, file)?,
            kubeconfig: cli.kubeconfig.clone(),
        })
    }
}

fn poll(file: &File) -> Result<Duration, ConfigError> {
    let Some(text) = &file.status_poll_interval else {
        return Ok(STATUS_POLL);
    };
    let wrong = |why: String| value("statusPollInterval", why).at(&file.path, text);
    match duration::parse(&text.value) {
        None => Err(wrong(format!(
            "{:?} is no duration; write for example 30s or 1m30s",
            text.value
        ))),
        Some(short) if short < STATUS_POLL_MIN => {
            Err(wrong("shorter than 5s; write 5s or more".into()))
        }
        Some(poll) => Ok(poll),
    }
}

fn consoles(file: &File) -> Consoles {
    let fleets = file.fleets.iter();
    Consoles {
        enabled: file.console.enabled.unwrap_or_default(),
        fleets: fleets
            .filter_map(|fleet| Some((fleet.name.value.clone(), fleet.console.enabled?)))
            .collect(),
    }
}

fn listen(file: &File) -> Result<SocketAddr, ConfigError> {
    let text = file
        .listen
        .as_ref()
        .map_or(LISTEN, |text| text.value.as_str());
    // As Go writes it, a port alone is one of every address.
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else {
        text.into()
    };
    full.parse().map_err(|_| {
        let error = value(
            "listen",
            format!("{text:?} is no address with a port; write for example {LISTEN}"),
        );
        match &file.listen {
            Some(text) => error.at(&file.path, text),
            None => error,
        }
    })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|e| ConfigError::Read {
        path: path.display().to_string(),
        why: e.to_string(),
    })
}
