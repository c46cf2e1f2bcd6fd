//! Answers that are remembered for a while, and asked for once however many wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

/// What an answer is kept under: a hash, so that no token stays in memory.
pub(super) type Key = [u8; 32];

/// There is no answer: an error to the client, never remembered, never a yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unanswered(pub(super) String);

type Flight<V> = Shared<BoxFuture<'static, Result<V, Unanswered>>>;

enum Slot<V> {
    Known { value: V, until: Instant },
    Asked(Flight<V>),
}

/// Remembers answers of one kind.
pub(super) struct Cache<V> {
    slots: Mutex<HashMap<Key, Slot<V>>>,
    limit: usize,
    lasts: fn(&V) -> Duration,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// Of at most `limit` entries, each for as long as `lasts` says.
    pub(super) fn new(limit: usize, lasts: fn(&V) -> Duration) -> Self {
        Self {
            slots: Mutex::default(),
            limit,
            lasts,
        }
    }

    /// The remembered answer, else the one that `ask` brings. Whoever comes
    /// meanwhile waits for the same one; it is brought even if nobody waits any
    /// more.
    pub(super) async fn get<F>(&self, key: Key, ask: impl FnOnce() -> F) -> Result<V, Unanswered>
    where
        F: Future<Output = Result<V, Unanswered>> + Send + 'static,
    {
        let flight = {
            let mut slots = self.lock();
            match slots.get(&key) {
                Some(Slot::Known { value, until }) if Instant::now() < *until => {
                    return Ok(value.clone());
                }
                Some(Slot::Asked(flight)) => flight.clone(),
                _ => {
                    if !make_room(&mut slots, self.limit) {
                        return Err(Unanswered("too many questions at once".into()));
                    }
                    let asking = tokio::spawn(ask());
                    let flight = async move {
                        let answer = asking.await;
                        answer.unwrap_or_else(|_| Err(Unanswered("asking failed".into())))
                    };
                    let flight = flight.boxed().shared();
                    slots.insert(key, Slot::Asked(flight.clone()));
                    flight
                }
            }
        };
        let answer = flight.clone().await;
        self.land(key, &flight, &answer);
        answer
    }

    fn land(&self, key: Key, flight: &Flight<V>, answer: &Result<V, Unanswered>) {
        let mut slots = self.lock();
        let same = |slot: &Slot<V>| matches!(slot, Slot::Asked(asked) if asked.ptr_eq(flight));
        if !slots.get(&key).is_some_and(same) {
            return;
        }
        match answer {
            Ok(value) => {
                let until = Instant::now() + (self.lasts)(value);
                let value = value.clone();
                slots.insert(key, Slot::Known { value, until });
            }
            Err(_) => {
                slots.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one more: what has run out goes, else what runs out first. Questions
/// whose asker has gone are none any more.
fn make_room<V: Clone>(slots: &mut HashMap<Key, Slot<V>>, limit: usize) -> bool {
    if slots.len() < limit {
        return true;
    }
    let now = Instant::now();
    slots.retain(|_, slot| match slot {
        Slot::Known { until, .. } => now < *until,
        Slot::Asked(flight) => flight.strong_count().is_some_and(|holders| holders > 1),
    });
    if slots.len() < limit {
        return true;
    }
    let known = slots.iter().filter_map(|(key, slot)| match slot {
        Slot::Known { until, .. } => Some((*until, *key)),
        Slot::Asked(_) => None,
    });
    let Some((_, first)) = known.min() else {
        return false;
    };
    slots.remove(&first);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(number: u8) -> Key {
        [number; 32]
    }

    fn lasts(value: &bool) -> Duration {
        Duration::from_secs(if *value { 300 } else { 30 })
    }

    /// Counts how often it was asked.
    #[derive(Clone, Default)]
    struct Oracle(Arc<AtomicUsize>);

    impl Oracle {
        fn says(
            &self,
            answer: Result<bool, Unanswered>,
        ) -> impl Future<Output = Result<bool, Unanswered>> + Send + use<> {
            let asked = self.0.clone();
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                answer
            }
        }

        fn asked(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_is_remembered_for_five_minutes_and_a_no_for_thirty_seconds() {
        let (cache, oracle) = (Cache::new(8, lasts), Oracle::default());
        for (number, answer, span) in [(1, true, 300), (2, false, 30)] {
            let before = oracle.asked();
            let ask = || oracle.says(Ok(answer));
            assert_eq!(cache.get(key(number), ask).await, Ok(answer));
            tokio::time::advance(Duration::from_secs(span) - Duration::from_millis(1)).await;
            assert_eq!(cache.get(key(number), ask).await, Ok(answer));
            assert_eq!(oracle.asked() - before, 1);
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(cache.get(key(number), ask).await, Ok(answer));
            assert_eq!(oracle.asked() - before, 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_the_same_at_once_ask_once() {
        let (cache, oracle) = (Cache::new(8, lasts), Oracle::default());
        let asking = (0..50).map(|_| cache.get(key(1), || oracle.says(Ok(true))));
        let answers = futures::future::join_all(asking).await;
        assert!(answers.iter().all(|answer| *answer == Ok(true)));
        assert_eq!(oracle.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_told_to_all_who_wait_and_to_nobody_after_them() {
        let (cache, oracle) = (Cache::new(8, lasts), Oracle::default());
        let none = Err(Unanswered("away".into()));
        let asking = (0..3).map(|_| cache.get(key(1), || oracle.says(none.clone())));
        let answers = futures::future::join_all(asking).await;
        assert_eq!(answers, vec![none; 3]);
        assert_eq!(oracle.asked(), 1);
        let answer = cache.get(key(1), || oracle.says(Ok(true))).await;
        assert_eq!((answer, oracle.asked()), (Ok(true), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_whose_asker_went_away_is_answered_for_the_next() {
        let (cache, oracle) = (Cache::new(8, lasts), Oracle::default());
        let asking = cache.get(key(1), || oracle.says(Ok(true)));
        let gone = tokio::time::timeout(Duration::from_millis(1), asking).await;
        assert!(gone.is_err());
        let answer = cache.get(key(1), || oracle.says(Ok(false))).await;
        assert_eq!((answer, oracle.asked()), (Ok(true), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let (cache, oracle) = (Cache::new(4, lasts), Oracle::default());
        for number in 0..100 {
            cache
                .get(key(number), || oracle.says(Ok(true)))
                .await
                .unwrap();
            assert!(cache.lock().len() <= 4);
        }
        let before = oracle.asked();
        cache.get(key(99), || oracle.says(Ok(true))).await.unwrap();
        assert_eq!(oracle.asked(), before, "the newest is still known");
        let open = (100..104).map(|n| cache.get(key(n), || oracle.says(Ok(true))));
        let more = cache.get(key(200), || oracle.says(Ok(true)));
        let (_, refused) = tokio::join!(futures::future::join_all(open), more);
        assert_eq!(
            refused,
            Err(Unanswered("too many questions at once".into()))
        );
    }
}
