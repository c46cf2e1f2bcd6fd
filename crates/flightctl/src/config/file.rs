//! The configuration file: YAML, strict about its keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ClusterAgents, ConfigError, LogFormat};

/// `apiVersion` of the file.
const API_VERSION: &str = "vk-flightctl.io/v1alpha1";
/// `kind` of the file.
const KIND: &str = "ProviderConfig";

/// A value with its place in the file, for messages.
pub(super) type At<T> = serde_saphyr::Spanned<T>;
/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, At<String>>;

/// The file as it is written. Every key may be left out but the first two.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    #[serde(skip)]
    pub(super) path: String,
    #[serde(default = "nothing")]
    api_version: At<String>,
    #[serde(default = "nothing")]
    kind: At<String>,
    #[serde(default)]
    pub(super) flightctl: Service,
    pub(super) node_name: Option<At<String>>,
    pub(super) fleet_label: Option<At<String>>,
    #[serde(default)]
    pub(super) fleets: Vec<Fleet>,
    pub(super) taints: Option<Vec<At<String>>>,
    #[serde(default)]
    pub(super) capacity: Amounts,
    #[serde(default)]
    pub(super) reserve: Amounts,
    pub(super) disconnect_after: Option<At<String>>,
    pub(super) reconnect_timeout: Option<At<String>>,
    pub(super) nodes: Option<At<String>>,
    pub(super) placement: Option<At<String>>,
    pub(super) on_leave: Option<At<String>>,
    pub(super) eviction: Option<At<String>>,
    #[serde(default)]
    pub(super) unplaceable: Unplaceable,
    pub(super) status_poll_interval: Option<At<String>>,
    pub(super) cluster_agents: Option<ClusterAgents>,
    #[serde(default)]
    pub(super) workloads: Workloads,
    #[serde(default)]
    pub(super) kubelet_api: KubeletApi,
    #[serde(default)]
    pub(super) console: Console,
    #[serde(default)]
    pub(super) logging: Logging,
    pub(super) listen: Option<At<String>>,
    pub(super) on_shutdown: Option<At<String>>,
    pub(super) drain_timeout: Option<At<String>>,
}

/// How Flight Control is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Service {
    pub(super) url: Option<At<String>>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) client_config: Option<PathBuf>,
    pub(super) service_account: Option<bool>,
    pub(super) oidc: Option<Oidc>,
    pub(super) ca_file: Option<PathBuf>,
    #[serde(rename = "insecureTLS")]
    pub(super) insecure_tls: Option<bool>,
    pub(super) organization: Option<At<String>>,
    pub(super) requests_per_minute: Option<At<u32>>,
}

/// A client of its own at an issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Oidc {
    pub(super) issuer: At<String>,
    pub(super) client_id: String,
    pub(super) client_secret_file: PathBuf,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) audience: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
}

/// What pods on devices are told of the cluster, and what they may do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Workloads {
    pub(super) api_server: Option<At<String>>,
    #[serde(rename = "apiServerCA")]
    pub(super) api_server_ca: Option<At<String>>,
    #[serde(default)]
    pub(super) service_account_tokens: Vec<At<String>>,
    #[serde(default)]
    pub(super) privileged: Vec<At<String>>,
}

/// The HTTPS API behind `kubectl logs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KubeletApi {
    pub(super) enabled: Option<At<bool>>,
    pub(super) address: Option<At<String>>,
    pub(super) bind_address: Option<At<String>>,
    pub(super) ports: Option<At<String>>,
    pub(super) certificate: Option<At<String>>,
    pub(super) cert_file: Option<At<String>>,
    pub(super) key_file: Option<At<String>>,
    #[serde(rename = "clientCA")]
    pub(super) client_ca: Option<At<String>>,
    pub(super) max_connections: Option<At<usize>>,
}

