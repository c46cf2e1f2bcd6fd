//! One budget of requests for everything the provider asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Requests per minute by default: the service is shipped with a limit of 300
/// per client address, which others behind the same address need too.
pub const DEFAULT_PER_MINUTE: u32 = 240;
/// Part of the budget that may be used at once.
const BURST: Duration = Duration::from_secs(15);
/// Part of the burst that is kept for writes: users wait for those.
const FOR_WRITES: Duration = Duration::from_secs(5);

/// The budget; clones share it.
///
/// The generic cell rate algorithm: one time stands for the whole state, so
/// that no task has to refill anything.
#[derive(Clone, Debug)]
pub struct Budget {
    state: Arc<Mutex<State>>,
    /// Only one read at a time has its place booked, so that a write never
    /// waits behind a queue of them.
    reads: Arc<tokio::sync::Mutex<()>>,
    step: Duration,
}

#[derive(Debug)]
struct State {
    /// When the budget would be full again.
    full_at: Instant,
    /// Nobody asks before this: the service said so.
    paused_until: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(DEFAULT_PER_MINUTE)
    }
}

impl Budget {
    /// So many requests per minute.
    pub fn new(per_minute: u32) -> Self {
        let now = Instant::now();
        Self {
            state: Arc::new(Mutex::new(State {
                full_at: now,
                paused_until: now,
            })),
            reads: Arc::default(),
            step: Duration::from_secs(60) / per_minute.max(1),
        }
    }

    /// Waits for one request's worth. Cancel-safe: a dropped wait has used up
    /// its place, which only slows the next one down.
    ///
    /// # Errors
    /// The service has asked for a pause that is longer than `patience`: what is
    /// left of it. That is answered at once, so that callers can tell of it.
    pub async fn take(&self, write: bool, patience: Duration) -> Result<(), Duration> {
        self.pausing(patience)?;
        let _turn = if write {
            None
        } else {
            Some(self.reads.lock().await)
        };
        let mut at = {
            let mut state = self.state();
            let now = Instant::now();
            let burst = if write { BURST } else { BURST - FOR_WRITES };
            state.full_at = state.full_at.max(now) + self.step;
            state.full_at.checked_sub(burst).unwrap_or(now)
        };
        loop {
            self.pausing(patience)?;
            at = at.max(self.state().paused_until);
            if at <= Instant::now() {
                return Ok(());
            }
            sleep_until(at).await;
        }
    }

    /// How many requests it has for so long.
    pub fn requests_in(&self, span: Duration) -> usize {
        let steps = span.as_nanos() / self.step.as_nanos().max(1);
        usize::try_from(steps).unwrap_or(usize::MAX)
    }

    /// Nobody asks for so long.
    pub fn pause(&self, wait: Duration) {
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Instant::now() + wait);
    }

    fn pausing(&self, patience: Duration) -> Result<(), Duration> {
        let left = self.state().paused_until;
        let left = left.saturating_duration_since(Instant::now());
        if left > patience { Err(left) } else { Ok(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn a_pause_longer_than_ones_patience_is_told_at_once() {
        let budget = Budget::new(60);
        let begun = Instant::now();
        budget.pause(Duration::from_secs(60));
        for write in [true, false] {
            let left = budget.take(write, PATIENCE).await;
            assert_eq!(left, Err(Duration::from_secs(60)));
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(50)).await;
        budget.take(true, PATIENCE).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_then_the_rate_holds() {
        let budget = Budget::new(60);
        let begun = Instant::now();
        for _ in 0..70 {
            budget.take(true, PATIENCE).await.unwrap();
        }
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_secs(54) && took <= Duration::from_secs(56),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn reads_leave_room_for_writes() {
        let budget = Budget::new(60);
        for _ in 0..10 {
            budget.take(false, PATIENCE).await.unwrap();
        }
        let begun = Instant::now();
        budget.take(true, PATIENCE).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        budget.take(false, PATIENCE).await.unwrap();
        assert!(begun.elapsed() > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everyone() {
        let budget = Budget::new(60);
        budget.pause(Duration::from_secs(10));
        let begun = Instant::now();
        budget.take(true, PATIENCE).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_those_who_wait_already() {
        let budget = Budget::new(60);
        for _ in 0..16 {
            budget.take(true, PATIENCE).await.unwrap();
        }
        let begun = Instant::now();
        let (waiting, ()) = tokio::join!(
            async {
                budget.take(true, PATIENCE).await.unwrap();
                begun.elapsed()
            },
            async { budget.pause(Duration::from_secs(10)) },
        );
        assert_eq!(waiting, Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_never_waits_behind_a_queue_of_reads() {
        let budget = Budget::new(60);
        let reads: Vec<_> = (0..100)
            .map(|_| {
                let budget = budget.clone();
                tokio::spawn(async move { budget.take(false, PATIENCE).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        budget.take(true, PATIENCE).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for read in reads {
            read.await.unwrap().unwrap();
        }
    }
}
