//! What the real server refuses, where clients of this one touch it.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::resource::Resource;
use super::selector::Labels;
use super::status::FieldError;
use super::{object, services};

/// Longest name of an object.
const MAX_NAME: usize = 253;
/// Longest name of a container or namespace.
const MAX_LABEL: usize = 63;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const IMMUTABLE_POD: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Why the text is no RFC 1123 label.
pub(crate) fn label_fault(text: &str) -> Option<&'static str> {
    if is_label(text) {
        None
    } else if text.contains('.') && is_subdomain(text) {
        Some("must not contain dots")
    } else {
        Some(LABEL)
    }
}

fn is_label(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=MAX_LABEL).contains(&text.len())
        && text.chars().all(fine)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |p: &str| {
        p.starts_with(edge) && p.ends_with(edge) && p.chars().all(|c| edge(c) || c == '-')
    };
    text.len() <= MAX_NAME && text.split('.').all(part)
}

/// A new object.
pub(crate) fn created(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::name(object);
    let fault = match resource.plural {
        "namespaces" | "services" => label_fault(name),
        _ => (!is_subdomain(name)).then_some(SUBDOMAIN),
    };
    if let Some(fault) = fault {
        errors.push(FieldError::invalid("metadata.name", &json!(name), fault));
    }
    match resource.plural {
        "services" => services::created(object, &mut errors),
        "configmaps" | "secrets" => keys(object, &mut errors),
        "pods" => pod_spec("spec", &object["spec"], &mut errors),
        "jobs" => job(&object["spec"], &mut errors),
        "deployments" | "replicasets" | "statefulsets" | "daemonsets" => {
            pod_spec(
                "spec.template.spec",
                &object["spec"]["template"]["spec"],
                &mut errors,
            );
            let labels = &object["spec"]["template"]["metadata"]["labels"];
            if !Labels::from_object(&object["spec"]["selector"]).matches(labels) {
                let detail = "`selector` does not match template `labels`";
                errors.push(FieldError::invalid(
                    "spec.template.metadata.labels",
                    labels,
                    detail,
                ));
            }
        }
        "events" => event(object, &mut errors),
        _ => {}
    }
    errors
}

fn pod_spec(path: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    if object::items(spec, "/containers").is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut names = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in object::items(spec, &format!("/{list}")).iter().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            let name = object::text(container, "/name");
            if name.is_empty() {
                errors.push(FieldError::required(format!("{at}.name"), ""));
            } else if let Some(fault) = label_fault(name) {
                errors.push(FieldError::invalid(
                    format!("{at}.name"),
                    &json!(name),
                    fault,
                ));
            } else if names.contains(&name) {
                errors.push(FieldError::invalid(
                    format!("{at}.name"),
                    &json!(name),
                    "Duplicate value",
                ));
            }
            names.push(name);
            if object::text(container, "/image").is_empty() {
                errors.push(FieldError::required(format!("{at}.image"), ""));
            }
        }
    }
}

/// The keys of a ConfigMap or Secret.
fn keys(object: &Value, errors: &mut Vec<FieldError>) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let of = |field: &str| object[field].as_object().into_iter().flatten();
    for (key, _) in of("data") {
        if !object["binaryData"][key].is_null() {
            let at = format!("data[{key}]");
            let detail = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(at, &json!(key), detail));
        }
    }
    for field in ["data", "binaryData"] {
        for (key, _) in of(field) {
            let fault = if key.len() > MAX_NAME {
                "must be no more than 253 characters"
            } else if key == "." {
                "must not be '.'"
            } else if key == ".." {
                "must not be '..'"
            } else if key.is_empty() || !key.chars().all(allowed) {
                CONFIG_KEY
            } else if key.starts_with("..") {
                "must not start with '..'"
            } else {
                continue;
            };
            let at = format!("{field}[{key}]");
            errors.push(FieldError::invalid(at, &json!(key), fault));
        }
    }
}

/// What `immutable` and the type of a Secret fix.
fn contents_updated(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if old["type"] != new["type"] {
        errors.push(FieldError::immutable("type", &new["type"]));
    }
    if old["immutable"] == true {
        for field in ["immutable", "data", "binaryData"] {
            if old[field] != new[field] {
                let detail = "field is immutable when `immutable` is set";
                errors.push(FieldError::forbidden(field, detail));
            }
        }
    }
    keys(new, errors);
}

