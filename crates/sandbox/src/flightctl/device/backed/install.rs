//! The files of an application as Flight Control's agent puts them on a device:
//! everything with the application's prefix, a target that wants all of it, and a
//! drop-in by which the agent knows its containers again
//! (`internal/agent/device/applications/provider/quadlet.go`, `installQuadlet`).

use std::collections::{BTreeMap, BTreeSet};

use super::super::quadlet::{APPS, App, stem};
use crate::flightctl::unitfile::UnitFile;

/// The label that the agent knows containers by.
pub(super) const LABEL: &str = "io.flightctl.quadlet.project";

/// Where systemd looks for targets.
const UNITS: &str = "/etc/systemd/system";

/// Quadlets that are written here, with their sections.
const QUADLETS: [(&str, &str); 2] = [(".container", "Container"), (".pod", "Pod")];

/// All that the agent knows; their names are prefixed in references.
const EXTENSIONS: [&str; 8] = [
    ".container",
    ".pod",
    ".volume",
    ".network",
    ".image",
    ".kube",
    ".artifact",
    ".build",
];

/// Files by absolute path.
pub(super) type Placed = BTreeMap<String, Vec<u8>>;

/// The target of an application.
pub(super) fn target(id: &str) -> String {
    format!("{id}-flightctl-quadlet-app.target")
}

/// What goes with an application.
pub(super) fn places(app: &App) -> [String; 2] {
    [folder(app), format!("{UNITS}/{}", target(&app.id()))]
}

fn folder(app: &App) -> String {
    format!("{APPS}/{}", app.name)
}

/// The files of an application.
///
/// # Errors
/// What of it is not written here, or cannot be read.
pub(super) fn files(app: &App) -> Result<Placed, String> {
    if let Some(field) = app.beyond_files() {
        return Err(format!("{}: {field} is not for backed devices", app.name));
    }
    let (id, folder) = (app.id(), folder(app));
    let mut placed = Placed::new();
    let mut units = Vec::new();
    for (path, content) in app.inline() {
        let content = content.ok_or_else(|| format!("{path} is no base64"))?;
        let known = EXTENSIONS.iter().any(|ext| path.ends_with(ext));
        if path.contains('/') || !known {
            placed.insert(format!("{folder}/{path}"), content);
            continue;
        }
        let section = QUADLETS.iter().find(|(ext, _)| path.ends_with(ext));
        let (_, section) = section.ok_or_else(|| format!("{path} is not for backed devices"))?;
        let text = String::from_utf8(content).map_err(|_| format!("{path} is no text"))?;
        let unit = UnitFile::parse(&text).map_err(|why| format!("{path}: {why}"))?;
        units.push((path, *section, unit));
    }
    let services: Vec<String> = units.iter().map(|(path, ..)| service(path)).collect();
    let own = |name: &str| {
        let is = |(path, ..): &(&str, &str, UnitFile)| stem(path) == name;
        units.iter().any(is) || services.iter().any(|service| stem(service) == name)
    };
    for (path, section, unit) in &units {
        let unit = renamed(unit, &id, section, own)?;
        placed.insert(
            format!("{folder}/{}", prefixed(&id, path)),
            unit.text().into_bytes(),
        );
    }
    let mut wants = UnitFile::default();
    for service in &services {
        wants.add("Unit", "Wants", &prefixed(&id, service));
        wants.add("Unit", "After", &prefixed(&id, service));
    }
    for place in [&folder, UNITS] {
        let path = format!("{place}/{}", target(&id));
        placed.insert(path, wants.text().into_bytes());
    }
    let sections: BTreeSet<&str> = units.iter().map(|(_, section, _)| *section).collect();
    for (ext, section) in QUADLETS.iter().filter(|(_, s)| sections.contains(s)) {
        let mut own = UnitFile::default();
        own.add("Unit", "PartOf", &target(&id));
        match *section {
            "Pod" => own.add("Pod", "PodmanArgs", &format!("--label={LABEL}={id}")),
            section => own.add(section, "Label", &format!("{LABEL}={id}")),
        }
        let path = format!("{folder}/{id}-{ext}.d/99-flightctl.conf");
        placed.insert(path, own.text().into_bytes());
    }
    Ok(placed)
}

fn service(path: &str) -> String {
    let pod = if path.ends_with(".pod") { "-pod" } else { "" };
    format!("{}{pod}.service", stem(path))
}

fn prefixed(id: &str, name: &str) -> String {
    let prefix = format!("{id}-");
    if name.starts_with(&prefix) {
        return name.to_owned();
    }
    prefix + name
}

