//! What has to hold before a pod counts as gone, as running, as ours.

use serde_json::json;

use super::*;
use crate::device::AppStatus;
use crate::device::tests::device;
use crate::mapping::tests::{application_of, pod};

/// Of the applications made here.
const CLUSTER: &str = "cluster-uid";

fn image(image: &str) -> PodRequest {
    pod(json!({"containers": [{"name": "app", "image": image}]}))
}

fn placed(stage: Stage) -> Placed {
    let pod = image("nginx");
    let app = application_of(&pod);
    let name = app["name"].as_str().unwrap();
    Placed::new(pod.key, "node".into(), "a", name, stage)
}

fn written(version: Option<u64>, after: u64) -> Stage {
    Stage::Written {
        revision: image("nginx").spec_revision,
        version,
        after,
    }
}

fn removed(version: Option<u64>, after: u64) -> Stage {
    Stage::Removed { version, after }
}

fn ours() -> Value {
    application_of(&image("nginx"))
}

fn theirs() -> Value {
    crate::mapping::tests::application(&image("nginx"), "another").unwrap()
}

/// A device that runs this version; `listed` where its status names the pod.
fn at(reported: u64, spec: &[Value], listed: bool) -> DeviceView {
    let mut device = device("a", &[]);
    device.rendered = 7;
    device.reported = reported;
    device.applications = spec.to_vec();
    if listed {
        let app = placed(Stage::Reserved).app;
        device.app_status.insert(app, AppStatus::default());
    }
    device
}

#[tokio::test]
async fn what_a_device_runs_does_not_wait_for_a_later_version_that_holds_it_too() {
    let mut placed = placed(written(Some(5), 0));
    placed.rendered(7, &[ours()], CLUSTER);
    let device = at(5, &[ours()], true);
    assert!(placed.applied(&device).is_some());
    placed.rendered(4, &[ours()], CLUSTER);
    assert!(placed.applied(&at(4, &[ours()], true)).is_some());
}

#[tokio::test]
async fn a_removed_pod_is_gone_only_when_its_device_runs_a_version_without_it() {
    let gone = |stage: Stage, device: &DeviceView| {
        let mut placed = placed(stage);
        let freed = placed.see(device, CLUSTER);
        assert_eq!(freed, placed.stage == Stage::Gone);
        assert_eq!(freed, !placed.holds_room());
        freed
    };
    assert!(gone(removed(Some(5), 4), &at(5, &[], false)));
    assert!(gone(removed(Some(5), 4), &at(6, &[], false)), "a later one");
    assert!(
        !gone(removed(Some(5), 4), &at(4, &[], false)),
        "still runs the version that holds it"
    );
    assert!(
        !gone(removed(None, 4), &at(6, &[], false)),
        "no version is known to lack it"
    );
    assert!(
        !gone(removed(Some(5), 4), &at(5, &[], true)),
        "the device lists it still"
    );
    let mut offline = at(5, &[], false);
    offline.summary = "Unknown".into();
    assert!(
        !gone(removed(Some(5), 4), &offline),
        "what a disconnected device last said is old"
    );
    assert!(
        !gone(written(Some(5), 4), &at(5, &[], false)),
        "nobody took it out"
    );
}

#[tokio::test]
async fn what_someone_puts_back_has_to_leave_again() {
    for stage in [removed(Some(5), 4), removed(None, 4), Stage::Gone] {
        let mut placed = placed(stage);
        placed.see(&at(5, &[ours()], false), CLUSTER);
        assert_eq!(placed.stage, removed(None, 7));
    }
    let mut placed = placed(Stage::Gone);
    placed.see(&at(5, &[theirs()], false), CLUSTER);
    assert_eq!(placed.stage, Stage::Gone, "another cluster's");
}

#[tokio::test]
async fn a_pod_is_applied_only_when_its_device_runs_a_version_with_it() {
    let revision = image("nginx").spec_revision;
    for (stage, device, applied) in [
        (written(Some(5), 4), at(5, &[ours()], true), true),
        (written(Some(5), 4), at(6, &[ours()], true), true),
        (written(Some(5), 4), at(4, &[ours()], true), false),
        (written(None, 4), at(6, &[ours()], true), false),
        (written(Some(5), 4), at(5, &[ours()], false), true),
        (written(Some(5), 4), at(5, &[], true), true),
        (written(Some(5), 4), at(5, &[], false), false),
        (removed(Some(5), 4), at(5, &[ours()], true), false),
        (Stage::Reserved, at(5, &[ours()], true), false),
    ] {
        let placed = placed(stage);
        let found = placed.applied(&device);
        assert_eq!(found, applied.then(|| revision.clone()), "{placed:?}");
    }
}

#[tokio::test]
async fn a_rendered_version_counts_only_if_it_came_after_and_holds_our_revision() {
    let other = application_of(&image("nginx:2"));
    for (stage, version, apps, known) in [
        (written(None, 4), 5, vec![ours()], Some(5)),
        (written(None, 4), 4, vec![ours()], None),
        (written(None, 4), 5, vec![], None),
        (written(None, 4), 5, vec![other], None),
        (written(None, 4), 5, vec![theirs()], None),
        (removed(None, 4), 5, vec![], Some(5)),
        (removed(None, 4), 5, vec![theirs()], Some(5)),
        (removed(None, 4), 4, vec![], None),
        (removed(None, 4), 5, vec![ours()], None),
    ] {
        let mut placed = placed(stage.clone());
        placed.rendered(version, &apps, CLUSTER);
        let (Stage::Written { version: found, .. } | Stage::Removed { version: found, .. }) =
            placed.stage
        else {
            panic!("{stage:?} became another stage");
        };
        assert_eq!(found, known, "{stage:?} at {version}");
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_found_and_anothers_is_not_taken_for_it() {
    let mut lost = placed(Stage::Reserved);
    lost.see(&at(1, &[theirs()], false), CLUSTER);
    assert_eq!(lost.stage, Stage::Reserved);
    lost.see(&at(1, &[ours()], false), CLUSTER);
    assert_eq!(lost.stage, written(None, 0));
}

#[tokio::test]
async fn the_revision_follows_what_the_spec_holds() {
    let update = image("nginx:2");
    let mut placed = placed(written(Some(5), 4));
    placed.see(&at(5, &[application_of(&update)], true), CLUSTER);
    let followed = Stage::Written {
        revision: update.spec_revision,
        version: None,
        after: 4,
    };
    assert_eq!(placed.stage, followed);
}

#[tokio::test]
async fn an_edited_unit_is_not_accepted() {
    let placed = placed(written(Some(5), 4));
    let accepted = |app: Value| placed.accepted(&at(5, &[app], true));
    assert_eq!(accepted(ours()), Some(image("nginx").spec_revision));
    let mut edited = ours();
    for file in edited["inline"].as_array_mut().unwrap() {
        let text = file["content"].as_str().unwrap();
        file["content"] = text.replace("nginx", "evil").into();
    }
    assert_eq!(accepted(edited), None);
}

#[tokio::test]
async fn a_version_is_looked_up_only_after_the_device_was_rendered_anew() {
    for (stage, looked_up) in [
        (written(None, 6), true),
        (written(None, 7), false),
        (written(Some(7), 6), false),
        (removed(None, 6), true),
        (removed(None, 7), false),
        (Stage::Reserved, false),
    ] {
        let placed = placed(stage);
        assert_eq!(
            placed.unverified(&at(1, &[], false)),
            looked_up,
            "{placed:?}"
        );
    }
}
