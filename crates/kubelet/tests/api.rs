//! A node's HTTPS API over real sockets, on the live clock, or on one that stands
//! until a test moves it.

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
#[path = "api/health.rs"]
mod health;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/kubectl_logs.rs"]
mod kubectl_logs;
#[path = "api/library/mod.rs"]
mod library;
#[path = "api/measured.rs"]
mod measured;
#[path = "api/nodes.rs"]
mod nodes;
#[path = "api/quiet.rs"]
mod quiet;
#[path = "api/rig.rs"]
mod rig;
#[path = "api/served.rs"]
mod served;
#[path = "api/standing.rs"]
mod standing;
#[path = "api/upgrades.rs"]
mod upgrades;
#[path = "api/wire.rs"]
mod wire;

// Of the test `library` alone: its peer, and a backend that runs the same commands.
#[path = "../../../tests/real/harness/mod.rs"]
mod harness;
#[path = "../examples/mock/processes/mod.rs"]
mod processes;

// What the suite's world is made of.
mod suite;
