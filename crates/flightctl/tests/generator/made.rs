//! What Podman's generator and systemd make of applications, and what stands in it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vk_flightctl::mapping::app_id;

use super::corpus::systemd;

const GENERATOR: &str = "/usr/lib/systemd/system-generators/podman-system-generator";

/// What the generator made: unit name to unit.
pub(super) type Units = BTreeMap<String, systemd::Unit>;

/// Gives applications to the generator as the agent would place them: every file
/// and every name in it with the application's prefix.
pub(super) fn generate(root: &Path, apps: &[Value]) -> Units {
    let folder = tempfile::Builder::new()
        .prefix("units-")
        .tempdir_in(root.join("tmp"))
        .unwrap();
    for app in apps {
        let name = app["name"].as_str().unwrap();
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        for file in app["inline"].as_array().unwrap() {
            let path = file["path"].as_str().unwrap();
            let content = file["content"].as_str().unwrap();
            if path.contains('/') || path.ends_with(".json") {
                let path = place.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
                continue;
            }
            let prefix = format!("{}-", app_id(name));
            let placed: String = content
                .lines()
                .map(|line| match line.split_once('=') {
                    Some((
                        key @ ("Pod" | "PodName" | "ContainerName" | "After" | "Wants"
                        | "OnSuccess"),
                        value,
                    )) => {
                        format!("{key}={prefix}{value}\n")
                    }
                    _ => format!("{line}\n"),
                })
                .collect();
            std::fs::write(place.join(format!("{prefix}{path}")), placed).unwrap();
        }
    }
    let inside = Path::new("/tmp").join(folder.path().file_name().unwrap());
    let output = Command::new("chroot")
        .arg(root)
        .args([
            "/bin/sh",
            "-c",
            &format!(
                "QUADLET_UNIT_DIRS='{}' {GENERATOR} --dryrun",
                inside.display()
            ),
        ])
        .output()
        .expect("chroot runs (as root)");
    let errors = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = errors
        .lines()
        .filter(|l| !l.contains("Loading source unit file"))
        .collect();
    assert!(
        complaints.is_empty(),
        "the generator complains: {complaints:#?}"
    );
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    verify(root, folder.path(), &text);
    let mut units = Units::new();
    let mut current: Option<(String, String)> = None;
    let close = |current: &mut Option<(String, String)>, units: &mut Units| {
        if let Some((name, text)) = current.take() {
            units.insert(name, systemd::unit(&text));
        }
    };
    for line in text.split('\n') {
        match line.strip_prefix("---").and_then(|l| l.strip_suffix("---")) {
            Some(name) => {
                close(&mut current, &mut units);
                current = Some((name.to_owned(), String::new()));
            }
            None => {
                if let Some((_, text)) = &mut current {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    close(&mut current, &mut units);
    units
}

/// Has systemd read the generated services: an unknown key, a broken quote or an
/// escape it does not know is a complaint.
fn verify(root: &Path, folder: &Path, text: &str) {
    let place = folder.join("services");
    std::fs::create_dir(&place).unwrap();
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("---").and_then(|l| l.strip_suffix("---")) {
            names.push(name.to_owned());
        } else if let Some(name) = names.last() {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(place.join(name))
                .unwrap();
            writeln!(file, "{line}").unwrap();
        }
    }
    let inside = Path::new("/tmp")
        .join(folder.file_name().unwrap())
        .join("services");
    let output = Command::new("chroot")
        .arg(root)
        .args([
            "/usr/bin/systemd-analyze",
            "verify",
            "--man=no",
            "--generators=no",
        ])
        .args(names.iter().map(|name| inside.join(name)))
        .output()
        .expect("chroot runs (as root)");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        complaints.trim().is_empty() && output.status.success(),
        "systemd complains: {complaints}"
    );
}

/// Words that systemd would give to Podman for a container of an application.
pub(super) fn start(units: &Units, app: &Value, container: &str) -> Vec<String> {
    let name = format!(
        "{}-{container}.service",
        app_id(app["name"].as_str().unwrap())
    );
    let unit = units.get(&name).unwrap_or_else(|| panic!("no {name}"));
    let lines: Vec<_> = unit
        .iter()
        .filter(|(s, k, _)| s == "Service" && k == "ExecStart")
        .collect();
    assert_eq!(lines.len(), 1, "{name}");
    // The generator's own specifiers; any other `%` that is alive is a fault.
    let own = " --cidfile=%t/%N.cid ";
    assert!(lines[0].2.contains(own), "{name}");
    let line = lines[0].2.replacen(own, " ", 1);
    systemd::words(&line.replace(" --pod-id-file %t/", " --pod-id-file /run/"))
}

/// Lines of the service of a container.
pub(super) fn service<'a>(
    units: &'a Units,
    app: &Value,
    container: &str,
    key: &str,
) -> Vec<&'a str> {
    let id = app_id(app["name"].as_str().unwrap());
    units[&format!("{id}-{container}.service")]
        .iter()
        .filter(|(s, k, _)| s == "Service" && k == key)
        .map(|(_, _, v)| v.as_str())
        .collect()
}

pub(super) fn option<'a>(words: &'a [String], name: &str) -> Vec<&'a str> {
    words
        .windows(2)
        .filter(|w| w[0] == name)
        .map(|w| w[1].as_str())
        .collect()
}

/// The words behind the image.
pub(super) fn command<'a>(words: &'a [String], image: &str) -> &'a [String] {
    let at = words
        .iter()
        .position(|w| w == image)
        .expect("the image is a word of its own");
    &words[at + 1..]
}
