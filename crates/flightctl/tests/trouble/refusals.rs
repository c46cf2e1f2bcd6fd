//! Flight Control, or something in front of it, refuses a write.

use k8s_openapi::api::core::v1::Pod;
use vk_sandbox::faults::{Effect, Rule};

use crate::stage::{Stage, pod};
use crate::{NODE, is_ready, phase, see};

fn set_image(stage: &Stage, name: &str, image: &str) {
    let mut pod: Pod = stage.cluster.get("default", name).unwrap();
    pod.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    stage.cluster.update(&pod).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_proxys_413_at_an_image_update_ends_no_running_pod() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let rule = Rule::always("/api/v1/devices/", Effect::Status(413)).method("PATCH");
    stage.flightctl.faults().add(rule.times(1));
    set_image(&stage, "p", "hello-app:2.0");
    see(&stage, "the new image", || {
        stage.devices[0]
            .journal()
            .iter()
            .any(|e| e.image.contains("hello-app:2.0"))
    })
    .await;
    assert_eq!(phase(&stage, "p"), "Running");
    stage.ready("p").await;
    assert!(is_ready(&stage, "p"));
}
