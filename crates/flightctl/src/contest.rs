//! How long to leave alone what someone else keeps changing back: pure.

use std::time::Duration;

use tokio::time::Instant;

/// Wait after the first time, doubled up to [`LONGEST`]: most edits are a
/// person's and happen once.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait: a controller that never gives in costs one write in this.
const LONGEST: Duration = Duration::from_secs(300);
/// After this much calm it counts as new.
const CALM: Duration = Duration::from_secs(600);

/// What was done again and again, and when it may be done next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contest {
    times: u32,
    last: Option<Instant>,
    /// That it will be done was told.
    pub(crate) told: bool,
}

impl Contest {
    /// What is left to wait before the next time.
    pub fn wait(&self) -> Option<Duration> {
        let last = self.last?;
        let wait = FIRST
            .saturating_mul(1 << self.times.saturating_sub(1).min(9))
            .min(LONGEST);
        wait.checked_sub(last.elapsed()).filter(|w| !w.is_zero())
    }

    /// It is done once more.
    pub fn again(&mut self) {
        if self.is_calm() {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.last = Some(Instant::now());
    }

    /// Nothing happened for long.
    pub fn is_calm(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() > CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_time_is_free_and_then_it_takes_longer_and_longer() {
        let mut contest = Contest::default();
        assert_eq!(contest.wait(), None);
        for seconds in [1, 2, 4] {
            contest.again();
            assert_eq!(contest.wait(), Some(Duration::from_secs(seconds)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(contest.wait(), None);
        }
        for _ in 0..20 {
            contest.again();
        }
        assert_eq!(contest.wait(), Some(LONGEST));
        tokio::time::advance(CALM + FIRST).await;
        contest.again();
        assert_eq!(contest.wait(), Some(FIRST));
    }
}
