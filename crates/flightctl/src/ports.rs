//! Ports of a device that applications publish, as far as `Device.spec` tells. Pure.
//!
//! Read are inline quadlet units (`PublishPort=`), inline compose files (`ports:` of
//! their services), and `ports` and `publishPorts` of an application itself. What runs
//! on the device's own network, comes in an image or is left to a variable cannot be
//! known; what cannot be read counts as nothing.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

/// Ports in a row of a device, of one protocol and on one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    first: u16,
    last: u16,
    /// `TCP`, `UDP`, `SCTP`.
    protocol: String,
    /// `None` is every address.
    address: Option<IpAddr>,
}

impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        write!(f, "/{}", self.protocol)
    }
}

impl HostPorts {
    /// A single port; `None` where it is none.
    pub fn one(port: i64, protocol: &str, address: Option<&str>) -> Option<Self> {
        let first = u16::try_from(port).ok().filter(|port| *port != 0)?;
        Some(Self {
            first,
            last: first,
            protocol: protocol.to_ascii_uppercase(),
            address: addressed(address.unwrap_or_default())?,
        })
    }

    /// Whether both cannot be published on one device.
    pub fn clash(&self, other: &Self) -> bool {
        let everywhere = self.address.is_none() || other.address.is_none();
        self.protocol == other.protocol
            && self.first <= other.last
            && other.first <= self.last
            && (everywhere || self.address == other.address)
    }
}

/// Ports that an application publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Name of the application.
    pub by: String,
    /// The ports.
    pub ports: HostPorts,
}

/// What the applications of a device's spec publish.
pub fn published(applications: &[Value]) -> Vec<Published> {
    let all = applications.iter().flat_map(|app| {
        let by = app["name"].as_str().unwrap_or_default();
        of(app).into_iter().map(|ports| Published {
            by: by.to_owned(),
            ports,
        })
    });
    all.collect()
}

/// What one application publishes.
fn of(app: &Value) -> Vec<HostPorts> {
    let mut found = Vec::new();
    for list in [&app["ports"], &app["publishPorts"]] {
        for text in list.as_array().into_iter().flatten() {
            found.extend(text.as_str().map(mapped).unwrap_or_default());
        }
    }
    let compose = app["appType"] == "compose";
    for file in app["inline"].as_array().into_iter().flatten() {
        let Some(text) = text(file) else { continue };
        let path = file["path"].as_str().unwrap_or_default();
        let ends = |all: &[&str]| all.iter().any(|end| path.ends_with(end));
        if compose && ends(&[".yaml", ".yml"]) {
            composed(&text, &mut found);
        } else if !compose && ends(&[".container", ".pod", ".kube"]) {
            in_unit(&text, &mut found);
        }
    }
    found
}

/// The content of a file that may publish something.
fn text(file: &Value) -> Option<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let content = file["content"].as_str()?;
    if file["contentEncoding"] == "base64" {
        return String::from_utf8(BASE64.decode(content).ok()?).ok();
    }
    Some(content.to_owned())
}

/// `PublishPort=` of a quadlet unit (podman-systemd.unit(5)); an empty one takes back
/// those before it, as in every list of systemd's.
fn in_unit(text: &str, found: &mut Vec<HostPorts>) {
    let mut here: Vec<HostPorts> = Vec::new();
    for line in text.lines().map(str::trim) {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        match (key.trim_end(), value.trim()) {
            ("PublishPort", "") => here.clear(),
            ("PublishPort", value) => here.extend(mapped(value)),
            _ => {}
        }
    }
    found.append(&mut here);
}