fn job(spec: &Value, errors: &mut Vec<FieldError>) {
    let template = &spec["template"]["spec"];
    pod_spec("spec.template.spec", template, errors);
    let policy = &template["restartPolicy"];
    let at = "spec.template.spec.restartPolicy";
    if policy != "Never" && policy != "OnFailure" {
        let detail = "valid values: \"OnFailure\", \"Never\"";
        errors.push(FieldError::required(at, detail));
    } else if policy != "Never" && spec["podFailurePolicy"].is_object() {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(FieldError::invalid(at, policy, detail));
    }
}

fn event(event: &Value, errors: &mut Vec<FieldError>) {
    let about = object::text(event, "/involvedObject/namespace");
    let ns = object::namespace(event);
    // Events about what has no namespace live in `default`.
    let wanted = if about.is_empty() { "default" } else { about };
    if ns != wanted && !(about.is_empty() && ns == "kube-system") {
        let detail = "does not match event.namespace";
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            &json!(about),
            detail,
        ));
    }
}

/// `new` in the place of `old`, through the resource itself.
pub(crate) fn updated(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = metadata(old, new);
    match resource.plural {
        "pods" => pod_updated(old, new, &mut errors),
        "deployments" | "replicasets" | "statefulsets" | "daemonsets"
            if old["spec"]["selector"] != new["spec"]["selector"] =>
        {
            errors.push(FieldError::immutable(
                "spec.selector",
                &new["spec"]["selector"],
            ));
        }
        "secrets" | "configmaps" => contents_updated(old, new, &mut errors),
        "services" => services::updated(old, new, &mut errors),
        _ => {}
    }
    errors
}

fn metadata(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["uid", "creationTimestamp"] {
        let (before, after) = (&old["metadata"][field], &new["metadata"][field]);
        if before != after {
            errors.push(FieldError::immutable(format!("metadata.{field}"), after));
        }
    }
    if object::is_deleting(old) {
        let before = object::items(old, "/metadata/finalizers");
        let added = |f: &&Value| !before.contains(f);
        if object::items(new, "/metadata/finalizers")
            .iter()
            .any(|f| added(&f))
        {
            let detail = "no new finalizers can be added if the object is being deleted";
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
    errors
}

fn pod_updated(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (was, mut is) = (&old["spec"], new["spec"].clone());
    for list in ["containers", "initContainers"] {
        let before = object::items(was, &format!("/{list}"));
        let after = is.get_mut(list).and_then(Value::as_array_mut);
        for (index, (b, a)) in before.iter().zip(after.into_iter().flatten()).enumerate() {
            if object::text(a, "/image").is_empty() {
                let at = format!("spec.{list}[{index}].image");
                errors.push(FieldError::required(at, ""));
            }
            a["image"] = b["image"].clone();
        }
    }
    let tolerations = object::items(new, "/spec/tolerations");
    if object::items(was, "/tolerations")
        .iter()
        .any(|t| !tolerations.contains(t))
    {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", detail));
    }
    let gates = object::items(was, "/schedulingGates");
    if object::items(&is, "/schedulingGates")
        .iter()
        .any(|g| !gates.contains(g))
    {
        let detail = "only deletion is allowed";
        errors.push(FieldError::forbidden("spec.schedulingGates", detail));
    }
    let mut same = vec!["tolerations", "activeDeadlineSeconds", "schedulingGates"];
    if object::int(was, "/terminationGracePeriodSeconds").is_some_and(|s| s < 0)
        && is["terminationGracePeriodSeconds"] == 1
    {
        same.push("terminationGracePeriodSeconds");
    }
    for field in same {
        match was.get(field) {
            Some(value) => is[field] = value.clone(),
            None => {
                if let Some(map) = is.as_object_mut() {
                    map.remove(field);
                }
            }
        }
    }
    if is != *was {
        let changed: Vec<&str> = is
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, _)| field.as_str())
            .chain(
                was.as_object()
                    .into_iter()
                    .flatten()
                    .map(|(field, _)| field.as_str()),
            )
            .filter(|field| is.get(*field) != was.get(*field))
            .collect();
        let detail = format!("{IMMUTABLE_POD}\nchanged: spec.{}", changed.join(", spec."));
        errors.push(FieldError::forbidden("spec", &detail));
    }
}

