//! Whole cycles of a pod on the real Flight Control service, as the provider saw
//! them, replayed through the provider: what the real service answers is part of
//! every test run, without the service.
//!
//! The service is real, and so is the provider; the device's agent is the sandbox's,
//! on the real agent API. Each cycle is one function, played twice. Where `VK_RECORD` and `FLIGHTCTL_BIN`
//! are set (CONTRIBUTING.md) the service answers, and the trace beside this file is
//! written anew; else the trace answers, on the stepped clock. A change of what the
//! provider writes needs no new trace: what is of ours in a device's spec is not
//! recorded, but given back as it was written. A change of when it writes may.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../../tests/real/harness/agent_link.rs"]
mod agent_link;
#[path = "../../../../tests/real/harness/flightctl_service.rs"]
mod flightctl_service;
#[path = "../../../../tests/real/harness/mod.rs"]
mod harness;
#[path = "../../../../tests/real/harness/https.rs"]
mod https;
#[path = "../../../../tests/real/harness/oidc.rs"]
mod oidc;
mod player;
mod recorder;
mod rig;
mod trace;

use rig::Rig;
use vk_sandbox::flightctl::{Pull, Script};

const OLD: &str = "gcr.io/google-samples/hello-app:1.0";
const NEW: &str = "gcr.io/google-samples/hello-app:2.0";
const BAD: &str = "registry.example.com/no/such:1";

/// A pod comes, has its image changed and goes.
async fn deploy_update_delete(rig: &Rig) {
    rig.create(OLD);
    rig.shows(&format!("Running ready {OLD}")).await;
    rig.set_image(NEW);
    rig.shows(&format!("Running ready {NEW}")).await;
    rig.delete();
    rig.gone().await;
}

/// The device of a pod goes, is missed, and comes back.
async fn away(rig: &Rig) {
    rig.create(OLD);
    rig.shows(&format!("Running ready {OLD}")).await;
    rig.far
        .act("disconnect", |device| device.disconnect())
        .await;
    rig.shows("DeviceDisconnected").await;
    rig.far.act("reconnect", |device| device.reconnect()).await;
    rig.shows(&format!("Running ready {OLD}")).await;
    rig.delete();
    rig.gone().await;
}

/// An image that no registry has, and one that there is.
async fn bad_image(rig: &Rig) {
    rig.far
        .act("break", |device| {
            device.script(Script::image(BAD).pull(Pull::NotFound));
        })
        .await;
    rig.create(BAD);
    // It has given way by then.
    rig.shows("ImagePullBackOff").await;
    rig.set_image(OLD);
    rig.shows(&format!("Running ready {OLD}")).await;
    rig.delete();
    rig.gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_comes_changes_its_image_and_goes() {
    let story = Rig::replay("deploy-update-delete", deploy_update_delete).await;
    let told = [
        "Pending",
        "Pending ContainerCreating",
        &format!("Running ready {OLD}"),
        "Running ContainerCreating",
        &format!("Running ready {NEW}"),
        &format!("Terminating Running ready {NEW}"),
        "Terminating Failed ContainerStatusUnknown",
        "gone",
    ];
    assert_eq!(story, told);
}

#[tokio::test(start_paused = true)]
async fn a_device_goes_is_missed_and_comes_back() {
    let story = Rig::replay("away", away).await;
    let running = format!("Running ready {OLD}");
    let told = [
        "Pending",
        "Pending ContainerCreating",
        &running,
        &format!("Unknown DeviceDisconnected {OLD}"),
        &running,
        &format!("Terminating {running}"),
        "Terminating Failed ContainerStatusUnknown",
        "gone",
    ];
    assert_eq!(story, told);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_no_registry_has_is_told_and_a_good_one_runs() {
    let story = Rig::replay("bad-image", bad_image).await;
    let told = [
        "Pending",
        "Pending ContainerCreating",
        "Pending ImagePullBackOff",
        "Pending ContainerCreating",
        &format!("Running ready {OLD}"),
        &format!("Terminating Running ready {OLD}"),
        "Terminating Failed ContainerStatusUnknown",
        "gone",
    ];
    assert_eq!(story, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn record() {
    let cycles = recorder::wanted();
    for name in cycles {
        match &*name {
            "deploy-update-delete" => Rig::record(&name, deploy_update_delete).await,
            "away" => Rig::record(&name, away).await,
            "bad-image" => Rig::record(&name, bad_image).await,
            other => panic!("VK_RECORD: no cycle {other}"),
        }
    }
}
