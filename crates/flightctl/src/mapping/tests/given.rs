//! What a pod is given: variables, files, and where its texts may stand.

use serde_json::{Value, json};
use vk_provider::{BackendError, Inputs, RenderError, TokenAsk};

use super::{UID, files, line, one, placed, pod, refused};
use crate::items::Item;
use crate::mapping::Workload;

const PLANTED: &str = "planted-s3cret";

fn inputs() -> Inputs {
    let map =
        json!({"data": {"plain": "of the map", "dir": "deep/x"}, "binaryData": {"bytes": "gIGC"}});
    let secret = json!({"data": {"word": k8s_openapi::ByteString(PLANTED.into()), "lines": k8s_openapi::ByteString("a\nb".into())}});
    let map = std::sync::Arc::new(serde_json::from_value(map).unwrap());
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
    Inputs {
        config_maps: [("map".into(), map)].into(),
        secrets: [("hush".into(), std::sync::Arc::new(secret.into()))].into(),
        ..Inputs::default()
    }
}

fn written(spec: Value) -> Result<Workload, BackendError> {
    let mut pod = pod(spec);
    pod.inputs = inputs().into();
    placed(&pod, "cluster-uid")
}

/// The text of a container's unit.
fn unit(workload: &Workload, name: &str) -> String {
    let files = workload.app["inline"].as_array().unwrap();
    let name = format!("{name}.container");
    let file = files.iter().find(|f| f["path"] == *name).unwrap();
    file["content"].as_str().unwrap().to_owned()
}

/// Paths, contents and modes of an item.
fn listed(item: Option<&Item>) -> Vec<(String, Vec<u8>, u64)> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let files = item.unwrap().value()["inline"].as_array().unwrap().clone();
    let one = |file: &Value| {
        let content = file["content"].as_str().unwrap();
        let content = match file["contentEncoding"].as_str() {
            None => content.as_bytes().to_vec(),
            _ => STANDARD.decode(content).unwrap(),
        };
        let path = file["path"].as_str().unwrap().to_owned();
        (path, content, file["mode"].as_u64().unwrap())
    };
    files.iter().map(one).collect()
}

fn secret(name: &str) -> Value {
    json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "hush", "key": "word"}}})
}

/// Folders without a file in them, of pods without an application, for a minute.
const SWEEP: &str = r#"-/bin/sh -c 'cd /var/lib/virtual-kubelet && for f in *; do [ -e "%E/containers/systemd/vk-$$f" ] || find "$$f" -depth -type d -empty -mmin +1 -delete; done'"#;

#[test]
fn what_comes_from_a_secret_is_in_a_private_file_and_all_else_in_the_unit() {
    let workload = written(one(json!({"env": [
        secret("S"), {"name": "URL", "value": "u:$(S)@h"}, {"name": "L", "value": "literal"},
        {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "plain"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "LONG", "value": "x".repeat(3000)},
    ]})))
    .unwrap();
    let text = unit(&workload, "app");
    assert_eq!(
        line(&text, "Environment"),
        [
            "\"L=literal\"",
            "\"M=of the map\"",
            "\"IP=10.42.0.7\"",
            "\"CPU=4\""
        ]
    );
    let folder = format!("/var/lib/virtual-kubelet/{UID}");
    let file = format!("{folder}/.env/app");
    assert_eq!(line(&text, "EnvironmentFile"), [file.as_str()]);
    assert_eq!(
        line(&text, "ExecStartPre"),
        [format!("/bin/chmod 0700 {folder}").as_str(), SWEEP]
    );
    let content = format!(
        "S={PLANTED}\nURL=u:{PLANTED}@h\nLONG={}\n",
        "x".repeat(3000)
    );
    assert_eq!(
        listed(workload.environment.as_ref()),
        [(file, content.into_bytes(), 0o600)]
    );
    assert!(workload.volumes.is_none());
    assert!(!workload.app.to_string().contains(PLANTED));
    assert!(!format!("{workload:?}").contains(PLANTED));
}

