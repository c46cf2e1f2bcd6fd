//! Tokens of ServiceAccounts: requests and reviews, in the real server's words.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::{Value, json};
use tokio::time::advance;
use vk_sandbox::kubernetes::Cluster;

use super::{cluster, node, pod, raw};

const API: &str = "https://kubernetes.default.svc";

/// A cluster with the account `robot` and its pod `p` on the node `edge`.
fn inhabited() -> (Cluster, Pod) {
    let cluster = cluster();
    let robot = json!({"metadata": {"name": "robot"}});
    let robot: ServiceAccount = serde_json::from_value(robot).unwrap();
    cluster.create(&robot).unwrap();
    let pod = place(&cluster);
    (cluster, pod)
}

fn place(cluster: &Cluster) -> Pod {
    let spec = json!({"spec": {"nodeName": "edge", "serviceAccountName": "robot"}});
    cluster.create(&pod("p", &spec)).unwrap()
}

fn bound(uid: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid})
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap()
}

async fn request(cluster: &Cluster, account: &str, spec: &Value) -> (u16, Value) {
    let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    raw(cluster, "POST", &path, &[], &body.to_string()).await
}

async fn issue(cluster: &Cluster, spec: &Value) -> String {
    let (code, issued) = request(cluster, "robot", spec).await;
    assert_eq!(code, 200, "{issued}");
    issued["status"]["token"].as_str().unwrap().to_owned()
}

