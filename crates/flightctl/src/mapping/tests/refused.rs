//! What is refused, and by which path.

use std::sync::Arc;

use serde_json::json;
use vk_provider::BackendError;

use super::super::warnings;
use super::{check, defaulted, one, pod, refused};

#[test]
fn a_token_that_is_withheld_is_left_out_where_the_api_server_put_it_and_refused_elsewhere() {
    assert_eq!(check(&pod(defaulted())), Ok(()));
    let path = "spec.volumes[0].projected.sources[0].serviceAccountToken";
    let mut other = defaulted();
    other["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] =
        json!("vault");
    assert_eq!(refused(other), path);
    let mut renamed = defaulted();
    renamed["volumes"][0]["name"] = json!("mine");
    renamed["containers"][0]["volumeMounts"][0]["name"] = json!("mine");
    assert_eq!(refused(renamed), path);
}

#[test]
fn every_field_that_is_not_honoured_is_refused_by_its_path() {
    let pod_fields = [
        ("dnsPolicy", json!("Other")),
        ("hostUsers", json!(false)),
        ("hostnameOverride", json!("x")),
        ("imagePullSecrets", json!([{"name": "s"}])),
        ("overhead", json!({"cpu": "1"})),
        ("resourceClaims", json!([{"name": "x"}])),
        ("resources", json!({"limits": {"cpu": "1"}})),
        ("runtimeClassName", json!("kata")),
        ("setHostnameAsFQDN", json!(true)),
        ("terminationGracePeriodSeconds", json!(100_000)),
    ];
    for (field, value) in pod_fields {
        let mut spec = one(json!({}));
        spec[field] = value;
        assert_eq!(refused(spec), format!("spec.{field}"));
    }
    for (field, value) in [
        ("readinessProbe", json!({"tcpSocket": {"port": 1}})),
        ("startupProbe", json!({"httpGet": {"port": 1}})),
        ("restartPolicy", json!("Never")),
        ("restartPolicyRules", json!([{"action": "Restart"}])),
        ("stdin", json!(true)),
        ("tty", json!(true)),
        ("terminationMessagePath", json!("/x")),
        ("terminationMessagePolicy", json!("FallbackToLogsOnError")),
        (
            "volumeDevices",
            json!([{"name": "x", "devicePath": "/dev/x"}]),
        ),
        ("workingDir", json!("relative")),
    ] {
        assert_eq!(
            refused(one(json!({field: value}))),
            format!("spec.containers[0].{field}")
        );
    }
    for (container, path) in [
        (
            json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "A", "path": "f", "volumeName": "v"}}}]}),
            "env[0].valueFrom.fileKeyRef",
        ),
        (
            json!({"env": [{"name": "A"}, {"name": "B C"}]}),
            "env[1].name",
        ),
        (
            json!({"env": [{"name": "A", "value": "a\r\nb"}]}),
            "env[0].value",
        ),
        (
            json!({"env": [{"name": "A", "value": format!("{}\n", "x".repeat(2100))}]}),
            "env[0].value",
        ),
        (
            json!({"env": [{"name": "A", "value": "a\0b"}]}),
            "env[0].value",
        ),
        (json!({"args": ["a", ""]}), "args[1]"),
        (json!({"args": ["a", ";", "/bin/id"]}), "args[1]"),
        (
            json!({"command": ["sh", "x".repeat(2005), ";"]}),
            "command[2]",
        ),
        (json!({"args": ["\u{ffff}"]}), "args[0]"),
        (
            json!({"args": ["a", "$(E)"], "env": [{"name": "E"}]}),
            "args[1]",
        ),
        (json!({"command": ["sh", "a\0"]}), "command[1]"),
        (json!({"command": [""]}), "command[0]"),
        (
            json!({"command": ["sh"], "args": ["x".repeat(2100)]}),
            "args[0]",
        ),
        (
            json!({"ports": [{"containerPort": 0, "hostPort": 80}]}),
            "ports[0].containerPort",
        ),
        (
            json!({"ports": [{"containerPort": 80, "hostPort": 80, "protocol": "SCTP"}]}),
            "ports[0].protocol",
        ),
        (
            json!({"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "x\ny"}]}),
            "ports[0].hostIP",
        ),
        (
            json!({"resources": {"limits": {"hugepages-2Mi": "4Mi"}}}),
            "resources.limits.hugepages-2Mi",
        ),
    ] {
        assert_eq!(
            refused(one(container)),
            format!("spec.containers[0].{path}")
        );
    }
    let mut windows = one(json!({}));
    windows["os"] = json!({"name": "windows"});
    assert_eq!(refused(windows), "spec.os.name");
    for (volume, path) in [
        (json!({"hostPath": {"path": "/"}}), "hostPath"),
        (
            json!({"persistentVolumeClaim": {"claimName": "c"}}),
            "persistentVolumeClaim",
        ),
        (
            json!({"configMap": {"name": "c", "items": [{"key": "k", "path": "a:b"}]}}),
            "configMap.items[0].path",
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "a\nb", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
            "downwardAPI.items[0].path",
        ),
        (
            json!({"projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "a/./b/c"}]}},
                {"configMap": {"name": "c", "items": [{"key": "k", "path": "a//b"}]}},
            ]}}),
            "projected.sources[1].configMap.items[0].path",
        ),
        (
            json!({"projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}]}}),
            "projected.sources[0].clusterTrustBundle",
        ),
        (
            json!({"emptyDir": {"medium": "HugePages"}}),
            "emptyDir.medium",
        ),
        (
            json!({"emptyDir": {"sizeLimit": "1Gi"}}),
            "emptyDir.sizeLimit",
        ),
    ] {
        let mut spec = one(json!({}));
        spec["volumes"] = json!([volume]);
        spec["volumes"][0]["name"] = json!("v");
        assert_eq!(refused(spec), format!("spec.volumes[0].{path}"));
    }
    for (mount, path) in [
        (json!({"mountPath": "/a:b"}), "mountPath"),
        (json!({"mountPath": "/a b"}), "mountPath"),
        (json!({"mountPath": "a"}), "mountPath"),
        (json!({"mountPath": "/a\n[Service]"}), "mountPath"),
        (json!({"mountPath": "/a", "subPath": "x"}), "subPath"),
        (
            json!({"mountPath": "/a", "subPathExpr": "$(X)"}),
            "subPathExpr",
        ),
        (
            json!({"mountPath": "/a", "mountPropagation": "Bidirectional"}),
            "mountPropagation",
        ),
    ] {
        let mut spec = one(json!({"volumeMounts": [mount]}));
        spec["containers"][0]["volumeMounts"][0]["name"] = json!("v");
        spec["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        assert_eq!(
            refused(spec),
            format!("spec.containers[0].volumeMounts[0].{path}")
        );
    }
}

