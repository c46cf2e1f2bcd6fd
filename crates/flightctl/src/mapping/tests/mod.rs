//! What a pod becomes, line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::{Value, json};
use vk_provider::environment::Placement;
use vk_provider::quantity::{Amount, Resources};
use vk_provider::{BackendError, PodChange, PodKey, PodRequest, Revision};

use super::{Workload, app_id, app_name, workload};

mod confined;
mod given;
mod hostile;
mod refused;
mod run;
mod shared;

/// A request for a pod of this spec.
pub(crate) fn pod(spec: Value) -> PodRequest {
    let spec: PodSpec = serde_json::from_value(spec).unwrap();
    let mut pod = Pod {
        spec: Some(spec.clone()),
        ..Pod::default()
    };
    pod.metadata.name = Some("web".into());
    pod.metadata.namespace = Some("shop".into());
    pod.metadata.uid = Some(UID.into());
    PodRequest {
        key: PodKey::new("shop", "web", UID),
        node: "node".into(),
        spec_revision: Revision::of(&spec),
        pod: Arc::new(pod),
        change: PodChange::First,
        journal: None,
        inputs: Default::default(),
    }
}

const UID: &str = "0f6c0d9e-5a1b-4a43-9f0e-1d2c3b4a5968";

/// What a pod becomes on a device with an address.
pub(crate) fn placed(pod: &PodRequest, cluster: &str) -> Result<Workload, BackendError> {
    let address: std::net::IpAddr = [10, 42, 0, 7].into();
    let place = Placement {
        pod_ips: vec![address],
        host_ips: vec![address],
        allocatable: Resources::new().with("cpu", Amount::units(4)),
    };
    workload(pod, &place, cluster)
}

pub(crate) fn application(pod: &PodRequest, cluster: &str) -> Result<Value, BackendError> {
    placed(pod, cluster).map(|workload| workload.app)
}

pub(crate) fn application_of(pod: &PodRequest) -> Value {
    application(pod, "cluster-uid").unwrap()
}

