//! ConfigMaps, Secrets and the downward API.

use serde_json::json;

use super::*;
use crate::volumes::Medium;

#[test]
fn a_config_map_is_laid_out_whole_with_text_bytes_and_the_default_mode() {
    assert_eq!(
        list(json!({"configMap": {"name": "cm"}})),
        ["a text 644", "b.conf x=1 644", r"bin \x00\xff 644"]
    );
    assert_eq!(
        list(json!({"configMap": {"name": "cm", "defaultMode": 0o400}})),
        ["a text 400", "b.conf x=1 400", r"bin \x00\xff 400"]
    );
}

#[test]
fn items_choose_keys_paths_and_modes() {
    let items = json!([
        {"key": "bin", "path": "deep/er/bytes", "mode": 0o755},
        {"key": "a", "path": "./one//a"},
        {"key": "a", "path": "two/a"},
    ]);
    assert_eq!(
        list(json!({"configMap": {"name": "cm", "items": items, "defaultMode": 0o600}})),
        [
            r"deep/er/bytes \x00\xff 755",
            "one/a text 600",
            "two/a text 600"
        ]
    );
    // No items at all is every key.
    assert_eq!(
        list(json!({"secret": {"secretName": "sec", "items": []}})),
        ["a over 644", "password planted-s3cret 644"]
    );
    assert_eq!(
        list(json!({"secret": {"secretName": "sec", "items": [{"key": "a", "path": "x"}]}})),
        ["x over 644"]
    );
}

#[test]
fn what_is_missing_is_told_in_the_kubelets_words() {
    let items = json!([{"key": "a", "path": "a"}, {"key": "none", "path": "b"}]);
    for (source, words) in [
        (
            json!({"configMap": {"name": "gone"}}),
            "configmap \"gone\" not found",
        ),
        (
            json!({"secret": {"secretName": "gone"}}),
            "secret \"gone\" not found",
        ),
        (
            json!({"configMap": {"name": "cm", "items": items}}),
            "configmap references non-existent config key: none",
        ),
        (
            json!({"secret": {"secretName": "sec", "items": items}}),
            "references non-existent secret key: none",
        ),
    ] {
        assert_eq!(failure(source), words);
    }
    let pod = pod(&json!([volume(json!({"configMap": {"name": "gone"}}))]));
    assert_eq!(
        try_lay_out(&pod, &[]).unwrap_err().to_string(),
        "MountVolume.SetUp failed for volume \"v\" : configmap \"gone\" not found"
    );
}

#[test]
fn what_is_optional_may_be_missing() {
    let items = json!([{"key": "a", "path": "a"}, {"key": "none", "path": "b"}]);
    let empty: [&str; 0] = [];
    for (source, files) in [
        (
            json!({"configMap": {"name": "gone", "optional": true}}),
            &empty[..],
        ),
        (
            json!({"secret": {"secretName": "gone", "optional": true}}),
            &empty,
        ),
        (
            json!({"configMap": {"name": "gone", "optional": true, "items": items}}),
            &empty,
        ),
        (
            json!({"configMap": {"name": "cm", "optional": true, "items": items}}),
            &["a text 644"],
        ),
        (
            json!({"secret": {"secretName": "sec", "optional": true, "items": items}}),
            &["a over 644"],
        ),
    ] {
        assert_eq!(list(source.clone()), files, "{source}");
    }
}

