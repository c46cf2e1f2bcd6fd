//! Empty directories, sources that are refused, and mounts.

use serde_json::json;

use super::*;
use crate::volumes::{EmptyDir, Medium, Mount, mounts};

fn empty(pod: &Pod) -> EmptyDir {
    match laid_out(pod) {
        Volume::Empty(empty) => empty,
        other => panic!("not empty: {other:?}"),
    }
}

#[test]
fn empty_directories_have_a_medium_and_a_limit() {
    let node = 8 << 30;
    for (source, limit, medium, bytes) in [
        (json!({"emptyDir": {}}), None, Medium::Disk, None),
        // No source at all is an empty directory.
        (json!({}), None, Medium::Disk, None),
        (
            json!({"emptyDir": {"sizeLimit": "1Gi"}}),
            Some("2Gi"),
            Medium::Disk,
            Some(1 << 30),
        ),
        (
            json!({"emptyDir": {"sizeLimit": "0"}}),
            None,
            Medium::Disk,
            None,
        ),
        (
            json!({"emptyDir": {"medium": "Memory"}}),
            None,
            Medium::Memory,
            Some(node),
        ),
        (
            json!({"emptyDir": {"medium": "Memory"}}),
            Some("2Gi"),
            Medium::Memory,
            Some(2 << 30),
        ),
        (
            json!({"emptyDir": {"medium": "Memory"}}),
            Some("9Gi"),
            Medium::Memory,
            Some(node),
        ),
        (
            json!({"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
            Some("2Gi"),
            Medium::Memory,
            Some(64 << 20),
        ),
        (
            json!({"emptyDir": {"medium": "Memory", "sizeLimit": "3Gi"}}),
            Some("2Gi"),
            Medium::Memory,
            Some(2 << 30),
        ),
    ] {
        let case = format!("{source} {limit:?}");
        let mut pod = pod(&json!([volume(source)]));
        let resources = limit.map(|limit| json!({"limits": {"memory": limit}}));
        pod.spec.as_mut().unwrap().containers[0].resources =
            serde_json::from_value(json!(resources)).unwrap();
        let empty = empty(&pod);
        assert_eq!(empty.medium, medium, "{case}");
        assert_eq!(empty.size_limit, bytes.map(Amount::units), "{case}");
    }
}

#[test]
fn memory_is_bound_by_the_pod_only_where_all_of_it_is_limited() {
    let bound = |init: Value, overhead: &str, of_pod: Value| {
        let mut pod = pod(&json!([volume(json!({"emptyDir": {"medium": "Memory"}}))]));
        let spec = pod.spec.as_mut().unwrap();
        spec.init_containers = serde_json::from_value(init).unwrap();
        spec.overhead = serde_json::from_value(json!({"memory": overhead})).unwrap();
        spec.resources = serde_json::from_value(of_pod).unwrap();
        spec.containers[0].resources =
            serde_json::from_value(json!({"limits": {"memory": "1Gi"}})).unwrap();
        empty(&pod).size_limit.map(|limit| limit.ceil_units() >> 20)
    };
    let limits = json!({"limits": {"memory": "3Gi"}});
    let init = json!([{"name": "i", "resources": limits}]);
    let sidecar = json!([{"name": "i", "restartPolicy": "Always", "resources": limits}]);
    assert_eq!(bound(json!([]), "0", json!(null)), Some(1024));
    assert_eq!(
        bound(init, "0", json!(null)),
        Some(3072),
        "the larger phase"
    );
    assert_eq!(
        bound(sidecar, "1Mi", json!(null)),
        Some(4097),
        "both at once"
    );
    let unlimited = json!([{"name": "i"}]);
    assert_eq!(
        bound(unlimited.clone(), "0", json!(null)),
        Some(8192),
        "the node's"
    );
    assert_eq!(bound(unlimited, "0", limits), Some(3072), "the pod's own");
}

#[test]
fn an_empty_directory_belongs_to_the_pods_group() {
    let mut pod = pod(&json!([volume(json!({"emptyDir": {}}))]));
    assert_eq!((empty(&pod).root.mode, empty(&pod).root.gid), (0o777, 0));
    let context = serde_json::from_value(json!({"fsGroup": 7})).unwrap();
    pod.spec.as_mut().unwrap().security_context = Some(context);
    assert_eq!((empty(&pod).root.mode, empty(&pod).root.gid), (0o2777, 7));
}

#[test]
fn other_sources_are_refused_by_path_unless_they_are_declared() {
    let volumes = json!([
        {"name": "a", "hostPath": {"path": "/x"}},
        {"name": "b", "persistentVolumeClaim": {"claimName": "x"}},
        {"name": "c", "csi": {"driver": "x"}},
        {"name": "d", "image": {"reference": "x"}},
        {"name": "e", "ephemeral": {}},
        {"name": "f", "nfs": {"server": "x", "path": "/"}},
        {"name": "g", "emptyDir": {"medium": "HugePages"}},
        {"name": "h", "configMap": {"name": "gone"}},
    ]);
    let mut pod = pod(&volumes);
    let all = [
        "spec.volumes[0].hostPath",
        "spec.volumes[1].persistentVolumeClaim",
        "spec.volumes[2].csi",
        "spec.volumes[3].image",
        "spec.volumes[4].ephemeral",
        "spec.volumes[5].nfs",
        "spec.volumes[6].emptyDir.medium",
    ];
    assert_eq!(refused(&pod, &[]), all);
    assert_eq!(refused(&pod, &["hostPath"]), all[1..]);
    // They are refused even if nobody mounts them.
    pod.spec.as_mut().unwrap().containers[0].volume_mounts = None;
    assert_eq!(refused(&pod, &[]), all);
    let declared = super::pod(&json!([volume(json!({"hostPath": {"path": "/x"}}))]));
    assert_eq!(
        try_lay_out(&declared, &["hostPath"]).unwrap()["v"],
        Volume::Declared("hostPath".into())
    );
}

#[test]
fn a_volume_that_nobody_mounts_is_not_made_and_not_waited_for() {
    let mut pod = pod(&json!([volume(json!({"configMap": {"name": "gone"}}))]));
    let spec = pod.spec.as_mut().unwrap();
    let mounts = spec.containers[0].volume_mounts.take();
    assert_eq!(try_lay_out(&pod, &[]).unwrap(), BTreeMap::new());
    // Any kind of container counts.
    let debugger = json!([{"name": "d", "volumeMounts": mounts}]);
    pod.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(debugger).unwrap();
    assert!(try_lay_out(&pod, &[]).is_err());
}

fn mounted(mount: Value) -> Result<Mount, String> {
    let mut mount = mount;
    mount["name"] = mount.get("name").cloned().unwrap_or(json!("v"));
    let mut pod = pod(&json!([
        volume(json!({"configMap": {"name": "cm"}})),
        {"name": "tmp", "emptyDir": {}},
    ]));
    let spec = pod.spec.as_mut().unwrap();
    spec.containers[0].volume_mounts = serde_json::from_value(json!([mount])).unwrap();
    let expand = |text: &str| match text {
        "$(NONE)" => Err("missing value for NONE".to_owned()),
        text => Ok(text
            .replace("$(POD)", "web-0")
            .replace("$(UP)", "..")
            .replace("$(E)", "")),
    };
    mounts(spec, "app", expand)
        .map(|mut all| all.remove(0))
        .map_err(|why| why.to_string())
}

#[test]
fn mounts_name_their_volume_place_part_and_whether_they_are_read_only() {
    let wanted = |volume: &str, sub_path: Option<&str>, read_only| {
        Ok(Mount {
            volume: volume.into(),
            mount_path: "/data".into(),
            sub_path: sub_path.map(str::to_owned),
            read_only,
        })
    };
    for (mount, result) in [
        // Volumes of files are read-only, whatever is asked.
        (json!({"mountPath": "/data/"}), wanted("v", None, true)),
        (
            json!({"mountPath": "data", "readOnly": false}),
            wanted("v", None, true),
        ),
        (
            json!({"name": "tmp", "mountPath": "/data"}),
            wanted("tmp", None, false),
        ),
        (
            json!({"name": "tmp", "mountPath": "/data", "readOnly": true}),
            wanted("tmp", None, true),
        ),
        (
            json!({"mountPath": "/data", "subPath": "a"}),
            wanted("v", Some("a"), true),
        ),
        (
            json!({"mountPath": "/data", "subPath": ""}),
            wanted("v", None, true),
        ),
        (
            json!({"name": "tmp", "mountPath": "/data", "subPathExpr": "logs/$(POD)/"}),
            wanted("tmp", Some("logs/web-0"), false),
        ),
        (
            json!({"name": "tmp", "mountPath": "/data", "subPath": "..odd"}),
            wanted("tmp", Some("..odd"), false),
        ),
    ] {
        assert_eq!(mounted(mount.clone()), result, "{mount}");
    }
}

#[test]
fn mounts_that_cannot_be_are_told_in_the_kubelets_words() {
    for (mount, words) in [
        (
            json!({"name": "none", "mountPath": "/x"}),
            "cannot find volume \"none\" to mount into container \"app\"",
        ),
        (
            json!({"mountPath": "/x", "subPath": "/etc"}),
            "error SubPath `/etc` must not be an absolute path",
        ),
        (
            json!({"mountPath": "/x", "subPath": "a/../../b"}),
            "unable to provision SubPath `a/../../b`: must not contain '..'",
        ),
        (
            json!({"mountPath": "/x", "subPath": "..data/a"}),
            "unable to provision SubPath `..data/a`: must not start with '..'",
        ),
        // What an expression comes to is judged, not the expression.
        (
            json!({"mountPath": "/x", "subPathExpr": "a/$(UP)/$(UP)"}),
            "unable to provision SubPath `a/../..`: must not contain '..'",
        ),
        (
            json!({"mountPath": "/x", "subPathExpr": "$(NONE)"}),
            "missing value for NONE",
        ),
        (
            json!({"mountPath": "/x", "subPathExpr": "$(E)"}),
            "subPathExpr `$(E)` names no path",
        ),
        (
            json!({"mountPath": "../x"}),
            "invalid container mount point ../x",
        ),
        (json!({"mountPath": ""}), "invalid container mount point "),
    ] {
        assert_eq!(mounted(mount.clone()), Err(words.into()), "{mount}");
    }
}

#[test]
fn volumes_mounted_below_one_of_files_find_a_directory_there() {
    let mut pod = pod(&json!([
        volume(json!({"configMap": {"name": "cm"}})),
        {"name": "tmp", "emptyDir": {}},
    ]));
    let spec = pod.spec.as_mut().unwrap();
    let mounts: Vec<Value> = [
        ("v", "/etc/app"),
        ("tmp", "/etc/app/cache"),
        ("tmp", "/etc/app/cache-2"),
        ("tmp", "/etc/app/cache/inner"),
        ("tmp", "/etc/app/b.conf/d"),
        ("tmp", "/etc/apples"),
    ]
    .into_iter()
    .map(|(name, path)| json!({"name": name, "mountPath": path}))
    .collect();
    spec.containers[0].volume_mounts = serde_json::from_value(json!(mounts)).unwrap();
    let files = files_of(&pod);
    let points: Vec<&str> = files.mount_points.iter().map(String::as_str).collect();
    assert_eq!(points, ["b.conf/d", "cache", "cache-2"]);
    // The directory took the name of a file.
    assert_eq!(listing(&files), ["a text 644", r"bin \x00\xff 644"]);
}
