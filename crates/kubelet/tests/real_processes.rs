//! The mock's processes, driven through the traits: real commands, signals and
//! terminals. Skipped where there is no busybox, but not among the real parts.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../examples/mock/processes/mod.rs"]
mod processes;

#[path = "../../../tests/real/harness/mod.rs"]
mod harness;

#[path = "real_processes/cluster.rs"]
mod cluster;
#[path = "real_processes/conformance.rs"]
mod conformance;
#[path = "real_processes/containers.rs"]
mod containers;
#[path = "real_processes/refusals.rs"]
mod refusals;
#[path = "real_processes/rig.rs"]
mod rig;
#[path = "../../../tests/real/screen.rs"]
mod screen;
#[path = "real_processes/streams.rs"]
mod streams;
#[path = "real_processes/verbs/mod.rs"]
mod verbs;