async fn review(cluster: &Cluster, token: &str, audiences: &[&str]) -> Value {
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let body = json!({"spec": {"token": token, "audiences": audiences}});
    let (_, reviewed) = raw(cluster, "POST", path, &[], &body.to_string()).await;
    reviewed["status"].clone()
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_says_whose_it_is_for_whom_and_how_long() {
    let (cluster, pod) = inhabited();
    let node = cluster.create(&node("edge", "1")).unwrap();
    let account = cluster.get::<ServiceAccount>("default", "robot").unwrap();
    let spec = json!({"audiences": ["vault"], "boundObjectRef": bound(uid(&pod))});
    let (_, issued) = request(&cluster, "robot", &spec).await;
    assert_eq!(issued["kind"], "TokenRequest");
    assert_eq!(issued["spec"]["expirationSeconds"], 3600);
    assert_eq!(
        issued["status"]["expirationTimestamp"],
        "2026-01-01T01:00:00Z"
    );
    let mut told = claims(issued["status"]["token"].as_str().unwrap());
    assert!(told["jti"].take().is_string());
    let now = 1_767_225_600;
    assert_eq!(
        told,
        json!({"aud": ["vault"], "iss": API, "sub": "system:serviceaccount:default:robot",
            "jti": null, "iat": now, "nbf": now, "exp": now + 3600, "kubernetes.io": {
                "namespace": "default",
                "node": {"name": "edge", "uid": node.metadata.uid},
                "pod": {"name": "p", "uid": uid(&pod)},
                "serviceaccount": {"name": "robot", "uid": account.metadata.uid}}})
    );
}

#[tokio::test(start_paused = true)]
async fn no_two_tokens_are_the_same() {
    let (cluster, _) = inhabited();
    let spec = json!({});
    assert_ne!(issue(&cluster, &spec).await, issue(&cluster, &spec).await);
}

#[tokio::test(start_paused = true)]
async fn a_token_request_is_refused_in_the_api_servers_words() {
    let (cluster, pod) = inhabited();
    let short = "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes";
    let long = "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds";
    let other = "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (wrong) does not match the UID in record. The object might have been deleted and then recreated";
    let absent = json!({"kind": "Pod", "apiVersion": "v1", "name": "nope"});
    let strange = json!({"kind": "Foo", "apiVersion": "v1", "name": "p"});
    let nameless = json!({"kind": "Pod", "apiVersion": "v1"});
    for (account, spec, code, why) in [
        ("robot", json!({"expirationSeconds": 599}), 422, short),
        (
            "robot",
            json!({"expirationSeconds": 4_294_967_297_u64}),
            422,
            long,
        ),
        (
            "robot",
            json!({"boundObjectRef": absent}),
            404,
            "pods \"nope\" not found",
        ),
        (
            "robot",
            json!({"boundObjectRef": bound("wrong")}),
            409,
            other,
        ),
        (
            "robot",
            json!({"boundObjectRef": strange}),
            400,
            "cannot bind token to object of type /v1, Kind=Foo",
        ),
        (
            "robot",
            json!({"boundObjectRef": nameless}),
            400,
            "Name parameter required.",
        ),
        (
            "none",
            json!({"expirationSeconds": 599}),
            404,
            "serviceaccounts \"none\" not found",
        ),
        (
            "default",
            json!({"boundObjectRef": bound(uid(&pod))}),
            400,
            "cannot bind token for serviceaccount \"default\" to pod running with different serviceaccount name.",
        ),
    ] {
        let refused = request(&cluster, account, &spec).await;
        assert_eq!(refused, (code, json!(why)));
    }
    let path = "/api/v1/namespaces/nowhere/serviceaccounts/robot/token";
    let (code, why) = raw(&cluster, "POST", path, &[], "{}").await;
    assert_eq!(
        (code, why),
        (404, json!("namespaces \"nowhere\" not found"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_good_token_is_reviewed_as_its_account_and_pod() {
    let (cluster, pod) = inhabited();
    let account = cluster.get::<ServiceAccount>("default", "robot").unwrap();
    let spec = json!({"audiences": ["vault", "bank"], "boundObjectRef": bound(uid(&pod))});
    let token = issue(&cluster, &spec).await;
    let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
    assert_eq!(
        review(&cluster, &token, &["bank", "mint"]).await,
        json!({"authenticated": true, "audiences": ["bank"], "user": {
            "username": "system:serviceaccount:default:robot", "uid": account.metadata.uid,
            "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/credential-id": [format!("JTI={jti}")],
                "authentication.kubernetes.io/node-name": ["edge"],
                "authentication.kubernetes.io/pod-name": ["p"],
                "authentication.kubernetes.io/pod-uid": [uid(&pod)]}}})
    );
    let error = |status: Value| {
        assert_eq!(status["authenticated"], Value::Null);
        status["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        error(review(&cluster, &token, &[]).await),
        format!(
            "[invalid bearer token, token audiences [\"vault\" \"bank\"] is invalid for the target audiences [\"{API}\"]]"
        )
    );
    assert_eq!(
        error(review(&cluster, "nonsense", &[]).await),
        "invalid bearer token"
    );
    let foreign = issue(&inhabited().0, &json!({})).await;
    let forged = "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]";
    assert_eq!(error(review(&cluster, &foreign, &[]).await), forged);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_until_a_minute_after_its_end() {
    let (cluster, _) = inhabited();
    let token = issue(&cluster, &json!({"expirationSeconds": 600})).await;
    advance(Duration::from_secs(660)).await;
    assert_eq!(review(&cluster, &token, &[]).await["authenticated"], true);
    advance(Duration::from_secs(1)).await;
    let expired = "[invalid bearer token, service account token has expired]";
    assert_eq!(review(&cluster, &token, &[]).await["error"], expired);
}

#[tokio::test(start_paused = true)]
async fn the_token_every_pod_gets_for_the_api_goes_on_for_a_year() {
    let (cluster, pod) = inhabited();
    let spec = json!({"expirationSeconds": 3607, "boundObjectRef": bound(uid(&pod))});
    let (_, issued) = request(&cluster, "robot", &spec).await;
    assert_eq!(
        issued["status"]["expirationTimestamp"],
        "2026-01-01T01:00:07Z"
    );
    let token = issued["status"]["token"].as_str().unwrap();
    let told = claims(token);
    assert_eq!(
        told["kubernetes.io"]["warnafter"],
        told["iat"].as_i64().unwrap() + 3607
    );
    advance(Duration::from_secs(365 * 24 * 3600)).await;
    assert_eq!(review(&cluster, token, &[]).await["authenticated"], true);
    let elsewhere = json!({"audiences": ["vault"], "expirationSeconds": 3607, "boundObjectRef": bound(uid(&pod))});
    let token = issue(&cluster, &elsewhere).await;
    advance(Duration::from_secs(3607 + 61)).await;
    assert_eq!(
        review(&cluster, &token, &["vault"]).await["authenticated"],
        Value::Null
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_dies_with_its_pod_and_with_its_account() {
    let (cluster, pod) = inhabited();
    let of_pod = issue(&cluster, &json!({"boundObjectRef": bound(uid(&pod))})).await;
    let of_account = issue(&cluster, &json!({})).await;
    let error = async |token: &str| review(&cluster, token, &[]).await["error"].clone();

    // A pod that is ending keeps it until a minute after its end was due.
    cluster.delete::<Pod>("default", "p", Some(30)).unwrap();
    advance(Duration::from_secs(90)).await;
    assert_eq!(error(&of_pod).await, Value::Null);
    advance(Duration::from_secs(1)).await;
    let invalidated = "[invalid bearer token, service account token has been invalidated]";
    assert_eq!(error(&of_pod).await, invalidated);

    cluster.delete::<Pod>("default", "p", Some(0)).unwrap();
    assert_eq!(error(&of_pod).await, invalidated);
    let anew = place(&cluster);
    let other = format!(
        "[invalid bearer token, pod UID ({}) does not match service account pod ref claim ({})]",
        uid(&anew),
        uid(&pod)
    );
    assert_eq!(error(&of_pod).await, other.as_str());

    assert_eq!(error(&of_account).await, Value::Null);
    cluster
        .delete::<ServiceAccount>("default", "robot", None)
        .unwrap();
    let gone = "[invalid bearer token, serviceaccounts \"robot\" not found]";
    assert_eq!(error(&of_account).await, gone);
}

#[tokio::test(start_paused = true)]
async fn the_clusters_own_token_is_good_for_the_api_alone() {
    let cluster = cluster().with_token("secret");
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let header = [("authorization", "Bearer secret")];
    let review = async |audiences: Value| {
        let body = json!({"spec": {"token": "secret", "audiences": audiences}});
        let (_, reviewed) = raw(&cluster, "POST", path, &header, &body.to_string()).await;
        reviewed["status"].clone()
    };
    assert_eq!(
        review(json!([])).await,
        json!({"authenticated": true, "audiences": [API],
            "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]}})
    );
    let elsewhere = json!({"user": {}, "error": "invalid bearer token"});
    assert_eq!(review(json!(["vault"])).await, elsewhere);
}
