//! Others edit what is ours in Flight Control.

use serde_json::json;

use crate::stage::{Stage, pod};
use crate::{NODE, delete, foreign, see};

#[tokio::test(start_paused = true)]
async fn an_edit_that_drops_our_marker_is_restored_and_ends_with_the_pod() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let edited = json!([foreign(&format!("vk-{uid}"))]);
    stage.edit_applications("device-1", &edited).await;
    see(&stage, "ours again", || {
        stage.spec_applications("device-1") == ours
    })
    .await;
    stage.edit_applications("device-1", &edited).await;
    delete(&stage, "p");
    stage.gone("p").await;
    assert_eq!(stage.spec_applications("device-1"), json!([]));
    see(&stage, "nothing runs", || {
        stage.devices[0].applications().is_empty()
    })
    .await;
}
