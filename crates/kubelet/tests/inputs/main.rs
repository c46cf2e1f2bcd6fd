//! What pods refer to: read, watched and kept fresh, in the sandbox on the
//! stepped clock.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "modules of one test"
)]

mod denied;
mod hidden;
mod missing;
mod refresh;
#[path = "../suite/sandboxed.rs"]
mod sandboxed;
mod services;
#[path = "../suite/mod.rs"]
mod suite;
mod tokens;
mod watches;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use suite::memory::given::Given;
use suite::world::{World, uid};
use tokio::time::{Instant, sleep};
use virtual_kubelet::InputSettings;
use vk_sandbox::kubernetes::Cluster;

/// An object that appears starts its pods within this.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A change of one reaches files within this.
const SOON: Duration = Duration::from_secs(10);

/// A kubelet whose backend wants all that pods refer to.
async fn world() -> (World, Cluster) {
    world_with(InputSettings::default()).await
}

async fn world_with(settings: InputSettings) -> (World, Cluster) {
    let (mut world, cluster) = sandboxed::idle();
    world.remote.want_inputs();
    world.inputs = settings;
    world.start().await;
    (world, cluster)
}

/// A pod of one container `app` with this in it, and this in its spec.
fn pod(world: &World, name: &str, app: Value, spec: Value) -> Pod {
    let mut container = json!({"name": "app", "image": "app:1"});
    merge(&mut container, app);
    let mut all = json!({
        "nodeName": world.node,
        "automountServiceAccountToken": false,
        "containers": [container],
    });
    merge(&mut all, spec);
    let pod = json!({"metadata": {"name": name, "namespace": "default"}, "spec": all});
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, fields: Value) {
    let fields = fields.as_object().unwrap().clone();
    into.as_object_mut().unwrap().extend(fields);
}

/// Its files are those of `volume`, below `/files`.
fn files_of(world: &World, name: &str, volume: Value) -> Pod {
    let mut volumes = json!({"name": "files"});
    merge(&mut volumes, volume);
    let mount = json!({"volumeMounts": [{"name": "files", "mountPath": "/files"}]});
    pod(world, name, mount, json!({"volumes": [volumes]}))
}

fn config_map(cluster: &Cluster, name: &str, data: Value) {
    let map = json!({"metadata": {"name": name, "namespace": "default"}, "data": data});
    let map: ConfigMap = serde_json::from_value(map).unwrap();
    cluster.create(&map).unwrap();
}

fn secret(cluster: &Cluster, name: &str, data: Value) {
    let secret = json!({"metadata": {"name": name, "namespace": "default"}, "stringData": data});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    cluster.create(&secret).unwrap();
}

fn change<K: vk_sandbox::kubernetes::Object>(cluster: &Cluster, name: &str, merge: Value) {
    cluster.patch::<K>("default", name, &merge).unwrap();
}

/// What the pod was given.
fn given(world: &World, pod: &Pod) -> Given {
    world.remote.given(&uid(pod)).unwrap()
}

fn file(world: &World, pod: &Pod, path: &str) -> Option<String> {
    given(world, pod).files["app"].get(path).cloned()
}

/// Waits until a file of the pod reads so; answers how long that took.
async fn until_file(world: &World, pod: &Pod, path: &str, text: &str) -> Duration {
    let begun = Instant::now();
    while file(world, pod, path).as_deref() != Some(text) {
        assert!(begun.elapsed() < suite::world::PATIENCE, "never {text:?}");
        sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

/// Reason and message of the state `waiting` of a container.
fn waits(pod: &Pod, container: &str) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let inits = status.init_container_statuses.iter().flatten();
    let mut all = inits.chain(status.container_statuses.iter().flatten());
    let shown = all.find(|c| c.name == container)?.state.as_ref()?;
    let waiting = shown.waiting.as_ref()?;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    Some((text(&waiting.reason), text(&waiting.message)))
}

/// Waits until the container waits for this reason; answers with its message.
async fn waiting_for(world: &World, name: &str, reason: &'static str) -> String {
    let is = move |pod: &Pod| waits(pod, "app").is_some_and(|(why, _)| why == reason);
    let pod = world.wait(name, reason, is).await;
    assert_eq!(suite::world::phase(&pod), "Pending");
    waits(&pod, "app").unwrap().1
}

/// Reasons and notes of all Warning events.
async fn warnings(world: &World) -> Vec<(String, String)> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let events = events.list(&ListParams::default()).await.unwrap();
    let warnings = events.items.into_iter();
    let warnings = warnings.filter(|e| e.type_.as_deref() == Some("Warning"));
    warnings
        .map(|e| (e.reason.unwrap_or_default(), e.message.unwrap_or_default()))
        .collect()
}
