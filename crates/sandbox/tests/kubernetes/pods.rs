//! Pods: what a new one is, how it is written, and how it ends.

use futures::TryStreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, WatchParams};
use serde_json::json;

use super::{cluster, kind, on_node, pod, pods, refusal, revision, status};

#[tokio::test(start_paused = true)]
async fn a_new_pod_is_what_the_real_server_makes_of_it() {
    let made = pods(&cluster())
        .create(&PostParams::default(), &on_node("web"))
        .await
        .unwrap();
    let made = serde_json::to_value(made).unwrap();
    assert_eq!(
        made["metadata"]["creationTimestamp"],
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(
        made["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
    let spec = &made["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-"), "{volume}");
    let container = &spec["containers"][0];
    assert_eq!(container["volumeMounts"][0]["name"], volume);
    assert_eq!(container["imagePullPolicy"], "Always");
}

#[tokio::test(start_paused = true)]
async fn an_eviction_begins_the_same_deletion_of_the_pod_it_means() {
    let cluster = cluster();
    let api = pods(&cluster);
    let made = api
        .create(&PostParams::default(), &on_node("web"))
        .await
        .unwrap();
    let evict = |name: &'static str, uid: String| {
        let api = &api;
        async move {
            let body = json!({"metadata": {"name": name},
                "deleteOptions": {"preconditions": {"uid": uid}}});
            let params = PostParams::default();
            api.create_subresource::<_, serde_json::Value>("eviction", name, &params, &body)
                .await
        }
    };
    let uid = made.metadata.uid.unwrap();
    let code = |error: kube::Error| match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    };
    let other = evict("web", "another".into()).await.unwrap_err();
    assert_eq!(code(other), 409);
    let absent = evict("absent", uid.clone()).await.unwrap_err();
    assert_eq!(code(absent), 404);
    let web = api.get("web").await.unwrap();
    assert!(web.metadata.deletion_timestamp.is_none());
    let answer = evict("web", uid).await.unwrap();
    assert_eq!(answer["status"], "Success");
    let marked = api.get("web").await.unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
}

#[tokio::test(start_paused = true)]
async fn a_resize_and_a_debug_container_change_that_and_nothing_else() {
    let cluster = cluster();
    let api = pods(&cluster);
    let made = on_node("web");
    let made = api.create(&PostParams::default(), &made).await.unwrap();
    let container = made.spec.as_ref().unwrap().containers[0].name.clone();
    let change = |subresource: &'static str, body: serde_json::Value| {
        let api = &api;
        async move {
            let (params, patch) = (PatchParams::default(), Patch::Strategic(body));
            api.patch_subresource(subresource, "web", &params, &patch)
                .await
        }
    };
    let sized = json!({"metadata": {"labels": {"not": "here"}}, "spec": {"containers": [
        {"name": container, "image": "other", "resources": {"requests": {"cpu": "2"}}}]}});
    let resized = change("resize", sized).await.unwrap();
    let (mut wanted, spec) = (made.spec.unwrap(), resized.spec.unwrap());
    wanted.containers[0]
        .resources
        .clone_from(&spec.containers[0].resources);
    let requests = spec.containers[0]
        .resources
        .as_ref()
        .unwrap()
        .requests
        .as_ref();
    assert_eq!(requests.unwrap()["cpu"].0, "2");
    assert_eq!(spec, wanted);
    assert_eq!(resized.metadata.labels, made.metadata.labels);
    assert_eq!(resized.metadata.generation, Some(2));

    let debug =
        |image: &str| json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": image}]}});
    let debugged = change("ephemeralcontainers", debug("busybox"))
        .await
        .unwrap();
    let mut spec = debugged.spec.unwrap();
    let added = spec.ephemeral_containers.take().unwrap();
    assert_eq!((added.len(), &*added[0].name), (1, "debug"));
    assert_eq!(spec, wanted);
    let (code, message) = refusal(change("ephemeralcontainers", debug("another")).await);
    assert_eq!(code, 422, "{message}");
}

