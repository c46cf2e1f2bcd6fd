//! Pods bound to one node, from Kubernetes into the table.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use vk_provider::Uid;

use crate::cause::chain;
use crate::lean::LeanPod;
use crate::pace::paced;
use crate::queue::Queue;
use crate::table::Table;

/// Follows the pods of `node` until `stop`. A watch that ends is opened again as
/// [`crate::pace`] allows; a delete that happened meanwhile is found by the new list.
pub(crate) async fn watch_pods(
    client: Client,
    node: Arc<str>,
    table: Table,
    queue: Queue,
    stop: CancellationToken,
) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = watcher::watcher(Api::<LeanPod>::all(paced(client)), config)
        .default_backoff()
        .boxed();
    let mut seen = HashSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => warn!(
                node = &*node,
                error = chain(&error),
                "pod watch interrupted"
            ),
            Some(Ok(event)) => take(event, &node, &mut seen, &table, &queue),
        }
    }
}

fn take(event: Event<LeanPod>, node: &str, seen: &mut HashSet<Uid>, table: &Table, queue: &Queue) {
    match event {
        Event::Init => seen.clear(),
        Event::InitApply(pod) => {
            if let Some(key) = pod.key() {
                seen.insert(key.uid);
            }
            apply(pod, table, queue);
        }
        Event::Apply(pod) => apply(pod, table, queue),
        Event::InitDone => {
            let vanished = table.synced(node, seen);
            debug!(
                node,
                pods = seen.len(),
                vanished = vanished.len(),
                "pods synced"
            );
            vanished.iter().for_each(|uid| queue.mark(uid));
            seen.clear();
        }
        Event::Delete(pod) => {
            if let Some(key) = pod.key() {
                table.deleted(&key.uid);
                queue.mark(&key.uid);
            }
        }
    }
}

fn apply(pod: LeanPod, table: &Table, queue: &Queue) {
    if let Some(uid) = table.apply(pod) {
        queue.mark(&uid);
    }
}
