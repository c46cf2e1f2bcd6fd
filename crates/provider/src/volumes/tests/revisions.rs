//! A payload's revision changes exactly when a container can see a change.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::VolumeMount;
use serde_json::json;

use super::*;
use crate::volumes::payload_revision;

/// A pod that sees `cm`, `sec` and a token whole, and `only` by `subPath` alone.
fn example() -> (Pod, Inputs) {
    let mut pod = pod(&json!([
        {"name": "v", "configMap": {"name": "cm", "items": [{"key": "a", "path": "a"}]}},
        {"name": "p", "projected": {"sources": [
            {"secret": {"name": "sec"}},
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}},
        {"name": "only", "configMap": {"name": "part"}},
        {"name": "tmp", "emptyDir": {}},
    ]));
    let mounts = pod.spec.as_mut().unwrap().containers[0]
        .volume_mounts
        .as_mut();
    mount(mounts.unwrap(), "only").sub_path = Some("key".into());
    let mut inputs = inputs();
    inputs.config_maps.insert("part".into(), Default::default());
    set(&mut inputs, "part", "key", "1");
    (pod, inputs)
}

fn mount<'a>(mounts: &'a mut [VolumeMount], name: &str) -> &'a mut VolumeMount {
    mounts.iter_mut().find(|mount| mount.name == name).unwrap()
}

fn set(inputs: &mut Inputs, map: &str, key: &str, value: &str) {
    let data = &mut Arc::make_mut(inputs.config_maps.get_mut(map).unwrap()).data;
    data.get_or_insert_default()
        .insert(key.into(), value.into());
}

fn secret(inputs: &mut Inputs) -> &mut Secret {
    let sealed = inputs.secrets.get_mut("sec").unwrap();
    Arc::get_mut(sealed).unwrap()
}

fn revision(pod: &Pod, inputs: &Inputs) -> String {
    let given = Given {
        inputs,
        allocatable: &Resources::new(),
        declared: &[],
    };
    payload_revision(pod, &lay_out(pod, given).unwrap()).to_string()
}

type Edit = fn(&mut Pod, &mut Inputs);

#[test]
fn what_a_container_sees_change_changes_the_revision() {
    let edits: [(&str, Edit); 8] = [
        ("a value", |_, i| set(i, "cm", "a", "new")),
        ("a secret", |_, i| {
            let data = secret(i).data.as_mut().unwrap();
            data.insert("password".into(), ByteString(b"new".to_vec()));
        }),
        ("a new key", |_, i| {
            let data = secret(i).data.as_mut().unwrap();
            data.insert("extra".into(), ByteString(Vec::new()));
        }),
        ("a token", |_, i| {
            for token in i.tokens.iter_mut().flat_map(|all| all.values_mut()) {
                *token = "renewed".into();
            }
        }),
        ("a label", |p, _| {
            p.metadata.labels = Some([("app".into(), "db".into())].into());
        }),
        ("a mode", |p, _| {
            let volumes = p.spec.as_mut().unwrap().volumes.as_mut().unwrap();
            volumes[0].config_map.as_mut().unwrap().default_mode = Some(0o600);
        }),
        ("an owner", |p, _| {
            let context = json!({"fsGroup": 7});
            p.spec.as_mut().unwrap().security_context = serde_json::from_value(context).unwrap();
        }),
        ("a debugger that mounts the rest whole", |p, _| {
            let debugger = json!([{"name": "d", "volumeMounts": [
                {"name": "only", "mountPath": "/only"}]}]);
            p.spec.as_mut().unwrap().ephemeral_containers =
                serde_json::from_value(debugger).unwrap();
        }),
    ];
    let (pod, inputs) = example();
    let mut seen = vec![revision(&pod, &inputs)];
    for (what, edit) in edits {
        let (mut pod, mut inputs) = example();
        edit(&mut pod, &mut inputs);
        let revision = revision(&pod, &inputs);
        assert!(!seen.contains(&revision), "{what}");
        seen.push(revision);
    }
}

#[test]
fn what_no_container_sees_change_leaves_the_revision() {
    let edits: [(&str, Edit); 6] = [
        ("a file mounted by subPath", |_, i| {
            set(i, "part", "key", "2")
        }),
        ("a key that no item names", |_, i| {
            set(i, "cm", "b.conf", "2")
        }),
        ("an object that no volume names", |_, i| {
            i.config_maps.insert("other".into(), Default::default());
        }),
        ("an annotation that no file shows", |p, _| {
            p.metadata.annotations = None;
        }),
        ("the version of an object", |_, i| {
            let map = Arc::make_mut(i.config_maps.get_mut("cm").unwrap());
            map.metadata.resource_version = Some("7".into());
        }),
        ("the size of an empty directory", |p, _| {
            let volumes = p.spec.as_mut().unwrap().volumes.as_mut().unwrap();
            volumes[3].empty_dir = serde_json::from_value(json!({"sizeLimit": "1Gi"})).unwrap();
        }),
    ];
    let (pod, inputs) = example();
    let before = revision(&pod, &inputs);
    for (what, edit) in edits {
        let (mut pod, mut inputs) = example();
        edit(&mut pod, &mut inputs);
        assert_eq!(revision(&pod, &inputs), before, "{what}");
    }
}

#[test]
fn bytes_that_move_between_a_name_and_its_file_change_the_revision() {
    let with = |key: &str, value: &str| {
        let (pod, mut inputs) = example();
        let data = &mut secret(&mut inputs).data;
        *data = Some([(key.to_owned(), ByteString(value.into()))].into());
        revision(&pod, &inputs)
    };
    assert_ne!(with("a", "bc"), with("ab", "c"));
}

#[test]
fn a_sub_path_that_is_the_volume_itself_sees_changes() {
    let see = |sub_path: &str, value: &str| {
        let (mut pod, mut inputs) = example();
        let mounts = pod.spec.as_mut().unwrap().containers[0]
            .volume_mounts
            .as_mut();
        mount(mounts.unwrap(), "only").sub_path = Some(sub_path.into());
        set(&mut inputs, "part", "key", value);
        revision(&pod, &inputs)
    };
    for whole in ["", ".", "./"] {
        assert_ne!(see(whole, "1"), see(whole, "2"), "{whole:?}");
    }
    assert_eq!(see("key", "1"), see("key", "2"));
}

#[test]
fn the_revision_is_stable_and_differs_between_pods() {
    let (mut pod, inputs) = example();
    let before = revision(&pod, &inputs);
    assert_eq!(before, "9c5ea4dc9df01275", "stable");
    pod.metadata.uid = Some("u-2".into());
    assert_ne!(revision(&pod, &inputs), before);
}
