//! The guards against doing harm: each test fails when the one guard it names
//! is taken away.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    unused_macros,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "suite/sandboxed.rs"]
mod sandboxed;
mod suite;

#[path = "guards/answers.rs"]
mod answers;
#[path = "guards/around.rs"]
mod around;
#[path = "guards/orphans.rs"]
mod orphans;
#[path = "guards/rig.rs"]
mod rig;
#[path = "guards/starts.rs"]
mod starts;
#[path = "guards/stops.rs"]
mod stops;
#[path = "guards/streams.rs"]
mod streams;
#[path = "guards/successors.rs"]
mod successors;
