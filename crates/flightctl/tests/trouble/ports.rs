//! Ports of a device that applications of others publish.

use serde_json::{Value, json};

use crate::stage::{Stage, pod};
use crate::{NODE, foreign, pass};

fn publishing(line: &str) -> Value {
    let mut theirs = foreign("theirs");
    let unit = format!(
        "[Container]\nImage=quay.io/other/app:1\nPublishPort={line}\n[Install]\nWantedBy=default.target\n"
    );
    theirs["inline"][0]["content"] = unit.into();
    theirs
}

fn wanting(port: i32) -> Value {
    let mut pod = pod("p", NODE, "nginx:alpine");
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": port}]);
    pod
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_where_no_application_of_others_has_its_port() {
    let stage = Stage::new(2, 0, 2).await;
    let theirs = json!([publishing("8080-8081:80-81")]);
    stage.edit_applications("device-1", &theirs).await;
    pass(40).await;
    stage.create(wanting(8081));
    let ready = stage.ready("p").await;
    assert_eq!(stage.device_of(&ready).name(), "device-2");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_port_someone_else_has_names_them_and_starts_when_it_is_free() {
    let stage = Stage::new(2, 0, 2).await;
    let theirs = json!([publishing("0.0.0.0:8080:80")]);
    stage.edit_applications("device-1", &theirs).await;
    pass(40).await;
    let mut pinned = wanting(8080);
    pinned["metadata"]["annotations"] = json!({"flightctl.io/device": "device-1"});
    stage.create(pinned);
    let said = stage.event("p", "FailedScheduling").await;
    assert!(
        said.contains("device-1: 8080/TCP, by the application theirs"),
        "{said}"
    );
    pass(120).await;
    assert_eq!(stage.applications("device-1"), ["theirs"]);
    stage.edit_applications("device-1", &json!([])).await;
    stage.ready("p").await;
}
