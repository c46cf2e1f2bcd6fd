//! When a device is taken for away, and how long its pods wait for it.

use std::time::Duration;

use super::file::At;
use super::{ConfigError, duration, value};
use crate::away::silence::SHORTEST_WINDOW;
use crate::fleet::AbsenceRule;

/// The rule that a file gives, `base` where it says nothing; `prefix` is before its
/// keys.
pub(super) fn rule(
    path: &str,
    prefix: &str,
    (disconnect_after, reconnect_timeout): (&Option<At<String>>, &Option<At<String>>),
    base: AbsenceRule,
) -> Result<AbsenceRule, ConfigError> {
    let read = |key: &str, text: &At<String>, least: Duration, why: &str| {
        let wrong = |why: String| value(format!("{prefix}{key}"), why).at(path, text);
        match duration::parse(&text.value) {
            None => Err(wrong(format!(
                "{:?} is no duration; write for example 5m or 1m30s",
                text.value
            ))),
            Some(short) if short < least => Err(wrong(format!(
                "shorter than {}s{why}; write {0}s or more",
                least.as_secs()
            ))),
            Some(time) => Ok(time),
        }
    };
    let mut rule = base;
    if let Some(text) = disconnect_after {
        let why = ", and a healthy idle device is silent for up to 2m15s";
        rule.disconnect_after = read("disconnectAfter", text, SHORTEST_WINDOW, why)?;
    }
    if let Some(text) = reconnect_timeout {
        let least = Duration::from_secs(1);
        rule.reconnect_timeout = read("reconnectTimeout", text, least, "")?;
    }
    Ok(rule)
}
