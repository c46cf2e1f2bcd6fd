//! Applications and their quadlets, as a device's generator reads them.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

use super::files;
use crate::flightctl::unitfile::UnitFile;

/// Where an agent puts applications, a folder each.
pub(crate) const APPS: &str = "/etc/containers/systemd";

/// Podman's time between TERM and KILL when a unit does not say, and always
/// for a whole pod.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// systemd's `RestartSec` when a unit does not say.
const RESTART_SEC: Duration = Duration::from_millis(100);

/// Keys that Podman 5.4's generator does not know: it drops the file, and the
/// whole version is rolled back.
const FATAL: [(&str, &[&str]); 2] = [
    (
        "Container",
        &[
            "Memory",
            "Retry",
            "RetryDelay",
            "ServiceName",
            "CgroupParent",
        ],
    ),
    (
        "Pod",
        &[
            "HostName",
            "Label",
            "Sysctl",
            "StopTimeout",
            "ExitPolicy",
            "Pull",
            "ServiceName",
        ],
    ),
];

/// One application of a rendered document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) run_as: String,
    pub(crate) units: Vec<Unit>,
    /// Stopped by an operator.
    pub(crate) stopped: bool,
    pub(crate) restart_generation: u64,
    /// Everything whose change replaces the application.
    content: Value,
}

/// What a unit runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Container {
        name: String,
        image: String,
        pod: Option<String>,
    },
    Pod {
        name: String,
        /// The pod outlives its last container.
        outlives: bool,
    },
}

/// `Restart=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    No,
    OnFailure,
    Always,
}

/// One generated service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) file: String,
    pub(crate) kind: Kind,
    pub(crate) conditions: Vec<String>,
    pub(crate) after: Vec<String>,
    pub(crate) on_success: Vec<String>,
    wants: Vec<String>,
    pub(crate) restart: Restart,
    pub(crate) restart_sec: Duration,
    pub(crate) unlimited_starts: bool,
    pub(crate) stop_timeout: Duration,
    pub(crate) start_pre: Vec<String>,
    pub(crate) stop_post: Vec<String>,
    pub(crate) oneshot: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) installed: bool,
    pub(crate) environment: Vec<(String, String)>,
    /// Absolute paths of files of variables.
    pub(crate) environment_files: Vec<String>,
    /// Source and target of each mount.
    pub(crate) volumes: Vec<(String, String)>,
    /// What it publishes on the device.
    pub(crate) ports: Vec<Port>,
    fatal: bool,
}

/// A port of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Empty for all addresses.
    address: String,
    port: String,
    protocol: String,
}

impl Port {
    /// `PublishPort=`: `[[address]:]port:container port[/protocol]`.
    fn read(text: &str) -> Option<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (host, _container) = ports.rsplit_once(':')?;
        let (address, port) = host.rsplit_once(':').unwrap_or(("", host));
        Some(Self {
            address: if address == "0.0.0.0" { "" } else { address }.to_owned(),
            port: port.to_owned(),
            protocol: protocol.to_owned(),
        })
    }

    /// Whether only one of them can be had.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let everywhere = self.address.is_empty() || other.address.is_empty();
        self.port == other.port
            && self.protocol == other.protocol
            && (everywhere || self.address == other.address)
    }
}

impl App {
    pub(crate) fn read(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (name, kind) = (text("name"), text("appType"));
        let mut content = value.clone();
        if let Some(content) = content.as_object_mut() {
            content.remove("desiredState");
            content.remove("restartGeneration");
        }
        let units = match kind.as_str() {
            "container" => vec![container_app(value)],
            "quadlet" => quadlet_units(value),
            // Compose, Helm and virtual machines are not simulated: listed,
            // and Unknown.
            _ => Vec::new(),
        };
        Self {
            units,
            run_as: Some(text("runAs"))
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| "root".into()),
            stopped: value["desiredState"] == "stopped",
            restart_generation: value["restartGeneration"].as_u64().unwrap_or_default(),
            name,
            kind,
            content,
        }
    }

    /// The same files and settings; operator's wishes aside.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.content == other.content
    }

    /// What the agent prefixes everything with.
    pub(crate) fn id(&self) -> String {
        let crc = format!("{:06}", crc32fast::hash(self.name.as_bytes()));
        let user = if self.run_as == "root" {
            String::new()
        } else {
            format!("-{}", self.run_as)
        };
        format!("{}{user}-{}", self.name, &crc[..6])
    }

    /// Its files by their path in its folder; `None` for one that cannot be read.
    pub(crate) fn inline(&self) -> impl Iterator<Item = (&str, Option<Vec<u8>>)> {
        inline(&self.content)
    }

    /// What of it is more than files that run as root.
    pub(crate) fn beyond_files(&self) -> Option<&'static str> {
        let set = |key: &&'static str| !self.content[*key].is_null();
        let special = (self.kind != "quadlet").then_some("appType");
        let runs_as = (self.run_as != "root").then_some("runAs");
        let fields = ["image", "envVars", "volumes"].into_iter();
        special.or(runs_as).or_else(|| fields.clone().find(set))
    }

    pub(crate) fn images(&self) -> BTreeSet<String> {
        let image = |unit: &Unit| match &unit.kind {
            Kind::Container { image, .. } => Some(image.clone()),
            Kind::Pod { .. } => None,
        };
        self.units.iter().filter_map(image).collect()
    }

    /// Whether the generator drops a file, or the agent finds a unit not
    /// loaded.
    pub(crate) fn rejected(&self) -> bool {
        self.units.iter().any(|unit| {
            unit.fatal || (!unit.installed && !self.units.iter().any(|other| other.pulls(unit)))
        })
    }

    pub(crate) fn unit(&self, reference: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.is_called(reference))
    }
}

