//! The volume that the API server's ServiceAccount plugin puts into pods.

use k8s_openapi::api::core::v1::{ProjectedVolumeSource, Volume, VolumeProjection};

/// Name prefix that the plugin gives it.
const API_ACCESS: &str = "kube-api-access-";

/// Exactly what the admission plugin makes: a token, the cluster's CA and the
/// namespace. A volume that holds anything else besides is the user's own.
pub fn is_service_account_volume(volume: &Volume) -> bool {
    let alone = Volume {
        name: volume.name.clone(),
        projected: volume.projected.clone(),
        ..Volume::default()
    };
    let Some(ProjectedVolumeSource {
        sources: Some(sources),
        ..
    }) = &volume.projected
    else {
        return false;
    };
    if !volume.name.starts_with(API_ACCESS) || *volume != alone || sources.len() != 3 {
        return false;
    }
    let token = |s: &VolumeProjection| {
        let only = VolumeProjection {
            service_account_token: s.service_account_token.clone(),
            ..VolumeProjection::default()
        };
        *s == only
            && s.service_account_token.as_ref().is_some_and(|t| {
                t.path == "token" && t.audience.as_deref().unwrap_or_default().is_empty()
            })
    };
    let authority = |s: &VolumeProjection| {
        let only = VolumeProjection {
            config_map: s.config_map.clone(),
            ..VolumeProjection::default()
        };
        *s == only
            && s.config_map
                .as_ref()
                .is_some_and(|c| c.name == "kube-root-ca.crt")
    };
    let namespace = |s: &VolumeProjection| {
        let only = VolumeProjection {
            downward_api: s.downward_api.clone(),
            ..VolumeProjection::default()
        };
        *s == only
            && s.downward_api
                .as_ref()
                .and_then(|d| d.items.as_ref())
                .is_some_and(|items| {
                    items.len() == 1
                        && items.iter().all(|i| {
                            i.path == "namespace"
                                && i.field_ref
                                    .as_ref()
                                    .is_some_and(|f| f.field_path == "metadata.namespace")
                        })
                })
    };
    [
        &token as &dyn Fn(&VolumeProjection) -> bool,
        &authority,
        &namespace,
    ]
    .iter()
    .all(|is| sources.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_api_server_injects_is_taken_for_its_volume() {
        let injected = json!({"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
        ]}});
        let is = |volume: &serde_json::Value| {
            is_service_account_volume(&serde_json::from_value(volume.clone()).unwrap())
        };
        assert!(is(&injected));
        for (path, value) in [
            ("/name", json!("mine")),
            (
                "/projected/sources/0/serviceAccountToken/audience",
                json!("vault"),
            ),
            ("/projected/sources/1/configMap/name", json!("mine")),
            (
                "/projected/sources/2/downwardAPI/items/0/path",
                json!("else"),
            ),
            ("/projected/sources/3", json!({"secret": {"name": "mine"}})),
        ] {
            let mut other = injected.clone();
            let (within, key) = path.rsplit_once('/').unwrap();
            match other.pointer_mut(within).unwrap() {
                serde_json::Value::Array(list) => list.push(value),
                fields => fields[key] = value,
            }
            assert!(!is(&other), "{path}");
        }
    }
}