#[test]
fn a_secret_that_would_stand_in_a_unit_is_refused_by_its_path() {
    let volume = json!([{"name": "v", "configMap": {"name": "map"}}]);
    let mount = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(S)"}]);
    for (container, path) in [
        (json!({"command": ["sh", "$(S)"]}), "command[1]"),
        (json!({"args": ["--password=$(U)"]}), "args[0]"),
        (
            json!({"volumeMounts": mount}),
            "volumeMounts[0].subPathExpr",
        ),
    ] {
        let mut spec = one(container);
        spec["containers"][0]["env"] = json!([secret("S"), {"name": "U", "value": "$(S)"}]);
        spec["volumes"] = volume.clone();
        let error = written(spec.clone()).unwrap_err();
        let BackendError::Unsupported { field, message } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*field, format!("spec.containers[0].{path}"));
        assert!(!error.to_string().contains(PLANTED), "{message}");
    }
    // To name it without having it replaced is the program's own business.
    let spec = one(json!({"command": ["sh", "-c", "echo $S $$(S)"], "env": [secret("S")]}));
    assert!(written(spec).is_ok());
}

#[test]
fn a_value_that_fits_nowhere_waits_for_another_with_its_path_and_the_remedy() {
    let lines =
        json!({"name": "S", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "lines"}}});
    for (container, path) in [
        (json!({"env": [lines]}), "env[0].valueFrom"),
        (
            json!({"envFrom": [{"secretRef": {"name": "hush"}}]}),
            "envFrom (lines)",
        ),
    ] {
        let error = written(one(container)).unwrap_err();
        let BackendError::Inputs(RenderError::Container { name, why }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(name, "app");
        assert!(
            why.starts_with(&format!("spec.containers[0].{path}: ")),
            "{why}"
        );
        assert!(
            why.ends_with("mount it as a file") && !why.contains("a\nb"),
            "{why}"
        );
    }
}

fn volumes() -> Value {
    json!([
        {"name": "map", "configMap": {"name": "map", "defaultMode": 0o440, "items": [
            {"key": "plain", "path": "deep/x", "mode": 0o400}, {"key": "bytes", "path": "raw"}]}},
        {"name": "hush", "secret": {"secretName": "hush", "defaultMode": 0o400}},
        {"name": "none", "configMap": {"name": "missing", "optional": true}},
        {"name": "about", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "data", "emptyDir": {}},
    ])
}

#[test]
fn volumes_are_files_of_their_own_mode_in_the_folder_of_the_pod() {
    let mut spec = one(json!({"volumeMounts": [
        {"name": "map", "mountPath": "/map"}, {"name": "hush", "mountPath": "/hush", "readOnly": true},
        {"name": "none", "mountPath": "/none"}, {"name": "about", "mountPath": "/about"},
        {"name": "data", "mountPath": "/map/cache"},
    ]}));
    spec["volumes"] = volumes();
    let workload = written(spec).unwrap();
    let folder = format!("/var/lib/virtual-kubelet/{UID}");
    let text = unit(&workload, "app");
    assert_eq!(
        line(&text, "Volume"),
        [
            format!("{folder}/map:/map:ro,z"),
            format!("{folder}/hush:/hush:ro,z"),
            format!("{folder}/none:/none:ro,z"),
            format!("{folder}/about:/about:ro,z"),
            "./e/data:/map/cache:z".to_owned(),
        ]
    );
    let before = line(&text, "ExecStartPre");
    for wanted in [
        format!("/bin/mkdir -p {folder}/none"),
        format!("/bin/mkdir -p {folder}/map/cache"),
        format!("/bin/chmod 0700 {folder}"),
    ] {
        assert!(before.contains(&&*wanted), "{before:?}");
    }
    let mut expected = vec![
        (format!("{folder}/about/name"), b"web".to_vec(), 0o644),
        (format!("{folder}/hush/lines"), b"a\nb".to_vec(), 0o400),
        (format!("{folder}/hush/word"), PLANTED.into(), 0o400),
        (
            format!("{folder}/map/deep/x"),
            b"of the map".to_vec(),
            0o400,
        ),
        (format!("{folder}/map/raw"), vec![128, 129, 130], 0o440),
    ];
    expected.sort();
    let mut found = listed(workload.volumes.as_ref());
    found.sort();
    assert_eq!(found, expected);
    assert!(!workload.app.to_string().contains(PLANTED));
}

