//! One session at a time on a device: sessions that are opened at once overwrite
//! each other in the device's annotation, and one of them then waits in vain.
//!
//! Who comes waits, in order, for a while. A log that is followed gives way to
//! whatever else comes, since it may last for ever; a second one is refused, so that
//! two do not take the console from each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Who waits for a device at once: more would wait in vain.
const WAITING: usize = 8;
/// Longest wait for one's turn. The framework gives a log 30 s to be opened, of
/// which the device may take a part.
const PATIENCE: Duration = Duration::from_secs(15);
/// A device that did not come to its console is left alone for this long: every
/// try leaves an entry in its annotations that nobody can take out, and such
/// entries were seen to stop rollouts.
const LEFT_ALONE: Duration = Duration::from_secs(300);

/// All devices; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, Arc<Place>>>>);

/// One device's console.
#[derive(Debug)]
struct Place {
    one: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    holder: Option<Holder>,
    waiting: usize,
    /// Of those who wait, those that do not follow.
    pressing: usize,
    left_alone_until: Option<Instant>,
}

#[derive(Debug)]
struct Holder {
    purpose: Purpose,
    since: Instant,
    give_way: CancellationToken,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    /// In words, such as `kubectl logs of shop/web`.
    pub(super) what: String,
    /// It goes on until its container ends.
    pub(super) follows: bool,
}

/// A turn; dropping it is the next one's beginning.
#[derive(Debug)]
pub(super) struct Turn {
    place: Arc<Place>,
    give_way: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// It is not one's turn, and why, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

impl Turns {
    /// Waits for one's turn. Cancel-safe.
    pub(super) async fn take(&self, device: &str, purpose: Purpose) -> Result<Turn, Refused> {
        let place = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(device.into()).or_default().clone()
        };
        let _waiting = place.clone().wait(&purpose)?;
        let Ok(Ok(permit)) = timeout(PATIENCE, place.one.clone().acquire_owned()).await else {
            return Err(place.refusal("is in use"));
        };
        let give_way = CancellationToken::new();
        {
            let mut state = place.state();
            state.may_open()?;
            // Others have come meanwhile.
            let others = state.pressing > usize::from(!purpose.follows);
            if purpose.follows && others {
                give_way.cancel();
            }
            state.holder = Some(Holder {
                purpose,
                since: Instant::now(),
                give_way: give_way.clone(),
            });
        }
        Ok(Turn {
            place,
            give_way,
            _permit: permit,
        })
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            one: Arc::new(Semaphore::new(1)),
            state: Mutex::default(),
        }
    }
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, what: &str) -> Refused {
        let state = self.state();
        let by = state.holder.as_ref().map_or_else(String::new, |holder| {
            let seconds = holder.since.elapsed().as_secs();
            format!(" ({}, for {seconds} s)", holder.purpose.what)
        });
        Refused(format!(
            "its console {what}{by}; Flight Control gives one session at a time, try again later"
        ))
    }

    /// Joins those who wait.
    fn wait(self: Arc<Self>, purpose: &Purpose) -> Result<Waiting, Refused> {
        {
            let mut state = self.state();
            state.may_open()?;
            let followed = state.holder.as_ref().filter(|h| h.purpose.follows);
            match (followed, purpose.follows) {
                (Some(_), true) => {
                    drop(state);
                    return Err(self.refusal("follows another log"));
                }
                (Some(holder), false) => holder.give_way.cancel(),
                (None, _) => {}
            }
            if state.waiting >= WAITING {
                drop(state);
                return Err(self.refusal(&format!("is waited for by {WAITING} others")));
            }
            state.waiting += 1;
            state.pressing += usize::from(!purpose.follows);
        }
        Ok(Waiting {
            presses: !purpose.follows,
            place: self,
        })
    }
}

impl State {
    fn may_open(&self) -> Result<(), Refused> {
        let left = self
            .left_alone_until
            .and_then(|until| until.checked_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => Err(Refused(format!(
                "it did not come to its console, and is asked again in {} s at the earliest: each try leaves something behind in Flight Control",
                left.as_secs() + 1
            ))),
        }
    }
}

/// Someone who waits.
struct Waiting {
    place: Arc<Place>,
    presses: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.place.state();
        state.waiting -= 1;
        state.pressing -= usize::from(self.presses);
    }
}

impl Turn {
    /// Cancelled when someone else needs the console more; only where it follows.
    pub(super) fn give_way(&self) -> CancellationToken {
        self.give_way.clone()
    }

    /// The device did not come.
    pub(super) fn in_vain(&self) {
        self.place.state().left_alone_until = Some(Instant::now() + LEFT_ALONE);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.place.state().holder = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose(what: &str, follows: bool) -> Purpose {
        Purpose {
            what: what.into(),
            follows,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_and_who_waits_too_long_learns_for_whom() {
        let turns = Turns::default();
        let first = turns
            .take("a", purpose("kubectl exec of x/y", false))
            .await
            .unwrap();
        turns.take("b", purpose("two", false)).await.unwrap();
        let refused = turns.take("a", purpose("two", false)).await.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("in use (kubectl exec of x/y, for 15 s)"),
            "{text}"
        );
        let (second, ()) = tokio::join!(turns.take("a", purpose("two", false)), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        second.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_followed_log_gives_way_and_a_second_one_is_refused() {
        let turns = Turns::default();
        let log = turns.take("a", purpose("logs of x/y", true)).await.unwrap();
        let way = log.give_way();
        let refused = turns.take("a", purpose("another", true)).await.unwrap_err();
        assert!(refused.to_string().contains("logs of x/y"), "{refused}");
        assert!(
            !way.is_cancelled(),
            "two followers do not push each other out"
        );
        let (exec, ()) = tokio::join!(turns.take("a", purpose("exec", false)), async {
            way.cancelled().await;
            drop(log);
        });
        let exec = exec.unwrap();
        // One that waited behind others comes late, and leaves at once.
        let (log, waited) = tokio::join!(turns.take("a", purpose("logs", true)), async {
            let last = turns.take("a", purpose("exec", false));
            let (last, ()) = tokio::join!(last, async { drop(exec) });
            last.is_err()
        });
        assert!(log.unwrap().give_way().is_cancelled());
        assert!(waited, "the log was held on to");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_will_have_their_turn() {
        let turns = Turns::default();
        let _first = turns.take("a", purpose("one", false)).await.unwrap();
        let waiting: Vec<_> = (0..WAITING)
            .map(|number| {
                let (turns, follows) = (turns.clone(), number % 2 == 0);
                tokio::spawn(async move { turns.take("a", purpose("w", follows)).await.is_err() })
            })
            .collect();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        let refused = turns.take("a", purpose("more", false)).await.unwrap_err();
        assert!(refused.to_string().contains("8 others"), "{refused}");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for one in waiting {
            assert!(one.await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_did_not_come_is_left_alone_for_a_while() {
        let turns = Turns::default();
        let turn = turns.take("a", purpose("one", false)).await.unwrap();
        turn.in_vain();
        drop(turn);
        let refused = turns.take("a", purpose("two", false)).await.unwrap_err();
        assert!(refused.to_string().contains("301 s"), "{refused}");
        tokio::time::advance(LEFT_ALONE).await;
        turns.take("a", purpose("two", false)).await.unwrap();
    }
}
