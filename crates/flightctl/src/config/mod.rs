//! Configuration: flags, environment, file, defaults, in that order, made into
//! one validated value before anything starts.

pub mod cli;
pub mod client_yaml;
mod file;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use k8s_openapi::api::core::v1::Taint;
use vk_provider::quantity::{Amount, Resources};

use crate::client::{Tls, TokenSource};
use crate::fleet::{FleetRule, Rules, Sizes, node_name};
use crate::select;
use cli::Cli;
use client_yaml::ClientYaml;
pub use file::File;

/// The node of devices that belong to no fleet.
const NODE_NAME: &str = "vk-flightctl-node";
/// The label whose values are fleets.
const FLEET_LABEL: &str = "fleet";
/// Between full readings of all devices.
const STATUS_POLL: Duration = Duration::from_secs(30);
/// Shorter polls would use up the request budget in large estates.
const STATUS_POLL_MIN: Duration = Duration::from_secs(5);
/// Where `/healthz`, `/readyz` and `/metrics` are served.
const LISTEN: &str = "0.0.0.0:8080";
/// Keeps ordinary pods off edge devices.
const TAINT: &str = "virtual-kubelet.io/provider=flightctl:NoSchedule";

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
    #[error("{path}: {why}")]
    Parse {
        /// The file.
        path: String,
        /// Line, key and suggestion.
        why: String,
    },
    /// A value cannot be used.
    #[error("{key}: {why}")]
    Value {
        /// The key, as in the file.
        key: String,
        /// What is wrong and what to write.
        why: String,
    },
}

fn value(key: impl Into<String>, why: impl ToString) -> ConfigError {
    ConfigError::Value { key: key.into(), why: why.to_string() }
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

/// The environment as far as it counts; a value, so that tests have their own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `FLIGHTCTL_API_URL`.
    pub api_url: Option<String>,
    /// `FLIGHTCTL_AUTH_TOKEN`.
    pub auth_token: Option<String>,
    /// `FLIGHTCTL_INSECURE_TLS`.
    pub insecure_tls: Option<String>,
    /// `NODE_NAME`.
    pub node_name: Option<String>,
    /// `LOG_LEVEL`.
    pub log_level: Option<String>,
}

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        let read = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            api_url: read("FLIGHTCTL_API_URL"),
            auth_token: read("FLIGHTCTL_AUTH_TOKEN"),
            insecure_tls: read("FLIGHTCTL_INSECURE_TLS"),
            node_name: read("NODE_NAME"),
            log_level: read("LOG_LEVEL"),
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
    /// Log filter.
    pub log_level: String,
    /// Log format.
    pub log_format: LogFormat,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
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
        Self::merge(cli, environment, file)
    }

    fn merge(cli: &Cli, environment: &Environment, file: File) -> Result<Self, ConfigError> {
        let rules = rules(&file, cli.node_name.as_ref().or(environment.node_name.as_ref()))?;
        let service = file.flightctl;
        let yaml = match &service.client_config {
            None => None,
            Some(path) => Some((path.clone(), ClientYaml::parse(&path.display().to_string(), &read(path)?)?)),
        };
        let url = environment
            .api_url
            .clone()
            .or(service.url)
            .or_else(|| yaml.as_ref().and_then(|(_, y)| y.server().map(str::to_owned)))
            .ok_or_else(|| {
                value("flightctl.url", "Flight Control's URL is missing; set FLIGHTCTL_API_URL or flightctl.url")
            })?;
        let insecure = match environment.insecure_tls.as_deref() {
            None => service.insecure_tls.unwrap_or_else(|| yaml.as_ref().is_some_and(|(_, y)| y.insecure())),
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(other) => {
                return Err(value("FLIGHTCTL_INSECURE_TLS", format!("{other:?} is neither true nor false")));
            }
        };
        let authorities = match (&service.ca_file, &yaml) {
            (Some(path), _) => Some(read(path)?.into_bytes()),
            (None, Some((path, y))) => y.authorities(path)?,
            (None, None) => None,
        };
        let tls = match (insecure, authorities) {
            (true, _) => Tls::Insecure,
            (false, Some(pem)) => Tls::Authorities(pem),
            (false, None) => Tls::System,
        };
        let token = match (&environment.auth_token, service.token_file, &yaml) {
            (Some(token), _, _) => TokenSource::fixed(token),
            (None, Some(path), _) => TokenSource::file(path),
            (None, None, Some((path, _))) => TokenSource::client_config(path.clone()),
            (None, None, None) => {
                return Err(value(
                    "flightctl.tokenFile",
                    "the token is missing; set FLIGHTCTL_AUTH_TOKEN, flightctl.tokenFile or flightctl.clientConfig",
                ));
            }
        };
        let requests_per_minute = service.requests_per_minute.unwrap_or(crate::client::DEFAULT_PER_MINUTE);
        if requests_per_minute == 0 {
            return Err(value("flightctl.requestsPerMinute", "0 would let nothing pass; write at least 1"));
        }
        let poll = file.status_poll_interval.map_or(STATUS_POLL, |d| d.0);
        if poll < STATUS_POLL_MIN {
            return Err(value("statusPollInterval", "shorter than 5s; write 5s or more"));
        }
        let listen = file.listen.unwrap_or_else(|| LISTEN.into());
        Ok(Self {
            url: parse_url(&url)?,
            tls,
            token,
            organization: service
                .organization
                .or_else(|| yaml.as_ref().and_then(|(_, y)| y.organization().map(str::to_owned))),
            requests_per_minute,
            rules,
            poll,
            log_level: cli
                .log_level
                .clone()
                .or_else(|| environment.log_level.clone())
                .or(file.logging.level)
                .unwrap_or_else(|| "info".into()),
            log_format: file.logging.format.unwrap_or_default(),
            listen: listen.parse().map_err(|_| {
                value("listen", format!("{listen:?} is no address with a port; write for example {LISTEN}"))
            })?,
            kubeconfig: cli.kubeconfig.clone(),
        })
    }
}

