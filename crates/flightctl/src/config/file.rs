//! The configuration file: YAML, strict about its keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, LogFormat};

/// `apiVersion` of the file.
const API_VERSION: &str = "vk-flightctl.io/v1alpha1";
/// `kind` of the file.
const KIND: &str = "ProviderConfig";

/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, String>;

/// The file as it is written. Every key may be left out but the first two.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    pub(super) flightctl: Service,
    pub(super) node_name: Option<String>,
    pub(super) fleet_label: Option<String>,
    #[serde(default)]
    pub(super) fleets: Vec<Fleet>,
    pub(super) taints: Option<Vec<String>>,
    #[serde(default)]
    pub(super) capacity: Amounts,
    #[serde(default)]
    pub(super) reserve: Amounts,
    pub(super) status_poll_interval: Option<GoDuration>,
    #[serde(default)]
    pub(super) logging: Logging,
    pub(super) listen: Option<String>,
}

/// How Flight Control is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Service {
    pub(super) url: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) client_config: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    #[serde(rename = "insecureTLS")]
    pub(super) insecure_tls: Option<bool>,
    pub(super) organization: Option<String>,
    pub(super) requests_per_minute: Option<u32>,
}

/// One fleet.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Fleet {
    pub(super) name: String,
    pub(super) selector: String,
    pub(super) nodes: Option<String>,
    pub(super) taints: Option<Vec<String>>,
    #[serde(default)]
    pub(super) capacity: Amounts,
    #[serde(default)]
    pub(super) reserve: Amounts,
}

/// Logs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Logging {
    pub(super) level: Option<String>,
    pub(super) format: Option<LogFormat>,
}

/// A duration as Go writes it: `30s`, `5m`, `1h30m`.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoDuration(pub(super) Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            serde::de::Error::custom(format!("{text:?} is no duration; write for example 30s, 5m or 1h30m"))
        };
        let parsed: kube::core::Duration = text.parse().map_err(|_| wrong())?;
        let duration = std::time::Duration::from(parsed);
        // The conversion drops the sign.
        if text.starts_with('-') { Err(wrong()) } else { Ok(Self(duration)) }
    }
}

impl File {
    /// Reads a file's text; `path` is for messages.
    ///
    /// # Errors
    /// With line, key and suggestion.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError::Parse { path: path.into(), why };
        if text.trim().is_empty() {
            return Err(wrong(format!("is empty; begin with apiVersion: {API_VERSION} and kind: {KIND}")));
        }
        let file: Self = serde_saphyr::from_str(text).map_err(|e| wrong(suggest(&e.to_string())))?;
        if file.api_version != API_VERSION {
            return Err(wrong(format!("apiVersion is {:?}; write {API_VERSION}", file.api_version)));
        }
        if file.kind != KIND {
            return Err(wrong(format!("kind is {:?}; write {KIND}", file.kind)));
        }
        Ok(file)
    }
}

/// Above this likeness an unknown key is taken for a slip of the pen.
const LIKENESS: f64 = 0.75;

/// Adds the known key that an unknown one is most like.
fn suggest(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default().trim();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first() else {
        return message.into();
    };
    if !message.contains("unknown field") {
        return message.into();
    }
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(&unknown.to_lowercase(), &name.to_lowercase()), *name))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, name)) => format!("{message}; did you mean `{name}`?"),
        None => message.into(),
    }
}
