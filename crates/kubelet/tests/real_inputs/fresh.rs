//! Changes while the containers run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::harness::control_plane::ControlPlane;
use crate::suite::world::{World, eventually, uid};
use crate::{SHOP, patch};

/// A change reaches files within this.
const SOON: Duration = Duration::from_secs(10);

pub async fn reaches_the_files(plane: &ControlPlane, world: &World, pod: &Pod) {
    let uid = uid(pod);
    let before = world.remote.given(&uid).unwrap();
    let until = async |path: &str, text: &str| {
        let begun = Instant::now();
        let reads = async || {
            let given = world.remote.given(&uid).unwrap();
            (given.files["app"].get(path)? == text).then_some(())
        };
        eventually(&format!("{path} reads {text:?}"), reads).await;
        assert!(begun.elapsed() < SOON, "{path}: {:?}", begun.elapsed());
    };
    let status = world.pods().get("everything").await.unwrap().status;
    patch(
        plane,
        "configmap/settings",
        r#"{"data": {"plain": "newer"}}"#,
    );
    until("/all/plain", "newer").await;
    until("/conf/deep/plain", "newer").await;
    until("/mix/map/plain", "newer").await;
    patch(
        plane,
        "secret/hush",
        r#"{"stringData": {"word": "newer s3cret"}}"#,
    );
    until("/hush/word", "newer s3cret").await;
    until("/mix/word", "newer s3cret").await;
    plane.ok(&[
        "label",
        "pod/everything",
        "-n",
        SHOP,
        "--overwrite",
        "x=newer",
    ]);
    until("/about/labels", "tier=\"front\"\nx=\"newer\"").await;
    let after = world.remote.given(&uid).unwrap();
    assert_eq!(after.files["app"]["/one"], "of the map", "a part stays");
    assert_eq!(after.environment, before.environment);
    assert_eq!(after.command_lines, before.command_lines);
    assert_eq!((after.starts, after.refreshes), (1, 3));
    let shown = world.pods().get("everything").await.unwrap();
    assert_eq!(shown.status, status, "and nothing is to be seen of it");
}
