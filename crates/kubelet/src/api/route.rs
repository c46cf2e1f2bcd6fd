//! What a request is for, and what its sender must be allowed. Pure.

use http::Method;

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Logs(InPod<'a>),
    Exec(InPod<'a>),
    Attach(InPod<'a>),
    Run(InPod<'a>),
    /// Without a container.
    PortForward(InPod<'a>),
    Pods,
    RunningPods,
    Healthz(Health),
    Metrics,
    ResourceMetrics,
    ProbeMetrics,
    CadvisorMetrics,
    Summary,
    Configz,
}

/// A pod in a path; the container is empty where the route has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InPod<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) uid: Option<&'a str>,
    pub(super) container: &'a str,
}

/// What is asked about the node's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    All,
    Ping,
    Log,
    SyncLoop,
}

/// There is no such endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    Path,
    Method,
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const BOTH: &[Method] = &[Method::GET, Method::POST];

/// The endpoint of a request. Paths are taken as they are: names in Kubernetes
/// need no encoding, so an encoded path is none of ours.
pub(super) fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, NoRoute> {
    let parts: Vec<&str> = path
        .strip_prefix('/')
        .unwrap_or_default()
        .trim_end_matches('/')
        .split('/')
        .collect();
    if path.contains('%') || parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(NoRoute::Path);
    }
    let (methods, route) = match *parts {
        ["containerLogs", namespace, pod, container] => {
            (GET, Route::Logs(in_pod(namespace, pod, None, container)))
        }
        ["exec", namespace, pod, ref rest @ ..] => {
            (BOTH, Route::Exec(in_container(namespace, pod, rest)?))
        }
        ["attach", namespace, pod, ref rest @ ..] => {
            (BOTH, Route::Attach(in_container(namespace, pod, rest)?))
        }
        ["run", namespace, pod, ref rest @ ..] => {
            (POST, Route::Run(in_container(namespace, pod, rest)?))
        }
        ["portForward", namespace, pod] => {
            (BOTH, Route::PortForward(in_pod(namespace, pod, None, "")))
        }
        ["portForward", namespace, pod, uid] => (
            BOTH,
            Route::PortForward(in_pod(namespace, pod, Some(uid), "")),
        ),
        ["pods"] => (GET, Route::Pods),
        ["runningpods"] => (GET, Route::RunningPods),
        ["healthz"] => (GET, Route::Healthz(Health::All)),
        ["healthz", "ping"] => (GET, Route::Healthz(Health::Ping)),
        ["healthz", "log"] => (GET, Route::Healthz(Health::Log)),
        ["healthz", "syncloop"] => (GET, Route::Healthz(Health::SyncLoop)),
        ["metrics"] => (GET, Route::Metrics),
        ["metrics", "resource"] => (GET, Route::ResourceMetrics),
        ["metrics", "probes"] => (GET, Route::ProbeMetrics),
        ["metrics", "cadvisor"] => (GET, Route::CadvisorMetrics),
        ["stats", "summary"] => (BOTH, Route::Summary),
        ["configz"] => (GET, Route::Configz),
        _ => return Err(NoRoute::Path),
    };
    if methods.contains(method) {
        Ok(route)
    } else {
        Err(NoRoute::Method)
    }
}

impl Route<'_> {
    /// For metrics: few values.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Logs(_) => "containerLogs",
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::Run(_) => "run",
            Self::PortForward(_) => "portForward",
            Self::Pods => "pods",
            Self::RunningPods => "runningpods",
            Self::Healthz(_) => "healthz",
            Self::Metrics => "metrics",
            Self::ResourceMetrics => "metrics/resource",
            Self::ProbeMetrics => "metrics/probes",
            Self::CadvisorMetrics => "metrics/cadvisor",
            Self::Summary => "stats",
            Self::Configz => "configz",
        }
    }
}

fn in_pod<'a>(
    namespace: &'a str,
    pod: &'a str,
    uid: Option<&'a str>,
    container: &'a str,
) -> InPod<'a> {
    InPod {
        namespace,
        pod,
        uid,
        container,
    }
}

fn in_container<'a>(
    namespace: &'a str,
    pod: &'a str,
    rest: &[&'a str],
) -> Result<InPod<'a>, NoRoute> {
    match *rest {
        [container] => Ok(in_pod(namespace, pod, None, container)),
        [uid, container] => Ok(in_pod(namespace, pod, Some(uid), container)),
        _ => Err(NoRoute::Path),
    }
}

/// What a request needs: a verb on a subresource of the node, any one of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) verb: &'static str,
    /// The finest first, as the kubelet asks (pkg/kubelet/server/auth.go).
    pub(super) subresources: &'static [&'static str],
}