#[test]
fn a_refusal_names_all_fields_at_once() {
    let mut spec = one(json!({"tty": true}));
    spec["runtimeClassName"] = json!("kata");
    let Err(BackendError::Unsupported { field, message }) = check(&pod(spec)) else {
        panic!("accepted")
    };
    assert_eq!(field, "spec.runtimeClassName");
    assert!(
        message.ends_with("also not supported: spec.containers[0].tty"),
        "{message}"
    );
}

#[test]
fn an_image_that_is_none_waits_as_with_the_kubelet() {
    let units = ["a:1.build", "example.com/a:1.image"];
    for image in ["Nginx", "a b", "x\nExec=evil", "a%n", "$A"]
        .into_iter()
        .chain(units)
    {
        let mut spec = one(json!({}));
        spec["containers"][0]["image"] = json!(image);
        let Err(BackendError::Waiting {
            reason, message, ..
        }) = check(&pod(spec))
        else {
            panic!("{image}")
        };
        assert_eq!(reason, "InvalidImageName");
        assert!(
            message.starts_with("spec.containers[0].image: "),
            "{message}"
        );
    }
}

#[test]
fn probes_pass_only_when_they_are_ignored_on_purpose() {
    let mut request = pod(one(json!({"readinessProbe": {"httpGet": {"port": 80}}})));
    assert!(check(&request).is_err());
    Arc::make_mut(&mut request.pod).metadata.annotations =
        Some([("flightctl.io/probes".into(), "ignore".into())].into());
    assert_eq!(check(&request), Ok(()));
    assert_eq!(warnings(&request)[0].0, "ProbesIgnored");
}

#[test]
fn what_is_meant_otherwise_is_warned_of_and_a_debug_container_does_not_end_the_pod() {
    let mut spec = defaulted();
    spec["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    let request = pod(spec);
    assert_eq!(check(&request), Ok(()));
    let reasons: Vec<_> = warnings(&request)
        .into_iter()
        .map(|(reason, _)| reason)
        .collect();
    assert_eq!(
        reasons,
        ["ImagePullPolicyIgnored", "EphemeralContainersUnsupported"]
    );
}

#[test]
fn a_pod_whose_marker_could_not_be_read_again_is_refused() {
    let many: Vec<_> = (0..2500)
        .map(|n| json!({"name": format!("c{n}"), "image": format!("registry.example/{}:1", "x".repeat(80))}))
        .collect();
    assert_eq!(refused(json!({"containers": many})), "spec.containers");
}
