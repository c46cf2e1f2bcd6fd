//! The ceiling: one status PATCH for each created pod, one DELETE with grace 0
//! for each that is to go, nothing else. No kubelet can do with less.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::generator::NAMESPACE;

/// The benchmark's own program, started again with this, is the ceiling.
pub const COMMAND: &str = "ceiling";
/// Writes at once: as many as the framework's.
const AT_ONCE: usize = 32;

/// Until it is killed.
pub async fn run(client: Client) {
    let api: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let (mut patched, mut deleted) = (HashSet::new(), HashSet::new());
    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let (Event::Apply(pod) | Event::InitApply(pod)) = event.expect("the watch holds") else {
            continue;
        };
        let name = pod.metadata.name.clone().unwrap();
        let (api, permits) = (api.clone(), permits.clone());
        if pod.metadata.deletion_timestamp.is_some() {
            if deleted.insert(name.clone()) {
                tokio::spawn(async move {
                    let _permit = permits.acquire().await.unwrap();
                    let now = DeleteParams::default().grace_period(0);
                    api.delete(&name, &now).await.unwrap();
                });
            }
        } else if patched.insert(name.clone()) {
            tokio::spawn(async move {
                let body = running(&pod);
                let _permit = permits.acquire().await.unwrap();
                api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&body))
                    .await
                    .unwrap();
            });
        }
    }
}

fn running(pod: &Pod) -> Value {
    let now = &pod.metadata.creation_timestamp;
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let container = &pod.spec.as_ref().unwrap().containers[0];
    json!({"metadata": {"uid": pod.metadata.uid}, "status": {
        "phase": "Running",
        "observedGeneration": 1,
        "startTime": now,
        "hostIP": "192.0.2.1",
        "hostIPs": [{"ip": "192.0.2.1"}],
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": conditions.map(|kind| json!({
            "type": kind, "status": "True", "lastTransitionTime": now, "observedGeneration": 1,
        })),
        "containerStatuses": [{
            "name": container.name, "image": container.image, "imageID": "",
            "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }],
    }})
}
