//! Devices that fail, go, and come back as others.

use vk_sandbox::faults::{Effect, Rule};

use crate::stage::{Stage, condition, pod};
use crate::{NODE, delete, pass, see};

#[tokio::test(start_paused = true)]
async fn one_device_whose_rendered_document_fails_holds_nobody_up() {
    let stage = Stage::new(2, 0, 2).await;
    let rule = Rule::always("/devices/device-1/rendered", Effect::Status(500)).method("GET");
    stage.flightctl.faults().add(rule);
    for name in ["p1", "p2"] {
        stage.create(pod(name, NODE, "nginx:alpine"));
        pass(5).await;
    }
    let other = stage.ready("p2").await;
    assert_eq!(stage.device_of(&other).name(), "device-2");
    pass(60).await;
    let node = stage.cluster.get_value("nodes", "", NODE).unwrap();
    assert_eq!(condition(&node, "FlightControlReachable"), "True");
    stage.flightctl.faults().clear();
    stage.ready("p1").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_deleted_while_flight_control_stumbles_still_ends_its_pods() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    stage.devices[0].disconnect();
    delete(&stage, "p");
    see(&stage, "removed", || stage.applications("device-1").is_empty()).await;
    let rule = Rule::always("/api/v1/devices/device-1", Effect::Status(503)).method("GET");
    stage.flightctl.faults().add(rule.times(1));
    stage.flightctl.delete_device("device-1");
    stage.gone("p").await;
}