/// One fleet.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Fleet {
    pub(super) name: At<String>,
    pub(super) selector: At<String>,
    pub(super) nodes: Option<At<String>>,
    pub(super) placement: Option<At<String>>,
    pub(super) on_leave: Option<At<String>>,
    pub(super) eviction: Option<At<String>>,
    #[serde(default)]
    pub(super) unplaceable: Unplaceable,
    pub(super) taints: Option<Vec<At<String>>>,
    #[serde(default)]
    pub(super) capacity: Amounts,
    #[serde(default)]
    pub(super) reserve: Amounts,
    #[serde(default)]
    pub(super) console: Console,
    pub(super) disconnect_after: Option<At<String>>,
    pub(super) reconnect_timeout: Option<At<String>>,
}

/// What becomes of a pod that no device has room for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Unplaceable {
    pub(super) reject_after: Option<At<String>>,
}

/// Whether consoles of devices may be used.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Console {
    pub(super) enabled: Option<bool>,
}

/// Logs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Logging {
    pub(super) level: Option<String>,
    pub(super) format: Option<LogFormat>,
}

/// No value, nowhere.
fn nothing() -> At<String> {
    At::new(
        String::new(),
        serde_saphyr::Location::UNKNOWN,
        serde_saphyr::Location::UNKNOWN,
    )
}

impl Default for File {
    fn default() -> Self {
        Self {
            path: String::new(),
            api_version: nothing(),
            kind: nothing(),
            flightctl: Service::default(),
            node_name: None,
            fleet_label: None,
            fleets: Vec::new(),
            taints: None,
            capacity: Amounts::new(),
            reserve: Amounts::new(),
            disconnect_after: None,
            reconnect_timeout: None,
            nodes: None,
            placement: None,
            on_leave: None,
            eviction: None,
            unplaceable: Unplaceable::default(),
            status_poll_interval: None,
            cluster_agents: None,
            workloads: Workloads::default(),
            kubelet_api: KubeletApi::default(),
            console: Console::default(),
            logging: Logging::default(),
            listen: None,
            on_shutdown: None,
            drain_timeout: None,
        }
    }
}

impl File {
    /// Reads a file's text; `path` is for messages.
    ///
    /// # Errors
    /// With line, key and suggestion.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        let wrong = |line: u64, why: String| ConfigError::Parse {
            place: place(path, line),
            why,
        };
        if text.trim().is_empty() {
            return Err(wrong(
                0,
                format!("is empty; begin with apiVersion: {API_VERSION} and kind: {KIND}"),
            ));
        }
        // A snippet would print lines of the file into logs.
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let mut file: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|e| wrong(e.location().map_or(0, |at| at.line()), explain(&e)))?;
        if file.api_version.value != API_VERSION {
            let line = file.api_version.referenced.line();
            return Err(wrong(
                line,
                format!(
                    "apiVersion is {:?}; write {API_VERSION}",
                    file.api_version.value
                ),
            ));
        }
        if file.kind.value != KIND {
            return Err(wrong(
                file.kind.referenced.line(),
                format!("kind is {:?}; write {KIND}", file.kind.value),
            ));
        }
        file.path = path.into();
        Ok(file)
    }
}

/// `config.yaml:12`, or the file alone where the line is not known.
pub(super) fn place(path: &str, line: u64) -> String {
    if line == 0 {
        path.into()
    } else {
        format!("{path}:{line}")
    }
}

/// Above this likeness an unknown key is taken for a slip of the pen.
const LIKENESS: f64 = 0.75;

fn explain(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField {
            field, expected, ..
        } => match nearest(field, expected) {
            Some(known) => format!("unknown key `{field}`; did you mean `{known}`?"),
            None => format!(
                "unknown key `{field}`; the keys here are {}",
                expected.join(", ")
            ),
        },
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is there twice; keep one of them")
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            format!("the key `{field}` is missing here")
        }
        other => other
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}

/// The known word that an unknown one is most like.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&unknown.to_lowercase(), &name.to_lowercase()),
                *name,
            )
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
