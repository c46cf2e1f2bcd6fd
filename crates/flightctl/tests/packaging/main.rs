//! What users are handed beside the program: its image on a real engine, the chart on
//! a real API server, and what watches over it, checked by Prometheus' own tool.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "modules of one test"
)]

#[path = "../../../../tests/real/harness/mod.rs"]
mod harness;

mod chart;
mod image;
mod monitoring;
mod page;
#[path = "../stage/mod.rs"]
mod stage;

use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What a command printed; panics where it failed.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}