/// Files of an application by path.
fn files(spec: Value) -> BTreeMap<String, String> {
    application_of(&pod(spec))["inline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| {
            (
                f["path"].as_str().unwrap().to_owned(),
                f["content"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

fn one(container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("app");
    container["image"] = json!("nginx");
    json!({"containers": [container]})
}

/// Of a namespace that has no more than others.
fn check(pod: &PodRequest) -> Result<(), BackendError> {
    super::check(pod, &BTreeSet::new())
}

/// The path that a pod is refused for.
fn refused(spec: Value) -> String {
    match check(&pod(spec)) {
        Err(BackendError::Unsupported { field, message }) => {
            assert!(message.len() > 5, "{field}");
            field
        }
        other => panic!("{other:?}"),
    }
}

/// What the API server makes of the smallest pod.
fn defaulted() -> Value {
    json!({
        "containers": [{
            "name": "app", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "volumeMounts": [{
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access-x7k2p", "readOnly": true,
            }],
        }],
        "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "nodeName": "node", "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0, "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
        "serviceAccount": "default", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
        "tolerations": [{"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}],
        "volumes": [{"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
        ]}}],
    })
}

#[test]
fn the_smallest_pod_with_all_defaults_runs_without_the_injected_volume() {
    let files = files(defaulted());
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["app.container", "virtual-kubelet.json"]
    );
    assert_eq!(
        files["app.container"],
        "[Unit]\nStartLimitIntervalSec=0\n\
         [Container]\nImage=docker.io/library/nginx:latest\nContainerName=app\nHostName=web\nStopTimeout=30\n\
         [Service]\nRestart=always\nRestartSec=5\nTimeoutStopSec=40\n\
         [Install]\nWantedBy=default.target\n"
    );
}

#[test]
fn a_container_with_everything_is_written_as_measured() {
    let files = files(json!({
        "restartPolicy": "Always", "hostname": "edge", "terminationGracePeriodSeconds": 3,
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [{
            "name": "app", "image": "127.0.0.1:5000/team/app:1", "command": ["sh", "-c"], "args": ["echo $(K) $HOME 100%", ""],
            "env": [{"name": "K", "value": "a b"}, {"name": "E"}], "workingDir": "/srv", "imagePullPolicy": "Never",
            "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 18081, "protocol": "UDP"},
                      {"containerPort": 80, "hostPort": 18080, "hostIP": "127.0.0.1"}, {"containerPort": 82, "hostPort": 82, "hostIP": "::1"}],
            "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "500m", "memory": "1Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/mnt", "readOnly": true}],
        }],
    }));
    let name = app_name(&pod(json!({"containers": []})).key.uid);
    assert_eq!(
        files["app.container"],
        format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Container]\nImage=127.0.0.1:5000/team/app:1\nContainerName=app\nHostName=edge\n\
             PublishPort=18081:81/udp\nPublishPort=127.0.0.1:18080:80\nPublishPort=[::1]:82:82\n\
             Entrypoint=[\"sh\",\"-c\",\"echo a b $$HOME 100%%\",\"\"]\nEnvironment=\"K=a b\"\nEnvironment=\"E=\"\nWorkingDir=/srv\n\
             Volume=./e/data:/mnt:ro,z\nPodmanArgs=--memory=268435456b --memory-swap=268435456b --cpus=0.5 --cpu-shares=512\n\
             Pull=never\nStopTimeout=3\n\
             [Service]\nExecStartPre=/bin/mkdir -p --mode=0777 %E/containers/systemd/{name}/e/data\nRestart=always\nRestartSec=5\nTimeoutStopSec=13\n\
             [Install]\nWantedBy=default.target\n"
        )
    );
    // Nothing is in an emptyDir at first.
    assert!(files.keys().all(|path| !path.contains('/')), "{files:?}");
}

#[test]
fn names_are_the_agents() {
    let uid = vk_provider::Uid::new(UID);
    assert_eq!(app_name(&uid), format!("vk-{UID}"));
    // CRC-32 of "123456789" is 0xcbf43926 = 3421780262; of "" it is 0.
    assert_eq!(app_id("123456789"), "123456789-342178");
    assert_eq!(app_id(""), "-000000");
    for odd in [
        "",
        "UPPER",
        "a.b",
        "-a",
        "a-",
        &"x".repeat(300),
        "a\nb",
        "é",
    ] {
        let name = app_name(&vk_provider::Uid::new(odd));
        assert!(
            name.len() <= 63 && crate::quadlet::is_name(&name),
            "{odd:?} {name}"
        );
    }
}

fn line<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|l| l.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

const APP: &str = "vk-0f6c0d9e-5a1b-4a43-9f0e-1d2c3b4a5968";

/// A mark in the application's folder: of the revision, as the agent ends the old
/// containers of an update when that folder is the new one's already.
fn mark(spec: &Value, name: &str, what: &str) -> String {
    let revision = pod(spec.clone()).spec_revision;
    format!("%E/containers/systemd/{APP}/.{name}.{revision}.{what}")
}

#[test]
fn never_runs_once() {
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("Never");
    let text = &files(spec.clone())["app.container"];
    let mark = mark(&spec, "app", "ran");
    assert_eq!(line(text, "ConditionPathExists"), [format!("!{mark}")]);
    assert_eq!(
        line(text, "ExecStartPre"),
        [format!("/usr/bin/touch {mark}")]
    );
    assert_eq!(line(text, "Restart"), ["no"]);
    assert!(!text.contains("StartLimit"));
}

#[test]
fn on_failure_is_done_when_it_succeeded() {
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("OnFailure");
    let text = &files(spec.clone())["app.container"];
    let mark = mark(&spec, "app", "done");
    assert_eq!(line(text, "ConditionPathExists"), [format!("!{mark}")]);
    assert_eq!(
        line(text, "ExecStopPost"),
        [format!(
            r#"/bin/sh -c 'if [ "$$SERVICE_RESULT" = success ] && [ "$$EXIT_STATUS" = 0 ]; then : > {mark}; fi'"#
        )]
    );
    assert_eq!(
        (line(text, "Restart"), line(text, "StartLimitIntervalSec")),
        (vec!["on-failure"], vec!["0"])
    );
}

fn two(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [
        {"name": "a", "image": "a.b/c:1", "ports": [{"containerPort": 80, "hostPort": 80}]}, {"name": "b", "image": "a.b/c:1"}]})
}

#[test]
fn several_containers_share_a_podman_pod_that_ends_as_their_policy_wants() {
    let always = files(two("Always"));
    assert_eq!(
        always["p.pod"],
        "[Pod]\nPodName=p\nPodmanArgs=--exit-policy=continue --hostname=web\nPublishPort=80:80\n[Install]\nWantedBy=default.target\n"
    );
    assert_eq!(line(&always["a.container"], "Pod"), ["p.pod"]);
    // These keys on a container of a Podman pod keep it from being created.
    assert!(
        !always["a.container"].contains("PublishPort")
            && !always["a.container"].contains("HostName")
    );

    let never = files(two("Never"));
    assert_eq!(line(&never["p.pod"], "PodmanArgs"), ["--hostname=web"]);
    assert_eq!(
        line(&never["p.pod"], "ExecStartPre"),
        [format!(
            "/usr/bin/touch {}",
            mark(&two("Never"), "pod", "pod-ran")
        )]
    );

    let failure = files(two("OnFailure"));
    assert_eq!(
        line(&failure["p.pod"], "ConditionPathExists"),
        [format!("!{}", mark(&two("OnFailure"), "all", "all-done"))]
    );
    let end = line(&failure["b.container"], "ExecStopPost")[0];
    assert!(
        end.ends_with(&format!(
            "systemctl stop --no-block {}-p-pod.service; fi; fi'",
            app_id(APP)
        )),
        "{end}"
    );
}