/// `services.*.ports` of a compose file, in both of its forms
/// (the Compose Specification, `05-services.md`).
fn composed(text: &str, found: &mut Vec<HostPorts>) {
    let Ok(file) = serde_saphyr::from_str::<Value>(text) else {
        return;
    };
    let services = file["services"].as_object().into_iter().flatten();
    for (_, service) in services {
        for port in service["ports"].as_array().into_iter().flatten() {
            if let Some(text) = port.as_str() {
                found.extend(mapped(text));
                continue;
            }
            let Some(published) = word(&port["published"]) else {
                continue;
            };
            let protocol = port["protocol"].as_str().unwrap_or("tcp");
            let address = port["host_ip"].as_str().unwrap_or_default();
            found.extend(ranged(&published, protocol, address));
        }
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `[[address:][host port]:]container port[/protocol]`, each port one or a range
/// (podman-run(1), `--publish`). Without a host port Podman takes any that is free.
fn mapped(text: &str) -> Vec<HostPorts> {
    let text = text.trim().trim_matches('"');
    let (ports, protocols) = text.split_once('/').unwrap_or((text, "tcp"));
    let Some((host, container)) = ports.rsplit_once(':') else {
        return Vec::new();
    };
    let (address, host) = match host.rsplit_once(':') {
        Some((address, host)) => {
            let inside = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
            (inside.unwrap_or(address), host)
        }
        None => ("", host),
    };
    // A range that does not fit the other is refused or left to chance.
    let width = |range: &str| range_of(range).map(|(first, last)| last - first);
    if width(host) != width(container) {
        return Vec::new();
    }
    let each = protocols.split(',');
    each.flat_map(|protocol| ranged(host, protocol, address))
        .collect()
}

fn ranged(host: &str, protocol: &str, address: &str) -> Option<HostPorts> {
    let (first, last) = range_of(host)?;
    let protocol = protocol.trim().to_ascii_uppercase();
    let known = ["TCP", "UDP", "SCTP"].contains(&protocol.as_str());
    let address = addressed(address)?;
    known.then_some(HostPorts {
        first,
        last,
        protocol,
        address,
    })
}

/// `8080`, `8080-8083`.
fn range_of(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse().ok().filter(|port| *port != 0u16);
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

/// Empty, `0.0.0.0` and `::` are every address; the outer `None` is none that can be read.
fn addressed(text: &str) -> Option<Option<IpAddr>> {
    if text.is_empty() {
        return Some(None);
    }
    let address: IpAddr = text.parse().ok()?;
    Some(Some(address).filter(|address| !address.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn shown(app: &Value) -> Vec<String> {
        of(app).iter().map(HostPorts::to_string).collect()
    }

    fn quadlet(line: &str) -> Value {
        json!({"name": "a", "appType": "quadlet", "inline": [{"path": "a.container",
            "content": format!("[Container]\nImage=x\nPublishPort={line}\n")}]})
    }

    #[test]
    fn every_form_of_publish_port_is_read_and_what_is_none_is_nothing() {
        for (line, ports) in [
            ("8080:80", &["8080/TCP"][..]),
            ("8080:80/udp", &["8080/UDP"]),
            ("8080:80/tcp,udp", &["8080/TCP", "8080/UDP"]),
            ("127.0.0.1:8080:80", &["127.0.0.1:8080/TCP"]),
            ("0.0.0.0:8080:80", &["8080/TCP"]),
            ("[::]:8080:80", &["8080/TCP"]),
            ("[::1]:8080:80/sctp", &["[::1]:8080/SCTP"]),
            ("8080-8083:80-83", &["8080-8083/TCP"]),
            ("127.0.0.1:8080-8081:80-81", &["127.0.0.1:8080-8081/TCP"]),
            // Any port that is free.
            ("80", &[]),
            (":80", &[]),
            ("127.0.0.1::80", &[]),
            ("0:80", &[]),
            // Nothing that can be read.
            ("", &[]),
            ("${PORT}:80", &[]),
            ("8080-8090:80", &[]),
            ("8083-8080:83-80", &[]),
            ("70000:80", &[]),
            ("host:8080:80", &[]),
            ("8080:80/quic", &[]),
        ] {
            assert_eq!(shown(&quadlet(line)), ports, "{line:?}");
        }
    }

    #[test]
    fn units_compose_files_and_applications_themselves_publish() {
        let pod = json!({"appType": "quadlet", "inline": [
            {"path": "p.pod", "content": "[Pod]\nPublishPort=1:1\nPublishPort=\nPublishPort = 8080:80\n# PublishPort=2:2\n"},
            {"path": "notes.txt", "content": "PublishPort=9:9"}]});
        assert_eq!(shown(&pod), ["8080/TCP"]);
        let encoded = json!({"appType": "quadlet", "inline": [{"path": "a.container",
            "contentEncoding": "base64", "content": "W0NvbnRhaW5lcl0KUHVibGlzaFBvcnQ9ODA6ODAK"}]});
        assert_eq!(shown(&encoded), ["80/TCP"]);
        let file = "services:\n  web:\n    ports:\n    - \"8080:80\"\n    - 127.0.0.1:8081:80/udp\n    - 80\n    - target: 80\n      published: \"8082\"\n      host_ip: 127.0.0.1\n      protocol: udp\n    - {target: 80, published: 8083}\n    - {target: 80}\n";
        let compose = json!({"appType": "compose", "inline": [
            {"path": "podman-compose.yaml", "content": file},
            {"path": "odd.yaml", "content": "a: [\n"}]});
        assert_eq!(
            shown(&compose),
            [
                "8080/TCP",
                "127.0.0.1:8081/UDP",
                "127.0.0.1:8082/UDP",
                "8083/TCP"
            ]
        );
        let container = json!({"appType": "container", "image": "x", "ports": ["8080:80", 5]});
        assert_eq!(shown(&container), ["8080/TCP"]);
        let machine = json!({"appType": "vm", "publishPorts": ["2222:22/tcp"]});
        assert_eq!(shown(&machine), ["2222/TCP"]);
    }

    #[test]
    fn ports_clash_on_one_address_and_of_one_protocol() {
        let one = |line: &str| mapped(line).remove(0);
        for (a, b, clash) in [
            ("80:80", "80:1", true),
            ("80:80", "81:80", false),
            ("80:80", "80:80/udp", false),
            ("80-90:80-90", "85:1", true),
            ("127.0.0.1:80:80", "80:80", true),
            ("127.0.0.1:80:80", "127.0.0.2:80:80", false),
            ("127.0.0.1:80:80", "[::]:80:80", true),
        ] {
            assert_eq!(one(a).clash(&one(b)), clash, "{a} {b}");
            assert_eq!(one(b).clash(&one(a)), clash, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".*", line in "[-0-9:./\\[\\]a-z]*") {
            let _ = mapped(&text);
            let _ = mapped(&line);
            let mut found = Vec::new();
            in_unit(&text, &mut found);
            composed(&text, &mut found);
        }
    }
}
