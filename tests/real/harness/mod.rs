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

use std::path::{Path, PathBuf};

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

/// An example of the crate, built beforehand. Cargo puts them beside the folder of
/// tests and benchmarks.
pub fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let profile = this.parent().and_then(Path::parent);
    let example = profile.map(|folder| folder.join("examples").join(name));
    let built = example.filter(|path| path.exists());
    built.unwrap_or_else(|| panic!("no {name}: cargo build --example {name}, of this profile"))
}
