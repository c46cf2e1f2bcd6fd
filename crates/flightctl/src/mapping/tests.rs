//! A pod's units, read back by a reader that knows nothing of the writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use proptest::prelude::*;
use serde_json::{Value, json};
use vk_provider::{BackendError, PodChange, PodKey, PodRequest, Revision};

use super::{app_id, app_name, application, check, warnings};

#[path = "../../tests/corpus/mod.rs"]
mod corpus;
use corpus::systemd;

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
    }
}

const UID: &str = "0f6c0d9e-5a1b-4a43-9f0e-1d2c3b4a5968";

pub(crate) fn application_of(pod: &PodRequest) -> Value {
    application(pod, "cluster-uid").unwrap()
}

/// Files of an application by path.
fn files(spec: Value) -> BTreeMap<String, String> {
    application_of(&pod(spec))["inline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["path"].as_str().unwrap().to_owned(), f["content"].as_str().unwrap().to_owned()))
        .collect()
}

fn one(container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("app");
    container["image"] = json!("nginx");
    json!({"containers": [container]})
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
    assert_eq!(files.keys().collect::<Vec<_>>(), ["app.container", "virtual-kubelet.json"]);
    assert_eq!(
        files["app.container"],
        "[Unit]\nStartLimitIntervalSec=0\n\
         [Container]\nImage=docker.io/library/nginx:latest\nContainerName=app\nHostName=web\nStopTimeout=30\n\
         [Service]\nRestart=always\nRestartSec=5\nTimeoutStopSec=40\n\
         [Install]\nWantedBy=default.target\n"
    );
}

#[test]
fn only_the_injected_volume_is_left_out() {
    for (pointer, value, path) in [
        ("/volumes/0/projected/sources/0", json!({"secret": {"name": "s"}}), "spec.volumes[0].projected"),
        ("/volumes/0/projected/sources/1/configMap/name", json!("mine"), "spec.volumes[0].projected"),
        ("/volumes/0/projected/sources/0/serviceAccountToken/audience", json!("vault"), "spec.volumes[0].projected"),
        ("/containers/0/volumeMounts/0/mountPath", json!("/elsewhere"), "spec.containers[0].volumeMounts[0].mountPath"),
    ] {
        let mut spec = defaulted();
        match spec.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] = value,
        }
        assert_eq!(refused(spec), path, "{pointer}");
    }
    let mut renamed = defaulted();
    renamed["volumes"][0]["name"] = json!("mine");
    renamed["containers"][0]["volumeMounts"][0]["name"] = json!("mine");
    assert_eq!(refused(renamed), "spec.volumes[0].projected");
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
             [Service]\nExecStartPre=-/bin/chmod 0777 %E/containers/systemd/{name}/e/data\nRestart=always\nRestartSec=5\nTimeoutStopSec=13\n\
             [Install]\nWantedBy=default.target\n"
        )
    );
    assert_eq!(files["e/data/.keep"], ".");
}

#[test]
fn names_are_the_agents() {
    let uid = vk_provider::Uid::new(UID);
    assert_eq!(app_name(&uid), format!("vk-{UID}"));
    // CRC-32 of "123456789" is 0xcbf43926 = 3421780262; of "" it is 0.
    assert_eq!(app_id("123456789"), "123456789-342178");
    assert_eq!(app_id(""), "-000000");
    for odd in ["", "UPPER", "a.b", "-a", "a-", &"x".repeat(300), "a\nb", "é"] {
        let name = app_name(&vk_provider::Uid::new(odd));
        assert!(name.len() <= 63 && crate::quadlet::is_name(&name), "{odd:?} {name}");
    }
}

fn line<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('=')).collect()
}

const APP: &str = "vk-0f6c0d9e-5a1b-4a43-9f0e-1d2c3b4a5968";

#[test]
fn never_runs_once() {
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("Never");
    let text = &files(spec)["app.container"];
    let mark = format!("%E/containers/systemd/{APP}/.app.ran");
    assert_eq!(line(text, "ConditionPathExists"), [format!("!{mark}")]);
    assert_eq!(line(text, "ExecStartPre"), [format!("/usr/bin/touch {mark}")]);
    assert_eq!(line(text, "Restart"), ["no"]);
    assert!(!text.contains("StartLimit"));
}

