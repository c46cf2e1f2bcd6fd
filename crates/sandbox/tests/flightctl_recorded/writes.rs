//! Devices as they are made and changed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use vk_sandbox::flightctl::Options;

use crate::flightctl_client::{app, call, deploy, service, with};
use crate::{RENDERED, created, device};

#[tokio::test(start_paused = true)]
async fn a_created_device_reads_as_recorded_and_is_rendered_a_moment_later() {
    let service = service(Options::default());
    let mut body = device("d1");
    body["metadata"]["labels"] = json!({"zone": "a"});
    body.as_object_mut().unwrap().remove("spec");
    let answer = call(&service, "POST /devices", &body).await;
    assert_eq!(answer.code, 201);
    let away = json!({"info": "Device is disconnected (last seen more than 5 minutes ago).", "status": "Unknown"});
    assert_eq!(
        answer.body,
        json!({"apiVersion": "flightctl.io/v1beta1", "kind": "Device",
            "metadata": {"annotations": {}, "creationTimestamp": "2026-11-21T04:00:00Z", "generation": 1, "labels": {"zone": "a"}, "name": "d1", "resourceVersion": "1"},
            "spec": {},
            "status": {"applications": [], "applicationsSummary": away, "conditions": [{"lastTransitionTime": "0001-01-01T00:00:00Z", "message": "", "reason": "", "status": "Unknown", "type": "Updating"}],
                "config": {"renderedVersion": ""}, "integrity": {"status": "Unknown"}, "lifecycle": {"status": "Unknown"}, "os": {"image": "", "imageDigest": ""},
                "resources": {"cpu": "Unknown", "disk": "Unknown", "memory": "Unknown"}, "summary": away,
                "systemInfo": {"agentVersion": "", "architecture": "", "bootID": "", "operatingSystem": ""},
                "updated": {"info": "Device was updated to the latest device spec.", "status": "UpToDate"}}})
    );
    sleep(RENDERED).await;
    let answer = call(&service, "GET /devices/d1", &Value::Null).await;
    assert_eq!(
        answer.at("/metadata/annotations/device-controller~1renderedVersion"),
        "1"
    );
    assert_eq!(answer.at("/status/conditions/1/type"), "SpecValid");
    assert_eq!(answer.at("/status/conditions/1/reason"), "Valid");
    assert_eq!(answer.at("/status/updated/status"), "OutOfDate");
    assert_eq!(answer.at("/metadata/resourceVersion"), "2");
    assert_eq!(answer.at("/metadata/generation"), 1);
    let lastseen = call(&service, "GET /devices/d1/lastseen", &Value::Null).await;
    assert_eq!(lastseen.code, 204);
    let again = call(&service, "POST /devices", &body).await;
    assert_eq!(
        (again.code, again.message()),
        (409, "a resource with this name already exists")
    );
    let bad = call(&service, "POST /devices", &device("D_2")).await;
    assert_eq!(bad.code, 400);
    assert!(
        bad.message()
            .starts_with("metadata.name: Invalid value: \"D_2\": a lowercase RFC 1123 subdomain")
    );
}