#[test]
fn a_part_of_a_volume_is_mounted_as_it_is_and_nothing_in_place_of_what_is_not_there() {
    let mut spec = one(json!({
        "env": [{"name": "DIR", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "dir"}}}],
        "volumeMounts": [
            {"name": "map", "mountPath": "/file", "subPath": "raw"},
            {"name": "map", "mountPath": "/folder", "subPath": "deep/"},
            {"name": "map", "mountPath": "/expanded", "subPathExpr": "$(DIR)"},
            {"name": "map", "mountPath": "/absent", "subPath": "later"},
        ],
    }));
    spec["volumes"] = volumes();
    let text = unit(&written(spec).unwrap(), "app");
    let folder = format!("/var/lib/virtual-kubelet/{UID}");
    assert_eq!(
        line(&text, "Volume"),
        [
            format!("{folder}/map/raw:/file:ro,z"),
            format!("{folder}/map/deep:/folder:ro,z"),
            format!("{folder}/map/deep/x:/expanded:ro,z"),
            format!("{folder}/.none/map:/absent:ro,z"),
        ]
    );
    // The agent makes the folders of files; a folder where a file may come would
    // keep it from ever coming.
    assert_eq!(
        line(&text, "ExecStartPre"),
        [
            format!("/bin/mkdir -p {folder}/map/deep"),
            format!("/bin/mkdir -p {folder}/.none/map"),
            format!("/bin/chmod 0700 {folder}"),
            SWEEP.to_owned(),
        ]
    );
}

#[test]
fn a_file_never_comes_where_a_folder_may_have_been() {
    let sources = |path: &str| {
        json!([
            {"configMap": {"name": "map"}},
            {"secret": {"name": "gone", "optional": true, "items": [{"key": "k", "path": path}]}},
        ])
    };
    let mut spec = one(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    spec["volumes"] = json!([{"name": "v", "projected": {"sources": sources("plain/below")}}]);
    let error = written(spec.clone()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"plain\" is a file and also a directory"),
        "{error}"
    );
    spec["volumes"][0]["projected"]["sources"] = sources("beside/below");
    assert!(written(spec).is_ok());
}

