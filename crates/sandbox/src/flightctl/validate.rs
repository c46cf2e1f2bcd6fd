//! What the service refuses in a device: names, labels, applications, files.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use serde_json::Value;

use super::quadlets;

/// Longest name, and longest environment key or value.
const MAX_NAME: usize = 253;

/// Largest inline file, decoded.
const MAX_INLINE: usize = 1024 * 1024;

const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// Where a spec stands: templates may hold `{{ }}` parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Device,
    Template,
}

/// `metadata.name`.
pub(crate) fn name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > MAX_NAME {
        errors.push(format!(
            "metadata.name: Invalid value: \"{name}\": must be no more than {MAX_NAME} characters"
        ));
    }
    if !name.split('.').all(is_label) {
        errors.push(format!(
            "metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
        ));
    }
    errors
}

/// `metadata.labels`.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Vec<String> {
    let word = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        text.len() <= 63
            && text.chars().all(inner)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let mut errors = Vec::new();
    for (key, value) in labels {
        let (prefix, rest) = key.split_once('/').unwrap_or(("x", key));
        if !word(rest) || !prefix.split('.').all(is_label) || prefix.len() > MAX_NAME {
            errors.push(format!(
                "metadata.labels: Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            ));
        }
        if !value.is_empty() && !word(value) {
            errors.push(format!(
                "metadata.labels: Invalid value: \"{value}\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            ));
        }
    }
    errors
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A whole spec. All errors, in the service's order.
pub(crate) fn spec(spec: &Value, place: Place) -> Vec<String> {
    let mut errors = Vec::new();
    let list = |key: &str| spec[key].as_array().map_or(&[][..], Vec::as_slice);
    let mut paths = BTreeSet::new();
    for provider in list("config") {
        config(provider, &mut paths, &mut errors);
    }
    let mut names = BTreeSet::new();
    for app in list("applications") {
        application(app, place, &mut names, &mut errors);
    }
    errors
}

fn config<'a>(provider: &'a Value, paths: &mut BTreeSet<&'a str>, errors: &mut Vec<String>) {
    let files = provider["inline"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, file) in files.iter().enumerate() {
        let at = format!("spec.config[].inline[{index}]");
        let path = file["path"].as_str().unwrap_or_default();
        if !path.starts_with('/') {
            errors.push(format!(
                "{at}.path: Invalid value: \"{path}\": must be an absolute path"
            ));
        }
        if !paths.insert(path) {
            errors.push(format!("{at}.path: duplicate device path: \"{path}\""));
        }
        if path.contains(':') {
            errors.push(format!(
                "{at}.path: forbidden device path: path must not contain ':': \"{path}\""
            ));
        }
        for root in [
            "/var/lib/flightctl",
            "/usr/lib/flightctl",
            "/etc/flightctl/certs",
        ] {
            let below = path.strip_prefix(root);
            if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                errors.push(format!(
                    "{at}.path: forbidden device path: writing under \"{root}\" is not allowed: \"{path}\""
                ));
            }
        }
        if matches!(
            path,
            "/etc/flightctl/config.yaml" | "/etc/flightctl/config.yml"
        ) {
            errors.push(format!(
                "{at}.path: forbidden device path: writing agent config file is not allowed: \"{path}\""
            ));
        }
        if let Err(why) = content(file, &at) {
            errors.push(why);
        }
    }
}

/// The decoded content of an inline file.
fn content(file: &Value, at: &str) -> Result<Vec<u8>, String> {
    let text = file["content"].as_str().unwrap_or_default();
    let bytes = match file["contentEncoding"].as_str() {
        None | Some("plain") => text.as_bytes().to_vec(),
        Some("base64") => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| format!("decode base64 content: {error}"))?,
        Some(other) => return Err(format!("unknown encoding type: {other}")),
    };
    if bytes.len() > MAX_INLINE {
        return Err(format!(
            "{at}.content: Too long: may not be more than {MAX_INLINE} bytes"
        ));
    }
    Ok(bytes)
}

fn application(app: &Value, place: Place, names: &mut BTreeSet<String>, errors: &mut Vec<String>) {
    let Some(kind) = app["appType"].as_str().filter(|kind| !kind.is_empty()) else {
        errors.push("app type must be defined".into());
        return;
    };
    let given = app["name"].as_str().unwrap_or_default();
    let name = match (given, app["image"].as_str()) {
        ("", None) => {
            errors.push(format!("inline {kind} application name cannot be empty"));
            return;
        }
        ("", Some(image)) => image,
        (name, _) => name,
    };
    if !names.insert(name.into()) {
        errors.push(format!("duplicate application name: {name}"));
        return;
    }
    if name.len() > MAX_NAME {
        errors.push(format!(
            "spec.applications[].name: Too long: may not be more than {MAX_NAME} bytes"
        ));
    }
    if !given.is_empty() && !is_label(given) {
        errors.push(format!(
            "spec.applications[].name: Invalid value: \"{given}\": Invalidpattern (regex used for validation is '{LABEL}')"
        ));
    }
    let at = format!("spec.applications[{name}]");
    for (key, api) in [
        ("desiredState", "stop/start device APIs"),
        ("restartGeneration", "restart device API"),
    ] {
        if app.get(key).is_some() {
            errors.push(format!(
                "{at}.{key} is read-only and cannot be set directly; use the {api} instead"
            ));
        }
    }
    environment(app, &at, errors);
    match kind {
        "quadlet" => quadlet(app, place, errors),
        "container" => container(app, &at, errors),
        "compose" | "helm" | "vm" => {}
        other => errors.push(format!("unknown application type: {other}")),
    }
}

fn environment(app: &Value, at: &str, errors: &mut Vec<String>) {
    let Some(all) = app["envVars"].as_object() else {
        return;
    };
    for (key, value) in all {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !key.chars().all(word) || key.starts_with(|c: char| c.is_ascii_digit()) {
            errors.push(format!("{at}.envVars: Invalid value: \"{key}\""));
        }
        match value.as_str().map_or(0, str::len) {
            0 => errors.push(format!("{at}.envVars: Required value")),
            length if length > MAX_NAME => errors.push(format!(
                "{at}.envVars: Too long: may not be more than {MAX_NAME} bytes"
            )),
            _ => {}
        }
    }
}

fn container(app: &Value, at: &str, errors: &mut Vec<String>) {
    for port in app["ports"].as_array().map_or(&[][..], Vec::as_slice) {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let ok = port
            .as_str()
            .and_then(|port| port.split_once(':'))
            .is_some_and(|(host, inner)| digits(host) && digits(inner));
        if !ok {
            errors.push("string doesn't match the regular expression \"^\\d+:\\d+$\"".into());
        }
    }
    if let Some(memory) = app["resources"]["limits"]["memory"].as_str() {
        let digits = memory.strip_suffix(['b', 'k', 'm', 'g']).unwrap_or(memory);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            errors.push(format!(
                "{at}.resources.limits.memory: must be in format 'number[unit]' where unit is b, k, m, or g, got \"{memory}\""
            ));
        }
    }
}

