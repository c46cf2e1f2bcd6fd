//! What goes wrong at present on the way and at the remote. The sandbox's own
//! [`vk_sandbox::faults`] do the rest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Chances are in percent of the calls.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Answers of the API server come late, by up to [`LATE_ANSWER`].
    pub late_answers: u64,
    /// Watch events come late, by up to this.
    pub watch_lag: Duration,
    /// The backend cannot be reached.
    pub down: bool,
    /// Calls of the backend take up to [`SLOW_CALL`], before or after their effect.
    pub slow: u64,
    /// Calls take effect and answer that the remote could not be asked.
    pub answers_lost: u64,
    /// Calls panic.
    pub panics: u64,
    /// Listings miss some pods, and say so.
    pub partial: u64,
    /// Listings are up to this old, and say so.
    pub listing_lag: Duration,
    /// Changes are not delivered.
    pub changes_lost: u64,
    /// Changes come twice, the second time late: duplicates, reordering and
    /// late news of pods that are gone.
    pub changes_late: u64,
}

/// Longer than a write's deadline.
pub const LATE_ANSWER: Duration = Duration::from_secs(12);
/// Longer than the deadline of `ensure` and `stop`.
pub const SLOW_CALL: Duration = Duration::from_secs(80);
/// How late a late change is at most.
pub const LATE_CHANGE: Duration = Duration::from_secs(90);

/// The present weather; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Weather(Arc<Mutex<Faults>>);

impl Weather {
    pub fn now(&self) -> Faults {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set(&self, faults: Faults) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }
}
