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

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use control_plane::{ControlPlane, Flags};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::task::{JoinHandle, spawn_blocking};

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

/// What a variable of the environment says, if it is set.
pub fn number<N: FromStr>(variable: &str) -> Option<N> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{variable}={text} is not a number")))
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

/// A control plane of the built tools, started where waiting holds up nobody; `None`
/// as for [`tools`].
pub async fn control_plane(flags: Flags<'static>) -> Option<ControlPlane> {
    let tools = tools()?;
    let started = spawn_blocking(move || ControlPlane::start_with(&tools, flags)).await;
    Some(started.expect("the control plane starts"))
}

/// How a kubeconfig's cluster is reached, without the client's own retries: the
/// framework repeats, and tests look again.
pub async fn reached(kubeconfig: impl AsRef<Path>) -> Config {
    let file = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.expect("the kubeconfig can be used");
    config.default_retry = false;
    config
}

/// The same, as a node with this user: `system:node:NAME`.
pub async fn reached_as_node(kubeconfig: impl AsRef<Path>, user: &str) -> Config {
    let mut config = reached(kubeconfig).await;
    config.auth_info.impersonate = Some(user.into());
    config.auth_info.impersonate_groups = Some(vec!["system:nodes".into()]);
    config
}

/// Waits for scenes that play at once and says how each ended; fails behind the last
/// one, if any has.
pub async fn all_end_well<N: Display>(scenes: impl IntoIterator<Item = (N, JoinHandle<()>)>) {
    let mut failed = Vec::new();
    for (name, scene) in scenes {
        let ended = scene.await;
        println!("{name} ... {}", if ended.is_ok() { "ok" } else { "FAILED" });
        failed.extend(ended.err().map(|_| name.to_string()));
    }
    assert!(failed.is_empty(), "{failed:?}");
}
