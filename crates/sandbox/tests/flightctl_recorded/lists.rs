//! Lists of devices and the event log.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use vk_sandbox::flightctl::Options;

use crate::flightctl_client::{app, call, service};
use crate::{created, device};

#[tokio::test(start_paused = true)]
async fn lists_are_paged_and_selected_as_recorded() {
    let service = service(Options::default());
    for name in ["pg0", "pg1", "pg2", "pg3", "pg4"] {
        let mut body = device(name);
        body["metadata"]["labels"] = json!({"grp": "p"});
        call(&service, "POST /devices", &body).await;
    }
    call(&service, "POST /devices", &device("other")).await;
    let answer = call(
        &service,
        "GET /devices?limit=2&labelSelector=grp%3Dp",
        &Value::Null,
    )
    .await;
    assert_eq!(answer.at("/kind"), "DeviceList");
    assert_eq!(answer.at("/metadata/remainingItemCount"), 3);
    assert_eq!(answer.at("/summary/total"), 2);
    let token = answer
        .at("/metadata/continue")
        .as_str()
        .unwrap()
        .replace('=', "%3D");
    let next = format!("GET /devices?limit=5&labelSelector=grp%3Dp&continue={token}");
    let answer = call(&service, &next, &Value::Null).await;
    let names: Vec<Value> = answer
        .at("/items")
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["pg2", "pg3", "pg4"]);
    assert_eq!(answer.at("/metadata"), json!({}));
    for (query, code, count) in [
        ("limit=1001", 400, 0),
        ("limit=-1", 400, 0),
        ("limit=0", 200, 6),
        ("continue=zz", 400, 0),
        ("summaryOnly=true", 200, 0),
        ("summaryOnly=true&limit=1", 400, 0),
        ("labelSelector=i%3E3", 400, 0),
        ("labelSelector=!grp", 200, 1),
        ("fieldSelector=metadata.name%20in%20(pg1,pg2)", 200, 2),
        ("fieldSelector=!metadata.owner", 200, 6),
        ("fieldSelector=status.summary.status%3DOnline", 200, 0),
        ("fieldSelector=lastSeen%3Cx", 400, 0),
    ] {
        let answer = call(&service, &format!("GET /devices?{query}"), &Value::Null).await;
        assert_eq!(answer.code, code, "{query} {}", answer.message());
        if code == 200 {
            assert_eq!(
                answer.at("/items").as_array().unwrap().len(),
                count,
                "{query}"
            );
        }
    }
    let labels = call(&service, "GET /labels?kind=Device", &Value::Null).await;
    assert_eq!(labels.body, json!(["grp=p"]));
}

#[tokio::test(start_paused = true)]
async fn events_are_read_on_from_a_point_in_time() {
    let service = service(Options::default());
    created(&service, "d1").await;
    let ops = json!([{"op": "add", "path": "/spec/applications", "value": [app("a")]}]);
    sleep(Duration::from_secs(5)).await;
    call(&service, "PATCH /devices/d1", &ops).await;
    let newest = call(&service, "GET /events?limit=1", &Value::Null).await;
    let event = newest.at("/items/0");
    assert_eq!(event["reason"], "ResourceUpdated");
    assert_eq!(
        event["details"],
        json!({"detailType": "ResourceUpdated", "updatedFields": ["spec"]})
    );
    assert_eq!(
        event["involvedObject"],
        json!({"kind": "Device", "name": "d1"})
    );
    assert!(newest.at("/metadata/remainingItemCount").as_u64().unwrap() > 0);
    let since = "GET /events?order=asc&fieldSelector=involvedObject.kind%3DDevice,metadata.creationTimestamp%3E%3D2026-11-21T04:00:03Z";
    let answer = call(&service, since, &Value::Null).await;
    assert_eq!(answer.at("/items").as_array().unwrap().len(), 1);
    assert_eq!(answer.at("/metadata"), json!({}), "no token at the end");
    assert_eq!(
        call(
            &service,
            "GET /events?fieldSelector=message%3Dx",
            &Value::Null
        )
        .await
        .code,
        400
    );
    let mut token = String::new();
    let mut seen = Vec::new();
    loop {
        let page = call(
            &service,
            &format!("GET /events?limit=2{token}"),
            &Value::Null,
        )
        .await;
        seen.extend(
            page.at("/items")
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["metadata"]["name"].clone()),
        );
        match page.at("/metadata/continue").as_str() {
            Some(next) => token = format!("&continue={}", next.replace('=', "%3D")),
            None => break,
        }
    }
    let mut all: Vec<Value> = service
        .events()
        .iter()
        .map(|e| e["metadata"]["name"].clone())
        .collect();
    all.reverse();
    assert_eq!(seen, all);
}
