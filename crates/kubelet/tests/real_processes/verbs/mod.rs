//! kubectl's verbs, and a Python client's, behind a real API server: on each way that
//! there is from a client to the node.

mod attach;
mod copies;
mod exec;
mod forward;
mod kubectl;
mod logs;
mod python;

use std::sync::Arc;

use tokio::task::{JoinHandle, LocalSet, spawn_local};

use self::kubectl::{Kubectl, Way};
use super::cluster::Cluster;
use super::harness::control_plane::Flags;
use super::harness::{all_end_well, tools};

const WEBSOCKETS: Way = Way {
    namespace: "websockets",
    environment: &[],
    verb: "GET",
};
const SPDY: Way = Way {
    namespace: "spdy",
    environment: &[
        ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
        ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"),
    ],
    verb: "POST",
};
/// An API server as of before 1.36: it speaks SPDY to the node in its clients' place.
const TRANSLATED: Way = Way {
    namespace: "translated",
    ..WEBSOCKETS
};
const BEFORE: &[&str] = &["--feature-gates=ExtendWebSocketsToKubelet=false"];

macro_rules! checks {
    ($kubectl:expr, $($check:path),* $(,)?) => {
        [$({
            let kubectl = $kubectl.clone();
            let name = format!("{} of {}", stringify!($check), kubectl.way.namespace);
            (name, spawn_local(async move { $check(&kubectl).await }))
        }),*]
    };
}

type Checks = Vec<(String, JoinHandle<()>)>;

/// The verbs that stream.
async fn streaming(cluster: &Arc<Cluster>, way: Way) -> (Kubectl, Checks) {
    let kubectl = Kubectl::new(cluster, way).await;
    kubectl.reaches_the_node().await;
    let checks = checks!(
        kubectl,
        exec::codes_and_outputs,
        exec::input,
        exec::clients_that_go,
        exec::refusals,
        exec::terminal,
        attach::terminal,
        attach::without_a_terminal,
        attach::run_on_a_terminal,
        attach::run_piped,
        copies::both_ways,
        copies::folders_and_refusals,
        forward::fifty_at_once,
        forward::refused,
    );
    (kubectl, checks.into())
}

async fn cluster(flags: Flags<'static>) -> Option<Arc<Cluster>> {
    let tools = tools()?;
    let start = move || Arc::new(Cluster::start(&tools, flags));
    Some(tokio::task::spawn_blocking(start).await.unwrap())
}

#[tokio::test]
async fn kubectl_and_a_python_client_reach_real_processes() {
    let Some(cluster) = cluster(Flags::default()).await else {
        return;
    };
    LocalSet::new().run_until(as_it_is(&cluster)).await;
}

async fn as_it_is(cluster: &Arc<Cluster>) {
    let (kubectl, mut checks) = streaming(cluster, WEBSOCKETS).await;
    checks.extend(checks!(
        kubectl,
        logs::followed,
        logs::previous,
        logs::debug_is_refused,
        python::streams,
    ));
    checks.extend(streaming(cluster, SPDY).await.1);
    all_end_well(checks).await;
    for what in ["exec", "attach", "portforward"] {
        let (passed_on, translated) = kubectl.routed(what).await;
        assert!(passed_on > 0 && translated == 0, "{what}");
    }
}

#[tokio::test]
async fn kubectl_reaches_them_where_the_api_server_translates() {
    let flags = Flags {
        apiserver: BEFORE,
        ..Flags::default()
    };
    let Some(cluster) = cluster(flags).await else {
        return;
    };
    LocalSet::new().run_until(translated(&cluster)).await;
}

async fn translated(cluster: &Arc<Cluster>) {
    let (kubectl, mut checks) = streaming(cluster, TRANSLATED).await;
    checks.extend(checks!(kubectl, python::streams));
    all_end_well(checks).await;
    for what in ["exec", "attach", "portforward"] {
        let (passed_on, translated) = kubectl.routed(what).await;
        assert!(passed_on == 0 && translated > 0, "{what}");
    }
}
