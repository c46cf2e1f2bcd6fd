//! Changes while the containers run, and what becomes old.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::{Instant, advance, pause, resume};

use crate::harness::control_plane::ControlPlane;
use crate::suite::world::{World, eventually, uid};
use crate::{SHOP, patch};

/// A change reaches files within this.
const SOON: Duration = Duration::from_secs(10);
/// The token of `everything` lives for ten minutes, the least that the API server
/// takes, and is renewed at four fifths of that.
const RENEWED: Duration = Duration::from_secs(480);
/// Between two renewals of a node's lease: no deadline is shorter.
const STEP: Duration = Duration::from_secs(10);

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
    plane.ok(&[
        "annotate",
        "pod/everything",
        "-n",
        SHOP,
        "--overwrite",
        "y=newer note",
    ]);
    until("/about/annotations", "y=\"newer note\"").await;
    let after = world.remote.given(&uid).unwrap();
    assert_eq!(after.files["app"]["/one"], "of the map", "a part stays");
    assert_eq!(after.environment, before.environment);
    assert_eq!(after.command_lines, before.command_lines);
    assert_eq!((after.starts, after.refreshes), (1, 4));
    let shown = world.pods().get("everything").await.unwrap();
    assert_eq!(shown.status, status, "and nothing is to be seen of it");
}

/// A token that is renewed reaches its file, while the kubelet's time runs ahead of
/// the cluster's.
pub async fn replaces_a_token(world: &World, pod: &Pod) {
    let uid = uid(pod);
    let token = || world.remote.given(&uid).unwrap().files["app"]["/mix/tokens/vault"].clone();
    let first = token();
    pass(world, RENEWED).await;
    let begun = Instant::now();
    let renewed = async || (token() != first).then_some(());
    eventually("the token is another", renewed).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let given = world.remote.given(&uid).unwrap();
    assert_eq!((given.starts, given.refreshes), (1, 5));
}

/// Lets time pass on the clock that nobody sets. After each step all that is due
/// happens in real time, the renewal of the node's lease for one.
async fn pass(world: &World, time: Duration) {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-node-lease");
    let renewed = async || leases.get(&world.node).await.unwrap().spec?.renew_time;
    let end = Instant::now() + time;
    while Instant::now() < end {
        let before = renewed().await;
        pause();
        advance(STEP).await;
        resume();
        let again = async || (renewed().await > before).then_some(());
        eventually("the lease is renewed", again).await;
    }
}
