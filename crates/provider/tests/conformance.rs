//! The kit passes a backend that keeps the contract: the example.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    missing_docs,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../examples/memory/backend.rs"]
mod backend;
#[path = "../examples/memory/fixture.rs"]
mod fixture;
#[path = "../examples/memory/remote.rs"]
mod remote;

use vk_provider::conformance::check;

#[tokio::test(start_paused = true)]
async fn the_example_keeps_every_rule_and_every_check_is_run() {
    let report = check(&fixture::World::new()).await;
    assert!(report.broken().is_empty(), "{report}");
    assert!(report.not_run().is_empty(), "{report}");
}