#[tokio::test(start_paused = true)]
async fn deletion_is_the_handshake_between_server_and_kubelet() {
    let cluster = cluster();
    let api = pods(&cluster);
    let made = api
        .create(&PostParams::default(), &on_node("web"))
        .await
        .unwrap();
    let from = revision(&api).await;
    let marked = api
        .delete("web", &DeleteParams::default())
        .await
        .unwrap()
        .unwrap_left();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert_eq!(marked.metadata.generation, Some(2));
    let ends = marked.metadata.deletion_timestamp.unwrap().0;
    assert_eq!(ends.to_string(), "2026-01-01T00:00:30Z");

    let longer = DeleteParams::default().grace_period(60);
    let same = api.delete("web", &longer).await.unwrap().unwrap_left();
    assert_eq!(same.metadata.deletion_grace_period_seconds, Some(30));
    let shorter = DeleteParams::default().grace_period(5);
    let sooner = api.delete("web", &shorter).await.unwrap().unwrap_left();
    assert_eq!(
        sooner.metadata.deletion_timestamp.unwrap().0.to_string(),
        "2026-01-01T00:00:05Z"
    );

    let other = Preconditions {
        uid: Some("another".into()),
        resource_version: None,
    };
    let wrong = DeleteParams::default().grace_period(0).preconditions(other);
    let (code, message) = refusal(api.delete("web", &wrong).await);
    assert_eq!(code, 409);
    assert!(
        message.contains("the UID in the precondition (another) does not match"),
        "{message}"
    );

    let ours = Preconditions {
        uid: made.metadata.uid,
        resource_version: None,
    };
    let right = DeleteParams::default().grace_period(0).preconditions(ours);
    api.delete("web", &right).await.unwrap();
    assert_eq!(refusal(api.get("web").await).0, 404);
    let seen: Vec<_> = api
        .watch(&WatchParams::default().timeout(10), &from)
        .await
        .unwrap()
        .map_ok(|event| kind(&event))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(seen, ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]);
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_keeps_a_pod_until_it_is_taken_away() {
    let cluster = cluster();
    let api = pods(&cluster);
    let held = pod("held", &json!({"metadata": {"finalizers": ["test/keep"]}}));
    api.create(&PostParams::default(), &held).await.unwrap();
    let left = api
        .delete("held", &DeleteParams::default())
        .await
        .unwrap()
        .unwrap_left();
    assert_eq!(left.metadata.deletion_grace_period_seconds, Some(0));
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["test/keep", "test/more"]}}));
    assert_eq!(
        refusal(api.patch("held", &PatchParams::default(), &more).await).0,
        422
    );
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &PatchParams::default(), &free)
        .await
        .unwrap();
    assert_eq!(refusal(api.get("held").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn status_patches_merge_conditions_and_touch_nothing_else() {
    let cluster = cluster();
    let api = pods(&cluster);
    api.create(&PostParams::default(), &on_node("web"))
        .await
        .unwrap();
    let theirs = status(&json!({"conditions": [{"type": "Theirs", "status": "True"}]}));
    api.patch_status("web", &PatchParams::default(), &theirs)
        .await
        .unwrap();
    let ours = Patch::Strategic(json!({
        "spec": {"nodeName": "elsewhere"},
        "status": {"phase": "Running", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}]}}));
    let new = api
        .patch_status("web", &PatchParams::default(), &ours)
        .await
        .unwrap();
    assert_eq!(new.spec.unwrap().node_name.as_deref(), Some("edge"));
    let status = new.status.unwrap();
    assert_eq!(status.conditions.unwrap().len(), 2);
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));

    let before = revision(&api).await;
    let again = api
        .patch_status("web", &PatchParams::default(), &ours)
        .await
        .unwrap();
    assert_eq!(
        again.metadata.resource_version,
        Some(before),
        "a patch that changes nothing writes nothing"
    );
    let main = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    let same = api
        .patch("web", &PatchParams::default(), &main)
        .await
        .unwrap();
    assert_eq!(same.status.unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test(start_paused = true)]
async fn what_the_real_server_refuses_of_a_pod_is_refused() {
    let cluster = cluster();
    let api = pods(&cluster);
    let never = pod(
        "job",
        &json!({"spec": {"nodeName": "edge", "restartPolicy": "Never"}}),
    );
    api.create(&PostParams::default(), &never).await.unwrap();
    let ended = json!({"containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]});
    api.patch_status("job", &PatchParams::default(), &status(&ended))
        .await
        .unwrap();

    let mut again = ended.clone();
    again["containerStatuses"][0]["state"] = json!({"running": {}});
    let mut both = ended.clone();
    both["containerStatuses"][0]["state"]["running"] = json!({});
    let mut unknown = ended.clone();
    unknown["containerStatuses"][0]["name"] = json!("other");
    for (patch, expected) in [
        (again, "may not be transitioned to non-terminated state"),
        (both, "more than 1 state"),
        (unknown, "no such container"),
        (json!({"qosClass": "Guaranteed"}), "field is immutable"),
        (
            json!({"observedGeneration": -1}),
            "must be a non-negative integer",
        ),
        (
            json!({"podIPs": [{"ip": "here"}]}),
            "must be a valid IP address",
        ),
        (
            json!({"hostIP": "1.2.3.4", "hostIPs": [{"ip": "1.2.3.5"}]}),
            "must be equal to `hostIP`",
        ),
    ] {
        let (code, message) = refusal(
            api.patch_status("job", &PatchParams::default(), &status(&patch))
                .await,
        );
        assert_eq!(code, 422, "{message}");
        assert!(message.contains(expected), "{message}");
    }

    // Recorded from kube-apiserver 1.36.3: 422, not a conflict.
    let other =
        Patch::Strategic(json!({"metadata": {"uid": "other"}, "status": {"phase": "Running"}}));
    let (code, message) = refusal(
        api.patch_status("job", &PatchParams::default(), &other)
            .await,
    );
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "Pod \"job\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable"
        )
    );

    let environment = Patch::Strategic(
        json!({"spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "1"}]}]}}),
    );
    let (code, message) = refusal(
        api.patch("job", &PatchParams::default(), &environment)
            .await,
    );
    assert_eq!(code, 422);
    assert!(message.contains("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"), "{message}");
    let image =
        Patch::Strategic(json!({"spec": {"containers": [{"name": "app", "image": "nginx:2"}]}}));
    let new = api
        .patch("job", &PatchParams::default(), &image)
        .await
        .unwrap();
    assert_eq!(new.metadata.generation, Some(2));

    let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}}));
    assert_eq!(
        refusal(api.patch("job", &PatchParams::default(), &stale).await).0,
        409
    );
    assert_eq!(
        refusal(api.create(&PostParams::default(), &on_node("job")).await).0,
        409
    );
    assert_eq!(
        refusal(
            api.create(&PostParams::default(), &on_node("Bad_Name"))
                .await
        )
        .0,
        422
    );
}