#[test]
fn two_pods_share_no_path_whatever_they_are_called() {
    let mut spec = one(json!({"volumeMounts": [{"name": "about", "mountPath": "/v"}]}));
    spec["volumes"] = json!([{"name": "about", "downwardAPI": {"items": [
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]);
    let paths: std::collections::BTreeSet<String> = [UID, "..", "../x", "/", "a/b", "a", "A", ""]
        .iter()
        .flat_map(|uid| {
            let mut pod = pod(spec.clone());
            pod.key = vk_provider::PodKey::new("shop", "web", uid);
            let workload = placed(&pod, "c").unwrap();
            listed(workload.volumes.as_ref())
        })
        .map(|(path, ..)| path)
        .collect();
    assert_eq!(paths.len(), 8, "{paths:?}");
    for path in paths {
        let inside = path.strip_prefix("/var/lib/virtual-kubelet/").unwrap();
        let parts: Vec<_> = inside.split('/').collect();
        assert_eq!(parts[1..], ["about", "name"], "{path}");
        assert!(crate::quadlet::is_name(parts[0]), "{path}");
    }
}

#[test]
fn hostile_paths_and_names_leave_no_folder_and_no_line() {
    for path in [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "a\\..\\..\\x",
        "a\nb",
        "x:ro",
        "..data",
        "",
        ".",
    ] {
        let mut spec = one(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
        spec["volumes"] = json!([{"name": "v", "configMap": {"name": "map", "items": [{"key": "plain", "path": path}]}}]);
        assert!(written(spec).is_err(), "{path:?}");
        let mut spec =
            one(json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": path}]}));
        spec["volumes"] = json!([{"name": "v", "configMap": {"name": "map"}}]);
        if let Ok(workload) = written(spec) {
            assert!(["", "."].contains(&path), "{path:?}");
            let text = unit(&workload, "app");
            assert_eq!(line(&text, "Volume").len(), 1);
        }
    }
    for name in ["", "..", "a/b", ".env", ".none", "A", "a\nb"] {
        let mut spec = one(json!({}));
        spec["volumes"] = json!([{"name": name, "configMap": {"name": "map"}}]);
        assert_eq!(refused(spec), "spec.volumes[0].name", "{name:?}");
    }
}

#[test]
fn what_flight_control_would_refuse_for_its_size_is_not_sent() {
    let mut pod = pod({
        let mut spec = one(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
        spec["volumes"] = json!([{"name": "v", "configMap": {"name": "map"}}]);
        spec
    });
    let large = |length: usize| {
        let map = json!({"data": {"key": "x".repeat(length)}});
        let map = std::sync::Arc::new(serde_json::from_value(map).unwrap());
        Inputs {
            config_maps: [("map".into(), map)].into(),
            ..Inputs::default()
        }
    };
    pod.inputs = large(1_048_576).into();
    assert!(placed(&pod, "c").is_ok());
    pod.inputs = large(1_048_577).into();
    let error = placed(&pod, "c").unwrap_err();
    assert!(
        matches!(error, BackendError::Inputs(_)),
        "the map may shrink"
    );
    let words = error.to_string();
    let bytes = json!({"binaryData": {"key": "AP8="}});
    let bytes = std::sync::Arc::new(serde_json::from_value(bytes).unwrap());
    pod.inputs = Inputs {
        config_maps: [("map".into(), bytes)].into(),
        ..Inputs::default()
    }
    .into();
    let error = placed(&pod, "c").unwrap_err();
    assert!(matches!(error, BackendError::Inputs(_)), "it may change");
    assert!(error.to_string().contains("key is no text"), "{error}");
    assert!(
        words.contains("key is 1048577 bytes") && words.contains("1048576"),
        "{words}"
    );

    let env: Vec<Value> = (0..20)
        .map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(60_000)}))
        .collect();
    let error = written(one(json!({"env": env}))).unwrap_err();
    assert!(error.to_string().contains("1200090 bytes"), "{error}");
}

#[test]
fn a_token_is_a_file_where_it_may_leave_the_cluster() {
    let mut pod = pod(super::defaulted());
    let mut inputs = inputs();
    let ask = TokenAsk {
        audience: None,
        expiration_seconds: 3607,
    };
    inputs.tokens = Some([(ask, PLANTED.into())].into());
    let root = json!({"data": {"ca.crt": "pem"}});
    let root = std::sync::Arc::new(serde_json::from_value(root).unwrap());
    inputs.config_maps.insert("kube-root-ca.crt".into(), root);
    pod.inputs = inputs.into();
    let workload = placed(&pod, "c").unwrap();
    let names: Vec<String> = listed(workload.volumes.as_ref())
        .into_iter()
        .map(|(path, ..)| path.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["ca.crt", "namespace", "token"]);
    let text = unit(&workload, "app");
    assert!(
        line(&text, "Volume")[0].ends_with(":/var/run/secrets/kubernetes.io/serviceaccount:ro,z")
    );
    assert!(!workload.app.to_string().contains(PLANTED));
    // Without any, nothing of it is on the device.
    assert_eq!(files(super::defaulted()).len(), 2);
}

#[test]
fn a_token_that_may_leave_is_no_reason_against_a_pod_before_it_was_issued() {
    let mut pod = pod(super::defaulted());
    let token = json!({"serviceAccountToken": {"audience": "vault", "path": "token"}});
    let volumes = &mut std::sync::Arc::make_mut(&mut pod.pod)
        .spec
        .as_mut()
        .unwrap()
        .volumes;
    let volume = json!({"name": "vault", "projected": {"sources": [token]}});
    volumes
        .get_or_insert_default()
        .push(serde_json::from_value(volume).unwrap());
    let asked = |tokens: Option<()>| {
        let inputs = Inputs {
            tokens: tokens.map(|()| Default::default()),
            ..Inputs::default()
        };
        let mut pod = pod.clone();
        pod.inputs = inputs.into();
        super::check(&pod)
    };
    assert_eq!(asked(Some(())), Ok(()));
    assert!(matches!(asked(None), Err(BackendError::Unsupported { .. })));
}
