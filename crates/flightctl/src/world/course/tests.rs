//! What counts as news about the version that is wanted.

use tokio::time::advance;

use super::*;
use crate::device::tests::{device, updating};

fn says(rendered: u64, active: bool, reason: &str, message: &str) -> DeviceView {
    let mut view = device("a", &[]);
    view.rendered = rendered;
    view.reported = 1;
    view.updating = updating(active, reason, message).updating;
    view
}

#[tokio::test(start_paused = true)]
async fn what_a_device_said_before_is_not_about_its_next_version_until_it_stands() {
    let failed = |rendered| {
        says(
            rendered,
            false,
            "Error",
            "While Rebooting: unknown failed: x",
        )
    };
    let mut course = Course::default();
    course.read(&says(2, true, "Preparing", "preparing"));
    assert!(!course.is_about_it(), "a process that has just begun");
    course.read(&failed(2));
    assert!(course.is_about_it());
    course.read(&failed(3));
    course.read(&failed(3));
    assert!(!course.is_about_it(), "it was about version 2");
    course.read(&says(3, true, "Preparing", "preparing"));
    course.read(&failed(3));
    assert!(course.is_about_it(), "it fails in the same words");
    // Where the moments between were not seen.
    course.read(&failed(4));
    advance(STALE).await;
    assert!(course.is_about_it());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_a_device_said_of_a_version_is_never_about_the_next_one() {
    let failed = |rendered| {
        let words = "[2026-11-21 04:38:50] While Rebooting: unknown failed: x";
        says(rendered, false, "Error", words)
    };
    let mut course = Course::default();
    course.read(&says(2, true, "Preparing", "preparing"));
    course.read(&failed(2));
    assert!(course.is_about_it());
    for version in [3, 4] {
        let mut next = failed(version);
        next.applications.push(version.into());
        course.read(&next);
        advance(STALE * 2).await;
        assert!(!course.is_about_it(), "it was about version 2");
    }
    // What has failed it does not try again, and says nothing of it.
    let mut other = failed(5);
    other.applications.push("x".into());
    course.read(&other);
    assert!(!course.is_about_it());
    course.read(&failed(6));
    advance(STALE).await;
    assert!(course.is_about_it(), "as version 2");
    other.rendered = 7;
    course.read(&other);
    // It is heard of, has the version for long, and says nothing else.
    advance(FORGETS).await;
    assert!(course.is_about_it());
    let mut away = other.clone();
    away.summary = "Unknown".into();
    course.read(&away);
    advance(FORGETS).await;
    course.read(&other);
    assert!(!course.is_about_it(), "it could not have the version yet");
    let anew = "[2026-11-21 04:39:20] While Rebooting: unknown failed: x";
    other.updating = says(7, false, "Error", anew).updating;
    course.read(&other);
    assert!(course.is_about_it(), "another time is another failure");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_comes_is_progress_and_a_newcomers_version_is_none() {
    let minute = Duration::from_secs(60);
    let pulls = |rendered, message: &str| says(rendered, true, "Preparing", message);
    let mut course = Course::default();
    course.read(&pulls(2, "0/2 images complete, pending: a, b"));
    advance(minute).await;
    course.read(&pulls(2, "0/2 images complete, pending: b, a"));
    assert_eq!(course.stood(), minute, "they are told in any order");
    course.read(&pulls(3, "0/3 images complete, pending: a, b, c"));
    assert_eq!(course.stood(), minute);
    // It looks for them once more.
    course.read(&pulls(
        3,
        "Device is preparing an update to renderedVersion: 3",
    ));
    advance(minute).await;
    course.read(&pulls(3, "0/3 images complete, pending: a, b, c"));
    assert_eq!(course.stood(), 2 * minute);
    course.read(&pulls(3, "1/3 images complete, pending: a, b"));
    assert_eq!(course.stood(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_applies_for_minutes_is_told_to_be_busy() {
    let mut course = Course::default();
    let view = says(
        2,
        true,
        "ApplyingUpdate",
        "Device is applying renderedVersion: 2",
    );
    course.read(&view);
    assert_eq!(course.busy(&view), None);
    advance(BUSY).await;
    let (reason, sentence) = course.busy(&view).unwrap();
    assert!(
        reason == "DeviceBusy" && sentence.contains("version 2"),
        "{sentence}"
    );
}