fn quadlet(app: &Value, place: Place, errors: &mut Vec<String>) {
    let Some(files) = app["inline"].as_array() else {
        return;
    };
    let mut paths = Vec::new();
    let mut units = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let at = format!("spec.applications[].inline[{index}]");
        let path = file["path"].as_str().unwrap_or_default();
        if paths.contains(&path) {
            errors.push(format!("duplicate inline path: {path}"));
        }
        paths.push(path);
        relative(path, &at, errors);
        match content(file, &at) {
            Err(why) => errors.push(why),
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => {
                if quadlets::is_unit(path) {
                    units.push((path, String::from_utf8_lossy(&bytes).into_owned()));
                }
            }
        }
    }
    quadlets::check(&paths, &units, place, errors);
}

fn relative(path: &str, at: &str, errors: &mut Vec<String>) {
    let mut refuse = |why: &str| {
        errors.push(format!("{at}.path: Invalid value: \"{path}\": {why}"));
    };
    if path.is_empty() {
        refuse("Required value");
    } else if path.len() > MAX_NAME {
        refuse("must be less than max characters: 253");
    } else if path.starts_with('/') {
        refuse("must be a relative path");
    } else if path.starts_with("..") || path.contains("/..") {
        refuse("must not contain '..' (parent directory references)");
    } else if path.split('/').any(|part| part.is_empty() || part == ".") {
        refuse("must be a clean path without redundant separators, . or internal '..'");
    }
}
