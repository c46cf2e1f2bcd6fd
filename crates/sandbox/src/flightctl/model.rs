//! A device's status, as agents report it and the service shows it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A status word with its explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// One of the words of the API's enumeration.
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
}

impl Stated {
    pub(crate) fn new(status: &str, info: &str) -> Self {
        Self {
            status: status.into(),
            info: Some(info.into()),
        }
    }

    pub(crate) fn bare(status: &str) -> Self {
        Self {
            status: status.into(),
            info: None,
        }
    }
}

/// A condition of a device or fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Updating`, `SpecValid`, `MultipleOwners`, `DeviceDecommissioning`, `Valid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: String,
}

impl Condition {
    pub(crate) fn new(
        kind: &str,
        status: &str,
        reason: &str,
        message: &str,
        at: Timestamp,
    ) -> Self {
        Self {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: at.to_string(),
        }
    }

    /// Replaces the condition of the same type; the transition time stays when
    /// the status does.
    pub(crate) fn set(list: &mut Vec<Self>, mut new: Self) {
        match list.iter_mut().find(|c| c.kind == new.kind) {
            Some(old) => {
                if old.status == new.status {
                    new.last_transition_time = std::mem::take(&mut old.last_transition_time);
                }
                *old = new;
            }
            None => list.push(new),
        }
    }

    pub(crate) fn find<'a>(list: &'a [Self], kind: &str) -> Option<&'a Self> {
        list.iter().find(|c| c.kind == kind)
    }
}

/// One application, as its device reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationStatus {
    /// The application's name in the spec.
    pub name: String,
    /// Containers that run, of containers seen: `1/2`.
    pub ready: String,
    /// Restarts of all its units together.
    pub restarts: u64,
    /// `Preparing`, `Starting`, `Running`, `Error`, `Unknown`, `Completed`, `Stopped`, `Stopping`.
    pub status: String,
    /// Part of the operating system's image.
    pub embedded: bool,
    /// `quadlet` and others.
    pub app_type: String,
    /// The user it runs as.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run_as: String,
}

/// Load of the device, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor.
    pub cpu: String,
    /// Memory.
    pub memory: String,
    /// Disk.
    pub disk: String,
}

/// The version a device runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Decimal, or empty before the first one.
    pub rendered_version: String,
}

/// `Device.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceStatus {
    /// Its applications.
    pub applications: Vec<ApplicationStatus>,
    /// All of them in one word.
    pub applications_summary: Stated,
    /// `osMode`, once reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Value>,
    /// The agent's conditions; shown together with the service's own.
    pub conditions: Vec<Condition>,
    /// The version it runs.
    pub config: ConfigStatus,
    /// Attestation.
    pub integrity: Stated,
    /// Enrolled, or on the way out.
    pub lifecycle: Stated,
    /// The operating system's image.
    pub os: Value,
    /// Load.
    pub resources: Resources,
    /// Online or not.
    pub summary: Stated,
    /// Facts about the machine, all strings.
    pub system_info: Map<String, Value>,
    /// Up to date or not.
    pub updated: Stated,
}

impl DeviceStatus {
    /// A device nobody has heard from.
    pub(crate) fn unheard() -> Self {
        let system_info = [
            ("agentVersion", ""),
            ("architecture", ""),
            ("bootID", ""),
            ("operatingSystem", ""),
        ];
        Self {
            applications: Vec::new(),
            applications_summary: Stated::bare("Unknown"),
            capabilities: None,
            conditions: vec![Condition {
                kind: "Updating".into(),
                status: "Unknown".into(),
                reason: String::new(),
                message: String::new(),
                last_transition_time: "0001-01-01T00:00:00Z".into(),
            }],
            config: ConfigStatus::default(),
            integrity: Stated::bare("Unknown"),
            lifecycle: Stated::bare("Unknown"),
            os: json!({"image": "", "imageDigest": ""}),
            resources: Resources {
                cpu: "Unknown".into(),
                memory: "Unknown".into(),
                disk: "Unknown".into(),
            },
            summary: Stated::bare("Unknown"),
            system_info: system_info
                .into_iter()
                .map(|(key, value)| (key.to_owned(), Value::from(value)))
                .collect(),
            updated: Stated::bare("Unknown"),
        }
    }
}
