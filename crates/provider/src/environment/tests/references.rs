//! Which objects a pod is said to refer to.

use super::*;

fn of(spec: &Value) -> References {
    let pod: Pod = read(json!({"spec": spec}));
    super::super::references(&pod)
}

fn names(pairs: &[(&str, Need)]) -> std::collections::BTreeMap<String, Need> {
    let pair = |(name, need): &(&str, Need)| ((*name).to_owned(), *need);
    pairs.iter().map(pair).collect()
}

/// One container with a reference of each kind under a name of its own.
fn container(name: &str) -> Value {
    json!({
        "name": name,
        "envFrom": [
            {"configMapRef": {"name": format!("{name}-from")}},
            {"secretRef": {"name": format!("{name}-from"), "optional": true}},
        ],
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": format!("{name}-key"), "key": "k", "optional": true}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": format!("{name}-key"), "key": "k"}}},
            {"name": "C", "value": "literal"},
        ],
    })
}

#[test]
fn every_container_and_every_volume_counts() {
    let got = of(&json!({
        "containers": [container("app")],
        "initContainers": [container("init")],
        "ephemeralContainers": [container("debug")],
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"name": "a", "configMap": {"name": "volume"}},
            {"name": "b", "secret": {"secretName": "volume", "optional": true}},
            {"name": "c", "projected": {"sources": [
                {"configMap": {"name": "projected", "optional": true}},
                {"secret": {"name": "projected"}},
                {"serviceAccountToken": {"path": "token"}},
            ]}},
            {"name": "d", "emptyDir": {}},
        ],
    }));
    use Need::{Optional, Required};
    assert_eq!(
        got.config_maps,
        names(&[
            ("app-from", Required),
            ("app-key", Optional),
            ("init-from", Required),
            ("init-key", Optional),
            ("debug-from", Required),
            ("debug-key", Optional),
            ("volume", Required),
            ("projected", Optional),
        ])
    );
    assert_eq!(
        got.secrets,
        names(&[
            ("app-from", Optional),
            ("app-key", Required),
            ("init-from", Optional),
            ("init-key", Required),
            ("debug-from", Optional),
            ("debug-key", Required),
            ("volume", Optional),
            ("projected", Required),
            ("pull", Optional),
        ])
    );
}

#[test]
fn one_reference_that_is_not_optional_makes_the_object_required() {
    let map = |optional: bool| json!({"configMapRef": {"name": "m", "optional": optional}});
    for (from, need) in [
        ([map(true), map(true)], Need::Optional),
        ([map(true), map(false)], Need::Required),
        ([map(false), map(true)], Need::Required),
    ] {
        let got = of(&json!({"containers": [{"name": "app", "envFrom": from}]}));
        assert_eq!(got.config_maps, names(&[("m", need)]));
    }
}

#[test]
fn a_name_left_empty_refers_to_nothing() {
    let got = of(&json!({
        "containers": [{"name": "app", "envFrom": [{"secretRef": {}}]}],
        "imagePullSecrets": [{}],
        "volumes": [{"name": "v", "configMap": {}}],
    }));
    assert_eq!(got, References::default());
    assert_eq!(
        super::super::references(&Pod::default()),
        References::default()
    );
}
