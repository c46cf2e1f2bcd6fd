//! The real parts: what no one here wrote, on loopback, in a temporary folder.
//! Everything started here ends when its handle is dropped.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test binary uses a part of it"
)]

pub mod control_plane;
pub mod process;

use std::path::PathBuf;

/// The folder of the built control plane, as `make test-real` sets it. Prints
/// why nothing runs otherwise.
pub fn tools() -> Option<PathBuf> {
    match std::env::var_os("VK_TOOLS") {
        Some(folder) => Some(folder.into()),
        None => {
            println!("SKIPPED: real control plane (run make test-real, which sets VK_TOOLS)");
            None
        }
    }
}
