//! Which pods to look at next.
//!
//! A set of UIDs, each due now or later. Marking a UID that is already due does
//! nothing; marking one that is being worked on makes it due again afterwards;
//! a delay can only be shortened. At most one worker holds a UID. The queue is
//! bounded by the number of pods, because it is a set.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use vk_provider::Uid;

/// The queue; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// Due now, in order of arrival, and since when.
    ready: VecDeque<(Instant, Uid)>,
    /// The same UIDs as `ready`.
    is_ready: HashSet<Uid>,
    /// Due later, soonest first; one entry per UID, as `due` says.
    later: BTreeSet<(Instant, Uid)>,
    due: HashMap<Uid, Instant>,
    /// Held by a worker; `true` when marked meanwhile.
    held: HashMap<Uid, bool>,
}

impl Queue {
    /// Look at this pod now.
    pub(crate) fn mark(&self, uid: &Uid) {
        let mut state = self.lock();
        state.cancel_later(uid);
        if let Some(dirty) = state.held.get_mut(uid) {
            *dirty = true;
        } else if state.is_ready.insert(uid.clone()) {
            state.ready.push_back((Instant::now(), uid.clone()));
        } else {
            return;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Look at this pod after `delay` at the latest.
    pub(crate) fn mark_after(&self, uid: &Uid, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.lock();
        if state.is_ready.contains(uid) || state.due.get(uid).is_some_and(|due| *due <= at) {
            return;
        }
        state.cancel_later(uid);
        state.due.insert(uid.clone(), at);
        state.later.insert((at, uid.clone()));
        drop(state);
        self.wake.notify_one();
    }

    /// The next pod that is due; it is held until [`Queue::done`]. Cancel-safe.
    /// For one consumer.
    pub(crate) async fn next(&self) -> Uid {
        loop {
            let woken = self.wake.notified();
            let soonest = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some((_, uid)) = state.ready.pop_front() {
                    state.is_ready.remove(&uid);
                    state.held.insert(uid.clone(), false);
                    return uid;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match soonest {
                Some(at) => {
                    tokio::select! { () = woken => {}, () = tokio::time::sleep_until(at) => {} }
                }
                None => woken.await,
            }
        }
    }

    /// The worker lets go of the pod.
    pub(crate) fn done(&self, uid: &Uid) {
        let again = self.lock().held.remove(uid).unwrap_or(false);
        if again {
            self.mark(uid);
        }
    }

    /// How many pods are due now.
    pub(crate) fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// How long a pod has been due that nobody has taken; nothing where none is.
    pub(crate) fn waits(&self) -> Duration {
        let state = self.lock();
        let ready = state.ready.front().map(|(since, _)| *since);
        let later = state.later.first().map(|(at, _)| *at);
        let since = ready.into_iter().chain(later).min();
        since.map_or(Duration::ZERO, |since| {
            Instant::now().saturating_duration_since(since)
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn cancel_later(&mut self, uid: &Uid) {
        if let Some(at) = self.due.remove(uid) {
            self.later.remove(&(at, uid.clone()));
        }
    }

    /// Moves what has become due to `ready`, or marks it dirty where held.
    fn promote(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, uid)) = self.later.pop_first() else {
                return;
            };
            self.due.remove(&uid);
            if let Some(dirty) = self.held.get_mut(&uid) {
                *dirty = true;
            } else if self.is_ready.insert(uid.clone()) {
                self.ready.push_back((at, uid));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn uid(text: &str) -> Uid {
        Uid::new(text)
    }

    #[tokio::test(start_paused = true)]
    async fn a_marked_pod_comes_once_and_again_only_if_marked_while_held() {
        let queue = Queue::default();
        queue.mark(&uid("a"));
        queue.mark(&uid("a"));
        assert_eq!(queue.next().await, uid("a"));
        assert!(queue.next().now_or_never().is_none());
        queue.mark(&uid("a"));
        assert!(queue.next().now_or_never().is_none(), "held by a worker");
        queue.done(&uid("a"));
        assert_eq!(queue.next().await, uid("a"));
        queue.done(&uid("a"));
        assert!(queue.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_can_be_shortened_but_not_lengthened() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.mark_after(&uid("a"), Duration::from_secs(60));
        queue.mark_after(&uid("a"), Duration::from_secs(10));
        queue.mark_after(&uid("a"), Duration::from_secs(30));
        assert_eq!(queue.next().await, uid("a"));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        queue.done(&uid("a"));
        queue.mark_after(&uid("a"), Duration::from_secs(60));
        queue.mark(&uid("a"));
        assert!(queue.next().now_or_never().is_some());
        queue.done(&uid("a"));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(
            queue.next().now_or_never().is_none(),
            "the later mark went with the earlier one"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_that_ends_while_held_is_not_lost() {
        let queue = Queue::default();
        queue.mark(&uid("a"));
        queue.next().await;
        queue.mark_after(&uid("a"), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(queue.next().now_or_never().is_none());
        queue.done(&uid("a"));
        assert_eq!(queue.next().await, uid("a"));
    }
    #[tokio::test(start_paused = true)]
    async fn a_pod_that_nobody_takes_is_seen_to_wait_whenever_it_became_due() {
        let (queue, second) = (Queue::default(), Duration::from_secs(1));
        assert_eq!(queue.waits(), Duration::ZERO);
        queue.mark_after(&uid("later"), second * 10);
        tokio::time::advance(second * 9).await;
        assert_eq!(queue.waits(), Duration::ZERO, "it is not due");
        tokio::time::advance(second * 3).await;
        assert_eq!(queue.waits(), second * 2, "nobody looks");
        queue.mark(&uid("now"));
        tokio::time::advance(second).await;
        assert_eq!(queue.waits(), second * 3, "the first of them");
        assert!(queue.next().now_or_never().is_some());
        assert!(queue.next().now_or_never().is_some());
        tokio::time::advance(second * 100).await;
        assert_eq!(queue.waits(), Duration::ZERO, "both are being looked at");
    }
}
