//! Pods that cannot be started yet, as `kubectl describe` shows them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::harness::control_plane::ControlPlane;
use crate::suite::world::{PATIENCE, World, eventually, phase, uid};
use crate::{BARE, SHOP, create, rights};

/// An object that appears starts its pods within this.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A Pod of one container that has this, with this in its spec.
fn pod(namespace: &str, name: &str, container: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{nodeName: vk-shop, containers: [{{name: app, image: 'app:1', {container}}}], {spec}}}\n"
    )
}

/// `KEY` is what a ConfigMap says.
fn reads(map: &str, key: &str) -> String {
    format!("env: [{{name: KEY, valueFrom: {{configMapKeyRef: {{name: {map}, key: {key}}}}}}}]")
}

/// The container has the volume `files` there.
fn mounts(path: &str) -> String {
    format!("volumeMounts: [{{name: files, mountPath: {path}}}]")
}

/// Until `kubectl describe` shows all of it.
async fn described(plane: &ControlPlane, namespace: &str, pod: &str, words: &[&str]) -> String {
    let what = format!("{pod} shows {words:?}");
    eventually(&what, async || {
        let text = plane.ok(&["describe", "pod", pod, "-n", namespace]);
        words.iter().all(|w| text.contains(w)).then_some(text)
    })
    .await
}

/// The pod, when its status has this phase.
async fn comes_to(wanted: &str, world: &World, namespace: &str, name: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), namespace);
    let is = |pod: Option<&Pod>| pod.is_some_and(|pod| phase(pod) == wanted);
    let waited = timeout(PATIENCE, await_condition(pods, name, is)).await;
    let came = waited.unwrap_or_else(|_| panic!("{name} never was {wanted}"));
    came.unwrap().unwrap()
}

pub async fn for_what_is_missing(plane: &ControlPlane, world: &World) {
    let patient = pod(SHOP, "patient", &reads("late", "a"), "");
    create(plane, &patient);
    let words = [
        "CreateContainerConfigError",
        "Error: configmap \"late\" not found",
    ];
    let text = described(plane, SHOP, "patient", &words).await;
    let status = text.lines().find(|line| line.starts_with("Status:"));
    assert!(status.is_some_and(|s| s.ends_with("Pending")), "{text}");
    let late: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "late"}, "data": {"a": "here"}}))
            .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), SHOP);
    let begun = Instant::now();
    maps.create(&PostParams::default(), &late).await.unwrap();
    let pod = comes_to("Running", world, SHOP, "patient").await;
    println!(
        "runs {:.2} s after its ConfigMap came",
        begun.elapsed().as_secs_f64()
    );
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let given = world.remote.given(&uid(&pod)).unwrap();
    assert_eq!(given.environment["app"]["KEY"], "here");
}

pub async fn for_what_is_forbidden(plane: &ControlPlane, world: &World) {
    let reads = reads("settings", "plain");
    let both = format!("{reads}, {}", mounts("/hush"));
    let hush = "volumes: [{name: files, secret: {secretName: hush}}]";
    let held = pod(BARE, "held", &both, hush);
    create(plane, &(held + &pod(BARE, "held-by-env", &reads, "")));
    let forbidden = |plural: &str, name: &str| {
        format!(
            "{plural} \"{name}\" is forbidden: User \"system:serviceaccount:default:vk-flightctl-provider\" \
             cannot list resource \"{plural}\" in API group \"\" in the namespace \"bare\"; \
             a RoleBinding in namespace \"bare\" that lets this provider list and watch {plural} is missing"
        )
    };
    let hush = forbidden("secrets", "hush");
    let mount = format!("MountVolume.SetUp failed for volume \"files\" : {hush}");
    described(plane, BARE, "held", &["FailedMount", &mount]).await;
    let settings = format!("Error: {}", forbidden("configmaps", "settings"));
    let words = ["CreateContainerConfigError", &settings];
    described(plane, BARE, "held-by-env", &words).await;
    rights::bind(plane, &[SHOP, BARE]);
    let begun = Instant::now();
    let pod = comes_to("Running", world, BARE, "held").await;
    comes_to("Running", world, BARE, "held-by-env").await;
    println!(
        "run {:.1} s after the binding came",
        begun.elapsed().as_secs_f64()
    );
    let given = world.remote.given(&uid(&pod)).unwrap();
    assert_eq!(given.environment["app"]["KEY"], "of the map");
    // And no token beside it.
    let files = given.files["app"].iter();
    let files: Vec<_> = files.map(|(p, t)| (p.as_str(), t.as_str())).collect();
    assert_eq!(
        files,
        [("/hush/shared", "of the secret"), ("/hush/word", "s3cret")]
    );
    let volumes = pod.spec.unwrap().volumes.unwrap();
    assert!(
        volumes
            .iter()
            .any(|v| v.name.starts_with("kube-api-access-"))
    );
}

pub async fn for_no_token(plane: &ControlPlane, world: &World) {
    let token = "automountServiceAccountToken: false, \
                 volumes: [{name: files, projected: {sources: [{serviceAccountToken: {path: token}}]}}]";
    create(plane, &pod(BARE, "holder", &mounts("/token"), token));
    let pod = comes_to("Failed", world, BARE, "holder").await;
    let status = pod.status.unwrap();
    let message = status.message.unwrap();
    let path = "spec.volumes[0].projected.sources[0].serviceAccountToken is not supported: tokens of namespace \"bare\" do not leave the cluster";
    assert!(message.contains(path), "{message}");
    described(plane, BARE, "holder", &["Failed", path]).await;
}
