//! `fieldRef`: the downward API of variables.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod};

use super::{EnvironmentError, Placement};
use crate::downward::subscript;

/// The value of a field, empty where the pod has nothing in it.
pub(super) fn value(
    selector: &ObjectFieldSelector,
    pod: &Pod,
    placement: &Placement,
) -> Result<String, EnvironmentError> {
    if let Some(version) = selector.api_version.as_deref()
        && !matches!(version, "" | "v1")
    {
        return Err(EnvironmentError::Version(version.into()));
    }
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let path = selector.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(EnvironmentError::Field(path.into())),
        };
        return Ok(text(map.as_ref().and_then(|map| map.get(key))));
    }
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        // The old spelling of clients of the first days.
        "spec.nodeName" | "spec.host" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => first(&host_ips(placement), "status.hostIP")?,
        "status.hostIPs" => all(&host_ips(placement), "status.hostIPs")?,
        "status.podIP" => first(&pod_ips(pod, placement), "status.podIP")?,
        "status.podIPs" => all(&pod_ips(pod, placement), "status.podIPs")?,
        // All labels or all annotations go into files only: the API server
        // refuses them here.
        _ => return Err(EnvironmentError::Field(path.into())),
    })
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

fn host_ips(placement: &Placement) -> Vec<IpAddr> {
    let ips = placement.host_ips.iter();
    ips.map(IpAddr::to_canonical).collect()
}

/// One address of each family, the family that the host prefers first.
fn pod_ips(pod: &Pod, placement: &Placement) -> Vec<IpAddr> {
    let host = host_ips(placement);
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network);
    let ips: Vec<_> = if placement.pod_ips.is_empty() && host_network == Some(true) {
        host.clone()
    } else {
        let ips = placement.pod_ips.iter();
        ips.map(IpAddr::to_canonical).collect()
    };
    let six_first = host.first().is_some_and(IpAddr::is_ipv6);
    [six_first, !six_first]
        .into_iter()
        .filter_map(|six| ips.iter().find(|ip| ip.is_ipv6() == six).copied())
        .collect()
}

fn first(ips: &[IpAddr], field: &'static str) -> Result<String, EnvironmentError> {
    ips.first()
        .map(|ip| ip.to_string())
        .ok_or(EnvironmentError::NotKnownYet(field))
}

fn all(ips: &[IpAddr], field: &'static str) -> Result<String, EnvironmentError> {
    if ips.is_empty() {
        return Err(EnvironmentError::NotKnownYet(field));
    }
    let ips: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
    Ok(ips.join(","))
}
