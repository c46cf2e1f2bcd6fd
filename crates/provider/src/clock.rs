//! Wall time that follows the runtime's clock.

use jiff::Timestamp;
use tokio::time::Instant;

/// The source of every timestamp.
///
/// A live clock reads the system's wall time. A stepped clock is *start plus the
/// runtime's elapsed time*: under tokio's paused time it moves only when the
/// test moves it, so that timestamps and timers agree exactly.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The system's wall clock.
    pub fn live() -> Self {
        Self { origin: None }
    }

    /// `start` now, then as the runtime's time passes. Call it inside a runtime.
    pub fn stepped(start: Timestamp) -> Self {
        Self {
            origin: Some((start, Instant::now())),
        }
    }

    /// The present wall time.
    pub fn now(&self) -> Timestamp {
        match self.origin {
            None => Timestamp::now(),
            Some((start, at)) => start.checked_add(at.elapsed()).unwrap_or(Timestamp::MAX),
        }
    }
}
