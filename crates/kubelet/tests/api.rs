//! A node's HTTPS API over real sockets, on the live clock.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "api/access.rs"]
mod access;
#[path = "api/dial.rs"]
mod dial;
#[path = "api/endpoints.rs"]
mod endpoints;
#[path = "api/exec.rs"]
mod exec;
#[path = "api/forward.rs"]
mod forward;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/kubectl_logs.rs"]
mod kubectl_logs;
#[path = "api/rig.rs"]
mod rig;
#[path = "api/upgrades.rs"]
mod upgrades;
#[path = "api/wire.rs"]
mod wire;

// What the suite's world is made of.
mod suite;
