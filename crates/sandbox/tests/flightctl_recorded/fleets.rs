//! Fleets and the devices that they own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use vk_sandbox::flightctl::{DeviceSpec, Options};

use crate::device;
use crate::flightctl_client::{app, call, quadlet, service};

const FLEETS: Duration = Duration::from_millis(150);

fn fleet(name: &str, label: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "flightctl.io/v1beta1", "kind": "Fleet", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"fleet": label}}, "template": {"spec": template}},
    })
}

#[tokio::test(start_paused = true)]
async fn a_fleet_owns_its_devices_and_their_specs() {
    let service = service(Options::default());
    for name in ["f1", "f2"] {
        let mut body = device(name);
        body["metadata"]["labels"] = json!({"fleet": "x", "zone": format!("z-{name}")});
        call(&service, "POST /devices", &body).await;
    }
    let unit = "[Container]\nImage=quay.io/x/y:1\nEnvironment=DEV={{ .metadata.name }} ZONE={{ .metadata.labels.zone }}\n";
    let template = json!({"applications": [quadlet("base", &[("a.container", unit)])]});
    let answer = call(&service, "POST /fleets", &fleet("fx", "x", &template)).await;
    assert_eq!(
        (answer.code, answer.at("/status")),
        (201, json!({"conditions": []}))
    );
    sleep(FLEETS).await;
    let owned = call(&service, "GET /devices/f1", &Value::Null).await;
    assert_eq!(owned.at("/metadata/owner"), "Fleet/fx");
    assert_eq!(
        owned.at("/metadata/annotations/fleet-controller~1templateVersion"),
        "v1"
    );
    assert_eq!(
        owned.at("/metadata/annotations/fleet-controller~1renderedTemplateVersion"),
        "v1"
    );
    assert_eq!(owned.at("/spec/applications/0/runAs"), "");
    assert!(
        owned
            .at("/spec/applications/0/inline/0/content")
            .as_str()
            .unwrap()
            .contains("DEV=f1 ZONE=z-f1")
    );
    let ops = json!([{"op": "add", "path": "/spec/applications/-", "value": app("mine")}]);
    let refused = call(&service, "PATCH /devices/f1", &ops).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            409,
            "updating the resource is not allowed because it has an owner"
        )
    );
    let label = json!([{"op": "add", "path": "/metadata/labels/more", "value": "x"}]);
    assert_eq!(call(&service, "PATCH /devices/f1", &label).await.code, 200);
    let stop = "POST /devices/f1/applications/base/actions/stop";
    assert_eq!(call(&service, stop, &Value::Null).await.code, 200);
    let summary = call(
        &service,
        "GET /fleets/fx?addDevicesSummary=true",
        &Value::Null,
    )
    .await;
    assert_eq!(summary.at("/status/devicesSummary/total"), 2);
    assert_eq!(
        summary.at("/status/devicesSummary/updateStatus"),
        json!({"OutOfDate": 2})
    );
    assert_eq!(summary.at("/status/conditions/0/type"), "Valid");
    let stale = json!([{"op": "test", "path": "/metadata/generation", "value": 7}]);
    assert_eq!(call(&service, "PATCH /fleets/fx", &stale).await.code, 400);

    call(&service, "POST /fleets", &fleet("fz", "x", &template)).await;
    sleep(FLEETS).await;
    let both = call(&service, "GET /devices/f1", &Value::Null).await;
    let conditions = both.at("/status/conditions");
    let multiple = conditions
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "MultipleOwners")
        .unwrap();
    assert_eq!(
        (&multiple["status"], &multiple["message"]),
        (&json!("True"), &json!("fx,fz"))
    );
    assert_eq!(both.at("/metadata/owner"), "Fleet/fx");
    for name in ["fx", "fz"] {
        let answer = call(&service, &format!("DELETE /fleets/{name}"), &Value::Null).await;
        assert_eq!((answer.code, answer.at("/status")), (200, json!("Success")));
    }
    sleep(FLEETS).await;
    let free = call(&service, "GET /devices/f1", &Value::Null).await;
    assert_eq!(free.at("/metadata/owner"), Value::Null);
    assert_eq!(
        free.at("/spec/applications/0/name"),
        "base",
        "the last spec stays"
    );
    assert_eq!(call(&service, "PATCH /devices/f1", &ops).await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_template_that_a_device_has_no_label_for_rolls_nothing_out() {
    let service = service(Options::default());
    service.add_device(DeviceSpec::new("d1").label("fleet", "x"));
    let unit = "[Container]\nImage=quay.io/x/y:1\nEnvironment=Z={{ .metadata.labels.zone }}\n";
    let template = json!({"applications": [quadlet("base", &[("a.container", unit)])]});
    let labels = BTreeMap::from([("fleet".to_owned(), "x".to_owned())]);
    service.create_fleet("fx", &labels, &template).unwrap();
    sleep(FLEETS).await;
    let device = service.device_value("d1").unwrap();
    assert_eq!(device["metadata"]["owner"], "Fleet/fx");
    assert_eq!(device["spec"], json!({}));
    let error = &device["metadata"]["annotations"]["fleet-controller/lastRolloutError"];
    assert!(
        error
            .as_str()
            .unwrap()
            .contains("map has no entry for key \"zone\"")
    );
    let bad = json!({"applications": [quadlet("base", &[("a.container", "[Container]\nImage={{ .metadata.labels.img }}\n")])]});
    assert!(service.create_fleet("bad", &labels, &bad).is_err());
}
