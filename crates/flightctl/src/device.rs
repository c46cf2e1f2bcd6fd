//! One device as Flight Control shows it, read leniently: what is odd or
//! missing is unknown, never an error.

mod states;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::away::silence::Away;
use crate::items::{Seen, environment_item, volumes_item};
use crate::ports::{Published, published};
pub use states::{State, UpdateWindow};

/// What the provider needs of a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceView {
    /// `metadata.name`.
    pub name: String,
    /// Label `alias`.
    pub alias: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.owner`, such as `Fleet/x`: then Flight Control refuses spec writes.
    pub owner: Option<String>,
    /// `metadata.generation`: grows with every change of the spec.
    pub generation: i64,
    /// `metadata.creationTimestamp`: another one is another device of that name.
    pub created: String,
    /// `metadata.resourceVersion`: grows with every write, statuses included.
    pub version: u64,
    /// Version that the service has rendered last.
    pub rendered: u64,
    /// Version that the device says it runs.
    pub reported: u64,
    /// `spec.applications`, whole and in order.
    pub applications: Vec<Value>,
    /// What they publish on the device, as far as can be read.
    pub ports: Vec<Published>,
    /// `spec.config` in order, without what is in it; `None` where there is no list.
    pub items: Option<Vec<Seen>>,
    /// `status.applications` by name.
    pub app_status: BTreeMap<String, AppStatus>,
    /// Condition `Updating`.
    pub updating: Updating,
    /// Message of `SpecValid=False`.
    pub spec_invalid: Option<String>,
    /// `status.summary.status`.
    pub summary: String,
    /// Flight Control has noted no sign of life of it yet. It saves them in batches
    /// some 15 s apart, and until the first each write of the spec makes a device read
    /// as disconnected; what tells is `status.updated`, which of one that went silent
    /// is unknown too.
    pub unseen: bool,
    /// `status.applicationsSummary.info`: the agent's words about its applications.
    pub words: String,
    /// `status.lifecycle.status`.
    pub lifecycle: String,
    /// `systemInfo.bootID`: another one after each start of the machine.
    pub boot: Option<String>,
    /// `systemInfo.architecture`.
    pub architecture: Option<String>,
    /// `systemInfo.cpuCores`, where the agent reports it.
    pub cpu_cores: Option<i64>,
    /// `systemInfo.memoryTotalKb`, where the agent reports it.
    pub memory_kb: Option<i64>,
    /// `systemInfo.netIpDefault` without its prefix length.
    pub address: Option<IpAddr>,
    /// We have found it to be away; no part of a reading.
    pub away: Option<Away>,
    /// It came and went too often; no part of a reading.
    pub flapping: bool,
    /// `status.resources`.
    pub critical: Critical,
    /// `spec.os.image` while the device is on its way to it.
    pub os_update: Option<String>,
    /// `spec.updatePolicy.updateSchedule`.
    pub window: Option<UpdateWindow>,
}

/// Which of a device's resources its agent calls critical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Critical {
    /// Processor.
    pub cpu: bool,
    /// Memory.
    pub memory: bool,
    /// Disk.
    pub disk: bool,
}

/// One entry of `status.applications`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppStatus {
    /// `Running`, `Error` …
    pub status: String,
    /// `n/m`.
    pub ready: String,
    /// Restarts as the agent counts them.
    pub restarts: i64,
}

/// Condition `Updating`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Updating {
    /// `status: True`.
    pub active: bool,
    /// `Preparing`, `ApplyingUpdate`, `Error`, `Updated` …
    pub reason: String,
    /// For people; names images and applications.
    pub message: String,
}

impl DeviceView {
    /// Reads the JSON of a device; `None` for one without a name.
    pub fn of(json: &Value) -> Option<Self> {
        let meta = &json["metadata"];
        let status = &json["status"];
        let info = &status["systemInfo"];
        let labels: BTreeMap<String, String> = meta["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let condition = |kind: &str| {
            status["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|c| c["type"] == kind)
        };
        let spec_valid = condition("SpecValid");
        let applications = json["spec"]["applications"].as_array();
        let applications = applications.cloned().unwrap_or_default();
        let updating = condition("Updating").map(Updating::of).unwrap_or_default();
        let os = text(&json["spec"]["os"]["image"]);
        Some(Self {
            name: meta["name"].as_str()?.to_owned(),
            alias: labels.get("alias").filter(|a| !a.is_empty()).cloned(),
            labels,
            owner: text(&meta["owner"]),
            generation: meta["generation"].as_i64().unwrap_or_default(),
            created: text(&meta["creationTimestamp"]).unwrap_or_default(),
            version: number(&meta["resourceVersion"]).unwrap_or_default(),
            rendered: number(&meta["annotations"]["device-controller/renderedVersion"])
                .unwrap_or_default(),
            reported: number(&status["config"]["renderedVersion"]).unwrap_or_default(),
            ports: published(&applications),
            applications,
            items: json["spec"]["config"]
                .as_array()
                .map(|items| items.iter().map(Seen::of).collect()),
            app_status: status["applications"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|app| Some((app["name"].as_str()?.to_owned(), AppStatus::of(app))))
                .collect(),
            os_update: os
                .filter(|image| updating.active && status["os"]["image"] != image.as_str()),
            critical: Critical::of(&status["resources"]),
            window: UpdateWindow::of(&json["spec"]["updatePolicy"]["updateSchedule"]),
            updating,
            spec_invalid: spec_valid
                .filter(|c| c["status"] == "False")
                .map(|c| c["message"].as_str().unwrap_or_default().to_owned()),
            summary: text(&status["summary"]["status"]).unwrap_or_default(),
            unseen: status["summary"]["status"] == "Unknown"
                && text(&status["updated"]["status"]).is_some_and(|word| word != "Unknown"),
            words: text(&status["applicationsSummary"]["info"]).unwrap_or_default(),
            lifecycle: text(&status["lifecycle"]["status"]).unwrap_or_default(),
            boot: text(&info["bootID"]),
            architecture: text(&info["architecture"]).map(|a| match a.as_str() {
                "x86_64" => "amd64".to_owned(),
                "aarch64" => "arm64".to_owned(),
                _ => a,
            }),
            cpu_cores: number(&info["cpuCores"]).filter(|n| *n > 0),
            memory_kb: number(&info["memoryTotalKb"]).filter(|n| *n > 0),
            address: text(&info["netIpDefault"])
                .and_then(|a| a.split('/').next().and_then(|ip| ip.parse().ok())),
            away: None,
            flapping: false,
        })
    }

    /// The item of its config of this name.
    pub fn item(&self, name: &str) -> Option<&Seen> {
        self.items.iter().flatten().find(|item| item.name == name)
    }

    /// Whether its config has items named after an application of ours that is not
    /// there any more.
    pub fn has_items_left_of(&self, app: &str) -> bool {
        let named = |name: String| self.item(&name).is_some();
        !self.has_application(app) && (named(volumes_item(app)) || named(environment_item(app)))
    }

    /// Whether its spec has an application of this name, whoever's.
    pub fn has_application(&self, app: &str) -> bool {
        self.applications.iter().any(|a| a["name"] == app)
    }

    /// `alias (name)`, or the name.
    pub fn shown(&self) -> String {
        match &self.alias {
            Some(alias) => format!("{alias} ({})", self.name),
            None => self.name.clone(),
        }
    }

    /// Flight Control has not heard of it for five minutes, or we have found it to be
    /// away.
    pub fn offline(&self) -> bool {
        self.is_unknown() || self.away.is_some()
    }

    /// Flight Control has not heard of it for five minutes. After an outage of its own
    /// that is so of all devices.
    pub fn is_unknown(&self) -> bool {
        self.summary == "Unknown" && !self.unseen
    }

    /// It has just enrolled, or was written down before it did: nothing was heard of
    /// it yet. One that has reported a version was, whatever is saved of that.
    pub fn not_yet_seen(&self) -> bool {
        self.unseen && self.reported == 0
    }

    /// Whether this is its name or alias.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alias.as_deref() == Some(name)
    }

    /// It is on its way out, or gone but for its record: Flight Control refuses
    /// every further change, and nothing it says is about our pods any more.
    pub fn decommissioned(&self) -> bool {
        matches!(
            self.lifecycle.as_str(),
            "Decommissioning" | "Decommissioned"
        )
    }

    /// Whether this is a device that was made anew under the name of the other.
    pub fn made_anew(&self, before: &Self) -> bool {
        !self.created.is_empty() && !before.created.is_empty() && self.created != before.created
    }

    /// Whether this reading is of a later moment than the other, as far as
    /// Flight Control's own numbers say.
    pub fn newer(&self, other: &Self) -> bool {
        if self.created == other.created {
            return self.version > other.version;
        }
        let time = |text: &str| text.parse::<Timestamp>().ok();
        matches!((time(&self.created), time(&other.created)), (Some(a), Some(b)) if a > b)
    }

    /// Whether the device itself has reported between these readings: the
    /// service alone changes none of this.
    pub fn reported_since(&self, before: &Self) -> bool {
        self.reported != before.reported
            || self.app_status != before.app_status
            || self.updating != before.updating
            || self.boot != before.boot
    }

    /// Whether it counts for its node: it is there and writable.
    pub fn usable(&self) -> bool {
        self.out_of_service().is_none()
    }
}

impl Critical {
    fn of(json: &Value) -> Self {
        let critical = |what: &str| json[what] == "Critical";
        Self {
            cpu: critical("cpu"),
            memory: critical("memory"),
            disk: critical("disk"),
        }
    }
}

impl UpdateWindow {
    fn of(json: &Value) -> Option<Self> {
        Some(Self {
            at: text(&json["at"])?,
            zone: text(&json["timeZone"]).unwrap_or_else(|| "Local".into()),
            grace: text(&json["startGraceDuration"]).unwrap_or_else(|| "0s".into()),
        })
    }
}

impl AppStatus {
    fn of(json: &Value) -> Self {
        Self {
            status: text(&json["status"]).unwrap_or_else(|| "Unknown".into()),
            ready: text(&json["ready"]).unwrap_or_default(),
            restarts: json["restarts"].as_i64().unwrap_or_default(),
        }
    }
}

impl Updating {
    /// The version was tried, and was not taken.
    pub(crate) fn failed(&self) -> bool {
        !self.active && self.reason == "Error"
    }

    fn of(json: &Value) -> Self {
        Self {
            active: json["status"] == "True",
            reason: text(&json["reason"]).unwrap_or_default(),
            message: text(&json["message"]).unwrap_or_default(),
        }
    }
}

fn text(json: &Value) -> Option<String> {
    json.as_str().filter(|t| !t.is_empty()).map(str::to_owned)
}

/// Flight Control writes numbers of `systemInfo` and versions as strings.
fn number<T: std::str::FromStr>(json: &Value) -> Option<T> {
    match json {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;
    use std::sync::Arc;
    use vk_provider::{PodChange, PodKey, PodRequest, Revision};

    /// A device that says this of its update.
    pub(crate) fn updating(active: bool, reason: &str, message: &str) -> DeviceView {
        DeviceView {
            updating: Updating {
                active,
                reason: reason.into(),
                message: message.into(),
            },
            ..DeviceView::default()
        }
    }

    pub(crate) fn device(name: &str, labels: &[(&str, &str)]) -> DeviceView {
        DeviceView {
            name: name.into(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            summary: "Online".into(),
            lifecycle: "Enrolled".into(),
            architecture: Some("amd64".into()),
            generation: 1,
            rendered: 1,
            reported: 1,
            ..DeviceView::default()
        }
    }

    pub(crate) fn request(name: &str, uid: &str, cpu: &str, memory: &str) -> PodRequest {
        let spec = PodSpec {
            node_name: Some("node".into()),
            containers: vec![Container {
                name: "app".into(),
                image: Some("app:1".into()),
                resources: Some(ResourceRequirements {
                    requests: Some(
                        [
                            ("cpu".to_owned(), Quantity(cpu.into())),
                            ("memory".to_owned(), Quantity(memory.into())),
                        ]
                        .into(),
                    ),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        };
        PodRequest {
            key: PodKey::new("default", name, uid),
            node: "node".into(),
            spec_revision: Revision::of(&spec),
            pod: Arc::new(Pod {
                metadata: ObjectMeta {
                    name: Some(name.into()),
                    namespace: Some("default".into()),
                    uid: Some(uid.into()),
                    ..Default::default()
                },
                spec: Some(spec),
                status: None,
            }),
            change: PodChange::First,
            journal: None,
            inputs: Default::default(),
        }
    }

    #[test]
    fn reads_a_recorded_device() {
        let device = DeviceView::of(&json!({
            "metadata": {
                "annotations": {"device-controller/renderedVersion": "34"},
                "generation": 33, "labels": {"alias": "vm"}, "name": "dev0", "owner": "Fleet/x",
            },
            "spec": {"applications": [{"name": "a"}]},
            "status": {
                "applications": [{"name": "a", "ready": "1/1", "restarts": 2, "status": "Running"}],
                "conditions": [
                    {"type": "Updating", "status": "True", "reason": "Preparing", "message": "m"},
                    {"type": "SpecValid", "status": "False", "message": "bad"},
                ],
                "config": {"renderedVersion": "33"},
                "lifecycle": {"status": "Enrolled"},
                "summary": {"status": "Online"},
                "systemInfo": {
                    "architecture": "amd64", "cpuCores": "2", "memoryTotalKb": "24684092",
                    "netIpDefault": "192.0.2.2/24",
                },
            },
        }))
        .unwrap();
        assert_eq!(
            (device.rendered, device.reported, device.generation),
            (34, 33, 33)
        );
        assert_eq!(device.shown(), "vm (dev0)");
        assert_eq!(device.address, Some("192.0.2.2".parse().unwrap()));
        assert_eq!(device.cpu_cores, Some(2));
        assert_eq!(device.memory_kb, Some(24_684_092));
        assert_eq!(device.app_status["a"].restarts, 2);
        assert_eq!(device.spec_invalid.as_deref(), Some("bad"));
        assert!(device.updating.active);
        assert!(device.closed().unwrap().contains("Fleet/x"));
    }

    #[test]
    fn a_device_whose_first_sign_of_life_is_not_saved_is_not_disconnected() {
        let of = |updated: Value, version: &str| {
            let read = DeviceView::of(&json!({"metadata": {"name": "d"}, "status": {
                "summary": {"status": "Unknown"}, "updated": {"status": updated},
                "config": {"renderedVersion": version},
                "systemInfo": {"architecture": "amd64"}}}))
            .unwrap();
            (read.is_unknown(), read.not_yet_seen(), read.usable())
        };
        for went_silent in [json!("Unknown"), json!(""), json!(null)] {
            assert_eq!(of(went_silent.clone(), "3"), (true, false, false));
            assert_eq!(of(went_silent, ""), (true, false, false));
        }
        assert_eq!(of(json!("OutOfDate"), ""), (false, true, false));
        assert_eq!(of(json!("OutOfDate"), "3"), (false, false, true));
    }

    #[test]
    fn an_odd_device_is_read_as_far_as_it_goes() {
        let device = DeviceView::of(&json!({
            "metadata": {"name": "d", "labels": {"n": 5}, "generation": "x"},
            "status": {"applications": "none", "systemInfo": {"cpuCores": "many", "memoryTotalKb": "-5"}},
        }))
        .unwrap();
        assert_eq!((device.cpu_cores, device.memory_kb), (None, None));
        assert!(DeviceView::of(&json!({})).is_none());
    }
}
