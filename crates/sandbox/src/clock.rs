//! Wall time that follows the runtime's clock: `start` plus what the runtime
//! says has elapsed, so that paused time is exact. The product has a clock of
//! the same construction; give both the same start.

use jiff::Timestamp;
use tokio::time::Instant;

/// The sandbox's source of timestamps.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The system's wall clock.
    pub fn live() -> Self {
        Self { origin: None }
    }

    /// `start` now, then as the runtime's time passes.
    pub fn stepped(start: Timestamp) -> Self {
        Self {
            origin: Some((start, Instant::now())),
        }
    }

    /// Whether time is the runtime's, so that it can be stepped.
    pub fn is_stepped(&self) -> bool {
        self.origin.is_some()
    }

    /// The present wall time.
    pub fn now(&self) -> Timestamp {
        match self.origin {
            None => Timestamp::now(),
            Some((start, at)) => start.checked_add(at.elapsed()).unwrap_or(Timestamp::MAX),
        }
    }
}