/// Grouping without any configuration: the defaults of the file.
pub fn default_rules() -> Rules {
    // The defaults are valid: a test of this module holds that.
    rules(&File::default(), None).unwrap_or_else(|_| Rules {
        node_name: NODE_NAME.into(),
        fleet_label: FLEET_LABEL.into(),
        fleets: Vec::new(),
        defaults: Sizes { assumed: Resources::new(), reserve: Resources::new() },
        taints: Vec::new(),
    })
}

fn rules(file: &File, node: Option<&String>) -> Result<Rules, ConfigError> {
    let defaults = sizes("", &file.capacity, &file.reserve, &default_sizes())?;
    let taints = match &file.taints {
        None => vec![taint("taints", TAINT)?],
        Some(list) => list.iter().map(|t| taint("taints", t)).collect::<Result<_, _>>()?,
    };
    let node_name_text = node.cloned().or_else(|| file.node_name.clone()).unwrap_or_else(|| NODE_NAME.into());
    if node_name(&node_name_text).is_none() {
        return Err(value("nodeName", format!("{node_name_text:?} is no node name; use lower-case letters, digits and '-'")));
    }
    let mut fleets: Vec<FleetRule> = Vec::new();
    for (index, fleet) in file.fleets.iter().enumerate() {
        let key = |name: &str| format!("fleets[{index}].{name}");
        if node_name(&fleet.name).is_none() {
            return Err(value(key("name"), format!("{:?} makes no node name; use up to 49 lower-case letters, digits and '-'", fleet.name)));
        }
        if fleets.iter().any(|f| f.name == fleet.name) {
            return Err(value(key("name"), format!("{:?} is there twice; give each fleet its own name", fleet.name)));
        }
        if fleet.nodes.as_deref().is_some_and(|n| n != "perFleet") {
            return Err(value(key("nodes"), "only perFleet is built so far; leave it out"));
        }
        let selector = select::parse(&fleet.selector).map_err(|e| value(key("selector"), e))?;
        if fleet.selector.trim().is_empty() {
            return Err(value(key("selector"), "selects every device; write for example site=paris"));
        }
        if let Some(twin) = file.fleets[..index].iter().find(|f| f.selector.trim() == fleet.selector.trim()) {
            return Err(value(key("selector"), format!("is the same as that of the fleet {:?}; a device belongs to one fleet", twin.name)));
        }
        fleets.push(FleetRule {
            name: fleet.name.clone(),
            selector,
            sizes: sizes(&format!("fleets[{index}]."), &fleet.capacity, &fleet.reserve, &defaults)?,
            taints: match &fleet.taints {
                None => None,
                Some(list) => Some(list.iter().map(|t| taint(&key("taints"), t)).collect::<Result<_, _>>()?),
            },
        });
    }
    Ok(Rules {
        node_name: node_name_text,
        fleet_label: file.fleet_label.clone().unwrap_or_else(|| FLEET_LABEL.into()),
        fleets,
        defaults,
        taints,
    })
}

/// What the user's README promises of a device that does not report its size,
/// and what its own system keeps.
fn default_sizes() -> Sizes {
    Sizes {
        assumed: Resources::new()
            .with("cpu", Amount::units(4))
            .with("memory", Amount::units(8 << 30))
            .with("pods", Amount::units(110)),
        reserve: Resources::new()
            .with("cpu", Amount::milli(250))
            .with("memory", Amount::units(512 << 20)),
    }
}

fn sizes(prefix: &str, capacity: &file::Amounts, reserve: &file::Amounts, base: &Sizes) -> Result<Sizes, ConfigError> {
    let merged = |base: &Resources, own: &file::Amounts, what: &str| {
        let mut result = base.clone();
        for (name, text) in own {
            let amount = Amount::parse(text).map_err(|e| value(format!("{prefix}{what}.{name}"), e))?;
            result.set(name, amount);
        }
        Ok::<_, ConfigError>(result)
    };
    Ok(Sizes {
        assumed: merged(&base.assumed, capacity, "capacity")?,
        reserve: merged(&base.reserve, reserve, "reserve")?,
    })
}

/// `key=value:Effect` or `key:Effect`, as kubectl spells taints.
fn taint(key: &str, text: &str) -> Result<Taint, ConfigError> {
    let wrong = || value(key, format!("{text:?} is no taint; write key=value:NoSchedule"));
    let (left, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (name, label) = match left.split_once('=') {
        Some((name, label)) => (name, Some(label)),
        None => (left, None),
    };
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
    if !known || !select::is_label_key(name) || !label.is_none_or(select::is_label_value) {
        return Err(wrong());
    }
    Ok(Taint {
        key: name.into(),
        value: label.map(str::to_owned),
        effect: effect.into(),
        time_added: None,
    })
}

fn parse_url(text: &str) -> Result<Uri, ConfigError> {
    let wrong = |why: &str| value("flightctl.url", format!("{text:?} {why}; write for example https://flightctl.example.com"));
    let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
    if !matches!(uri.scheme_str(), Some("https" | "http")) || uri.host().is_none() {
        return Err(wrong("has no https:// and host"));
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    Ok(uri)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|e| ConfigError::Read { path: path.display().to_string(), why: e.to_string() })
}
