//! What pods refer to, and pods that do.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};
use vk_provider::{Inputs, TokenAsk};

/// Nowhere to be seen but in the files of its pod.
pub const PLANTED: &str = "planted-s3cret";

pub fn map(data: &Value) -> Arc<ConfigMap> {
    Arc::new(serde_json::from_value(json!({"data": data})).unwrap())
}

pub fn inputs() -> Inputs {
    let secret = json!({"data": {"word": ByteString(PLANTED.into())}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    let ask = |audience: Option<&str>| TokenAsk {
        audience: audience.map(str::to_owned),
        expiration_seconds: 3600,
    };
    Inputs {
        config_maps: [
            (
                "map".to_owned(),
                map(&json!({"plain": "of the map", "other": "more"})),
            ),
            ("root".to_owned(), map(&json!({"ca.crt": "pem"}))),
        ]
        .into(),
        secrets: [("hush".to_owned(), Arc::new(secret.into()))].into(),
        tokens: Some([(ask(Some("vault")), format!("{PLANTED}-token").into())].into()),
        ..Inputs::default()
    }
}

/// One container that has each input.
pub fn everything() -> Value {
    json!({
        "serviceAccountName": "robot",
        "volumes": [
            {"name": "map", "configMap": {"name": "map", "defaultMode": 0o440,
                "items": [{"key": "plain", "path": "deep/plain", "mode": 0o400}, {"key": "other", "path": "other"}]}},
            {"name": "hush", "secret": {"secretName": "hush", "defaultMode": 0o400}},
            {"name": "none", "secret": {"secretName": "missing", "optional": true}},
            {"name": "about", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "all", "projected": {"defaultMode": 0o444, "sources": [
                {"configMap": {"name": "root"}}, {"secret": {"name": "hush", "items": [{"key": "word", "path": "of/secret"}]}},
                {"downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu"}}]}},
                {"serviceAccountToken": {"audience": "vault", "path": "token"}},
            ]}},
            {"name": "data", "emptyDir": {}},
        ],
        "containers": [{
            "name": "app", "image": "nginx:1",
            "resources": {"limits": {"cpu": "2"}},
            "envFrom": [{"configMapRef": {"name": "map"}, "prefix": "M_"}, {"secretRef": {"name": "hush"}, "prefix": "S_"},
                {"secretRef": {"name": "missing", "optional": true}}],
            "env": [
                {"name": "LITERAL", "value": " a \"b\" %n $x "},
                {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "word"}}},
                {"name": "URL", "value": "u:$(WORD)@$(HOST)"},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            ],
            "volumeMounts": [
                {"name": "map", "mountPath": "/map"}, {"name": "hush", "mountPath": "/hush"},
                {"name": "none", "mountPath": "/none"}, {"name": "about", "mountPath": "/about"},
                {"name": "all", "mountPath": "/all"}, {"name": "data", "mountPath": "/map/cache"},
                {"name": "map", "mountPath": "/part", "subPath": "other"},
            ],
        }],
    })
}

/// A config item of somebody else.
pub fn foreign() -> Value {
    json!({"name": "motd", "inline": [{"path": "/etc/motd", "content": "hello", "mode": 420}]})
}

/// A container with a map as a whole and in part, and a secret as a variable.
pub fn watching() -> Value {
    json!({
        "volumes": [{"name": "map", "configMap": {"name": "map"}}],
        "containers": [{
            "name": "app", "image": "nginx:1",
            "env": [
                {"name": "PLAIN", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "plain"}}},
                {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "word"}}},
            ],
            "volumeMounts": [{"name": "map", "mountPath": "/map"}, {"name": "map", "mountPath": "/part", "subPath": "plain"}],
        }],
    })
}

/// Other objects than [`inputs`].
pub fn changed() -> Inputs {
    let mut inputs = inputs();
    let newer = map(&json!({"plain": "newer", "added": "one"}));
    inputs.config_maps.insert("map".into(), newer);
    let secret = json!({"data": {"word": ByteString(b"rotated".to_vec())}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    inputs
        .secrets
        .insert("hush".into(), Arc::new(secret.into()));
    inputs
}
