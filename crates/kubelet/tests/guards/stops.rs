//! The end of a pod.

use std::time::Duration;

use vk_provider::Grace;

use crate::around::Around;
use crate::rig::{Rig, seconds};
use crate::suite::world::uid;

#[tokio::test(start_paused = true)]
async fn a_stop_without_effect_is_repeated_a_minute_after_its_grace_and_told_once() {
    let mut rig = Rig::running().await;
    let created = rig.world.create(&rig.world.pod("deaf", "Always")).await;
    rig.world.running("deaf").await;
    rig.world.remote.hold_stops(true);
    rig.world.delete("deaf", Some(10)).await;
    seconds(65).await;
    assert_eq!(rig.backend.stops().len(), 1);
    seconds(10).await;
    assert_eq!(rig.backend.stops().len(), 2);
    seconds(5).await;
    assert_eq!(rig.events("Killing").await, 1);
    assert_eq!(
        rig.events("GracePeriodFixed").await,
        0,
        "it can be shortened"
    );
    rig.world.remote.exit(&uid(&created), 0);
    rig.world.gone("deaf", &uid(&created)).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_than_the_remote_can_honour_is_told() {
    let mut rig = Rig::stopped().await;
    rig.backend = Around::new(rig.world.remote.backend(), Grace::AtStart);
    rig.start(rig.world.client.clone());
    for (name, grace, told) in [("own", 30, 0), ("shorter", 5, 1)] {
        let created = rig.world.create(&rig.world.pod(name, "Always")).await;
        rig.world.running(name).await;
        rig.world.delete(name, Some(grace)).await;
        rig.world.gone(name, &uid(&created)).await;
        seconds(5).await;
        assert_eq!(rig.events("GracePeriodFixed").await, told, "{name}");
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_failed_is_repeated_until_the_remote_is_empty() {
    let mut rig = Rig::running().await;
    let created = rig.world.create(&rig.world.pod("sticky", "Always")).await;
    rig.world.running("sticky").await;
    rig.backend.tell(|told| told.releases_fail = 3);
    rig.world.delete("sticky", Some(30)).await;
    rig.world.gone("sticky", &uid(&created)).await;
    rig.world.emptied().await;
    assert_eq!(rig.backend.releases(), 4);
    rig.stop().await;
}

/// The remote hangs in its start, which has a minute: the end does not wait.
#[tokio::test(start_paused = true)]
async fn a_deletion_cancels_the_start_that_is_under_way() {
    let mut rig = Rig::running().await;
    rig.world.remote.hold_ensures(true);
    let created = rig.world.create(&rig.world.pod("unborn", "Always")).await;
    seconds(5).await;
    let starts = || rig.backend.seen.lock().unwrap().cancels.clone();
    assert_eq!(starts().len(), 1);
    assert!(!starts()[0].is_cancelled());
    rig.world.delete("unborn", Some(30)).await;
    seconds(5).await;
    assert!(starts()[0].is_cancelled(), "the backend is told");
    assert_eq!(rig.backend.stops().len(), 1);
    rig.world.gone("unborn", &uid(&created)).await;
    assert_eq!(starts().len(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_is_asked_for_at_once_and_again_by_back_off() {
    let mut rig = Rig::running().await;
    let created = rig.world.create(&rig.world.pod("hurried", "Always")).await;
    rig.world.running("hurried").await;
    rig.world.remote.hold_stops(true);
    rig.world.delete("hurried", Some(300)).await;
    seconds(5).await;
    assert_eq!(rig.backend.stops().len(), 1);
    let short = Duration::from_secs(5);
    rig.backend.tell(|told| told.stops_fail = Some(short));
    rig.world.delete("hurried", Some(5)).await;
    seconds(5).await;
    let graces: Vec<_> = rig.backend.stops().iter().map(|stop| stop.1).collect();
    assert_eq!(graces[1..], [short]);
    seconds(65).await;
    let times: Vec<_> = rig.backend.stops()[1..].iter().map(|stop| stop.0).collect();
    let waits: Vec<_> = times.windows(2).map(|w| (w[1] - w[0]).as_secs()).collect();
    assert_eq!(waits, [10, 20], "then 40 s");
    rig.world.remote.exit(&uid(&created), 0);
    rig.world.gone("hurried", &uid(&created)).await;
    rig.stop().await;
}
