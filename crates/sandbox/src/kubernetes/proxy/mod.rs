//! What the API server passes on to a node: a pod's log, `exec`, `attach` and
//! port-forward, and a node's proxy, as 1.36 does it.
//!
//! ```text
//! query ──▶ options ─┐
//! pod, node ▶ place ─┴▶ dial ──▶ log        the answer's text
//!                            ├──▶ upgrade    bytes, either way
//!                            ├──▶ translate  WebSocket v5 to SPDY
//!                            ├──▶ tunnel     SPDY out of WebSocket messages
//!                            └──▶ node       any other request
//! ```
//!
//! Sources: kubernetes `pkg/registry/core/{pod,node}/rest` and `strategy.go`,
//! apimachinery `util/proxy`, apiserver `util/proxy`.
//!
//! # Differences
//! - **Loopback.** Nodes here are processes on this machine: only loopback
//!   addresses (and the name `localhost`) are dialled, for all of these; the real
//!   server dials any, but refuses loopback for `nodes/proxy`.
//! - A session whose node hangs up without an outcome has failed; the real
//!   server's translation takes the silence for success.
//! - Nothing is pinged, throttled or rewritten (`X-Forwarded-…`, links in pages).

mod client;
mod dial;
mod location;
mod log;
mod node;
mod options;
mod query;
mod translate;
mod tunnel;
mod upgrade;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Request};

pub(crate) use dial::Dialer;

use super::Cluster;
use super::resource::{NODES, PODS, Resource};
use super::rights::Asked;
use super::status::ApiError;
use location::Place;
use query::Query;

/// A subresource that is another's to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connect<'a> {
    Log(Pod<'a>),
    Exec(Pod<'a>),
    Attach(Pod<'a>),
    PortForward(Pod<'a>),
    /// The node, maybe with scheme and port, and the path there.
    Node(&'a str, &'a str),
}

/// Namespace and name.
type Pod<'a> = (&'a str, &'a str);

impl<'a> Connect<'a> {
    /// What this path asks for, if it is one of these.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/api/v1/")?;
        if let Some(rest) = rest.strip_prefix("nodes/") {
            let (name, rest) = rest.split_once('/')?;
            let path = rest.strip_prefix("proxy")?;
            return (path.is_empty() || path.starts_with('/')).then_some(Self::Node(name, path));
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let ["namespaces", ns, "pods", name, what] = parts[..] else {
            return None;
        };
        let pod = (ns, name);
        Some(match what {
            "log" => Self::Log(pod),
            "exec" => Self::Exec(pod),
            "attach" => Self::Attach(pod),
            "portforward" => Self::PortForward(pod),
            _ => return None,
        })
    }

    fn subresource(self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
            Self::Node(..) => "proxy",
        }
    }

    /// Of its object.
    fn resource(self) -> (&'static Resource, Option<&'a str>, &'a str) {
        match self {
            Self::Log((ns, name))
            | Self::Exec((ns, name))
            | Self::Attach((ns, name))
            | Self::PortForward((ns, name)) => (&PODS, Some(ns), name),
            Self::Node(name, _) => (&NODES, None, name),
        }
    }

    /// The rights it takes: that of the method, and for what changes something
    /// in a pod `create`, however it is asked for (since 1.35).
    fn asked(self, method: &Method) -> Result<Vec<Asked<'a>>, ApiError> {
        let (resource, namespace, name) = self.resource();
        let what = || format!("{}/{}", resource.plural, self.subresource());
        let verb = match *method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return Err(ApiError::not_implemented(method.as_str(), &what())),
        };
        let verbs = match self {
            Self::Log(_) if verb == "get" => vec![verb],
            Self::Exec(_) | Self::Attach(_) | Self::PortForward(_) if verb == "get" => {
                vec![verb, "create"]
            }
            Self::Exec(_) | Self::Attach(_) | Self::PortForward(_) if verb == "create" => {
                vec![verb]
            }
            Self::Node(..) => vec![verb],
            _ => return Err(ApiError::method_not_allowed()),
        };
        let asked = |verb| Asked {
            verb,
            resource,
            subresource: Some(self.subresource()),
            namespace,
            name: Some(name.to_owned()),
        };
        Ok(verbs.into_iter().map(asked).collect())
    }
}

/// Answers it; the client is known by now.
pub(crate) async fn serve(
    cluster: &Cluster,
    connect: Connect<'_>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    for asked in connect.asked(request.method())? {
        cluster.admit(&asked)?;
    }
    let query = Query::of(request.uri())?;
    let dialer = cluster.dialer()?;
    match connect {
        Connect::Log(pod) => {
            let options = options::Log::read(&query, pod.1)?;
            match location::log(cluster, pod, &options)? {
                Some(place) => log::serve(dialer, &place, pod.1).await,
                None => Ok(log::nothing()),
            }
        }
        Connect::Exec(pod) | Connect::Attach(pod) => {
            let what = connect.subresource();
            let options = options::Remote::read(&query, what == "exec");
            let place = location::remote(cluster, pod, what, &options)?;
            if !place.extends_websockets && offers(request.headers(), translate::PROTOCOL) {
                return translate::serve(dialer.clone(), place, options.streams, request);
            }
            upgrade::required(request.headers())?;
            upgrade::pass(dialer, &place, request).await
        }
        Connect::PortForward(pod) => {
            let ports = options::ports(&query)?;
            let place = location::port_forward(cluster, pod, &ports)?;
            if !place.extends_websockets && offers(request.headers(), tunnel::PROTOCOL) {
                return tunnel::serve(dialer, &place, request).await;
            }
            upgrade::required(request.headers())?;
            upgrade::pass(dialer, &place, request).await
        }
        Connect::Node(id, path) => node::serve(dialer, cluster, (id, path), request).await,
    }
}

/// Whether a WebSocket client offers this sub-protocol.
fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    upgrade::is_to(headers, "websocket")
        && upgrade::values(headers, http::header::SEC_WEBSOCKET_PROTOCOL.as_str())
            .any(|offered| offered == protocol)
}

/// A URL as Go's errors show it.
fn shown(place: &Place) -> String {
    format!("https://{}{}", place.authority(), place.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_asks_for_what_it_names_and_for_nothing_else() {
        let pod = ("a", "web");
        for (path, wanted) in [
            ("/api/v1/namespaces/a/pods/web/log", Some(Connect::Log(pod))),
            (
                "/api/v1/namespaces/a/pods/web/portforward",
                Some(Connect::PortForward(pod)),
            ),
            ("/api/v1/namespaces/a/pods/web/status", None),
            ("/api/v1/namespaces/a/pods/log", None),
            ("/api/v1/nodes/edge/proxy", Some(Connect::Node("edge", ""))),
            (
                "/api/v1/nodes/edge:10250/proxy/stats/summary",
                Some(Connect::Node("edge:10250", "/stats/summary")),
            ),
            ("/api/v1/nodes/edge/proxyx", None),
            ("/api/v1/nodes/edge/status", None),
        ] {
            assert_eq!(Connect::of(path), wanted, "{path}");
        }
    }
}
