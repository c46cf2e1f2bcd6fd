//! `ONLY=streams make bench`: exec, logs and port-forward of the `mock` example with
//! real processes, behind a real API server, beside a node that serves them with
//! Kubernetes' own CRI streaming library. `docs/benchmarks.md` tells what each column
//! means.
//!
//! `SIZE_STREAM=64` is quick. Needs an address of this machine that is not loopback
//! (`tests/real/isolated.sh`): the API server proxies to no other.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "a benchmark ends at what it did not expect"
)]

mod crowd;
mod door;
mod echo;
#[path = "../../../../tests/real/harness/mod.rs"]
mod harness;
mod moment;
mod report;
mod stage;
mod transfer;

use std::time::Duration;

use harness::number;
use report::Report;
use stage::Stage;
use tokio::time::sleep;

/// MiB of a transfer, unless `SIZE_STREAM` says otherwise.
const SIZE: u64 = 1024;
/// How often each is measured, unless `ROUNDS` says otherwise; subjects by turns.
const ROUNDS: usize = 3;
/// Between two kinds of measures: threads that ended the processes of the one before
/// are kept for 10 s.
const REST: Duration = Duration::from_secs(15);
/// Sessions at once, unless `SESSIONS` says otherwise.
const SESSIONS: usize = 200;

#[tokio::main]
async fn main() {
    let Some(tools) = harness::tools() else {
        return;
    };
    let Ok(address) = std::env::var("VK_NODE_ADDRESS") else {
        println!(
            "SKIPPED: the API server proxies to no loopback address: VK_NODE_ADDRESS is unset"
        );
        return;
    };
    let bytes = number("SIZE_STREAM").unwrap_or(SIZE) << 20;
    let rounds = number("ROUNDS").unwrap_or(ROUNDS);
    let sessions = number("SESSIONS").unwrap_or(SESSIONS);
    let stage = Stage::set(&tools, address.parse().unwrap()).await;
    let mut report = Report::new(bytes, rounds, sessions);
    crowd::measure(&stage, sessions, &mut report).await;
    sleep(REST).await;
    moment::measure(&stage, &mut report).await;
    sleep(REST).await;
    transfer::measure(&stage, bytes, rounds, &mut report).await;
    println!("{report}");
}
