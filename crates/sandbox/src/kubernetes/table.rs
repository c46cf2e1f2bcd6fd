//! Rows for `kubectl get`, as the real server's printers make them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::{int, is_deleting, items, name, text};
use super::resource::Resource;

/// The cells of one object's row.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;
/// Name, and whether only `-o wide` shows it.
type Column = (&'static str, bool);

/// A `meta.k8s.io/v1` table of these objects.
pub(crate) fn table(
    resource: &Resource,
    objects: &[Value],
    metadata: &Value,
    now: Timestamp,
) -> Value {
    let (columns, cells): (&[Column], Cells) = match resource.plural {
        "pods" => (PODS, pod),
        "nodes" => (NODES, node),
        "deployments" => (DEPLOYMENTS, deployment),
        "replicasets" => (REPLICA_SETS, replica_set),
        "events" => (EVENTS, event),
        "namespaces" => (NAMESPACES, |o, now| {
            vec![json!(name(o)), json!(text(o, "/status/phase")), age(o, now)]
        }),
        "services" => (SERVICES, service),
        "configmaps" => (CONFIG_MAPS, |o, now| {
            let keys = keys(o, "data") + keys(o, "binaryData");
            vec![json!(name(o)), json!(keys), age(o, now)]
        }),
        "secrets" => (SECRETS, |o, now| {
            let kind = json!(text(o, "/type"));
            vec![json!(name(o)), kind, json!(keys(o, "data")), age(o, now)]
        }),
        "leases" => (LEASES, |o, now| {
            vec![
                json!(name(o)),
                json!(text(o, "/spec/holderIdentity")),
                age(o, now),
            ]
        }),
        _ => (PLAIN, |o, now| vec![json!(name(o)), age(o, now)]),
    };
    let definitions: Vec<Value> = columns
        .iter()
        .map(|(name, wide)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": u8::from(*wide)})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|o| {
            json!({"cells": cells(o, now), "object": {"kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows})
}

const PLAIN: &[Column] = &[("Name", false), ("Age", false)];
const NAMESPACES: &[Column] = &[("Name", false), ("Status", false), ("Age", false)];
const LEASES: &[Column] = &[("Name", false), ("Holder", false), ("Age", false)];
const CONFIG_MAPS: &[Column] = &[("Name", false), ("Data", false), ("Age", false)];
const SECRETS: &[Column] = &[
    ("Name", false),
    ("Type", false),
    ("Data", false),
    ("Age", false),
];
const SERVICES: &[Column] = &[
    ("Name", false),
    ("Type", false),
    ("Cluster-IP", false),
    ("External-IP", false),
    ("Port(s)", false),
    ("Age", false),
    ("Selector", true),
];
const PODS: &[Column] = &[
    ("Name", false),
    ("Ready", false),
    ("Status", false),
    ("Restarts", false),
    ("Age", false),
    ("IP", true),
    ("Node", true),
    ("Nominated Node", true),
    ("Readiness Gates", true),
];
const NODES: &[Column] = &[
    ("Name", false),
    ("Status", false),
    ("Roles", false),
    ("Age", false),
    ("Version", false),
    ("Internal-IP", true),
    ("External-IP", true),
    ("OS-Image", true),
    ("Kernel-Version", true),
    ("Container-Runtime", true),
];
const DEPLOYMENTS: &[Column] = &[
    ("Name", false),
    ("Ready", false),
    ("Up-to-date", false),
    ("Available", false),
    ("Age", false),
    ("Containers", true),
    ("Images", true),
    ("Selector", true),
];
const REPLICA_SETS: &[Column] = &[
    ("Name", false),
    ("Desired", false),
    ("Current", false),
    ("Ready", false),
    ("Age", false),
    ("Containers", true),
    ("Images", true),
    ("Selector", true),
];
const EVENTS: &[Column] = &[
    ("Last Seen", false),
    ("Type", false),
    ("Reason", false),
    ("Object", false),
    ("Source", true),
    ("Message", false),
    ("Count", true),
    ("Name", true),
];

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn pod(pod: &Value, now: Timestamp) -> Vec<Value> {
    let statuses = items(pod, "/status/containerStatuses");
    let total = items(pod, "/spec/containers").len();
    let ready = statuses.iter().filter(|c| c["ready"] == true).count();
    let restarts: i64 = statuses
        .iter()
        .filter_map(|c| c["restartCount"].as_i64())
        .sum();
    vec![
        json!(name(pod)),
        json!(format!("{ready}/{total}")),
        json!(pod_status(pod)),
        json!(restarts.to_string()),
        age(pod, now),
        or_none(text(pod, "/status/podIP")),
        or_none(text(pod, "/spec/nodeName")),
        json!("<none>"),
        json!("<none>"),
    ]
}

/// The column STATUS: the reason that says most.
pub(crate) fn pod_status(pod: &Value) -> String {
    let phase = text(pod, "/status/phase");
    let mut reason = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    let total = items(pod, "/spec/initContainers").len();
    let mut initializing = false;
    for (index, init) in items(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        match (
            init.pointer("/state/terminated"),
            text(init, "/state/waiting/reason"),
        ) {
            (Some(ended), _) if ended["exitCode"] == 0 => continue,
            (Some(ended), _) => reason = format!("Init:{}", ended_reason(ended)),
            (None, "") if init["started"] == true && init.pointer("/state/running").is_some() => {
                continue;
            }
            (None, "" | "PodInitializing") => reason = format!("Init:{index}/{total}"),
            (None, waiting) => reason = format!("Init:{waiting}"),
        }
        initializing = true;
        break;
    }
    if !initializing {
        let mut running = false;
        for container in items(pod, "/status/containerStatuses").iter().rev() {
            let waiting = text(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if let Some(ended) = container.pointer("/state/terminated") {
                reason = ended_reason(ended);
            } else if container["ready"] == true && container.pointer("/state/running").is_some() {
                running = true;
            }
        }
        if reason == "Completed" && running {
            reason = if super::object::is_true(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            }
            .into();
        }
    }
    if is_deleting(pod) {
        let lost = text(pod, "/status/reason") == "NodeLost";
        if lost {
            reason = "Unknown".into();
        } else if !super::object::is_finished(pod) {
            reason = "Terminating".into();
        }
    }
    reason
}

fn ended_reason(ended: &Value) -> String {
    match (
        text(ended, "/reason"),
        int(ended, "/signal"),
        int(ended, "/exitCode"),
    ) {
        ("", Some(signal), _) if signal != 0 => format!("Signal:{signal}"),
        ("", _, code) => format!("ExitCode:{}", code.unwrap_or_default()),
        (reason, _, _) => reason.to_owned(),
    }
}

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let mut status = match super::object::condition(node, "Ready") {
        Some(c) if c["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    // A set: two labels may name one role.
    let roles: BTreeSet<&str> = node["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    let address = |kind: &str| {
        let found = items(node, "/status/addresses")
            .iter()
            .find(|a| a["type"] == kind);
        or_none(found.map_or("", |a| text(a, "/address")))
    };
    let info = |field: &str| json!(text(node, &format!("/status/nodeInfo/{field}")));
    vec![
        json!(name(node)),
        json!(status),
        or_none(&roles.into_iter().collect::<Vec<_>>().join(",")),
        age(node, now),
        info("kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn keys(object: &Value, field: &str) -> usize {
    object[field].as_object().map_or(0, serde_json::Map::len)
}

fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = items(service, "/spec/ports")
        .iter()
        .map(|port| format!("{}/{}", port["port"], text(port, "/protocol")))
        .collect();
    let selector: Vec<String> = service["spec"]["selector"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    vec![
        json!(name(service)),
        json!(text(service, "/spec/type")),
        or_none(text(service, "/spec/clusterIP")),
        or_none(text(service, "/spec/externalName")),
        or_none(&ports.join(",")),
        age(service, now),
        or_none(&selector.join(",")),
    ]
}

fn count(object: &Value, pointer: &str) -> i64 {
    int(object, pointer).unwrap_or_default()
}

fn templates(object: &Value) -> [Value; 3] {
    let containers = items(object, "/spec/template/spec/containers");
    let join = |field: &str| {
        let all: Vec<&str> = containers.iter().map(|c| text(c, field)).collect();
        json!(all.join(","))
    };
    let selector: Vec<String> = object["spec"]["selector"]["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    [join("/name"), join("/image"), json!(selector.join(","))]
}

fn deployment(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let (ready, wanted) = (
        count(deployment, "/status/readyReplicas"),
        count(deployment, "/spec/replicas"),
    );
    let mut cells = vec![
        json!(name(deployment)),
        json!(format!("{ready}/{wanted}")),
        json!(count(deployment, "/status/updatedReplicas").to_string()),
        json!(count(deployment, "/status/availableReplicas").to_string()),
        age(deployment, now),
    ];
    cells.extend(templates(deployment));
    cells
}

fn replica_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![
        json!(name(set)),
        json!(count(set, "/spec/replicas").to_string()),
        json!(count(set, "/status/replicas").to_string()),
        json!(count(set, "/status/readyReplicas").to_string()),
        age(set, now),
    ];
    cells.extend(templates(set));
    cells
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    // Stored, or under the names of events.k8s.io.
    let either = |a: &str, b: &str| match text(event, a) {
        "" => text(event, b).to_owned(),
        found => found.to_owned(),
    };
    let last = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .map(|at| text(event, at))
    .find(|t| !t.is_empty())
    .unwrap_or_default();
    let kind = either("/involvedObject/kind", "/regarding/kind").to_lowercase();
    let about = either("/involvedObject/name", "/regarding/name");
    let times = int(event, "/count")
        .or(int(event, "/deprecatedCount"))
        .unwrap_or(1);
    vec![
        since(last, now),
        json!(text(event, "/type")),
        json!(text(event, "/reason")),
        json!(format!("{kind}/{about}")),
        json!(either("/source/component", "/reportingController")),
        json!(either("/message", "/note")),
        json!(times.to_string()),
        json!(name(event)),
    ]
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now)
}

fn since(text: &str, now: Timestamp) -> Value {
    let Ok(at) = text.parse::<Timestamp>() else {
        return json!("<unknown>");
    };
    json!(duration(now.duration_since(at).as_secs().max(0)))
}

/// As `duration.HumanDuration` shows it.
fn duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_shows_the_reason_that_says_most() {
        let shown = |status: Value| {
            pod_status(
                &json!({"metadata": {}, "spec": {"initContainers": [{}, {}]}, "status": status}),
            )
        };
        assert_eq!(shown(json!({"phase": "Pending"})), "Pending");
        assert_eq!(
            shown(json!({"phase": "Failed", "reason": "OutOfcpu"})),
            "OutOfcpu"
        );
        let waiting = json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        assert_eq!(shown(waiting), "ImagePullBackOff");
        let init = json!({"phase": "Pending", "initContainerStatuses": [
            {"state": {"terminated": {"exitCode": 0}}}, {"state": {"running": {}}}]});
        assert_eq!(shown(init), "Init:1/2");
        let ended = json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]});
        assert_eq!(shown(ended), "ExitCode:3");
    }

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (660, "11m"),
            (11_100, "3h5m"),
            (200_000, "2d"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
