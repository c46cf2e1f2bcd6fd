//! The rest of what clients see: events, refusals, discovery, TLS.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use vk_sandbox::clock::Clock;
use vk_sandbox::kubernetes::{Cluster, kubeconfig};
use vk_sandbox::{tls, transport};

use super::{client, cluster, on_node, raw};

#[tokio::test(start_paused = true)]
async fn events_are_one_store_under_two_groups_and_expire() {
    let cluster = cluster();
    let new: Api<k8s_openapi::api::events::v1::Event> = Api::default_namespaced(client(&cluster));
    let event = |name: &str| {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reason": "Pulled", "note": "all here", "type": "Normal", "action": "Pull",
            "reportingController": "vk", "reportingInstance": "vk-0",
            "regarding": {"kind": "Pod", "name": "web", "namespace": "default"}}),
        )
        .unwrap()
    };
    new.create(&PostParams::default(), &event("first"))
        .await
        .unwrap();
    let core: Api<Event> = Api::default_namespaced(client(&cluster));
    let about = ListParams::default().fields("involvedObject.name=web");
    let found = core.list(&about).await.unwrap().items;
    assert_eq!(found[0].message.as_deref(), Some("all here"));
    let more = Patch::Merge(json!({"note": "and more"}));
    let patched = new
        .patch("first", &PatchParams::default(), &more)
        .await
        .unwrap();
    assert_eq!(patched.note.as_deref(), Some("and more"));
    tokio::time::advance(Duration::from_secs(3601)).await;
    new.create(&PostParams::default(), &event("second"))
        .await
        .unwrap();
    assert_eq!(
        core.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_done_is_refused_by_name() {
    let cluster = cluster();
    cluster.create(&on_node("web")).unwrap();
    let base = "/api/v1/namespaces/default/pods/web";
    let apply = [("content-type", "application/apply-patch+yaml")];
    for (method, path, headers, named) in [
        (
            "GET",
            "/api/v1/endpoints".into(),
            &[][..],
            "GET of endpoints",
        ),
        ("PATCH", base.into(), &apply[..], "server-side apply"),
        (
            "POST",
            "/api/v1/nodes?dryRun=All".into(),
            &[][..],
            "dry run",
        ),
        (
            "DELETE",
            format!("{base}?propagationPolicy=Orphan"),
            &[][..],
            "propagationPolicy Orphan",
        ),
    ] {
        let (code, message) = raw(&cluster, method, &path, headers, "").await;
        assert_eq!(code, 501, "{message}");
        assert!(message.to_string().contains(named), "{message}");
    }
    let text = [("content-type", "text/plain")];
    assert_eq!(raw(&cluster, "PATCH", base, &text, "{}").await.0, 415);
}

#[tokio::test(start_paused = true)]
async fn kubectls_questions_are_answered() {
    let cluster = cluster();
    cluster.create(&on_node("web")).unwrap();
    let table = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let (_, rows) = raw(&cluster, "GET", "/api/v1/pods", &table, "").await;
    assert_eq!(rows["kind"], "Table");
    assert_eq!(
        rows["rows"][0]["cells"].as_array().unwrap()[..4],
        [json!("web"), json!("0/1"), json!("Pending"), json!("0")]
    );
    let (_, version) = raw(&cluster, "GET", "/version", &[], "").await;
    assert_eq!(version["minor"], "36");
    let apis = client(&cluster).list_api_groups().await.unwrap();
    assert!(apis.groups.iter().any(|g| g.name == "apps"));
    let resources = client(&cluster)
        .list_core_api_resources("v1")
        .await
        .unwrap();
    let verbs = |name: &str| {
        let found = resources.resources.iter().find(|r| r.name == name);
        found.unwrap().verbs.join(" ")
    };
    assert_eq!(verbs("pods/status"), "get patch update");
    assert_eq!(verbs("pods/log"), "get");
    assert_eq!(verbs("pods/exec"), "create get");
    assert_eq!(verbs("nodes/proxy"), "create delete get patch update");
}

#[tokio::test(start_paused = true)]
async fn without_the_token_nobody_is_answered() {
    let cluster = cluster().with_token("secret");
    let path = "/api/v1/pods";
    assert_eq!(raw(&cluster, "GET", path, &[], "").await.0, 401);
    assert_eq!(
        raw(
            &cluster,
            "GET",
            path,
            &[("authorization", "Bearer wrong")],
            ""
        )
        .await
        .0,
        401
    );
    assert_eq!(
        raw(
            &cluster,
            "GET",
            path,
            &[("authorization", "Bearer secret")],
            ""
        )
        .await
        .0,
        200
    );
}

#[tokio::test]
async fn a_kubeconfig_reaches_it_over_tls_on_loopback() {
    let cluster = Cluster::new(Clock::live()).with_token("secret");
    let tls = tls::loopback().unwrap();
    let listener = transport::loopback("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(cluster.endpoint().listen(
        listener,
        Some(tls.acceptor),
        stop.clone(),
    ));
    let text = kubeconfig::text(&url, &tls.ca_pem, "secret");
    let file = kube::config::Kubeconfig::from_yaml(&text).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default())
        .await
        .unwrap();
    let api: Api<Pod> = Api::default_namespaced(Client::try_from(config).unwrap());
    api.create(&PostParams::default(), &on_node("web"))
        .await
        .unwrap();
    assert_eq!(
        api.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
    let foreign = kubeconfig::text(&url, &tls::loopback().unwrap().ca_pem, "secret");
    let file = kube::config::Kubeconfig::from_yaml(&foreign).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default())
        .await
        .unwrap();
    let api: Api<Pod> = Api::default_namespaced(Client::try_from(config).unwrap());
    assert!(
        api.list(&ListParams::default()).await.is_err(),
        "another CA is not trusted"
    );
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn secrets_are_stored_encoded_and_namespaces_show_the_ca() {
    let cluster = cluster();
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"key": "value"}}))
            .unwrap();
    let made = cluster.create(&secret).unwrap();
    assert_eq!(made.data.unwrap()["key"].0, b"value");
    assert!(made.string_data.is_none());
    cluster.set_ca("PEM");
    let map = cluster.get::<ConfigMap>("kube-system", "kube-root-ca.crt");
    assert_eq!(map.unwrap().data.unwrap()["ca.crt"], "PEM");
}

