//! How many devices one page of a list may have: fewer where they are large, or
//! the service is slow.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DEADLINE, PAGE};

/// A page of fewer is not what makes a service slow: it does not answer.
const SLOW_LEAST: usize = 50;

/// The present limit, for all lists of a client.
#[derive(Debug)]
pub(super) struct Paging(Mutex<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    /// More has been too large before.
    most: usize,
}

impl Default for Paging {
    fn default() -> Self {
        Self(Mutex::new(State {
            limit: PAGE,
            most: PAGE,
        }))
    }
}

impl Paging {
    pub(super) fn limit(&self) -> usize {
        self.state().limit
    }

    /// A page of this many was more than is read; false if fewer cannot be asked for.
    pub(super) fn too_large(&self, limit: usize) -> bool {
        let mut state = self.state();
        state.most = state.most.min((limit / 2).max(1));
        state.limit = state.limit.min(state.most);
        limit > 1
    }

    /// A page of this many did not come in time.
    pub(super) fn too_slow(&self, limit: usize) {
        let mut state = self.state();
        state.limit = state.limit.min((limit / 2).max(SLOW_LEAST.min(state.most)));
    }

    /// A page came; one that came quickly may have more devices next time.
    pub(super) fn answered(&self, took: Duration) {
        if took < DEADLINE / 4 {
            let mut state = self.state();
            state.limit = (state.limit * 2).min(state.most);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_get_smaller_and_recover_from_slowness_only() {
        let paging = Paging::default();
        paging.too_slow(1000);
        assert_eq!(paging.limit(), 500);
        for _ in 0..9 {
            paging.too_slow(paging.limit());
        }
        assert_eq!(paging.limit(), SLOW_LEAST, "an outage is no slowness");
        for _ in 0..5 {
            paging.answered(Duration::from_secs(1));
        }
        assert_eq!(paging.limit(), PAGE);
        assert!(paging.too_large(1000));
        paging.answered(Duration::from_secs(1));
        assert_eq!(paging.limit(), 500, "they do not shrink");
        assert!(!paging.too_large(1));
        assert_eq!(paging.limit(), 1);
    }
}