#[test]
fn paths_that_leave_the_volume_or_are_reserved_fail_the_mount() {
    for (path, words) in [
        ("../x", "invalid path: must not contain '..': ../x"),
        ("/etc/x", "invalid path: must be relative path: /etc/x"),
        ("..data", "invalid path: must not start with '..': ..data"),
        ("", "invalid path: must not be empty: \"\""),
    ] {
        let item = json!([{"key": "a", "path": path}]);
        for source in [
            json!({"configMap": {"name": "cm", "items": item}}),
            json!({"secret": {"secretName": "sec", "items": item}}),
            json!({"downwardAPI": {"items": [
                {"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]}}),
            json!({"projected": {"sources": [
                {"serviceAccountToken": {"path": path, "expirationSeconds": 3607}}]}}),
        ] {
            assert_eq!(failure(source), words);
        }
    }
}

#[test]
fn a_path_that_is_a_file_and_a_directory_fails_the_mount() {
    let items = json!([{"key": "a", "path": "x"}, {"key": "b.conf", "path": "x/y"}]);
    assert_eq!(
        failure(json!({"configMap": {"name": "cm", "items": items}})),
        "invalid path: \"x\" is a file and also a directory"
    );
}

#[test]
fn the_downward_api_writes_fields_of_the_pod() {
    for (field, text) in [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels", "app=\"web\"\nzone=\"b\""),
        (
            "metadata.annotations",
            "build=\"\\\"7\\\"\"\nnote=\"two\\nlines\"",
        ),
        ("metadata.labels['zone']", "b"),
        ("metadata.annotations['note']", "two\nlines"),
        ("metadata.labels['none']", ""),
    ] {
        let source = json!({"downwardAPI": {"items": [
            {"path": "f", "mode": 0o440, "fieldRef": {"fieldPath": field}}]}});
        let files = files_of(&pod(&json!([volume(source)])));
        let file = &files.files["f"];
        assert_eq!(file.content.bytes(), text.as_bytes(), "{field}");
        assert_eq!(file.mode, 0o440);
    }
    for (field, words) in [
        ("status.podIP", "unsupported fieldPath: status.podIP"),
        (
            "metadata.name['x']",
            "fieldPath \"metadata.name['x']\" does not support subscript",
        ),
    ] {
        let item = json!({"path": "f", "fieldRef": {"fieldPath": field}});
        assert_eq!(failure(json!({"downwardAPI": {"items": [item]}})), words);
    }
}

#[test]
fn the_downward_api_writes_resources_in_units_of_the_divisor_rounded_up() {
    let with_resources = |selector: Value| {
        let source = json!({"downwardAPI": {"items": [
            {"path": "f", "resourceFieldRef": selector}]}});
        let mut pod = pod(&json!([volume(source)]));
        let spec = pod.spec.as_mut().unwrap();
        spec.containers[0].resources = serde_json::from_value(json!({
            "requests": {"cpu": "250m", "memory": "100Mi", "hugepages-2Mi": "4Mi"},
            "limits": {"memory": "1Gi", "hugepages-2Mi": "4Mi", "cpu": "0"},
        }))
        .unwrap();
        let mut init = spec.containers[0].clone();
        init.name = "init".into();
        init.resources = None;
        spec.init_containers = Some(vec![init]);
        pod
    };
    for (container, resource, divisor, text) in [
        ("app", "requests.cpu", None, "1"),
        ("app", "requests.cpu", Some("1m"), "250"),
        ("app", "requests.cpu", Some("0"), "1"),
        ("app", "requests.memory", Some("1Mi"), "100"),
        ("app", "requests.memory", Some("1M"), "105"),
        ("app", "requests.ephemeral-storage", None, "0"),
        ("app", "requests.hugepages-2Mi", Some("1Mi"), "4"),
        ("app", "limits.memory", Some("1Gi"), "1"),
        // Without a limit, or with one of zero: the node's.
        ("app", "limits.cpu", None, "4"),
        ("init", "limits.memory", Some("1Gi"), "8"),
        ("init", "limits.hugepages-2Mi", None, "0"),
        ("init", "requests.memory", None, "0"),
    ] {
        let selector =
            json!({"containerName": container, "resource": resource, "divisor": divisor});
        let files = files_of(&with_resources(selector.clone()));
        assert_eq!(
            files.files["f"].content.bytes(),
            text.as_bytes(),
            "{selector}"
        );
    }
    for (selector, words) in [
        (
            json!({"containerName": "none", "resource": "limits.cpu"}),
            "container none not found",
        ),
        (
            json!({"containerName": "app", "resource": "limits.example.com/gpu"}),
            "unsupported container resource : limits.example.com/gpu",
        ),
    ] {
        let Err(VolumesError::Failed(failed)) = try_lay_out(&with_resources(selector), &[]) else {
            panic!("{words}");
        };
        assert_eq!(failed[0].why, words);
    }
}

#[test]
fn secrets_are_in_memory_and_config_maps_on_disk() {
    for (source, medium, mode) in [
        (json!({"configMap": {"name": "cm"}}), Medium::Disk, 0o777),
        (
            json!({"secret": {"secretName": "sec"}}),
            Medium::Memory,
            0o1777,
        ),
        (json!({"downwardAPI": {}}), Medium::Memory, 0o1777),
        (json!({"projected": {}}), Medium::Memory, 0o1777),
    ] {
        let files = files_of(&pod(&json!([volume(source)])));
        assert_eq!((files.medium, files.root.mode), (medium, mode));
        assert_eq!(files.inner.mode, 0o755);
    }
}

#[test]
fn nothing_that_is_laid_out_shows_its_bytes() {
    let pod = pod(&json!([
        {"name": "s", "secret": {"secretName": "sec"}},
        {"name": "t", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}},
    ]));
    let volumes = try_lay_out(&pod, &[]).unwrap();
    let bytes = |name: &str, path: &str| match &volumes[name] {
        Volume::Files(files) => files.files[path].content.bytes().to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes("s", "password"), SECRET.as_bytes());
    assert_eq!(bytes("t", "token"), TOKEN.as_bytes());
    let shown = format!("{volumes:?} {volumes:#?}");
    assert!(shown.contains("[14 bytes]"), "{shown}");
    assert!(
        !shown.contains("planted") && !shown.contains("112, 108"),
        "{shown}"
    );
}
