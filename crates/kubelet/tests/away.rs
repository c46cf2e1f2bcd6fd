//! Pods whose place at the remote is lost: replaced, run elsewhere, told about.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "away/marks.rs"]
mod marks;
#[path = "away/moved.rs"]
mod moved;
#[path = "suite/process.rs"]
mod process;
#[path = "away/replaced.rs"]
mod replaced;
#[path = "suite/sandboxed.rs"]
mod sandboxed;
mod suite;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use suite::world::World;

fn app(pod: &Pod) -> &ContainerStatus {
    let status = pod.status.as_ref().unwrap();
    &status.container_statuses.as_ref().unwrap()[0]
}

fn reason(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.reason.as_deref()
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, &'a str)> {
    let all = pod.status.as_ref()?.conditions.as_ref()?;
    let found = all.iter().find(|c| c.type_ == kind)?;
    Some((&found.status, found.reason.as_deref().unwrap_or_default()))
}

async fn version(world: &World, name: &str) -> String {
    let pod = world.pods().get(name).await.unwrap();
    pod.metadata.resource_version.unwrap()
}