#[tokio::test]
async fn faults_can_be_switched_over_http_without_the_token() {
    let cluster = cluster().with_token("secret");
    let path = "/_sandbox/faults";
    let rule = r#"{"path": "/pods", "times": 1, "effect": {"status": 503}}"#;
    let json_body = [("content-type", "application/json")];
    assert_eq!(raw(&cluster, "POST", path, &json_body, rule).await.0, 200);
    assert_eq!(
        raw(&cluster, "GET", path, &[], "").await.1[0]["effect"],
        json!({"status": 503})
    );
    let token = [("authorization", "Bearer secret")];
    assert_eq!(
        raw(&cluster, "GET", "/api/v1/pods", &token, "").await.0,
        503
    );
    assert_eq!(
        raw(&cluster, "GET", "/api/v1/pods", &token, "").await.0,
        200
    );
    assert_eq!(raw(&cluster, "DELETE", path, &[], "").await.1, json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_stepped_clock_is_stepped_over_http_and_what_is_due_happens() {
    let cluster = cluster();
    let path = "/_sandbox/clock";
    let shown = raw(&cluster, "GET", path, &[], "").await.1;
    assert_eq!(
        shown,
        json!({"now": "2026-01-01T00:00:00Z", "stepped": true})
    );
    let due = tokio::spawn(tokio::time::sleep(Duration::from_secs(3000)));
    let json_body = [("content-type", "application/json")];
    let hour = r#"{"advance": 3600}"#;
    let shown = raw(&cluster, "POST", path, &json_body, hour).await.1;
    assert_eq!(shown["now"], "2026-01-01T01:00:00Z");
    assert!(due.is_finished());
    let made = cluster.create(&on_node("web")).unwrap();
    let at = made.metadata.creation_timestamp.unwrap();
    assert_eq!(at.0.to_string(), "2026-01-01T01:00:00Z");
    let ever = r#"{"advance": 9999999999}"#;
    assert_eq!(raw(&cluster, "POST", path, &json_body, ever).await.0, 400);
}

#[tokio::test]
async fn the_live_clock_is_shown_and_cannot_be_stepped() {
    let cluster = Cluster::new(Clock::live());
    let path = "/_sandbox/clock";
    assert_eq!(
        raw(&cluster, "GET", path, &[], "").await.1["stepped"],
        false
    );
    let json_body = [("content-type", "application/json")];
    let step = r#"{"advance": 1}"#;
    let (code, message) = raw(&cluster, "POST", path, &json_body, step).await;
    assert_eq!(code, 409, "{message}");
}
