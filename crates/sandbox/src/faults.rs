//! Faults that can be switched on, for any of the services.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// The request is served after this many milliseconds.
    Latency(u64),
    /// 429 with this Retry-After, in seconds.
    TooManyRequests(u64),
    /// The same as plain text, as API Priority and Fairness and proxies send it:
    /// clients that look for a Status in the body find no time there.
    PlainTooManyRequests(u64),
    /// This status, without doing anything.
    Status(u16),
    /// The connection closes before the request is served.
    DropConnection,
    /// The request takes effect, then the connection closes without an answer.
    LoseAnswer,
    /// A watch ends right after it was opened; an open one ends now.
    WatchClose,
    /// A watch stays open and says nothing more.
    WatchStall,
    /// A watch answers 410 Gone.
    WatchGone,
    /// A watch tells every change twice, and after an update the version before
    /// it once more.
    WatchRepeat,
    /// A watch tells every change this many milliseconds late, so that what other
    /// watches tell comes in another order.
    WatchLag(u64),
    /// A watch tells no changes, only bookmarks of what it has told, until its
    /// time is over.
    WatchBookmarksOnly,
}

impl Effect {
    fn is_watch(&self) -> bool {
        matches!(
            self,
            Self::WatchClose
                | Self::WatchStall
                | Self::WatchGone
                | Self::WatchRepeat
                | Self::WatchLag(_)
                | Self::WatchBookmarksOnly
        )
    }
}

/// When it goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// HTTP method, or any.
    #[serde(default)]
    pub method: Option<String>,
    /// Part of the path with its query; empty matches all.
    #[serde(default)]
    pub path: String,
    /// How often; without it, until cleared.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    pub effect: Effect,
}

impl Rule {
    /// `effect` for every request whose path contains `path`.
    pub fn always(path: &str, effect: Effect) -> Self {
        Self {
            method: None,
            path: path.into(),
            times: None,
            effect,
        }
    }

    /// The same, only so often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The same, for one method only.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.into());
        self
    }
}

/// The switchboard of one service; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<Rule>>>,
    changed: Arc<tokio::sync::Notify>,
}

impl Faults {
    /// Adds a rule. The first matching rule of a request counts.
    pub fn add(&self, rule: Rule) {
        self.lock().push(rule);
        self.changed.notify_waiters();
    }

    /// All well again.
    pub fn clear(&self) {
        self.lock().clear();
        self.changed.notify_waiters();
    }

    /// The rules in force.
    pub fn rules(&self) -> Vec<Rule> {
        self.lock().clone()
    }

    /// The effect on a request that arrives now; counts it.
    pub fn on_request(&self, method: &str, path: &str) -> Option<Effect> {
        self.take(method, path, false)
    }

    /// The effect on a watch that opens or wakes now; counts it.
    pub fn on_watch(&self, path: &str) -> Option<Effect> {
        self.take("GET", path, true)
    }

    /// Completes at the next change of the rules.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn take(&self, method: &str, path: &str, watch: bool) -> Option<Effect> {
        let mut rules = self.lock();
        let at = rules.iter().position(|rule| {
            rule.effect.is_watch() == watch
                && rule.method.as_deref().is_none_or(|m| m == method)
                && path.contains(&rule.path)
        })?;
        let effect = rules[at].effect.clone();
        if let Some(times) = &mut rules[at].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                rules.remove(at);
            }
        }
        Some(effect)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds of [`Effect::Latency`] as a duration.
pub(crate) fn latency(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
