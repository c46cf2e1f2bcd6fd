//! What becomes of nodes and pods when the provider ends.

use std::time::Duration;

use virtual_kubelet::DRAIN_WITHIN;

use super::cli::Cli;
use super::file::File;
use super::{ConfigError, Environment, duration, value};

/// What becomes of nodes and pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnShutdown {
    /// They stay, for the next process.
    #[default]
    Keep,
    /// Pods are evicted, nodes removed.
    Drain {
        /// All of it ends within this.
        within: Duration,
    },
}

pub(super) fn on_shutdown(
    cli: &Cli,
    environment: &Environment,
    file: &File,
) -> Result<OnShutdown, ConfigError> {
    // Checked also while nothing is drained: the flag may come any day.
    let within = match &file.drain_timeout {
        None => DRAIN_WITHIN,
        Some(text) => duration::parse(&text.value)
            .filter(|within| !within.is_zero())
            .ok_or_else(|| {
                let why = format!("{:?} is no duration; write for example 5m", text.value);
                value("drainTimeout", why).at(&file.path, text)
            })?,
    };
    let given = [
        ("--on-shutdown", cli.on_shutdown.as_ref()),
        ("ON_SHUTDOWN", environment.on_shutdown.as_ref()),
        ("onShutdown", file.on_shutdown.as_ref().map(|at| &at.value)),
    ];
    let given = given.into_iter().find_map(|(key, word)| Some((key, word?)));
    match given.map(|(key, word)| (key, word.as_str())) {
        None | Some((_, "keep")) => Ok(OnShutdown::Keep),
        Some((_, "drain")) => Ok(OnShutdown::Drain { within }),
        Some((key, other)) => {
            let error = value(key, format!("{other:?} is neither keep nor drain"));
            Err(match &file.on_shutdown {
                Some(at) if key == "onShutdown" => error.at(&file.path, at),
                _ => error,
            })
        }
    }
}
