//! What the real server fills in, as far as clients of this one depend on it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::resource::Resource;

/// Seconds a pod stays on a node that is gone, from the `DefaultTolerationSeconds` plugin.
const NODE_GONE_SECONDS: u32 = 300;
/// Where a container leaves its last words.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// The file mode of projected files (0644).
const FILE_MODE: u32 = 0o644;
/// Where the service account's token is mounted.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Lifetime of that token: an hour and what the API server's cache may delay.
const TOKEN_SECONDS: u32 = 3607;

/// Fills in an object on create and on update.
pub(crate) fn fill(resource: &Resource, object: &mut Value) {
    match resource.plural {
        "pods" => {
            pod_spec(&mut object["spec"]);
            let spec = &mut object["spec"];
            put(spec, "enableServiceLinks", json!(true));
            put(spec, "priority", json!(0));
            put(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
        }
        "nodes" => {
            put(object, "spec", json!({}));
            put(object, "status", json!({}));
            if let Some(capacity) = object["status"].get("capacity").cloned() {
                put(&mut object["status"], "allocatable", capacity);
            }
        }
        "namespaces" => {
            put(object, "spec", json!({"finalizers": ["kubernetes"]}));
            let name = object["metadata"]["name"].clone();
            put(&mut object["metadata"], "labels", json!({}));
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        "services" => super::services::fill(object),
        "secrets" => {
            put(object, "type", json!("Opaque"));
            encode_secret(object);
        }
        "deployments" => {
            workload(object);
            let spec = &mut object["spec"];
            put(spec, "revisionHistoryLimit", json!(10));
            put(spec, "progressDeadlineSeconds", json!(600));
            put(spec, "strategy", json!({}));
            put(&mut spec["strategy"], "type", json!("RollingUpdate"));
            if spec["strategy"]["type"] == "RollingUpdate" {
                put(&mut spec["strategy"], "rollingUpdate", json!({}));
                let rolling = &mut spec["strategy"]["rollingUpdate"];
                put(rolling, "maxUnavailable", json!("25%"));
                put(rolling, "maxSurge", json!("25%"));
            }
        }
        "replicasets" => workload(object),
        "statefulsets" => {
            workload(object);
            let spec = &mut object["spec"];
            put(spec, "podManagementPolicy", json!("OrderedReady"));
            put(spec, "revisionHistoryLimit", json!(10));
            put(spec, "updateStrategy", json!({"type": "RollingUpdate"}));
        }
        "daemonsets" => {
            template(object);
            let spec = &mut object["spec"];
            put(spec, "revisionHistoryLimit", json!(10));
            let rolling = json!({"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
            put(spec, "updateStrategy", rolling);
        }
        "jobs" => {
            template(object);
            let spec = &mut object["spec"];
            if spec["completions"].is_null() && spec["parallelism"].is_null() {
                put(spec, "completions", json!(1));
            }
            put(spec, "parallelism", json!(1));
            put(spec, "backoffLimit", json!(6));
            put(spec, "completionMode", json!("NonIndexed"));
            put(spec, "suspend", json!(false));
            let policy = spec.get("podFailurePolicy").is_some_and(Value::is_object);
            let replace = if policy {
                "Failed"
            } else {
                "TerminatingOrFailed"
            };
            put(spec, "podReplacementPolicy", json!(replace));
        }
        _ => {}
    }
}

/// `stringData` is for writing only: it becomes `data`.
fn encode_secret(secret: &mut Value) {
    let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|s| s.remove("stringData"))
    else {
        return;
    };
    put(secret, "data", json!({}));
    for (key, text) in texts {
        secret["data"][key] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
}

fn workload(object: &mut Value) {
    template(object);
    put(&mut object["spec"], "replicas", json!(1));
}

fn template(object: &mut Value) {
    put(object, "spec", json!({}));
    put(object, "status", json!({}));
    put(&mut object["spec"], "template", json!({}));
    pod_spec(&mut object["spec"]["template"]["spec"]);
}

pub(crate) fn put(parent: &mut Value, field: &str, default: Value) {
    if parent.is_null() {
        *parent = Value::Object(Map::new());
    }
    if let Some(map) = parent.as_object_mut() {
        let slot = map.entry(field).or_insert(Value::Null);
        if slot.is_null() {
            *slot = default;
        }
    }
}

fn pod_spec(spec: &mut Value) {
    put(spec, "restartPolicy", json!("Always"));
    put(spec, "terminationGracePeriodSeconds", json!(30));
    put(spec, "dnsPolicy", json!("ClusterFirst"));
    put(spec, "schedulerName", json!("default-scheduler"));
    put(spec, "securityContext", json!({}));
    if let Some(account) = spec
        .get("serviceAccountName")
        .filter(|v| v.is_string())
        .cloned()
    {
        spec["serviceAccount"] = account;
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in each(spec, list) {
            self::container(container);
        }
    }
    for volume in each(spec, "volumes") {
        for kind in ["configMap", "secret", "projected", "downwardAPI"] {
            if volume.get(kind).is_some_and(Value::is_object) {
                put(&mut volume[kind], "defaultMode", json!(FILE_MODE));
            }
        }
    }
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    let policy = if latest { "Always" } else { "IfNotPresent" };
    put(container, "imagePullPolicy", json!(policy));
    put(container, "terminationMessagePath", json!(TERMINATION_LOG));
    put(container, "terminationMessagePolicy", json!("File"));
    put(container, "resources", json!({}));
    let resources = &mut container["resources"];
    if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() {
        put(resources, "requests", json!({}));
        for (name, amount) in limits {
            put(&mut resources["requests"], &name, amount);
        }
    }
    for port in each(container, "ports") {
        put(port, "protocol", json!("TCP"));
    }
    for variable in each(container, "env") {
        if variable.pointer("/valueFrom/fieldRef").is_some() {
            put(
                &mut variable["valueFrom"]["fieldRef"],
                "apiVersion",
                json!("v1"),
            );
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(probe).is_some_and(Value::is_object) {
            let probe = &mut container[probe];
            put(probe, "timeoutSeconds", json!(1));
            put(probe, "periodSeconds", json!(10));
            put(probe, "successThreshold", json!(1));
            put(probe, "failureThreshold", json!(3));
            if probe.get("httpGet").is_some_and(Value::is_object) {
                put(&mut probe["httpGet"], "path", json!("/"));
                put(&mut probe["httpGet"], "scheme", json!("HTTP"));
            }
        }
    }
}

pub(crate) fn each<'a>(parent: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    parent
        .get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// What the admission plugins add to a new pod: tolerations, the service
/// account and its token volume under this name.
pub(crate) fn admit_pod(pod: &mut Value, token_volume: &str, automount: bool) {
    let spec = &mut pod["spec"];
    put(spec, "tolerations", json!([]));
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerates = |t: &Value| {
            t["operator"] == "Exists" && t["key"].is_null()
                || t["key"] == key && (t["effect"].is_null() || t["effect"] == "NoExecute")
        };
        if let Some(list) = spec["tolerations"].as_array_mut()
            && !list.iter().any(tolerates)
        {
            list.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": NODE_GONE_SECONDS}),
            );
        }
    }
    put(spec, "serviceAccountName", json!("default"));
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    if !automount {
        return;
    }
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in each(spec, list) {
            put(container, "volumeMounts", json!([]));
            if let Some(mounts) = container["volumeMounts"].as_array_mut()
                && !mounts.iter().any(|m| m["mountPath"] == TOKEN_PATH)
            {
                mounts
                    .push(json!({"name": token_volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                used = true;
            }
        }
    }
    if used {
        put(spec, "volumes", json!([]));
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.push(token_projection(token_volume));
        }
    }
}

fn token_projection(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": FILE_MODE, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

/// The quality of service class, from requests and limits.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    const COMPUTE: [&str; 2] = ["cpu", "memory"];
    let mut containers = ["initContainers", "containers"]
        .iter()
        .filter_map(|list| spec[*list].as_array())
        .flatten()
        .peekable();
    let amount = |container: &Value, side: &str, name: &str| {
        container["resources"][side][name]
            .as_str()
            .filter(|text| *text != "0")
            .map(str::to_owned)
    };
    let (mut any, mut all) = (false, containers.peek().is_some());
    for container in containers {
        for name in COMPUTE {
            let (request, limit) = (
                amount(container, "requests", name),
                amount(container, "limits", name),
            );
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
