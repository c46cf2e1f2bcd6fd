//! Wall time that follows the runtime's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The source of every timestamp. Its time is for people and for the API: it may
/// be set ahead or back at any moment, so that no order and no span is read
/// from it.
///
/// A live clock reads the system's wall time. A stepped clock is *start plus the
/// runtime's elapsed time*: under tokio's paused time it moves only when the
/// test moves it, so that timestamps and timers agree exactly.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Option<Origin>,
}

#[derive(Clone, Debug)]
struct Origin {
    start: Timestamp,
    at: Instant,
    /// Seconds by which it was set; clones share it.
    set: Arc<AtomicI64>,
}

impl Clock {
    /// The system's wall clock.
    pub fn live() -> Self {
        Self { origin: None }
    }

    /// `start` now, then as the runtime's time passes. Call it inside a runtime.
    pub fn stepped(start: Timestamp) -> Self {
        Self {
            origin: Some(Origin {
                start,
                at: Instant::now(),
                set: Arc::default(),
            }),
        }
    }

    /// The present wall time.
    pub fn now(&self) -> Timestamp {
        let Some(Origin { start, at, set }) = &self.origin else {
            return Timestamp::now();
        };
        let set = SignedDuration::from_secs(set.load(Ordering::Relaxed));
        let now = start.checked_add(at.elapsed());
        now.and_then(|now| now.checked_add(set))
            .unwrap_or(Timestamp::MAX)
    }

    /// Someone sets the wall clock: a stepped one and its clones jump by so many
    /// seconds, timers do not notice. A live one is the system's and stays.
    pub fn jump(&self, seconds: i64) {
        if let Some(origin) = &self.origin {
            origin.set.fetch_add(seconds, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_jump_moves_the_wall_clock_of_all_clones_and_no_timer() {
        let start = Timestamp::UNIX_EPOCH;
        let clock = Clock::stepped(start);
        let (clone, begun) = (clock.clone(), Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.jump(-3600);
        let shown = clone.now().duration_since(start).as_secs();
        assert_eq!(shown, 5 - 3600);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}
