//! `kubectl logs`, exec and the like, and what else goes through the API server to
//! the node, whose certificate the cluster issues.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;
use virtual_kubelet::{ApiSettings, ServingCertificate};
use vk_provider::{Clock, LogSource};

use crate::harness::control_plane::{ControlPlane, KUBELET_CLIENT, Output};
use crate::harness::reached_as_node;
use crate::kubectl_streams;
use crate::suite::world::{World, eventually, uid};

pub const NAMESPACE: &str = "kubectl";
const NODE: &str = "vk-kubectl";
const USER: &str = "system:node:vk-kubectl";

/// Where the node's API listens. The API server proxies to no loopback address:
/// for that part name one of a network namespace made for the test.
fn address() -> IpAddr {
    let named = std::env::var("VK_NODE_ADDRESS").ok();
    named.map_or([127, 0, 0, 1].into(), |text| text.parse().unwrap())
}

async fn logs(plane: &Arc<ControlPlane>, flags: &[&str]) -> Output {
    let args = [&["logs", "web", "-n", NAMESPACE], flags].concat();
    plane.kubectl_apart(&args).await
}

pub async fn reaches_into_pods(plane: Arc<ControlPlane>) {
    plane.ok(&["create", "namespace", NAMESPACE]);
    // A node of its own may list its own pods only; ours are listed together.
    let (role, user) = ("--clusterrole=cluster-admin", format!("--user={USER}"));
    plane.ok(&["create", "clusterrolebinding", NAMESPACE, role, &user]);
    // The signer serves nodes alone.
    let line = reached_as_node(plane.kubeconfig(), USER).await;
    let line = Client::try_from(line).unwrap();
    let address = address();
    let api = ApiSettings {
        bind: address,
        address: Some(address),
        certificate: ServingCertificate::Requested,
        ..ApiSettings::new(0..=0)
    };
    let mut world = World::idle(line, Clock::live(), NAMESPACE);
    world.api = Some(api);
    world.start().await;
    world.client = crate::client(&plane.kubeconfig()).await;
    let pod = world.create(&world.pod("web", "Always")).await;
    world.running("web").await;
    approve(&plane, &world).await;
    rights(&plane).await;
    flags(&plane, &world, &uid(&pod)).await;
    if address.is_loopback() {
        println!(
            "SKIPPED: what the API server proxies (to no loopback address): VK_NODE_ADDRESS is unset"
        );
    } else {
        proxied(&plane, &uid(&pod)).await;
    }
    Box::pin(kubectl_streams::all(&plane, &world, &uid(&pod))).await;
    followed(&plane, &world, &uid(&pod)).await;
    world.delete("web", None).await;
    world.emptied().await;
    kubectl_streams::stops(&plane, &mut world).await;
}

/// Nothing waits for the certificate, and nothing is served without it.
async fn approve(plane: &Arc<ControlPlane>, world: &World) {
    let refused = logs(plane, &[]).await;
    assert!(!refused.success, "{}", refused.text);
    let requests: Api<CertificateSigningRequest> = Api::all(world.client.clone());
    let asked = eventually("the node asks for a certificate", async || {
        let all = requests.list(&ListParams::default()).await.unwrap();
        let mut all = all.into_iter();
        all.find(|request| request.spec.username.as_deref() == Some(USER))
    })
    .await;
    let name = asked.metadata.name.unwrap();
    plane.ok(&["certificate", "approve", &name]);
}

/// The API server shows a certificate of the cluster, and may read by and by.
async fn rights(plane: &Arc<ControlPlane>) {
    let forbidden = format!("Forbidden (user={KUBELET_CLIENT}, verb=get, resource=nodes");
    let told = async || {
        let refused = logs(plane, &[]).await;
        assert!(!refused.success, "{}", refused.text);
        refused.text.contains(&forbidden).then_some(())
    };
    eventually("the certificate is there and the right is not", told).await;
    let (role, user) = (
        "--clusterrole=system:kubelet-api-admin",
        format!("--user={KUBELET_CLIENT}"),
    );
    plane.ok(&["create", "clusterrolebinding", KUBELET_CLIENT, role, &user]);
    // A no is remembered for 30 s.
    let told = async || logs(plane, &[]).await.success.then_some(());
    eventually("the API server may read", told).await;
}

async fn flags(plane: &Arc<ControlPlane>, world: &World, uid: &str) {
    let write = |text: &str| {
        let bytes = text.as_bytes();
        world.remote.write(uid, "app", LogSource::Stdout, bytes);
    };
    for line in ["one\n", "zwölf\n", "three\n"] {
        write(line);
    }
    let table: [(&[&str], &str); 7] = [
        (&[], "one\nzwölf\nthree\n"),
        (&["-c", "app", "--tail=2"], "zwölf\nthree\n"),
        (&["--tail=0"], ""),
        (&["--limit-bytes=6"], "one\nzw"),
        (&["--since=1h"], "one\nzwölf\nthree\n"),
        (&["--since-time=2999-01-01T00:00:00Z"], ""),
        (
            &["--prefix"],
            "[pod/web/app] one\n[pod/web/app] zwölf\n[pod/web/app] three\n",
        ),
    ];
    for (flags, wanted) in table {
        let shown = logs(plane, flags).await;
        assert!(shown.success, "{flags:?}: {}", shown.text);
        assert_eq!(shown.text, wanted, "{flags:?}");
    }
    let stamped = logs(plane, &["--timestamps", "--tail=1"]).await.text;
    let (stamp, text) = stamped.split_once(' ').unwrap();
    stamp.parse::<jiff::Timestamp>().unwrap();
    assert_eq!(text, "three\n");
    let none = logs(plane, &["--previous"]).await;
    let words = "previous terminated container \"app\" in pod \"web\" not found";
    assert!(!none.success && none.text.contains(words), "{}", none.text);
    world.remote.restart(uid, "app", 1);
    write("again\n");
    let previous = async || {
        let shown = logs(plane, &["--previous"]).await;
        shown.success.then_some(shown.text)
    };
    let text = eventually("the restart is told", previous).await;
    assert_eq!(text, "one\nzwölf\nthree\n");
}

async fn proxied(plane: &Arc<ControlPlane>, uid: &str) {
    let raw = async |path: &str| {
        let path = format!("/api/v1/nodes/{NODE}/proxy{path}");
        plane.kubectl_apart(&["get", "--raw", &path]).await
    };
    let pods = raw("/pods").await;
    let pods: Value = serde_json::from_str(&pods.text).expect(&pods.text);
    assert_eq!(pods["items"][0]["metadata"]["uid"], *uid);
    let health = raw("/healthz").await;
    assert_eq!((health.success, &*health.text), (true, "ok"));
    assert!(
        raw("/metrics")
            .await
            .text
            .contains("virtual_kubelet_build_info")
    );
    let refused = raw("/debug/pprof/").await;
    assert!(!refused.success, "{}", refused.text);
}

async fn followed(plane: &Arc<ControlPlane>, world: &World, uid: &str) {
    let following = tokio::spawn({
        let plane = plane.clone();
        async move { logs(&plane, &["-f", "--tail=1"]).await }
    });
    for number in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let text = format!("line {number}\n");
        let bytes = text.as_bytes();
        world.remote.write(uid, "app", LogSource::Stdout, bytes);
    }
    world.remote.exit(uid, 0);
    let shown = tokio::time::timeout(Duration::from_secs(30), following).await;
    let shown = shown.expect("ends with the container").unwrap();
    assert!(shown.success, "{}", shown.text);
    assert!(shown.text.ends_with("line 3\nline 4\n"), "{}", shown.text);
}
