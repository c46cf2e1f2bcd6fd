//! ConfigMaps, Secrets, Services and ServiceAccounts: what pods are given.

use std::fmt::Debug;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use vk_sandbox::kubernetes::Cluster;

use super::{LONG, client, cluster, kind, raw};

const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

/// What a watch of `wanted` alone tells of two objects' lives.
async fn told_of_one<K>(spec: Value) -> Vec<&'static str>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + 'static,
{
    let cluster = cluster();
    let api: Api<K> = Api::default_namespaced(client(&cluster));
    let params = WatchParams::default().fields("metadata.name=wanted");
    let mut watch = Box::pin(api.watch(&params, "0").await.unwrap());
    for name in ["other", "wanted"] {
        let mut object = json!({"metadata": {"name": name}});
        json_patch::merge(&mut object, &spec);
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        api.patch(name, &PatchParams::default(), &label)
            .await
            .unwrap();
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let mut told = Vec::new();
    while told.len() < 3 {
        let event = timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap();
        told.push(kind(&event));
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_one_name_tells_its_coming_and_going_and_nothing_else() {
    let life = ["ADDED", "MODIFIED", "DELETED"];
    assert_eq!(told_of_one::<ConfigMap>(json!({})).await, life);
    assert_eq!(told_of_one::<Secret>(json!({})).await, life);
    assert_eq!(told_of_one::<ServiceAccount>(json!({})).await, life);
    let ports = json!({"spec": {"ports": [{"port": 80}]}});
    assert_eq!(told_of_one::<Service>(ports).await, life);
}

async fn post(cluster: &Cluster, plural: &str, body: &Value) -> (u16, Value) {
    let path = format!("/api/v1/namespaces/default/{plural}");
    raw(cluster, "POST", &path, &[], &body.to_string()).await
}

fn service(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(start_paused = true)]
async fn the_service_that_leads_to_the_api_is_there_from_the_start() {
    let found = cluster().get::<Service>("default", "kubernetes").unwrap();
    let spec = found.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.0.1"));
    let ports = spec.ports.unwrap();
    assert_eq!(
        (ports[0].name.as_deref(), ports[0].port),
        (Some("https"), 443)
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_an_address_of_its_own_and_keeps_it() {
    let cluster = cluster();
    let ports = json!({"ports": [{"port": 80}]});
    let (_, web) = post(&cluster, "services", &service("web", &ports)).await;
    let (_, api) = post(&cluster, "services", &service("api", &ports)).await;
    let ip = web["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_ne!(web["spec"]["clusterIP"], api["spec"]["clusterIP"]);
    let expected = json!({"clusterIP": ip, "clusterIPs": [ip], "type": "ClusterIP",
        "sessionAffinity": "None", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}]});
    assert_eq!(web["spec"], expected);

    let path = "/api/v1/namespaces/default/services/web";
    let put = service("web", &json!({"ports": [{"port": 81}]})).to_string();
    let (_, kept) = raw(&cluster, "PUT", path, &[], &put).await;
    assert_eq!(
        (
            &kept["spec"]["clusterIP"],
            &kept["spec"]["ports"][0]["port"]
        ),
        (&json!(ip), &json!(81))
    );
    let moved = json!({"spec": {"clusterIP": "10.96.0.78"}}).to_string();
    let (code, why) = raw(&cluster, "PATCH", path, &MERGE, &moved).await;
    assert_eq!(code, 422);
    assert_eq!(
        why,
        "Service \"web\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.0.78\"]: may not change once set"
    );

    let outside = json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
    let status = format!("{path}/status");
    let (code, why) = raw(&cluster, "PATCH", &status, &MERGE, &outside.to_string()).await;
    assert_eq!(code, 422);
    assert_eq!(
        why,
        "Service \"web\" is invalid: status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    );

    // Made anew, it is elsewhere, and its old address is free.
    let (_, gone) = raw(&cluster, "DELETE", path, &[], "").await;
    assert_eq!(gone["kind"], "Service");
    let (_, anew) = post(&cluster, "services", &service("web", &ports)).await;
    assert_ne!(anew["spec"]["clusterIP"], json!(ip));
    let there = json!({"clusterIP": ip, "ports": [{"port": 80}]});
    let (_, third) = post(&cluster, "services", &service("third", &there)).await;
    assert_eq!(third["spec"]["clusterIPs"], json!([ip]));
}

#[tokio::test(start_paused = true)]
async fn headless_and_external_services_get_no_address() {
    let cluster = cluster();
    let headless = json!({"clusterIP": "None", "selector": {"app": "web"}});
    let (_, made) = post(&cluster, "services", &service("head", &headless)).await;
    assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"type": "ExternalName", "externalName": "a.example"});
    let (_, made) = post(&cluster, "services", &service("far", &external)).await;
    assert_eq!(made["spec"]["clusterIP"], Value::Null);
    let only_headless = "/api/v1/services?fieldSelector=spec.clusterIP%3DNone";
    let (_, list) = raw(&cluster, "GET", only_headless, &[], "").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_service_may_not_be_is_refused_in_the_api_servers_words() {
    let cluster = cluster();
    for (spec, why) in [
        (json!({}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 80}, {"port": 81}]}),
            "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]",
        ),
        (
            json!({"clusterIP": "x", "ports": [{"port": 80}]}),
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"clusterIP": "1.2.3.4", "ports": [{"port": 80}]}),
            "spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP 1.2.3.4: the provided network does not match the current range",
        ),
        (
            json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated",
        ),
        (
            json!({"type": "ExternalName"}),
            "spec.externalName: Required value",
        ),
        (
            json!({"type": "Zork", "ports": [{"port": 80}]}),
            "spec.type: Unsupported value: \"Zork\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
    ] {
        let (code, message) = post(&cluster, "services", &service("web", &spec)).await;
        assert_eq!(code, 422, "{message}");
        assert_eq!(message, format!("Service \"web\" is invalid: {why}"));
    }
    let ports = json!({"ports": [{"port": 80}]});
    let (_, message) = post(&cluster, "services", &service("a.b", &ports)).await;
    assert!(
        message
            .as_str()
            .unwrap()
            .ends_with("\"a.b\": must not contain dots")
    );
    let node_port = json!({"type": "NodePort", "ports": [{"port": 80}]});
    let (code, message) = post(&cluster, "services", &service("web", &node_port)).await;
    assert_eq!(code, 501);
    assert_eq!(
        message,
        "the sandbox does not implement type NodePort of services"
    );
}

