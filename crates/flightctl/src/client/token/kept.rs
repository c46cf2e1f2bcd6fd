//! A token that is granted for some time: kept, and renewed before that is over.
//!
//! Nobody waits for a renewal while the present token is good, and no renewal is
//! given up with the request that began it: the answer may hold the only refresh
//! token that is still good.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use secrecy::SecretString;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::grant::Refused;
use super::login::Refresh;
use super::oidc::ClientCredentials;
use super::{TokenError, Transport};

/// A token is renewed when so many hundredths of its life are over, and up to
/// [`SPREAD`] more, so that processes that began together do not ask together.
/// What is left is for an issuer that is away: Flight Control takes 10 s to refuse
/// a token that is over.
const RENEW_AT: u32 = 70;
const SPREAD: u32 = 10;
/// Wait after the first failure, doubled with each one up to the last; between half
/// of it and all of it is waited.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// A token that the service refuses is renewed, but not before it is that old: one
/// that is refused as soon as it is granted is no better when granted again.
const REFUSED_GAP: Duration = Duration::from_secs(30);
/// How long a request without a token waits for one, as for any answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How a fresh one is got.
pub(super) enum Way {
    /// An issuer grants it to a client of its own.
    Client(ClientCredentials, Transport),
    /// For the refresh token of a login.
    Refresh(Refresh),
}

impl Way {
    async fn ask(&self) -> Result<(SecretString, Option<Duration>), Refused> {
        match self {
            Self::Client(client, http) => client.ask(http).await,
            Self::Refresh(refresh) => refresh.ask().await,
        }
    }
}

/// The token; clones share it.
#[derive(Clone)]
pub(super) struct Kept(Arc<Inner>);

struct Inner {
    from: String,
    way: Option<Way>,
    state: Mutex<State>,
}

struct State {
    token: Option<Token>,
    /// When the next one is asked for; `None` when the service refuses this one.
    renew_at: Option<Instant>,
    /// In a row.
    failures: u32,
    error: Option<TokenError>,
    /// Under way.
    renewal: Option<Renewal>,
}

type Renewal = Shared<BoxFuture<'static, ()>>;

struct Token {
    secret: SecretString,
    since: Instant,
    until: Option<Instant>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    /// No token yet.
    pub(super) fn nothing(from: String, way: Way) -> Self {
        Self::new(from, Some(way), None, Some(Instant::now()))
    }

    /// This token, with what is left of its life as far as anybody knows; without a
    /// way there is no other.
    pub(super) fn seeded(
        from: String,
        secret: SecretString,
        left: Option<Duration>,
        way: Option<Way>,
    ) -> Self {
        let now = Instant::now();
        let renew_at = left.map(|left| now + renew_after(left, dice()));
        let token = Token {
            secret,
            since: now,
            until: left.map(|left| now + left),
        };
        Self::new(from, way, Some(token), renew_at)
    }

    fn new(
        from: String,
        way: Option<Way>,
        token: Option<Token>,
        renew_at: Option<Instant>,
    ) -> Self {
        Self(Arc::new(Inner {
            from,
            way,
            state: Mutex::new(State {
                token,
                renew_at,
                failures: 0,
                error: None,
                renewal: None,
            }),
        }))
    }

    /// Who is asked.
    pub(super) fn from(&self) -> &str {
        &self.0.from
    }

    /// The present one while it is good, and a fresh one after that.
    pub(super) async fn current(&self) -> Result<SecretString, TokenError> {
        let renewal = {
            let mut state = self.state();
            let renewal = self.renewal(&mut state);
            if let Some(secret) = state.good() {
                return Ok(secret);
            }
            renewal
        };
        let in_time = match renewal {
            None => true,
            Some(renewal) => timeout(PATIENCE, renewal).await.is_ok(),
        };
        let state = self.state();
        if let Some(secret) = state.good() {
            return Ok(secret);
        }
        let why = match (&state.error, in_time) {
            (Some(error), true) => return Err(error.clone()),
            (_, false) => format!("no answer within {} s", PATIENCE.as_secs()),
            (None, true) => "the token is over and there is no refresh token to get another one with; run flightctl login".into(),
        };
        Err(self.failed(why))
    }