#[test]
fn host_network_needs_no_podman_pod_and_publishes_nothing() {
    let mut spec = two("Always");
    spec["hostNetwork"] = json!(true);
    let files = files(spec);
    assert!(!files.keys().any(|f| f.ends_with(".pod")));
    let text = &files["a.container"];
    assert_eq!(line(text, "Network"), ["host"]);
    assert!(!text.contains("PublishPort") && !text.contains("HostName"));
}

#[test]
fn names_of_containers_never_meet_those_of_the_podman_pod() {
    let files = files(json!({"containers": [
        {"name": "p", "image": "a.b/c:1"}, {"name": "p1-pod", "image": "a.b/c:1"}, {"name": "p2-infra", "image": "a.b/c:1"}]}));
    assert!(files.contains_key("p3.pod"));
}

#[test]
fn init_containers_are_a_chain_that_holds_nobody() {
    let mut spec = one(json!({}));
    spec["initContainers"] =
        json!([{"name": "i1", "image": "a.b/c:1"}, {"name": "i2", "image": "a.b/c:1"}]);
    let files_ = files(spec.clone());
    let succeeded = |n: u8| {
        format!(
            "%t/{}.{}.i{n}.done",
            app_id(APP),
            pod(spec.clone()).spec_revision
        )
    };
    assert_eq!(
        line(&files_["i1.container"], "ConditionPathExists"),
        [format!("!{}", succeeded(1))]
    );
    assert_eq!(line(&files_["i1.container"], "OnSuccess"), ["i2.service"]);
    assert_eq!(
        line(&files_["i2.container"], "ConditionPathExists"),
        [succeeded(1), format!("!{}", succeeded(2))]
    );
    assert_eq!(line(&files_["i2.container"], "OnSuccess"), ["app.service"]);
    assert_eq!(
        line(&files_["app.container"], "ConditionPathExists"),
        [succeeded(2)]
    );
    assert_eq!(line(&files_["app.container"], "After"), ["i2.service"]);
    assert!(files_.values().all(|text| !text.contains("oneshot")));

    spec["restartPolicy"] = json!("Never");
    let never = files(spec.clone());
    assert_eq!(line(&never["i1.container"], "Restart"), ["no"]);
    assert_eq!(
        line(&never["i2.container"], "ConditionPathExists"),
        [
            mark(&spec, "i1", "done"),
            format!("!{}", mark(&spec, "i2", "ran"))
        ]
    );
}

#[test]
fn init_containers_of_a_pod_that_ends_stay_outside_and_hold_the_podman_pod_back() {
    for policy in ["Never", "OnFailure"] {
        let mut spec = two(policy);
        spec["initContainers"] = json!([{"name": "i", "image": "a.b/c:1"}]);
        let files = files(spec);
        assert!(line(&files["i.container"], "Pod").is_empty());
        let gate = line(&files["a.container"], "ConditionPathExists")[0];
        assert!(line(&files["p.pod"], "ConditionPathExists").contains(&gate));
        assert_eq!(
            line(&files["i.container"], "OnSuccess"),
            ["a.service", "b.service"]
        );
    }
}

#[test]
fn a_sidecar_runs_beside_the_containers_behind_it() {
    let mut spec = one(json!({}));
    spec["initContainers"] = json!([
        {"name": "i1", "image": "a.b/c:1"}, {"name": "sc", "image": "a.b/c:1", "restartPolicy": "Always"}, {"name": "i2", "image": "a.b/c:1"}]);
    let files = files(spec.clone());
    assert!(files.contains_key("p.pod"));
    assert_eq!(
        line(&files["i1.container"], "OnSuccess"),
        ["sc.service", "i2.service"]
    );
    assert_eq!(line(&files["sc.container"], "Restart"), ["always"]);
    assert_eq!(line(&files["i2.container"], "Wants"), ["sc.service"]);
    assert_eq!(
        line(&files["app.container"], "After"),
        ["i2.service", "sc.service"]
    );
    spec["restartPolicy"] = json!("Never");
    assert_eq!(refused(spec), "spec.initContainers[1].restartPolicy");
}

#[test]
fn the_agent_takes_no_value_for_a_reference_that_is_none() {
    // It rewrites every value of [Unit] that ends like a quadlet file.
    for name in [
        "container",
        "pod",
        "volume",
        "image",
        "network",
        "kube",
        "service",
    ] {
        let mut spec = one(json!({}));
        spec["initContainers"] = json!([{"name": name, "image": "a.b/c:1"}]);
        for (path, text) in files(spec)
            .iter()
            .filter(|(p, _)| p.ends_with(".container"))
        {
            for value in line(text, "ConditionPathExists") {
                assert!(value.ends_with(".done"), "{path} {value}");
            }
        }
    }
}