#[tokio::test(start_paused = true)]
async fn immutable_contents_and_impossible_keys_are_refused() {
    let cluster = cluster();
    for (plural, kind, value) in [
        ("configmaps", "ConfigMap", "x"),
        ("secrets", "Secret", "eA=="),
    ] {
        let fixed = json!({"metadata": {"name": "c"}, "immutable": true, "data": {"k": value}});
        assert_eq!(post(&cluster, plural, &fixed).await.0, 200);
        let path = format!("/api/v1/namespaces/default/{plural}/c");
        for (change, field) in [
            (json!({"data": {"k": "eQ=="}}), "data"),
            (json!({"immutable": null}), "immutable"),
        ] {
            let (code, why) = raw(&cluster, "PATCH", &path, &MERGE, &change.to_string()).await;
            assert_eq!(code, 422);
            assert_eq!(
                why,
                format!(
                    "{kind} \"c\" is invalid: {field}: Forbidden: field is immutable when `immutable` is set"
                )
            );
        }
        let odd = json!({"metadata": {"name": "d"}, "data": {"a b": value}});
        let (code, why) = post(&cluster, plural, &odd).await;
        assert_eq!(code, 422);
        let start = format!(
            "{kind} \"d\" is invalid: data[a b]: Invalid value: \"a b\": a valid config key must"
        );
        assert!(why.as_str().unwrap().starts_with(&start), "{why}");
    }
    let path = "/api/v1/namespaces/default/secrets/c";
    let (_, why) = raw(&cluster, "PATCH", path, &MERGE, r#"{"type": "x"}"#).await;
    assert_eq!(
        why,
        "Secret \"c\" is invalid: type: Invalid value: \"x\": field is immutable"
    );
}
