//! Projected volumes, and who owns what.

use serde_json::json;

use super::*;

fn projected(sources: Value) -> Value {
    let mut source = json!({"projected": {}});
    source["projected"]["sources"] = sources;
    source
}

fn token() -> Value {
    json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}})
}

#[test]
fn the_volume_of_every_service_account_is_laid_out() {
    let mut source = projected(json!([
        token(),
        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]));
    source["projected"]["defaultMode"] = json!(0o444);
    assert_eq!(
        list(source),
        [
            "ca.crt text 444",
            "namespace shop 444",
            "token planted-t0ken 444"
        ]
    );
}

#[test]
fn a_token_is_the_one_of_its_audience_and_expiry() {
    let ask = |audience: &str, expiry: i64| {
        projected(json!([{"serviceAccountToken":
            {"path": "t", "audience": audience, "expirationSeconds": expiry}}]))
    };
    assert_eq!(list(ask("vault", 600)), ["t planted-t0ken 644"]);
    assert_eq!(list(ask("", 3607)), ["t planted-t0ken 644"]);
    assert_eq!(
        failure(ask("vault", 3607)),
        "failed to fetch token: none was issued for service account \"robot\" yet"
    );
}

#[test]
fn of_two_sources_with_one_path_the_later_has_it() {
    let secret = json!({"secret": {"name": "sec", "items": [{"key": "a", "path": "a"}]}});
    let map = json!({"configMap": {"name": "cm", "items": [
        {"key": "a", "path": "./a", "mode": 0o600}]}});
    assert_eq!(list(projected(json!([secret, map]))), ["a text 600"]);
    assert_eq!(list(projected(json!([map, secret]))), ["a over 644"]);
}

#[test]
fn everything_that_is_missing_is_named_at_once_and_once() {
    let gone = json!({"configMap": {"name": "gone"}});
    let sources = json!([gone, {"secret": {"name": "gone"}}, gone, token()]);
    assert_eq!(
        failure(projected(sources)),
        "[configmap \"gone\" not found, secret \"gone\" not found]"
    );
    let pod = pod(&json!([
        {"name": "one", "configMap": {"name": "gone"}},
        {"name": "two", "secret": {"secretName": "gone"}},
    ]));
    let Err(VolumesError::Failed(failed)) = try_lay_out(&pod, &[]) else {
        panic!("laid out");
    };
    let names: Vec<_> = failed.iter().map(|f| f.volume.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn optional_sources_of_a_projection_may_be_missing() {
    let gone = json!({"name": "gone", "optional": true, "items": [{"key": "k", "path": "p"}]});
    let sources = json!([{"configMap": gone}, {"secret": gone}, token()]);
    assert_eq!(list(projected(sources)), ["token planted-t0ken 644"]);
}

#[test]
fn sources_that_are_not_projected_here_are_refused_by_path() {
    for (source, path) in [
        (
            json!({"clusterTrustBundle": {"path": "ca"}}),
            ".clusterTrustBundle",
        ),
        (
            json!({"podCertificate": {"keyType": "ED25519", "signerName": "s/t"}}),
            ".podCertificate",
        ),
        (json!({}), ""),
    ] {
        let volumes = json!([volume(projected(json!([token(), source])))]);
        assert_eq!(
            refused(&pod(&volumes), &["clusterTrustBundle", "podCertificate"]),
            [format!("spec.volumes[0].projected.sources[1]{path}")]
        );
    }
}

/// Modes and owners of a token and of another file, under security contexts.
#[test]
fn owners_and_modes_follow_the_security_contexts() {
    // Pod, container, init container; token and other file as mode:uid:gid.
    for (of_pod, of_app, of_init, wanted_token, wanted_other) in [
        (json!({}), json!({}), json!({}), "644:0:0", "644:0:0"),
        (
            json!({"fsGroup": 7}),
            json!({}),
            json!({}),
            "640:0:7",
            "644:0:7",
        ),
        (
            json!({"runAsUser": 5}),
            json!({}),
            json!({}),
            "600:5:0",
            "644:0:0",
        ),
        (
            json!({"runAsUser": 0}),
            json!({}),
            json!({}),
            "600:0:0",
            "644:0:0",
        ),
        (
            json!({"runAsUser": 5, "fsGroup": 7}),
            json!({}),
            json!({}),
            "640:5:7",
            "644:0:7",
        ),
        // All containers share one user, by whatever way it is said.
        (
            json!({}),
            json!({"runAsUser": 5}),
            json!({"runAsUser": 5}),
            "600:5:0",
            "644:0:0",
        ),
        (
            json!({"runAsUser": 5}),
            json!({}),
            json!({"runAsUser": 6}),
            "644:0:0",
            "644:0:0",
        ),
        (
            json!({}),
            json!({"runAsUser": 5}),
            json!({}),
            "644:0:0",
            "644:0:0",
        ),
        (
            json!({"fsGroup": 7}),
            json!({"runAsUser": 5}),
            json!({}),
            "640:0:7",
            "644:0:7",
        ),
    ] {
        let other = json!({"secret": {"name": "sec", "items": [{"key": "a", "path": "a"}]}});
        let mut pod = pod(&json!([volume(projected(json!([token(), other])))]));
        let spec = pod.spec.as_mut().unwrap();
        let mut init = spec.containers[0].clone();
        init.name = "init".into();
        init.security_context = serde_json::from_value(of_init).unwrap();
        spec.init_containers = Some(vec![init]);
        spec.containers[0].security_context = serde_json::from_value(of_app).unwrap();
        let case = of_pod.to_string();
        spec.security_context = serde_json::from_value(of_pod).unwrap();
        let files = files_of(&pod);
        let shown = |path: &str| {
            let file = &files.files[path];
            format!("{:o}:{}:{}", file.mode, file.uid, file.gid)
        };
        assert_eq!(shown("token"), wanted_token, "{case}");
        assert_eq!(shown("a"), wanted_other, "{case}");
    }
}

#[test]
fn a_group_may_read_what_its_mode_kept_from_it_and_owns_the_directories() {
    let source = json!({"secret": {"secretName": "sec", "defaultMode": 0o400}});
    let mut pod = pod(&json!([volume(source)]));
    let context = serde_json::from_value(json!({"fsGroup": 7})).unwrap();
    pod.spec.as_mut().unwrap().security_context = Some(context);
    let files = files_of(&pod);
    let file = &files.files["a"];
    assert_eq!((file.mode, file.uid, file.gid), (0o440, 0, 7));
    assert_eq!((files.root.mode, files.root.gid), (0o3777, 7));
    assert_eq!((files.inner.mode, files.inner.gid), (0o2755, 7));
}
