//! A complete backend over a service in memory, and the conformance kit run on
//! it: `cargo run -p vk-provider --example memory`.
//!
//! [`backend`] is what you would write; [`remote`] stands for what you have;
//! [`fixture`] is what a test of yours tells the kit.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    reason = "modules of one example"
)]

mod backend;
mod fixture;
mod remote;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let report = vk_provider::conformance::check(&fixture::World::new()).await;
    print!("{report}");
    match report.broken().is_empty() && report.not_run().is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