    /// The service did not take the token.
    pub(super) fn refused(&self) {
        let mut state = self.state();
        if state.failures > 0 {
            // It is tried already, in its own rhythm.
            return;
        }
        let soonest = match &state.token {
            Some(token) => token.since + REFUSED_GAP,
            None => return,
        };
        let at = soonest.max(Instant::now());
        state.renew_at = Some(state.renew_at.map_or(at, |planned| planned.min(at)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, why: String) -> TokenError {
        TokenError::Grant {
            from: self.0.from.clone(),
            why,
        }
    }

    /// The renewal under way, which takes itself away at its end; begins one that is due.
    fn renewal(&self, state: &mut State) -> Option<Renewal> {
        self.0.way.as_ref()?;
        let due = state.renew_at.is_some_and(|at| at <= Instant::now());
        if due && state.renewal.is_none() {
            let task = tokio::spawn(self.clone().renew());
            state.renewal = Some(task.map(|_| ()).boxed().shared());
        }
        state.renewal.clone()
    }

    async fn renew(self) {
        let Some(way) = &self.0.way else { return };
        // Its life began with the question, at the latest.
        let asked = Instant::now();
        let answer = way.ask().await;
        let mut state = self.state();
        state.renewal = None;
        match answer {
            Ok((secret, life)) => {
                debug!(
                    from = self.0.from,
                    ?life,
                    "a fresh token for Flight Control"
                );
                state.renew_at = life.map(|life| asked + renew_after(life, dice()));
                state.failures = 0;
                state.error = None;
                state.token = Some(Token {
                    secret,
                    since: asked,
                    until: life.map(|life| asked + life),
                });
            }
            Err(Refused { why, retry_after }) => {
                let wait = retry(state.failures, dice()).max(retry_after.unwrap_or_default());
                state.failures = state.failures.saturating_add(1);
                state.renew_at = Some(Instant::now() + wait);
                let error = self.failed(why);
                let good = state.good().is_some();
                warn!(%error, present_token_is_good = good, again_in = ?wait, "the token for Flight Control could not be renewed");
                state.error = Some(error);
            }
        }
    }
}

impl State {
    fn good(&self) -> Option<SecretString> {
        let token = self.token.as_ref()?;
        let over = token.until.is_some_and(|until| until <= Instant::now());
        (!over).then(|| token.secret.clone())
    }
}

/// How long into its life a token is renewed.
fn renew_after(life: Duration, dice: u64) -> Duration {
    life / 100 * RENEW_AT + part(life / 100 * SPREAD, dice)
}

/// The wait after a failure that follows on so many.
fn retry(failures: u32, dice: u64) -> Duration {
    let most = RETRY_FIRST
        .saturating_mul(1 << failures.min(8))
        .min(RETRY_LAST);
    most / 2 + part(most / 2, dice)
}

/// Any part of it, by the dice.
fn part(whole: Duration, dice: u64) -> Duration {
    /// Steps of a part.
    const STEPS: u32 = 1000;
    // Below `STEPS`, which fits.
    whole / STEPS * u32::try_from(dice % u64::from(STEPS)).unwrap_or_default()
}

/// Keyed from the system's random numbers.
fn dice() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_comes_well_before_the_end_and_not_at_one_time() {
        let hour = Duration::from_secs(3600);
        let at = |dice| renew_after(hour, dice).as_secs();
        assert_eq!((at(0), at(999)), (2520, 2879));
        assert!(renew_after(Duration::MAX, 7) < Duration::MAX);
    }

    #[test]
    fn failures_are_further_and_further_apart() {
        let waits = |dice| [0, 1, 4, u32::MAX].map(|n| retry(n, dice).as_millis());
        assert_eq!(waits(0), [2_500, 5_000, 30_000, 30_000]);
        assert!(waits(999)[0] > 4_900 && waits(999)[3] <= 60_000);
    }
}
