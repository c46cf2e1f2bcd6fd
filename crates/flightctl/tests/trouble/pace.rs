//! How soon what happens at a device is known, and how often it is told.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::refusals::set_image;
use crate::stage::{Stage, pod};
use crate::{NODE, foreign, pass, see};

#[tokio::test(start_paused = true)]
async fn an_edit_by_others_is_noticed_long_before_the_next_full_reading() {
    let stage = Stage::new(1, 0, 1).await;
    let uid = stage.create(pod("p", NODE, "nginx:alpine"));
    stage.ready("p").await;
    let ours = stage.spec_applications("device-1");
    let edited = json!([foreign(&format!("vk-{uid}"))]);
    // Everything is read every 30 s; these are three places in between.
    for _ in 0..3 {
        // Long enough that the edit counts as a new one.
        pass(700).await;
        stage.edit_applications("device-1", &edited).await;
        let begun = Instant::now();
        see(&stage, "ours again", || {
            stage.spec_applications("device-1") == ours
        })
        .await;
        let took = begun.elapsed();
        assert!(took <= Duration::from_secs(8), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_update_is_told_anew() {
    let stage = Stage::new(1, 0, 1).await;
    stage.create(pod("p", NODE, "hello-app:1.0"));
    stage.ready("p").await;
    set_image(&stage, "p", "hello-app:2.0");
    stage
        .until("Pulled, of the new image", |_| {
            let told = stage.events("p", "Pulled");
            told.iter()
                .any(|e| e.contains("hello-app:2.0"))
                .then_some(())
        })
        .await;
}