/// What the sender of a request must be allowed, whether there is such an
/// endpoint or not.
pub(super) fn needs(method: &Method, path: &str) -> Needs {
    let verb = match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    let is = |of: &str| {
        path.strip_prefix(of)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let subresources: &[&str] = if is("/pods") || is("/runningpods") {
        &["pods", "proxy"]
    } else if is("/healthz") {
        &["healthz", "proxy"]
    } else if is("/configz") {
        &["configz", "proxy"]
    } else if is("/stats") {
        &["stats"]
    } else if is("/metrics") {
        &["metrics"]
    } else if is("/logs") {
        &["log"]
    } else if is("/checkpoint") {
        &["checkpoint"]
    } else if is("/statusz") {
        &["statusz"]
    } else if is("/flagz") {
        &["configz"]
    } else {
        &["proxy"]
    };
    Needs { verb, subresources }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_found_with_its_methods_and_no_other() {
        let pod = in_pod("ns", "web", None, "app");
        let of_uid = in_pod("ns", "web", Some("u-1"), "app");
        let whole = in_pod("ns", "web", None, "");
        let found = [
            ("GET", "/containerLogs/ns/web/app", Route::Logs(pod)),
            ("GET", "/exec/ns/web/app", Route::Exec(pod)),
            ("POST", "/exec/ns/web/u-1/app", Route::Exec(of_uid)),
            ("POST", "/attach/ns/web/app", Route::Attach(pod)),
            ("POST", "/run/ns/web/u-1/app", Route::Run(of_uid)),
            ("GET", "/portForward/ns/web", Route::PortForward(whole)),
            ("GET", "/pods", Route::Pods),
            ("GET", "/pods/", Route::Pods),
            ("GET", "/runningpods/", Route::RunningPods),
            ("GET", "/healthz", Route::Healthz(Health::All)),
            ("GET", "/healthz/syncloop", Route::Healthz(Health::SyncLoop)),
            ("GET", "/metrics/cadvisor", Route::CadvisorMetrics),
            ("GET", "/stats/summary", Route::Summary),
        ];
        for (method, path, wanted) in found {
            let method: Method = method.parse().unwrap();
            assert_eq!(route(&method, path), Ok(wanted), "{method} {path}");
        }
        for path in [
            "/",
            "",
            "/nothing",
            "/debug/pprof/",
            "/debug/pprof/heap",
            "/pods/x",
            "//pods",
            "/%70ods",
            "/metrics/../pods",
            "/metrics/./resource",
            "/exec/ns/web",
            "/exec/ns//app",
            "/exec/ns/web/u/app/more",
            "/containerLogs/ns/web/u-1/app",
            "/logs/",
        ] {
            assert_eq!(route(&Method::GET, path), Err(NoRoute::Path), "{path}");
        }
        let refused = [
            (Method::POST, "/pods"),
            (Method::HEAD, "/healthz"),
            (Method::GET, "/run/ns/web/app"),
            (Method::DELETE, "/exec/ns/web/app"),
        ];
        for (method, path) in refused {
            assert_eq!(
                route(&method, path),
                Err(NoRoute::Method),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn a_request_needs_what_the_kubelet_asks_for_the_finest_first() {
        let table: &[(Method, &str, &str, &[&str])] = &[
            (Method::GET, "/pods", "get", &["pods", "proxy"]),
            (Method::GET, "/pods/x", "get", &["pods", "proxy"]),
            (Method::GET, "/podsx", "get", &["proxy"]),
            (Method::GET, "/runningpods/", "get", &["pods", "proxy"]),
            (Method::GET, "/healthz", "get", &["healthz", "proxy"]),
            (Method::GET, "/healthz/ping", "get", &["healthz", "proxy"]),
            (Method::GET, "/configz", "get", &["configz", "proxy"]),
            (Method::GET, "/stats/summary", "get", &["stats"]),
            (Method::GET, "/metrics", "get", &["metrics"]),
            (Method::GET, "/metrics/resource", "get", &["metrics"]),
            (Method::GET, "/logs/", "get", &["log"]),
            (Method::POST, "/checkpoint/a/b/c", "create", &["checkpoint"]),
            (Method::GET, "/containerLogs/a/b/c", "get", &["proxy"]),
            (Method::POST, "/exec/a/b/c", "create", &["proxy"]),
            (Method::PUT, "/anything", "update", &["proxy"]),
            (Method::PATCH, "/%70ods", "patch", &["proxy"]),
            (Method::DELETE, "/", "delete", &["proxy"]),
            (Method::HEAD, "/healthz", "", &["healthz", "proxy"]),
        ];
        for (method, path, verb, subresources) in table {
            let wanted = Needs { verb, subresources };
            assert_eq!(needs(method, path), wanted, "{method} {path}");
        }
    }
}