/// A unit with the prefix on all that is the application's own.
fn renamed(
    unit: &UnitFile,
    id: &str,
    section: &str,
    own: impl Fn(&str) -> bool,
) -> Result<UnitFile, String> {
    let quadlet = |value: &str| {
        let known = EXTENSIONS.iter().any(|ext| value.ends_with(ext));
        if known {
            prefixed(id, value)
        } else {
            value.to_owned()
        }
    };
    let word = |word: &str| match word.rsplit_once('.') {
        Some((name, "service" | "target")) if own(name) => prefixed(id, word),
        Some((_, "service" | "target")) => word.to_owned(),
        _ => quadlet(word),
    };
    let mut unit = unit.clone();
    for (name, entries) in &mut unit.sections {
        for (key, value) in entries {
            *value = match (name.as_str(), key.as_str()) {
                ("Unit" | "Install", _) => {
                    let words: Vec<String> = value.split_whitespace().map(word).collect();
                    words.join(" ")
                }
                (name, _) if name != section => continue,
                (_, "ContainerName" | "PodName") => prefixed(id, value),
                (_, "Image" | "Pod") => quadlet(value),
                (_, "Network") if ["host", "none"].contains(&value.as_str()) => continue,
                (_, "Volume") if value.starts_with(['/', '.']) => continue,
                (_, "Network" | "Volume" | "Mount" | "ServiceName") => {
                    return Err(format!("{key}={value} is not for backed devices"));
                }
                _ => continue,
            };
        }
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(more: &serde_json::Value) -> App {
        let mut app = json!({"name": "web", "appType": "quadlet", "inline": [
            {"path": "note.txt", "content": "Pod=p.pod"},
            {"path": "p.pod", "content": "[Pod]\nPodName=p\n[Install]\nWantedBy=default.target\n"},
            {"path": "a.container", "content": "# gone\n[Unit]\nAfter=i.service  other.service\n\
                ConditionPathExists=!%t/web.i.done\n\
                [Container]\nImage=a/b:1\nContainerName=a\nPod=p.pod\nVolume=./e/d:/d\nExec=\"a  b\" \\\n c\n\
                [Service]\nRestart=always\n"},
            {"path": "i.container", "content": "[Unit]\nOnSuccess=a.service\n[Container]\nImage=a/b:1\nNetwork=host\n"},
        ]});
        for (key, value) in more.as_object().unwrap() {
            app[key] = value.clone();
        }
        App::read(&app)
    }

    #[test]
    fn everything_of_an_application_has_its_prefix_and_its_target() {
        let app = app(&json!({}));
        let id = app.id();
        let placed = files(&app).unwrap();
        let text = |path: &str| {
            let path = path.replace("ID", &id);
            let content = placed.get(&path).unwrap_or_else(|| panic!("no {path}"));
            String::from_utf8(content.clone())
                .unwrap()
                .replace(&id, "ID")
        };
        let folder = "/etc/containers/systemd/web";
        assert_eq!(text(&format!("{folder}/note.txt")), "Pod=p.pod");
        assert_eq!(
            text(&format!("{folder}/ID-a.container")),
            "[Unit]\nAfter=ID-i.service other.service\nConditionPathExists=!%t/web.i.done\n\n\
             [Container]\nImage=a/b:1\nContainerName=ID-a\nPod=ID-p.pod\nVolume=./e/d:/d\nExec=\"a  b\" c\n\n\
             [Service]\nRestart=always\n"
        );
        assert_eq!(
            text(&format!("{folder}/ID-i.container")),
            "[Unit]\nOnSuccess=ID-a.service\n\n[Container]\nImage=a/b:1\nNetwork=host\n"
        );
        let target = text("/etc/systemd/system/ID-flightctl-quadlet-app.target");
        for service in ["ID-p-pod.service", "ID-a.service", "ID-i.service"] {
            assert!(target.contains(&format!("Wants={service}\nAfter={service}\n")));
        }
        assert_eq!(
            text(&format!("{folder}/ID-.pod.d/99-flightctl.conf")),
            "[Unit]\nPartOf=ID-flightctl-quadlet-app.target\n\n\
             [Pod]\nPodmanArgs=--label=io.flightctl.quadlet.project=ID\n"
        );
        assert_eq!(placed.len(), 8, "{:?}", placed.keys());
    }

    #[test]
    fn what_is_not_written_here_is_refused_by_name() {
        for (more, named) in [
            (json!({"envVars": {"A": "b"}}), "envVars"),
            (json!({"runAs": "user"}), "runAs"),
            (
                json!({"inline": [{"path": "d.volume", "content": "[Volume]\n"}]}),
                "d.volume",
            ),
            (
                json!({"inline": [{"path": "a.container", "content": "[Container]\nVolume=d:/d\n"}]}),
                "Volume=d:/d",
            ),
            (
                json!({"inline": [{"path": "a.container", "content": "[Container]\nno assignment\n"}]}),
                "a.container",
            ),
        ] {
            let why = files(&app(&more)).unwrap_err();
            assert!(why.contains(named), "{why}");
        }
    }
}
