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
