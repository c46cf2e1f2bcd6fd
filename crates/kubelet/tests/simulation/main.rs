//! A randomized simulation of the framework, crash points, and a restart with
//! many pods: the sandbox's Kubernetes, an in-memory remote that outlives the
//! process under test, and paused time.
//!
//! `SEEDS=n` runs n seeds, and from 200 on, as in CI, all deaths of the
//! process are tried, not every seventh. A seed that fails is printed
//! with what led to it; `SEED=n` runs that one alone, `TIMES=n` so often. A
//! seed fixes operations and faults; the order in which hash maps are walked
//! is the process's own, so that a rare failure may need several times.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

mod broken;
mod court;
mod crash;
mod dice;
mod finale;
mod guards;
mod handle;
mod life;
mod many;
#[path = "../suite/memory.rs"]
#[allow(dead_code, reason = "shared with the lifecycle suite")]
mod memory;
mod random;
mod remote;
mod seeds;
mod weather;
mod wire;
mod world;
