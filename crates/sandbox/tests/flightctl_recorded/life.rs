//! What becomes of a device and of what it is given.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use vk_sandbox::flightctl::{DeviceSpec, Options};

use crate::flightctl_client::{app, call, deploy, service};
use crate::{RENDERED, created, device};

#[tokio::test(start_paused = true)]
async fn decommissioning_and_deletion_answer_as_recorded() {
    let service = service(Options::default());
    service.add_device(DeviceSpec::new("d1").label("x", "y"));
    sleep(Duration::from_secs(10)).await;
    let bad = call(
        &service,
        "PUT /devices/d1/decommission",
        &json!({"target": "Moon"}),
    )
    .await;
    assert_eq!(bad.code, 400);
    let target = json!({"target": "Unenroll"});
    let answer = call(&service, "PUT /devices/d1/decommission", &target).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.at("/metadata/labels"), Value::Null);
    assert_eq!(answer.at("/metadata/generation"), 1);
    assert_eq!(answer.at("/spec/decommissioning"), target);
    assert_eq!(answer.at("/status/lifecycle/status"), "Decommissioning");
    let answer = call(&service, "PUT /devices/d1/decommission", &target).await;
    assert_eq!(answer.code, 409);
    let label = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]);
    let answer = call(&service, "PATCH /devices/d1", &label).await;
    assert_eq!(
        (answer.code, answer.message()),
        (
            400,
            "spec.decommissioning cannot be changed via patch request"
        )
    );
    let answer = call(&service, "PUT /devices/d1", &device("d1")).await;
    assert_eq!(
        (answer.code, answer.message()),
        (409, "decommissioned device cannot be created or updated")
    );
    let answer = call(
        &service,
        "POST /devices/d1/applications/a/actions/stop",
        &Value::Null,
    )
    .await;
    assert_eq!(answer.code, 400);
    sleep(Duration::from_secs(10)).await;
    let answer = call(&service, "GET /devices/d1", &Value::Null).await;
    assert_eq!(
        answer.at("/metadata/annotations/device-controller~1renderedVersion"),
        "2"
    );
    assert_eq!(
        answer.at("/status/lifecycle"),
        json!({"status": "Decommissioned", "info": "Device has completed decommissioning"})
    );
    for _ in 0..2 {
        let answer = call(&service, "DELETE /devices/d1", &Value::Null).await;
        assert_eq!((answer.code, answer.at("/status")), (200, json!("Success")));
    }
    assert_eq!(
        call(&service, "GET /devices/d1", &Value::Null).await.code,
        404
    );
}

#[tokio::test(start_paused = true)]
async fn application_actions_change_the_rendered_version_and_nothing_else() {
    let service = service(Options::default());
    created(&service, "d1").await;
    deploy(&service, "d1", &[app("web")]).await;
    sleep(RENDERED).await;
    let at = "/devices/d1/applications";
    let answer = call(
        &service,
        &format!("POST {at}/web/actions/stop"),
        &Value::Null,
    )
    .await;
    assert_eq!(
        (answer.code, answer.at("/metadata/generation")),
        (200, json!(2))
    );
    sleep(RENDERED).await;
    let rendered = call(&service, "GET /devices/d1/rendered", &Value::Null).await;
    assert_eq!(rendered.at("/spec/applications/0/desiredState"), "stopped");
    assert_eq!(
        rendered.at("/metadata/annotations/device-controller~1renderedVersion"),
        "3"
    );
    let answer = call(
        &service,
        &format!("POST {at}/nope/actions/stop"),
        &Value::Null,
    )
    .await;
    assert_eq!(
        (answer.code, answer.message()),
        (404, "Application of name \"nope\" not found")
    );
    let answer = call(
        &service,
        &format!("POST {at}/web/actions/dance"),
        &Value::Null,
    )
    .await;
    assert_eq!(answer.code, 404);
}

#[tokio::test(start_paused = true)]
async fn quick_patches_become_one_version_and_the_last_content_wins() {
    let service = service(Options::default());
    created(&service, "d1").await;
    for n in 1..=5 {
        deploy(&service, "d1", &[app(&format!("a{n}"))]).await;
    }
    sleep(RENDERED).await;
    let rendered = call(&service, "GET /devices/d1/rendered", &Value::Null).await;
    assert_eq!(rendered.at("/metadata/generation"), 6);
    assert_eq!(
        rendered.at("/metadata/annotations/device-controller~1renderedVersion"),
        "2"
    );
    assert_eq!(rendered.at("/spec/applications/0/name"), "a5");
}

#[tokio::test(start_paused = true)]
async fn a_users_long_poll_takes_the_wake_up_of_the_device() {
    let service = service(Options::default());
    let device = service.add_device(DeviceSpec::new("d1"));
    sleep(Duration::from_secs(20)).await;
    let thief = {
        let service = service.clone();
        tokio::spawn(async move {
            call(
                &service,
                "GET /devices/d1/rendered?knownRenderedVersion=1",
                &Value::Null,
            )
            .await
        })
    };
    sleep(Duration::from_secs(1)).await;
    deploy(&service, "d1", &[app("a")]).await;
    let patched = Instant::now();
    assert_eq!(thief.await.unwrap().code, 200);
    assert!(patched.elapsed() < Duration::from_millis(20));
    device.changed().await;
    assert!(
        patched.elapsed() > Duration::from_secs(60),
        "the device slept on"
    );
    let idle = call(
        &service,
        "GET /devices/d1/rendered?knownRenderedVersion=2",
        &Value::Null,
    );
    assert_eq!(
        timeout(Duration::from_secs(121), idle).await.unwrap().code,
        204
    );
}
