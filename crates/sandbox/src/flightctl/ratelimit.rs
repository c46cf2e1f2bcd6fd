//! The request limit: a sliding window over two fixed ones, as the service's
//! limiter counts. One client only: the sandbox has no addresses to tell.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::Options;

/// Logins have a limit of their own, whenever there is one (20 an hour).
const LOGIN_LIMIT: (u32, Duration) = (20, Duration::from_secs(3600));

/// The limits in force.
#[derive(Debug)]
pub(crate) struct Limiters {
    pub(crate) general: Option<Limiter>,
    pub(crate) login: Option<Limiter>,
}

impl Limiters {
    pub(crate) fn new(options: &Options) -> Self {
        let limiter = |(limit, window)| Limiter::new(limit, window);
        Self {
            general: options
                .rate_limit
                .map(|limit| limiter((limit, options.rate_limit_window))),
            login: options.rate_limit.map(|_| limiter(LOGIN_LIMIT)),
        }
    }
}

/// One limit.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: u32,
    window: u64,
    current: u64,
    counts: (u32, u32),
}

/// What a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) allowed: bool,
    pub(crate) window: u64,
    limit: u32,
    remaining: u32,
    reset: u64,
}

impl Limiter {
    fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window: window.as_secs().max(1),
            current: 0,
            counts: (0, 0),
        }
    }

    /// Counts a request, unless it is over the limit.
    pub(crate) fn take(&mut self, now: Timestamp) -> Taken {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let window = millis / 1000 / self.window * self.window;
        if window != self.current {
            let previous = if window == self.current + self.window {
                self.counts.1
            } else {
                0
            };
            self.counts = (previous, 0);
            self.current = window;
        }
        let length = u128::from(self.window) * 1000;
        let left = length - u128::from(millis - window * 1000);
        let carried = (u128::from(self.counts.0) * left + length / 2) / length;
        let rate = u32::try_from(carried).unwrap_or(u32::MAX) + self.counts.1;
        let allowed = rate < self.limit;
        if allowed {
            self.counts.1 += 1;
        }
        Taken {
            allowed,
            window: self.window,
            limit: self.limit,
            remaining: self.limit.saturating_sub(rate + u32::from(allowed)),
            reset: window + self.window,
        }
    }
}

impl Taken {
    pub(crate) fn describe(self, headers: &mut HeaderMap) {
        for (name, value) in [
            ("x-ratelimit-limit", u64::from(self.limit)),
            ("x-ratelimit-remaining", u64::from(self.remaining)),
            ("x-ratelimit-reset", self.reset),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let mut limiter = Limiter::new(20, Duration::from_secs(10));
        let at = |millis| Timestamp::from_millisecond(1_795_235_490_000_i64 + millis).unwrap();
        let first = limiter.take(at(5000));
        assert_eq!(
            (first.allowed, first.remaining, first.reset),
            (true, 19, 1_795_235_500)
        );
        for _ in 0..19 {
            assert!(limiter.take(at(5000)).allowed);
        }
        assert!(!limiter.take(at(5000)).allowed);
        // A new window has begun, but most of the old one still counts.
        assert!(!limiter.take(at(10_000)).allowed);
        assert!(limiter.take(at(13_000)).allowed);
    }
}