/// One recorded PATCH: operations, code, end of the message, generation after.
type Recorded = (Value, u16, &'static str, u64);

#[tokio::test(start_paused = true)]
async fn patches_are_answered_and_counted_as_recorded() {
    let service = service(Options::default());
    created(&service, "d1").await;
    let test = |path: &str, value: Value| json!({"op": "test", "path": path, "value": value});
    let generation = |n: u64| test("/metadata/generation", json!(n));
    let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
    let remove = |path: &str| json!({"op": "remove", "path": path});
    let apps = "/spec/applications";
    let last = "/spec/applications/-";
    let steps: Vec<Recorded> = vec![
        (
            json!([generation(1), add(last, app("a1"))]),
            400,
            "failed to apply JSON patch: add operation does not apply: doc is missing path: \"/spec/applications/-\": missing value",
            1,
        ),
        (
            json!([generation(1), add(apps, json!([app("a1")]))]),
            200,
            "",
            2,
        ),
        (
            json!([generation(1), add(apps, json!([app("a1")]))]),
            400,
            "failed to apply JSON patch: testing value /metadata/generation failed: test failed",
            2,
        ),
        (
            json!([test("/metadata/generation", json!("2"))]),
            400,
            "testing value /metadata/generation failed: test failed",
            2,
        ),
        (
            json!([test("/metadata/generation", json!(2.0))]),
            200,
            "",
            2,
        ),
        (json!([generation(2), add(last, app("a2"))]), 200, "", 3),
        (
            json!([
                test("/spec/applications/1/name", json!("a1")),
                remove("/spec/applications/1")
            ]),
            400,
            "testing value /spec/applications/1/name failed: test failed",
            3,
        ),
        (
            json!([test("/spec/applications/7/name", json!("a2"))]),
            400,
            "test operation does not apply: is missing path: /spec/applications/7/name: missing value",
            3,
        ),
        (
            json!([
                test("/spec/applications/1/name", json!("a2")),
                remove("/spec/applications/1")
            ]),
            200,
            "",
            4,
        ),
        (json!([remove("/spec/applications/0")]), 200, "", 5),
        (json!([add(last, app("a3"))]), 200, "", 6),
        (json!([remove(apps)]), 200, "", 7),
        (
            json!([remove(apps)]),
            400,
            "error in remove for path: '/spec/applications': Unable to remove nonexistent key: applications: missing value",
            7,
        ),
        (
            json!([{"op": "replace", "path": apps, "value": [app("a4")]}]),
            200,
            "",
            8,
        ),
        (
            json!([test("/spec/applications/0", Value::Null)]),
            400,
            "API Error: request body has an error: doesn't match schema #/components/schemas/PatchRequest: Error at \"/0/value\": Value is not nullable",
            8,
        ),
        (
            json!([{"op": "move", "from": apps, "path": "/spec/x"}]),
            400,
            "property \"from\" is unsupported",
            8,
        ),
        (
            json!([{"op": "replace", "path": "/metadata/name", "value": "x"}]),
            400,
            "metadata.name is immutable",
            8,
        ),
        (
            json!([{"op": "replace", "path": "/status/summary/status", "value": "Online"}]),
            400,
            "status is immutable",
            8,
        ),
        (
            json!([add("/metadata/owner", json!("Fleet/x"))]),
            200,
            "",
            8,
        ),
        (
            json!([add("/metadata/annotations/x", json!("y"))]),
            200,
            "",
            8,
        ),
        (json!([add("/metadata/generation", json!(99))]), 200, "", 8),
        (
            json!([add("/spec/nonsense", json!(1))]),
            400,
            "patch produced an invalid resource: json: unknown field \"nonsense\"",
            8,
        ),
        (
            json!([add("/spec/applications/0/nonsense", json!(1))]),
            200,
            "",
            9,
        ),
        (json!([]), 200, "", 9),
        (
            json!([add("/metadata/labels", json!({"x": "y"}))]),
            200,
            "",
            9,
        ),
        (
            json!([
                test("/metadata/labels/x", json!("y")),
                test("/kind", json!("Device")),
                test("/metadata/name", json!("d1")),
                test("/status/summary/status", json!("Unknown"))
            ]),
            200,
            "",
            9,
        ),
    ];
    let mut version = 2;
    for (ops, code, message, generation) in steps {
        sleep(Duration::ZERO).await;
        let answer = call(&service, "PATCH /devices/d1", &ops).await;
        assert_eq!(answer.code, code, "{ops}: {}", answer.message());
        assert!(
            answer.message().ends_with(message),
            "{ops}: {}",
            answer.message()
        );
        let now = call(&service, "GET /devices/d1", &Value::Null).await;
        assert_eq!(now.at("/metadata/generation"), generation, "{ops}");
        assert_eq!(now.at("/metadata/owner"), Value::Null);
        if code == 200 {
            version += 1;
        }
        // Time stands still, so nothing is rendered in between.
        assert_eq!(
            now.at("/metadata/resourceVersion"),
            version.to_string(),
            "{ops}"
        );
    }
    for kind in ["application/merge-patch+json", "application/json"] {
        let headers = [("authorization", "Bearer t"), ("content-type", kind)];
        let answer = with(&service, "PATCH /devices/d1", &json!([]), &headers).await;
        assert_eq!(answer.code, 400);
        assert!(
            answer
                .message()
                .contains("header Content-Type has unexpected value")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_is_guarded_by_the_resource_version_and_keeps_what_it_leaves_out() {
    let service = service(Options::default());
    let mut body = device("d1");
    body["metadata"]["labels"] = json!({"zone": "a"});
    body["spec"] = json!({"applications": [app("a1")]});
    assert_eq!(call(&service, "PUT /devices/d1", &body).await.code, 201);
    let mut bare = json!({"apiVersion": "v1beta1", "kind": "Device", "metadata": {"name": "d1"}});
    let answer = call(&service, "PUT /devices/d1", &bare).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.at("/apiVersion"), "flightctl.io/v1beta1");
    assert_eq!(answer.at("/metadata/labels/zone"), "a");
    assert_eq!(answer.at("/spec/applications/0/name"), "a1");
    assert_eq!(answer.at("/metadata/generation"), 1);
    for stale in ["1", "abc"] {
        bare["metadata"]["resourceVersion"] = json!(stale);
        let answer = call(&service, "PUT /devices/d1", &bare).await;
        assert_eq!(answer.code, 409);
        assert_eq!(answer.at("/reason"), "Conflict");
        assert_eq!(
            answer.message(),
            "the object has been modified; please apply your changes to the latest version and try again"
        );
    }
    assert_eq!(
        call(&service, "PUT /devices/other", &device("d1"))
            .await
            .code,
        400
    );
}

#[tokio::test(start_paused = true)]
async fn two_writers_who_test_the_generation_lose_no_insert() {
    let service = service(Options::default());
    created(&service, "d1").await;
    deploy(&service, "d1", &[]).await;
    let writer = |who: &'static str| {
        let service = service.clone();
        async move {
            for n in 0..40 {
                loop {
                    let now = call(&service, "GET /devices/d1", &Value::Null).await;
                    tokio::task::yield_now().await;
                    let ops = json!([
                        {"op": "test", "path": "/metadata/generation", "value": now.at("/metadata/generation")},
                        {"op": "add", "path": "/spec/applications/-", "value": app(&format!("{who}{n}"))},
                    ]);
                    if call(&service, "PATCH /devices/d1", &ops).await.code == 200 {
                        break;
                    }
                }
            }
        }
    };
    tokio::join!(writer("a"), writer("b"));
    let now = call(&service, "GET /devices/d1", &Value::Null).await;
    assert_eq!(now.at("/spec/applications").as_array().unwrap().len(), 80);
    assert_eq!(now.at("/metadata/generation"), 82);
}