impl Unit {
    fn read(file: &str, text: &str) -> Option<Self> {
        let unit = UnitFile::parse(text).ok()?;
        let stem = stem(file);
        let section = if file.ends_with(".pod") {
            "Pod"
        } else if file.ends_with(".container") {
            "Container"
        } else {
            return None;
        };
        let get = |section, key| unit.last(section, key).map(ToOwned::to_owned);
        let kind = if section == "Pod" {
            Kind::Pod {
                name: get("Pod", "PodName").unwrap_or_else(|| format!("systemd-{stem}")),
                outlives: unit
                    .all("Pod", "PodmanArgs")
                    .any(|args| args.contains("--exit-policy=continue")),
            }
        } else {
            Kind::Container {
                name: get("Container", "ContainerName")
                    .unwrap_or_else(|| format!("systemd-{stem}")),
                image: get("Container", "Image").unwrap_or_default(),
                pod: get("Container", "Pod"),
            }
        };
        let in_pod = matches!(&kind, Kind::Container { pod: Some(_), .. });
        let words = |key: &'static str| -> Vec<String> {
            unit.all("Unit", key)
                .flat_map(str::split_whitespace)
                .map(ToOwned::to_owned)
                .collect()
        };
        let texts = |section: &'static str, key: &'static str| -> Vec<String> {
            unit.all(section, key).map(ToOwned::to_owned).collect()
        };
        let fatal = FATAL
            .iter()
            .any(|(section, keys)| keys.iter().any(|key| unit.last(section, key).is_some()))
            || (unit.last("Container", "Group").is_some()
                && unit.last("Container", "User").is_none());
        Some(Self {
            file: file.into(),
            conditions: texts("Unit", "ConditionPathExists"),
            after: words("After"),
            on_success: words("OnSuccess"),
            wants: ["Wants", "Requires", "BindsTo"]
                .into_iter()
                .flat_map(words)
                .collect(),
            restart: match unit.last("Service", "Restart") {
                Some("always") => Restart::Always,
                Some("on-failure") => Restart::OnFailure,
                _ => Restart::No,
            },
            restart_sec: unit
                .last("Service", "RestartSec")
                .and_then(seconds)
                .unwrap_or(RESTART_SEC),
            unlimited_starts: unit.last("Unit", "StartLimitIntervalSec") == Some("0"),
            stop_timeout: unit
                .last("Container", "StopTimeout")
                .filter(|_| !in_pod)
                .and_then(seconds)
                .unwrap_or(STOP_TIMEOUT),
            start_pre: texts("Service", "ExecStartPre"),
            stop_post: texts("Service", "ExecStopPost"),
            oneshot: unit.last("Service", "Type") == Some("oneshot"),
            hostname: get("Container", "HostName").or_else(|| {
                let mut args = unit
                    .all("Pod", "PodmanArgs")
                    .flat_map(str::split_whitespace);
                args.find_map(|arg| arg.strip_prefix("--hostname=").map(ToOwned::to_owned))
            }),
            installed: unit.last("Install", "WantedBy").is_some(),
            environment: unit
                .all("Container", "Environment")
                .filter_map(files::assignment)
                .collect(),
            environment_files: texts("Container", "EnvironmentFile"),
            volumes: unit
                .all("Container", "Volume")
                .filter_map(|volume| {
                    let mut parts = volume.split(':');
                    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
                })
                .collect(),
            ports: unit
                .all(section, "PublishPort")
                .filter_map(Port::read)
                .collect(),
            kind,
            fatal,
        })
    }

    /// The name of its service, without the agent's prefix.
    pub(crate) fn service(&self) -> String {
        match self.kind {
            Kind::Container { .. } => format!("{}.service", stem(&self.file)),
            Kind::Pod { .. } => format!("{}-pod.service", stem(&self.file)),
        }
    }

    fn is_called(&self, reference: &str) -> bool {
        self.file == reference || self.service() == reference
    }

    /// Whether systemd loads `other` because of this unit.
    fn pulls(&self, other: &Self) -> bool {
        let by_name = |list: &[String]| list.iter().any(|name| other.is_called(name));
        let in_pod = match (&self.kind, &other.kind) {
            (Kind::Pod { .. }, Kind::Container { pod, .. }) => {
                self.installed && pod.as_ref() == Some(&self.file)
            }
            (Kind::Container { pod, .. }, Kind::Pod { .. }) => pod.as_ref() == Some(&other.file),
            _ => false,
        };
        in_pod || by_name(&self.wants) || by_name(&self.on_success)
    }

    pub(crate) fn pod(&self) -> Option<&str> {
        match &self.kind {
            Kind::Container { pod, .. } => pod.as_deref(),
            Kind::Pod { .. } => None,
        }
    }
}

