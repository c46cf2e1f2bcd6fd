//! The nodes of this provider that Kubernetes has, whatever the backend says.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::timeout;
use tracing::warn;

use crate::node::{CALL_DEADLINE, instance};

/// First pause after a failed list, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
/// A lease that nobody renews is due within 40 s.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Lists until it succeeds: Nodes that carry this instance's mark, and those
/// among `named` that were registered before there was one.
pub(super) async fn survey(client: Client, ours: String, named: HashSet<Arc<str>>) -> Vec<Node> {
    let api: Api<Node> = Api::all(client);
    let params = ListParams::default().labels("type=virtual-kubelet");
    let mut retry = RETRY_MIN;
    loop {
        match timeout(CALL_DEADLINE, api.list(&params)).await {
            Ok(Ok(list)) => {
                let mut found = list.items;
                found.retain(|node| is_ours(node, &ours, &named));
                return found;
            }
            Ok(Err(error)) => warn!(%error, "own nodes could not be listed"),
            Err(_) => warn!("own nodes could not be listed: no answer"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

fn is_ours(node: &Node, ours: &str, named: &HashSet<Arc<str>>) -> bool {
    match instance(node) {
        None => false,
        Some(Some(instance)) => instance == ours,
        Some(None) => node
            .metadata
            .name
            .as_deref()
            .is_some_and(|name| named.contains(name)),
    }
}