/// `new` in the place of `old`, through `ephemeralcontainers`.
pub(crate) fn ephemeral_added(old: &Value, new: &Value) -> Vec<FieldError> {
    const LIST: &str = "/spec/ephemeralContainers";
    let now = object::items(new, LIST);
    let lost = object::items(old, LIST).iter().find(|c| !now.contains(c));
    let detail = "existing ephemeral containers may not be changed or removed";
    let error = lost.map(|_| FieldError::forbidden("spec.ephemeralContainers", detail));
    error.into_iter().collect()
}

/// `new` in the place of `old`, through `status`.
pub(crate) fn status_updated(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = metadata(old, new);
    match resource.plural {
        "pods" => pod_status(old, new, &mut errors),
        "services" => services::status_updated(new, &mut errors),
        _ => {}
    }
    errors
}

fn pod_status(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (was, is) = (&old["status"], &new["status"]);
    if was["qosClass"] != is["qosClass"] {
        errors.push(FieldError::immutable("status.qosClass", &is["qosClass"]));
    }
    if object::int(is, "/observedGeneration").is_some_and(|g| g < 0) {
        let detail = "must be a non-negative integer";
        errors.push(FieldError::invalid(
            "status.observedGeneration",
            &is["observedGeneration"],
            detail,
        ));
    }
    for (index, condition) in object::items(is, "/conditions").iter().enumerate() {
        if object::int(condition, "/observedGeneration").is_some_and(|g| g < 0) {
            let at = format!("status.conditions[{index}].observedGeneration");
            let detail = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(
                at,
                &condition["observedGeneration"],
                detail,
            ));
        }
    }
    ips(is, "podIPs", None, errors);
    ips(is, "hostIPs", is["hostIP"].as_str(), errors);
    for (statuses, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", "ephemeralContainers"),
    ] {
        let declared = object::items(&old["spec"], &format!("/{containers}"));
        for (index, status) in object::items(is, &format!("/{statuses}"))
            .iter()
            .enumerate()
        {
            let at = format!("status.{statuses}[{index}]");
            let Some(container) = declared.iter().find(|c| c["name"] == status["name"]) else {
                // Stricter than the real server, which lets this and the next
                // pass: whoever sends it has a fault that should be seen.
                let detail = "the pod has no such container";
                errors.push(FieldError::invalid(
                    format!("{at}.name"),
                    &status["name"],
                    detail,
                ));
                continue;
            };
            let states = status["state"].as_object().map_or(0, serde_json::Map::len);
            if states > 1 {
                let detail = "may not specify more than 1 state";
                errors.push(FieldError::forbidden(format!("{at}.state"), detail));
            }
            let before = object::items(was, &format!("/{statuses}"))
                .iter()
                .find(|s| s["name"] == status["name"]);
            let Some(ended) = before.and_then(|s| s.pointer("/state/terminated")) else {
                continue;
            };
            let code = object::int(ended, "/exitCode").unwrap_or_default();
            if status["state"]["terminated"].is_null()
                && !may_restart(statuses, &old["spec"], container, code)
            {
                let detail = "may not be transitioned to non-terminated state";
                errors.push(FieldError::forbidden(format!("{at}.state"), detail));
            }
        }
    }
}

fn may_restart(list: &str, spec: &Value, container: &Value, exit_code: i64) -> bool {
    if list == "ephemeralContainerStatuses" {
        return false;
    }
    let policy = container["restartPolicy"]
        .as_str()
        .or(spec["restartPolicy"].as_str())
        .unwrap_or("Always");
    match policy {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

fn ips(status: &Value, list: &str, first: Option<&str>, errors: &mut Vec<FieldError>) {
    for (index, entry) in object::items(status, &format!("/{list}"))
        .iter()
        .enumerate()
    {
        let at = format!("status.{list}[{index}].ip");
        let ip = object::text(entry, "/ip");
        if ip.parse::<IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(at, &entry["ip"], detail));
        } else if index == 0 && list == "hostIPs" && first != Some(ip) {
            errors.push(FieldError::invalid(
                at,
                &entry["ip"],
                "must be equal to `hostIP`",
            ));
        }
    }
    if let Some(single) = first
        && single.parse::<IpAddr>().is_err()
    {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid("status.hostIP", &json!(single), detail));
    }
}
