//! Which objects a pod is said to refer to.

use super::*;

fn pod(spec: &Value) -> Pod {
    read(json!({"spec": spec}))
}

fn of(spec: &Value) -> References {
    super::super::references(&pod(spec), true)
}

fn names(pairs: &[(&str, Read)]) -> std::collections::BTreeMap<String, Read> {
    let pair = |(name, read): &(&str, Read)| ((*name).to_owned(), *read);
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
    use Read::{AtStart, ToPull, WhileRunning};
    assert_eq!(
        got.config_maps,
        names(&[
            ("app-from", AtStart),
            ("app-key", AtStart),
            ("init-from", AtStart),
            ("init-key", AtStart),
            ("debug-from", AtStart),
            ("debug-key", AtStart),
            ("volume", WhileRunning),
            ("projected", WhileRunning),
        ])
    );
    assert_eq!(
        got.secrets,
        names(&[
            ("app-from", AtStart),
            ("app-key", AtStart),
            ("init-from", AtStart),
            ("init-key", AtStart),
            ("debug-from", AtStart),
            ("debug-key", AtStart),
            ("volume", WhileRunning),
            ("projected", WhileRunning),
            ("pull", ToPull),
        ])
    );
    let asks: Vec<_> = got.tokens.iter().map(|t| t.expiration_seconds).collect();
    assert_eq!(asks, [3600]);
}

#[test]
fn an_object_that_a_volume_names_too_is_read_while_containers_run() {
    let from = json!([{"configMapRef": {"name": "m"}}]);
    let got = of(&json!({
        "containers": [{"name": "app", "envFrom": from}],
        "volumes": [{"name": "v", "configMap": {"name": "m"}}],
    }));
    assert_eq!(got.config_maps, names(&[("m", Read::WhileRunning)]));
}

#[test]
fn without_tokens_the_volume_of_the_api_server_counts_for_nothing() {
    let injected = json!({"name": "kube-api-access-x7k2p", "projected": {"sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    let own = json!({"name": "own", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "vault", "path": "token"}},
        {"configMap": {"name": "mine"}},
    ]}});
    let spec = json!({"containers": [{"name": "app"}], "volumes": [injected, own]});
    let all = of(&spec);
    let root = ("kube-root-ca.crt", Read::WhileRunning);
    let mine = ("mine", Read::WhileRunning);
    assert_eq!(all.config_maps, names(&[root, mine]));
    assert_eq!(all.tokens.len(), 2);
    let without = super::super::references(&pod(&spec), false);
    assert_eq!(without.config_maps, names(&[mine]));
    assert!(without.tokens.is_empty());
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
        super::super::references(&Pod::default(), true),
        References::default()
    );
}
