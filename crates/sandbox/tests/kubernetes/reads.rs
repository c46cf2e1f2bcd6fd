//! What tests can ask the sandbox: who watches what, who lists everything; and
//! the rights they can take away.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::Error;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::time::timeout;
use vk_sandbox::kubernetes::{Cluster, OpenWatch, UnnamedReads};

use super::{LONG, client, cluster, raw, refusal};

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::default_namespaced(client(cluster))
}

fn of(name: &str) -> OpenWatch {
    OpenWatch {
        namespace: Some("default".into()),
        name: Some(name.into()),
    }
}

#[tokio::test(start_paused = true)]
async fn open_watches_are_told_by_name_and_gone_when_their_reader_is() {
    let cluster = cluster();
    let api = secrets(&cluster);
    let one = |name: &str| WatchParams::default().fields(&format!("metadata.name={name}"));
    let a = Box::pin(api.watch(&one("a"), "0").await.unwrap());
    let b = Box::pin(api.watch(&one("b"), "0").await.unwrap());
    assert_eq!(cluster.open_watches("secrets"), [of("a"), of("b")]);
    assert_eq!(cluster.open_watches("configmaps"), []);
    drop(a);
    let left = cluster.until_watches("secrets", |open| *open == [of("b")]);
    timeout(LONG, left).await.unwrap();
    drop(b);
    let none = cluster.until_watches("secrets", |open| open.is_empty());
    timeout(LONG, none).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_and_watches_without_a_name_are_counted_and_those_with_one_are_not() {
    let cluster = cluster();
    let api = secrets(&cluster);
    api.list(&ListParams::default().fields("metadata.name=a"))
        .await
        .unwrap();
    let named = WatchParams::default().fields("type=Opaque,metadata.name=a");
    drop(api.watch(&named, "0").await.unwrap());
    assert!(api.get_opt("a").await.unwrap().is_none());
    assert_eq!(cluster.unnamed_reads("secrets"), UnnamedReads::default());

    api.list(&ListParams::default().fields("metadata.name!=a"))
        .await
        .unwrap();
    let all: Api<Secret> = Api::all(client(&cluster));
    cluster.forbid("list", "secrets", None);
    assert_eq!(refusal(all.list(&ListParams::default()).await).0, 403);
    let open = all.watch(&WatchParams::default(), "0").await.unwrap();
    let counted = UnnamedReads {
        lists: 2,
        watches: 1,
    };
    assert_eq!(cluster.unnamed_reads("secrets"), counted);
    assert_eq!(cluster.unnamed_reads("pods"), UnnamedReads::default());
    let everywhere = OpenWatch {
        namespace: None,
        name: None,
    };
    assert!(cluster.open_watches("secrets").contains(&everywhere));
    drop(open);
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_refused_in_the_api_servers_words() {
    let cluster = cluster();
    let base = "/api/v1/namespaces/default";
    let forbid = |verb, resource| cluster.forbid(verb, resource, Some("default"));
    for verb in ["get", "list", "watch"] {
        forbid(verb, "secrets");
    }
    forbid("create", "serviceaccounts/token");
    forbid("*", "pods");
    forbid("get", "deployments");
    cluster.forbid("get", "nodes", None);
    cluster.forbid("create", "tokenreviews", None);
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let deployment = "/apis/apps/v1/namespaces/default/deployments/d";
    for (method, path, what, verb, resource, group, place) in [
        (
            "GET",
            format!("{base}/secrets/x"),
            "secrets \"x\"",
            "get",
            "secrets",
            "",
            "in the namespace \"default\"",
        ),
        (
            "GET",
            format!("{base}/secrets"),
            "secrets",
            "list",
            "secrets",
            "",
            "in the namespace \"default\"",
        ),
        (
            "GET",
            format!("{base}/secrets?watch=1&fieldSelector=metadata.name%3Dx"),
            "secrets \"x\"",
            "watch",
            "secrets",
            "",
            "in the namespace \"default\"",
        ),
        (
            "GET",
            "/api/v1/secrets".into(),
            "secrets",
            "list",
            "secrets",
            "",
            "at the cluster scope",
        ),
        (
            "POST",
            format!("{base}/serviceaccounts/default/token"),
            "serviceaccounts \"default\"",
            "create",
            "serviceaccounts/token",
            "",
            "in the namespace \"default\"",
        ),
        (
            "POST",
            format!("{base}/pods"),
            "pods",
            "create",
            "pods",
            "",
            "in the namespace \"default\"",
        ),
        (
            "DELETE",
            format!("{base}/pods"),
            "pods",
            "deletecollection",
            "pods",
            "",
            "in the namespace \"default\"",
        ),
        (
            "GET",
            deployment.into(),
            "deployments.apps \"d\"",
            "get",
            "deployments",
            "apps",
            "in the namespace \"default\"",
        ),
        (
            "GET",
            "/api/v1/nodes/n".into(),
            "nodes \"n\"",
            "get",
            "nodes",
            "",
            "at the cluster scope",
        ),
        (
            "POST",
            reviews.into(),
            "tokenreviews.authentication.k8s.io",
            "create",
            "tokenreviews",
            "authentication.k8s.io",
            "at the cluster scope",
        ),
    ] {
        let (code, message) = raw(&cluster, method, &path, &[], "{}").await;
        let expected = format!(
            "{what} is forbidden: User \"admin\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}"
        );
        assert_eq!((code, message), (403, json!(expected)));
    }
    let elsewhere = "/api/v1/namespaces/kube-system/secrets";
    assert_eq!(raw(&cluster, "GET", elsewhere, &[], "").await.0, 200);
    cluster.allow("get", "secrets", Some("default"));
    let gone = raw(&cluster, "GET", &format!("{base}/secrets/x"), &[], "").await;
    assert_eq!(gone.0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_open_outlives_the_right_to_open_it() {
    let cluster = cluster();
    let api = secrets(&cluster);
    let params = WatchParams::default().fields("metadata.name=a");
    let mut watch = Box::pin(api.watch(&params, "0").await.unwrap());
    cluster.forbid("watch", "secrets", None);
    let secret = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    api.create(&PostParams::default(), &secret).await.unwrap();
    let event = timeout(LONG, watch.next()).await.unwrap().unwrap();
    assert!(matches!(event, Ok(WatchEvent::Added(_))));
    let again = api.watch(&params, "0").await;
    assert!(matches!(again.map(drop), Err(Error::Api(status)) if status.code == 403));
}
