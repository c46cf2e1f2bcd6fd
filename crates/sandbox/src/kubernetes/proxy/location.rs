//! Where a request goes: from the objects alone (kubernetes
//! `pkg/registry/core/pod/strategy.go`, `pkg/kubelet/client`).

use std::sync::Arc;

use serde_json::Value;

use super::Pod;
use super::options::{Log, Remote};
use super::query;
use crate::kubernetes::resource::{NODES, PODS};
use crate::kubernetes::status::ApiError;
use crate::kubernetes::{Cluster, object};

/// In the order of `--kubelet-preferred-address-types`.
const PREFERRED: [&str; 5] = [
    "Hostname",
    "InternalDNS",
    "InternalIP",
    "ExternalDNS",
    "ExternalIP",
];

/// Where a kubelet listens that does not say so.
const KUBELET_PORT: i64 = 10250;

/// By which a node takes WebSocket untranslated (beta and on in 1.36).
const EXTENDS: &str = "ExtendWebSocketsToKubelet";

/// Something of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// An address or a name.
    pub(super) host: String,
    pub(super) port: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) extends_websockets: bool,
}

impl Place {
    /// `host:port`, with brackets where they are needed.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A container's log; nothing where the pod is on no node yet.
pub(super) fn log(
    cluster: &Cluster,
    (ns, name): Pod<'_>,
    options: &Log,
) -> Result<Option<Place>, ApiError> {
    let pod = found(cluster, (ns, name))?;
    let container = container(&pod, options.container.as_deref())?;
    if object::text(&pod, "/spec/nodeName").is_empty() {
        return Ok(None);
    }
    let path = format!("/containerLogs/{ns}/{name}/{container}");
    let target = query::target(&path, options.query.iter().cloned());
    on_its_node(cluster, &pod, target).map(Some)
}

/// `exec` or `attach`, as `what` says.
pub(super) fn remote(
    cluster: &Cluster,
    (ns, name): Pod<'_>,
    what: &str,
    options: &Remote,
) -> Result<Place, ApiError> {
    let pod = found(cluster, (ns, name))?;
    let container = container(&pod, options.container.as_deref())?;
    let path = format!("/{what}/{ns}/{name}/{container}");
    on_its_node(cluster, &pod, query::target(&path, options.query()))
}

pub(super) fn port_forward(
    cluster: &Cluster,
    (ns, name): Pod<'_>,
    ports: &[i32],
) -> Result<Place, ApiError> {
    let pod = found(cluster, (ns, name))?;
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let ports = (!ports.is_empty()).then(|| ("port", ports.join(",")));
    let target = query::target(&format!("/portForward/{ns}/{name}"), ports);
    on_its_node(cluster, &pod, target)
}

/// A node by its name.
pub(super) fn node(cluster: &Cluster, name: &str, target: String) -> Result<Place, ApiError> {
    let node = cluster
        .store()
        .read(|state| state.get(&NODES, "", name).cloned())
        .ok_or_else(|| ApiError::not_found(&NODES, name))?;
    place(&node, target)
}

fn found(cluster: &Cluster, (ns, name): Pod<'_>) -> Result<Arc<Value>, ApiError> {
    cluster
        .store()
        .read(|state| state.get(&PODS, ns, name).cloned())
        .ok_or_else(|| ApiError::not_found(&PODS, name))
}

fn on_its_node(cluster: &Cluster, pod: &Value, target: String) -> Result<Place, ApiError> {
    match object::text(pod, "/spec/nodeName") {
        "" => Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            object::name(pod)
        ))),
        name => node(cluster, name, target),
    }
}

fn place(node: &Value, target: String) -> Result<Place, ApiError> {
    let addresses = object::items(node, "/status/addresses");
    let of_type = |wanted: &&str| addresses.iter().find(|a| a["type"] == **wanted);
    let Some(address) = PREFERRED.iter().find_map(of_type) else {
        let known: Vec<String> = addresses
            .iter()
            .map(|a| {
                let text = |at| object::text(a, at);
                format!("{{{} {}}}", text("/type"), text("/address"))
            })
            .collect();
        return Err(ApiError::unknown(format!(
            "no preferred addresses found; known addresses: [{}]",
            known.join(" ")
        )));
    };
    let port = object::int(node, "/status/daemonEndpoints/kubeletEndpoint/Port");
    let features = object::items(node, "/status/declaredFeatures");
    Ok(Place {
        host: object::text(address, "/address").to_owned(),
        port: port
            .filter(|port| *port > 0)
            .unwrap_or(KUBELET_PORT)
            .to_string(),
        target,
        extends_websockets: features.iter().any(|feature| feature == EXTENDS),
    })
}

/// The container that is meant.
fn container(pod: &Value, wanted: Option<&str>) -> Result<String, ApiError> {
    let name = object::name(pod);
    let names = |list: &str| -> Vec<String> {
        let containers = object::items(pod, list).iter();
        containers
            .map(|c| object::text(c, "/name").to_owned())
            .collect()
    };
    let own = names("/spec/containers");
    // In the order in which the real server visits them.
    let all = [
        names("/spec/initContainers"),
        own.clone(),
        names("/spec/ephemeralContainers"),
    ]
    .concat();
    match (wanted, own.as_slice()) {
        (Some(wanted), _) if all.iter().any(|name| name == wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(ApiError::bad_request(format!(
            "container {wanted} is not valid for pod {name}"
        ))),
        (None, [one]) => Ok(one.clone()),
        (None, _) => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_preferred_address_and_the_told_port_are_dialled() {
        let node = |status: Value| place(&json!({"status": status}), "/x".into());
        let addresses = json!([
            {"type": "ExternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "::1"}]);
        let found = node(json!({"addresses": addresses})).unwrap();
        assert_eq!(found.authority(), "[::1]:10250");
        assert!(!found.extends_websockets);
        let found = node(json!({
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": "localhost"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}},
            "declaredFeatures": ["ExtendWebSocketsToKubelet"]}))
        .unwrap();
        assert_eq!(found.authority(), "localhost:1234");
        assert!(found.extends_websockets);
        let other = json!([{"type": "Other", "address": "x"}]);
        let error = node(json!({"addresses": other})).unwrap_err();
        let words = "no preferred addresses found; known addresses: [{Other x}]";
        assert_eq!((error.code, &*error.message), (500, words));
    }

    #[test]
    fn one_of_several_containers_has_to_be_named() {
        let pod = json!({"metadata": {"name": "web"}, "spec": {
            "initContainers": [{"name": "init"}],
            "containers": [{"name": "a"}, {"name": "b"}],
            "ephemeralContainers": [{"name": "debug"}]}});
        let words = |wanted| container(&pod, wanted).map_err(|error| error.message);
        assert_eq!(words(Some("debug")), Ok("debug".into()));
        assert_eq!(
            words(None).unwrap_err(),
            "a container name must be specified for pod web, choose one of: [init a b debug]"
        );
        assert_eq!(
            words(Some("x")).unwrap_err(),
            "container x is not valid for pod web"
        );
        let one = json!({"spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, None).unwrap(), "a");
    }
}
