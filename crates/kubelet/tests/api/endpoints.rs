//! What is answered.

use http_body_util::{BodyExt, Empty};
use serde_json::Value;

use crate::rig::{Rig, TOKEN, request};
use crate::suite::world::eventually;
use crate::wire::{Answer, say};

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_those_of_kubernetes_and_running_ones_those_of_the_remote() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    // The node hears of its own status a moment after we do.
    let list = eventually("the pod is told to run", async || {
        let list: Value = serde_json::from_slice(&rig.get("/pods").await.body).unwrap();
        (list["items"][0]["status"]["phase"] == "Running").then_some(list)
    })
    .await;
    assert_eq!(list["kind"], "PodList");
    let pod = &list["items"][0];
    assert_eq!(pod["metadata"]["uid"], *uid);
    assert_eq!(pod["spec"]["containers"][0]["image"], "app:1");
    assert!(pod["metadata"].get("managedFields").is_none());
    let running: Value = serde_json::from_slice(&rig.get("/runningpods/").await.body).unwrap();
    assert_eq!(running["items"][0]["metadata"]["uid"], *uid);
    assert_eq!(
        running["items"][0]["spec"]["containers"][0]["image"],
        "app:1"
    );
    rig.remote.exit(&uid, 0);
    eventually("it runs no longer", async || {
        let list = rig.get("/runningpods/").await.body;
        let list: Value = serde_json::from_slice(&list).unwrap();
        list["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_configuration_and_metrics_are_told() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for path in [
        "/healthz",
        "/healthz/ping",
        "/healthz/log",
        "/healthz/syncloop",
    ] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, &*answer.text()), (200, "ok"), "{path}");
    }
    let config: Value = serde_json::from_slice(&rig.get("/configz").await.body).unwrap();
    let config = &config["kubeletconfig"];
    assert_eq!(config["port"], rig.address.port());
    assert_eq!(config["authentication"]["anonymous"]["enabled"], false);
    let metrics = rig.get("/metrics").await;
    let text = metrics.text();
    for line in [
        "virtual_kubelet_http_requests_total{endpoint=\"healthz\",code=\"200\"}",
        "virtual_kubelet_http_connections ",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert_eq!(rig.get("/metrics/probes").await.status, 200);
    rig.end().await;
}

/// Every endpoint that is the backend's to answer: its method, its path, and what the
/// backend needs for it, by the rig's name and in the words of a refusal.
const OF_THE_BACKEND: [(&str, &str, &str, &str); 11] = [
    (
        "GET",
        "/containerLogs/default/web/app",
        "logs",
        "logs (kubectl logs)",
    ),
    (
        "GET",
        "/exec/default/web/app?command=ls&output=1",
        "exec",
        "exec (kubectl exec)",
    ),
    (
        "POST",
        "/exec/default/web/UID/app?command=ls",
        "exec",
        "exec (kubectl exec)",
    ),
    (
        "POST",
        "/run/default/web/app?cmd=exit+0",
        "exec",
        "exec (kubectl exec)",
    ),
    (
        "GET",
        "/attach/default/web/app?output=1",
        "attach",
        "attach (kubectl attach)",
    ),
    (
        "POST",
        "/attach/default/web/UID/app?output=1",
        "attach",
        "attach (kubectl attach)",
    ),
    (
        "POST",
        "/portForward/default/web",
        "port-forward",
        "port-forward (kubectl port-forward)",
    ),
    (
        "GET",
        "/portForward/default/web/UID",
        "port-forward",
        "port-forward (kubectl port-forward)",
    ),
    (
        "GET",
        "/stats/summary",
        "stats",
        "measurements (kubectl top)",
    ),
    (
        "GET",
        "/metrics/resource",
        "stats",
        "measurements (kubectl top)",
    ),
    (
        "GET",
        "/metrics/cadvisor",
        "stats",
        "measurements (kubectl top)",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_lacks_is_refused_by_name_and_all_else_is_not() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    for lacking in ["logs", "exec", "attach", "port-forward", "stats"] {
        rig.remote.lack(&[lacking]);
        let measured = (lacking != "stats").then(|| Ok(Default::default()));
        rig.remote.measures(measured);
        for (method, path, needs, words) in OF_THE_BACKEND {
            let path = path.replace("UID", &uid);
            let answer = Answer::parse(&say(&mut rig.line().await, &request(method, &path)).await);
            let text = answer.text();
            if needs == lacking {
                let sentence = format!("the memory backend of this node has no {words}\n");
                assert_eq!((answer.status, text), (501, sentence), "{path}");
            } else {
                assert!(answer.status != 501, "{path} without {lacking}: {text}");
                assert!(!text.contains("has no"), "{path} without {lacking}: {text}");
            }
        }
        // What is Kubernetes' or ours to answer is answered whatever it lacks.
        for path in [
            "/pods",
            "/runningpods/",
            "/healthz",
            "/metrics",
            "/metrics/probes",
            "/configz",
        ] {
            assert_eq!(rig.get(path).await.status, 200, "{path} without {lacking}");
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for (path, words) in [
        ("/exec/default/other/app", "pod does not exist"),
        ("/portForward/default/web/other-uid", "pod not found"),
        ("/debug/pprof/", "404: Page Not Found"),
        ("/logs/", "404: Page Not Found"),
        ("/", "404: Page Not Found"),
    ] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, &*answer.text()), (404, words), "{path}");
    }
    let answer = Answer::parse(&say(&mut rig.line().await, &request("POST", "/pods")).await);
    assert_eq!(answer.status, 405);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_one_connection_of_http2() {
    let rig = Rig::new().await;
    let client = rig.http2();
    let asking = (0..50).map(|_| {
        let request = http::Request::get(format!("https://{}/healthz", rig.address))
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Empty::new())
            .unwrap();
        let answer = client.request(request);
        async {
            let answer = answer.await.unwrap();
            assert_eq!(answer.version(), http::Version::HTTP_2);
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "ok");
        }
    });
    futures::future::join_all(asking).await;
    let asked = rig.reviews.asked();
    let times = asked.iter().filter(|asked| *asked == "jane healthz");
    assert_eq!(times.count(), 1, "one question for all: {asked:?}");
    rig.end().await;
}