pub(crate) fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => match text.strip_suffix("min") {
            Some(number) => (number, 60.0),
            None => (text.strip_suffix('s').unwrap_or(text), 1.0),
        },
    };
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * unit).ok()
}

fn inline(value: &Value) -> impl Iterator<Item = (&str, Option<Vec<u8>>)> {
    let files = value["inline"].as_array().into_iter().flatten();
    files.map(|file| {
        let content = file["content"].as_str().unwrap_or_default();
        let content = if file["contentEncoding"] == "base64" {
            base64::engine::general_purpose::STANDARD
                .decode(content)
                .ok()
        } else {
            Some(content.as_bytes().to_vec())
        };
        (file["path"].as_str().unwrap_or_default(), content)
    })
}

fn quadlet_units(value: &Value) -> Vec<Unit> {
    inline(value)
        .filter_map(|(path, content)| Unit::read(path, &String::from_utf8(content?).ok()?))
        .collect()
}

/// The unit that the agent writes for an application of type `container`.
fn container_app(value: &Value) -> Unit {
    Unit {
        file: "app.container".into(),
        kind: Kind::Container {
            name: value["name"].as_str().unwrap_or_default().into(),
            image: value["image"].as_str().unwrap_or_default().into(),
            pod: None,
        },
        conditions: Vec::new(),
        after: Vec::new(),
        on_success: Vec::new(),
        wants: Vec::new(),
        restart: Restart::OnFailure,
        restart_sec: Duration::from_secs(5),
        unlimited_starts: false,
        stop_timeout: STOP_TIMEOUT,
        start_pre: Vec::new(),
        stop_post: Vec::new(),
        oneshot: false,
        hostname: None,
        installed: true,
        environment: Vec::new(),
        environment_files: Vec::new(),
        volumes: Vec::new(),
        ports: Vec::new(),
        fatal: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(files: &[(&str, &str)]) -> App {
        let inline: Vec<Value> = files
            .iter()
            .map(|(path, content)| json!({"path": path, "content": content}))
            .collect();
        App::read(&json!({"name": "web", "appType": "quadlet", "inline": inline}))
    }

    #[test]
    fn the_prefix_is_the_name_and_six_digits_of_its_checksum() {
        let app = app(&[]);
        let crc = format!("{:06}", crc32fast::hash(b"web"));
        assert_eq!(app.id(), format!("web-{}", &crc[..6]));
    }

    #[test]
    fn ports_collide_where_only_one_can_have_them() {
        let port = |text: &str| Port::read(text).unwrap();
        for (one, other, collide) in [
            ("8080:80", "8080:81", true),
            ("8080:80", "8081:80", false),
            ("8080:80", "8080:80/udp", false),
            ("127.0.0.1:8080:80", "8080:80", true),
            ("0.0.0.0:8080:80", "[::1]:8080:80", true),
            ("127.0.0.1:8080:80", "127.0.0.2:8080:80", false),
        ] {
            assert_eq!(port(one).collides(&port(other)), collide, "{one} {other}");
        }
        assert_eq!(Port::read("80"), None, "no port of the device");
    }

    #[test]
    fn an_unknown_key_or_a_missing_install_section_rejects_the_application() {
        let good = "[Container]\nImage=a/b\n[Install]\nWantedBy=default.target\n";
        assert!(!app(&[("a.container", good)]).rejected());
        assert!(app(&[("a.container", "[Container]\nImage=a/b\n")]).rejected());
        let memory = format!("{good}[Container]\nMemory=1g\n");
        assert!(app(&[("a.container", &memory)]).rejected());
        let pod = "[Pod]\nPodName=p\n[Install]\nWantedBy=default.target\n";
        let member = "[Container]\nImage=a/b\nPod=p.pod\n";
        assert!(!app(&[("p.pod", pod), ("a.container", member)]).rejected());
    }
}