#[test]
fn on_failure_is_done_when_it_succeeded() {
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("OnFailure");
    let text = &files(spec)["app.container"];
    let mark = format!("%E/containers/systemd/{APP}/.app.done");
    assert_eq!(line(text, "ConditionPathExists"), [format!("!{mark}")]);
    assert_eq!(
        line(text, "ExecStopPost"),
        [format!(r#"/bin/sh -c 'if [ "$$SERVICE_RESULT" = success ] && [ "$$EXIT_STATUS" = 0 ]; then : > {mark}; fi'"#)]
    );
    assert_eq!((line(text, "Restart"), line(text, "StartLimitIntervalSec")), (vec!["on-failure"], vec!["0"]));
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
    assert!(!always["a.container"].contains("PublishPort") && !always["a.container"].contains("HostName"));

    let never = files(two("Never"));
    assert_eq!(line(&never["p.pod"], "PodmanArgs"), ["--hostname=web"]);
    assert_eq!(line(&never["p.pod"], "ExecStartPre"), [format!("/usr/bin/touch %E/containers/systemd/{APP}/.pod-ran")]);

    let failure = files(two("OnFailure"));
    assert_eq!(line(&failure["p.pod"], "ConditionPathExists"), [format!("!%E/containers/systemd/{APP}/.all-done")]);
    let end = line(&failure["b.container"], "ExecStopPost")[0];
    assert!(end.ends_with(&format!("systemctl stop --no-block {}-p-pod.service; fi; fi'", app_id(APP))), "{end}");
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
    spec["initContainers"] = json!([{"name": "i1", "image": "a.b/c:1"}, {"name": "i2", "image": "a.b/c:1"}]);
    let files_ = files(spec.clone());
    let mark = |n: u8| format!("%t/{}.{}.i{n}.done", app_id(APP), pod(spec.clone()).spec_revision);
    assert_eq!(line(&files_["i1.container"], "ConditionPathExists"), [format!("!{}", mark(1))]);
    assert_eq!(line(&files_["i1.container"], "OnSuccess"), ["i2.service"]);
    assert_eq!(line(&files_["i2.container"], "ConditionPathExists"), [mark(1), format!("!{}", mark(2))]);
    assert_eq!(line(&files_["i2.container"], "OnSuccess"), ["app.service"]);
    assert_eq!(line(&files_["app.container"], "ConditionPathExists"), [mark(2)]);
    assert_eq!(line(&files_["app.container"], "After"), ["i2.service"]);
    assert!(files_.values().all(|text| !text.contains("oneshot")));

    spec["restartPolicy"] = json!("Never");
    let never = files(spec);
    let folder = format!("%E/containers/systemd/{APP}");
    assert_eq!(line(&never["i1.container"], "Restart"), ["no"]);
    assert_eq!(
        line(&never["i2.container"], "ConditionPathExists"),
        [format!("{folder}/.i1.done"), format!("!{folder}/.i2.ran")]
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
        assert_eq!(line(&files["i.container"], "OnSuccess"), ["a.service", "b.service"]);
    }
}

#[test]
fn a_sidecar_runs_beside_the_containers_behind_it() {
    let mut spec = one(json!({}));
    spec["initContainers"] = json!([
        {"name": "i1", "image": "a.b/c:1"}, {"name": "sc", "image": "a.b/c:1", "restartPolicy": "Always"}, {"name": "i2", "image": "a.b/c:1"}]);
    let files = files(spec.clone());
    assert!(files.contains_key("p.pod"));
    assert_eq!(line(&files["i1.container"], "OnSuccess"), ["sc.service", "i2.service"]);
    assert_eq!(line(&files["sc.container"], "Restart"), ["always"]);
    assert_eq!(line(&files["i2.container"], "Wants"), ["sc.service"]);
    assert_eq!(line(&files["app.container"], "After"), ["i2.service", "sc.service"]);
    spec["restartPolicy"] = json!("Never");
    assert_eq!(refused(spec), "spec.initContainers[1].restartPolicy");
}

#[test]
fn the_agent_takes_no_value_for_a_reference_that_is_none() {
    // It rewrites every value of [Unit] that ends like a quadlet file.
    for name in ["container", "pod", "volume", "image", "network", "kube", "service"] {
        let mut spec = one(json!({}));
        spec["initContainers"] = json!([{"name": name, "image": "a.b/c:1"}]);
        for (path, text) in files(spec).iter().filter(|(p, _)| p.ends_with(".container")) {
            for value in line(text, "ConditionPathExists") {
                assert!(value.ends_with(".done"), "{path} {value}");
            }
        }
    }
}

#[test]
fn every_field_that_is_not_honoured_is_refused_by_its_path() {
    let pod_fields = [
        ("dnsConfig", json!({"nameservers": ["1.1.1.1"]})), ("dnsPolicy", json!("None")),
        ("hostAliases", json!([{"ip": "1.2.3.4"}])), ("hostIPC", json!(true)), ("hostPID", json!(true)),
        ("hostUsers", json!(false)), ("hostnameOverride", json!("x")), ("imagePullSecrets", json!([{"name": "s"}])),
        ("overhead", json!({"cpu": "1"})), ("resourceClaims", json!([{"name": "x"}])),
        ("resources", json!({"limits": {"cpu": "1"}})), ("runtimeClassName", json!("kata")),
        ("setHostnameAsFQDN", json!(true)), ("shareProcessNamespace", json!(true)), ("terminationGracePeriodSeconds", json!(100_000)),
    ];
    for (field, value) in pod_fields {
        let mut spec = one(json!({}));
        spec[field] = value;
        assert_eq!(refused(spec), format!("spec.{field}"));
    }
    for (field, value) in [
        ("envFrom", json!([{"configMapRef": {"name": "c"}}])), ("lifecycle", json!({"preStop": {"sleep": {"seconds": 1}}})),
        ("livenessProbe", json!({"exec": {"command": ["x"]}})), ("readinessProbe", json!({"tcpSocket": {"port": 1}})),
        ("startupProbe", json!({"httpGet": {"port": 1}})), ("restartPolicy", json!("Never")),
        ("restartPolicyRules", json!([{"action": "Restart"}])), ("stdin", json!(true)), ("tty", json!(true)),
        ("terminationMessagePath", json!("/x")), ("terminationMessagePolicy", json!("FallbackToLogsOnError")),
        ("volumeDevices", json!([{"name": "x", "devicePath": "/dev/x"}])), ("workingDir", json!("relative")),
    ] {
        assert_eq!(refused(one(json!({field: value}))), format!("spec.containers[0].{field}"));
    }
    for (container, path) in [
        (json!({"securityContext": {"privileged": true}}), "securityContext.privileged"),
        (json!({"securityContext": {"runAsUser": 1000}}), "securityContext.runAsUser"),
        (json!({"securityContext": {"capabilities": {"drop": ["ALL"]}}}), "securityContext.capabilities"),
        (json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}), "env[0].valueFrom"),
        (json!({"env": [{"name": "A"}, {"name": "B C"}]}), "env[1].name"),
        (json!({"env": [{"name": "A", "value": "a\r\nb"}]}), "env[0].value"),
        (json!({"env": [{"name": "A", "value": "x".repeat(2100)}]}), "env[0].value"),
        (json!({"env": [{"name": "A", "value": "a\0b"}]}), "env[0].value"),
        (json!({"args": ["a", ""]}), "args[1]"),
        (json!({"args": ["a", ";", "/bin/id"]}), "args[1]"),
        (json!({"command": ["sh", "x".repeat(2005), ";"]}), "command[2]"),
        (json!({"args": ["\u{ffff}"]}), "args[0]"),
        (json!({"args": ["a", "$(E)"], "env": [{"name": "E"}]}), "args[1]"),
        (json!({"command": ["sh", "a\0"]}), "command[1]"),
        (json!({"command": [""]}), "command[0]"),
        (json!({"command": ["sh"], "args": ["x".repeat(2100)]}), "args[0]"),
        (json!({"ports": [{"containerPort": 0, "hostPort": 80}]}), "ports[0].containerPort"),
        (json!({"ports": [{"containerPort": 80, "hostPort": 80, "protocol": "SCTP"}]}), "ports[0].protocol"),
        (json!({"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "x\ny"}]}), "ports[0].hostIP"),
        (json!({"resources": {"limits": {"nvidia.com/gpu": "1"}}}), "resources.limits.nvidia.com/gpu"),
    ] {
        assert_eq!(refused(one(container)), format!("spec.containers[0].{path}"));
    }
    let mut windows = one(json!({}));
    windows["os"] = json!({"name": "windows"});
    assert_eq!(refused(windows), "spec.os.name");
    let mut groups = one(json!({}));
    groups["securityContext"] = json!({"fsGroup": 1});
    assert_eq!(refused(groups), "spec.securityContext.fsGroup");
    for (volume, path) in [
        (json!({"configMap": {"name": "c"}}), "configMap"), (json!({"hostPath": {"path": "/"}}), "hostPath"),
        (json!({"persistentVolumeClaim": {"claimName": "c"}}), "persistentVolumeClaim"),
        (json!({"emptyDir": {"medium": "Memory"}}), "emptyDir.medium"), (json!({"emptyDir": {"sizeLimit": "1Gi"}}), "emptyDir.sizeLimit"),
    ] {
        let mut spec = one(json!({}));
        spec["volumes"] = json!([volume]);
        spec["volumes"][0]["name"] = json!("v");
        assert_eq!(refused(spec), format!("spec.volumes[0].{path}"));
    }
    for (mount, path) in [
        (json!({"mountPath": "/a:b"}), "mountPath"), (json!({"mountPath": "/a b"}), "mountPath"), (json!({"mountPath": "a"}), "mountPath"),
        (json!({"mountPath": "/a\n[Service]"}), "mountPath"), (json!({"mountPath": "/a", "subPath": "x"}), "subPath"),
        (json!({"mountPath": "/a", "mountPropagation": "Bidirectional"}), "mountPropagation"),
    ] {
        let mut spec = one(json!({"volumeMounts": [mount]}));
        spec["containers"][0]["volumeMounts"][0]["name"] = json!("v");
        spec["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        assert_eq!(refused(spec), format!("spec.containers[0].volumeMounts[0].{path}"));
    }
}

#[test]
fn a_refusal_names_all_fields_at_once() {
    let mut spec = one(json!({"tty": true}));
    spec["hostPID"] = json!(true);
    let Err(BackendError::Unsupported { field, message }) = check(&pod(spec)) else {
        panic!("accepted")
    };
    assert_eq!(field, "spec.hostPID");
    assert!(message.ends_with("also not supported: spec.containers[0].tty"), "{message}");
}

#[test]
fn an_image_that_is_none_waits_as_with_the_kubelet() {
    for image in ["Nginx", "a b", "x\nExec=evil", "a%n", "$A"] {
        let mut spec = one(json!({}));
        spec["containers"][0]["image"] = json!(image);
        let Err(BackendError::Waiting { reason, .. }) = check(&pod(spec)) else {
            panic!("{image}")
        };
        assert_eq!(reason, "InvalidImageName");
    }
}

#[test]
fn probes_pass_only_when_they_are_ignored_on_purpose() {
    let mut request = pod(one(json!({"readinessProbe": {"httpGet": {"port": 80}}})));
    assert!(check(&request).is_err());
    Arc::make_mut(&mut request.pod).metadata.annotations = Some([("flightctl.io/probes".into(), "ignore".into())].into());
    assert_eq!(check(&request), Ok(()));
    assert_eq!(warnings(&request)[0].0, "ProbesIgnored");
}

#[test]
fn what_is_meant_otherwise_is_warned_of_and_a_debug_container_does_not_end_the_pod() {
    let mut spec = defaulted();
    spec["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    let request = pod(spec);
    assert_eq!(check(&request), Ok(()));
    let reasons: Vec<_> = warnings(&request).into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["ImagePullPolicyIgnored", "EphemeralContainersUnsupported"]);
}

#[test]
fn long_commands_go_on_in_more_lines() {
    let files = files(one(json!({"command": ["sh", "-c", "x".repeat(1000), "y".repeat(1500), "#z"]})));
    let text = &files["app.container"];
    let unit = systemd::unit(text);
    assert_eq!(systemd::value(&unit, "Container", "Entrypoint"), Some("[\"sh\"]"));
    let words = systemd::words(systemd::value(&unit, "Container", "Exec").unwrap());
    assert_eq!(words, ["-c".to_owned(), "x".repeat(1000), "y".repeat(1500), "#z".to_owned()]);
    assert!(text.lines().all(|l| l.len() < 2048));
}

/// A pod with one text in all fields that take any text.
fn everywhere(text: &str) -> Value {
    json!({"containers": [
        {"name": "a", "image": "nginx", "command": ["sh", "-c", text], "args": [text, "last"], "env": [{"name": "V", "value": text}, {"name": "LAST", "value": "last"}]},
        {"name": "b", "image": "nginx", "args": [text, "last"]},
    ]})
}

/// Checks that a text stands where it belongs and changed nothing else.
fn stays_in_its_field(text: &str) {
    let request = pod(everywhere(text));
    let plain = files(everywhere("plain"));
    let Ok(app) = application(&request, "cluster-uid") else {
        // Refused by path: nothing is written at all.
        let field = refused(everywhere(text));
        assert!(field.contains(".args[") || field.contains(".command[") || field.contains(".env["), "{field}");
        assert!(corpus::refusable(text), "{text:?} was refused at {field}");
        return;
    };
    // What the kubelet makes of it; nothing named here is a variable but V itself.
    let value = corpus::expanded(text, &[]);
    let word = corpus::expanded(text, &[("V", &value)]);
    let bare = corpus::expanded(text, &[]);
    for file in app["inline"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let content = file["content"].as_str().unwrap();
        if path == crate::marker::MARKER_FILE {
            continue;
        }
        let unit = systemd::unit(content);
        let expected = systemd::unit(&plain[path]);
        let keys = |unit: &systemd::Unit| unit.iter().map(|(s, k, _)| (s.clone(), k.clone())).collect::<Vec<_>>();
        assert_eq!(keys(&unit), keys(&expected), "{text:?}");
        for ((_, key, got), (_, _, want)) in unit.iter().zip(&expected) {
            match (path, key.as_str()) {
                ("a.container", "Entrypoint") => {
                    let words: Vec<String> = serde_json::from_str(&systemd::undoubled(got)).unwrap();
                    assert_eq!(words, ["sh", "-c", &word, &word, "last"]);
                }
                ("b.container", "Exec") => assert_eq!(systemd::words(got), [&bare, "last"]),
                ("a.container", "Environment") if want.contains("V=") => {
                    assert_eq!(systemd::words(got), [format!("V={value}")]);
                }
                _ => assert_eq!(got, want, "{text:?}"),
            }
        }
    }
}

#[test]
fn the_hostile_corpus_stays_in_its_fields() {
    let strings = corpus::strings();
    assert!(strings.len() > 100);
    for text in &strings {
        stays_in_its_field(text);
    }
}

proptest! {
    #[test]
    fn no_text_leaves_its_field(text in prop_oneof![
        ".{0,60}", "(?s).{1,60}",
        r#"[\\"'%$\n\r\t #;\[\]=(){}nxu0a-]{1,40}"#,
        prop::collection::vec(prop::sample::select(corpus::strings()), 1..4).prop_map(|parts| parts.concat()),
    ]) {
        prop_assume!(text.len() < 400);
        stays_in_its_field(&text);
    }

    #[test]
    fn no_text_makes_the_reading_of_a_pod_fail(text in "(?s).{0,40}", name in "(?s).{0,10}") {
        let mut spec = one(json!({
            "workingDir": text, "imagePullPolicy": text, "env": [{"name": name, "value": text}],
            "ports": [{"containerPort": 1, "hostPort": 2, "hostIP": text, "protocol": name}],
            "volumeMounts": [{"name": name, "mountPath": text}],
            "resources": {"limits": {"cpu": text}},
        }));
        spec["hostname"] = json!(text);
        spec["volumes"] = json!([{"name": name, "emptyDir": {}}]);
        spec["containers"][0]["name"] = json!(name);
        spec["containers"][0]["image"] = json!(text);
        let _ = check(&pod(spec));
    }

    #[test]
    fn a_name_of_an_environment_variable_stays_in_its_field(name in "[!-<>-~]{1,20}") {
        let files = files(one(json!({"env": [{"name": name, "value": "x"}]})));
        let unit = systemd::unit(&files["app.container"]);
        let value = systemd::value(&unit, "Container", "Environment").unwrap();
        prop_assert_eq!(systemd::words(value), [format!("{name}=x")]);
    }

    #[test]
    fn a_working_directory_stays_in_its_field(dir in "/(?s).{0,40}") {
        if let Ok(app) = application(&pod(one(json!({"workingDir": dir}))), "c") {
            let text = app["inline"][1]["content"].as_str().unwrap();
            let unit = systemd::unit(text);
            let value = systemd::value(&unit, "Container", "WorkingDir").unwrap();
            prop_assert_eq!(systemd::undoubled(value), dir);
        }
    }
}
