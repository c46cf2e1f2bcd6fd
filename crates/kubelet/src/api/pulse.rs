//! How long a connection may be without progress, and which one has to go when
//! there are too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::{HEADER, IDLE};

/// One connection's state.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    changed: Notify,
    /// Cancelled when another one needs the place; nothing is answered from then on.
    pub(super) evicted: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A request's headers are awaited, since then.
    Asking(Instant),
    /// So many requests are being answered.
    Busy(usize),
    /// All are answered, since then.
    Idle(Instant),
}

impl State {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Asking(since) => Some(since + HEADER),
            Self::Busy(_) => None,
            Self::Idle(since) => Some(since + IDLE),
        }
    }

    fn quiet_since(self) -> Option<Instant> {
        match self {
            Self::Asking(since) | Self::Idle(since) => Some(since),
            Self::Busy(_) => None,
        }
    }
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(|state| match state {
            State::Busy(number) if number > 1 => State::Busy(number - 1),
            _ => State::Idle(Instant::now()),
        });
    }
}

impl Pulse {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Asking(Instant::now())),
            changed: Notify::new(),
            evicted: CancellationToken::new(),
        })
    }

    /// Makes room, unless a request is under way, which then is safe. Under the lock:
    /// nothing begins on a connection that is about to be cut.
    fn evict(&self) -> bool {
        let state = self.lock();
        let quiet = state.quiet_since().is_some();
        if quiet {
            self.evicted.cancel();
        }
        quiet
    }

    /// Bytes came in: the begin of a request, where none is under way. On a
    /// connection that carries several requests they may be anything.
    pub(super) fn heard(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Idle(_)) {
            *state = State::Asking(Instant::now());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A request has come whole; `None` when the connection had to make room.
    pub(super) fn request(self: &Arc<Self>) -> Option<Busy> {
        let mut state = self.lock();
        if self.evicted.is_cancelled() {
            return None;
        }
        *state = match *state {
            State::Busy(number) => State::Busy(number + 1),
            _ => State::Busy(1),
        };
        drop(state);
        self.changed.notify_one();
        Some(Busy(self.clone()))
    }

    /// Ends when the connection has been without progress for too long.
    pub(super) async fn ends(&self) {
        loop {
            let deadline = self.lock().deadline();
            let passed = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                () = self.changed.notified() => {}
            }
        }
    }

    fn set(&self, change: impl FnOnce(State) -> State) {
        let mut state = self.lock();
        *state = change(*state);
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections of the process.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: HashMap<u64, Arc<Pulse>>,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    all: Arc<Connections>,
    pub(super) pulse: Arc<Pulse>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().taken.remove(&self.id);
    }
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            places: Mutex::default(),
        })
    }

    /// A place for a new connection. When all are taken, the one that has been
    /// quiet for longest makes room; `None` when every one is answering.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Place> {
        let mut places = self.lock();
        while places.taken.len() >= self.limit {
            let quiet = places.taken.iter().filter_map(|(id, pulse)| {
                let since = pulse.lock().quiet_since()?;
                Some((since, *id))
            });
            let (_, quietest) = quiet.min()?;
            // It may have been asked something since.
            if places.taken[&quietest].evict() {
                places.taken.remove(&quietest);
            }
        }
        let (id, pulse) = (places.next, Pulse::new());
        places.next += 1;
        places.taken.insert(id, pulse.clone());
        Some(Place {
            id,
            all: self.clone(),
            pulse,
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().taken.len()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// How long until it ends.
    async fn lasts(pulse: &Pulse) -> Duration {
        let begun = Instant::now();
        pulse.ends().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn headers_have_ten_seconds_from_their_first_byte_and_rest_has_ninety() {
        let pulse = Pulse::new();
        assert_eq!(lasts(&pulse).await, HEADER, "nothing ever came");
        drop(pulse.request());
        assert_eq!(lasts(&pulse).await, IDLE);
        drop(pulse.request());
        tokio::time::advance(Duration::from_secs(80)).await;
        pulse.heard();
        tokio::time::advance(Duration::from_secs(4)).await;
        pulse.heard();
        let left = HEADER - Duration::from_secs(4);
        assert_eq!(lasts(&pulse).await, left, "the first byte counts");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_for_ever_and_the_last_of_several_ends_it() {
        let pulse = Pulse::new();
        let (first, second) = (pulse.request(), pulse.request());
        let day = Duration::from_secs(24 * 3600);
        drop(first);
        assert!(tokio::time::timeout(day, pulse.ends()).await.is_err());
        drop(second);
        assert_eq!(lasts(&pulse).await, IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_quietest_connection_makes_room_and_one_that_answers_never_does() {
        let all = Connections::new(2);
        let first = all.admit().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = all.admit().unwrap();
        let busy = first.pulse.request();
        let third = all.admit().unwrap();
        assert!(second.pulse.evicted.is_cancelled());
        assert!(!first.pulse.evicted.is_cancelled());
        assert_eq!(all.len(), 2);
        let _also = third.pulse.request();
        assert!(all.admit().is_none(), "both answer");
        drop(busy);
        assert!(all.admit().is_some());
        assert!(first.pulse.evicted.is_cancelled());
        drop(second);
        assert_eq!(all.len(), 1, "the fourth is gone, the third is there");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_on_a_connection_that_had_to_make_room() {
        let all = Connections::new(1);
        let first = all.admit().unwrap();
        let _second = all.admit().unwrap();
        assert!(first.pulse.evicted.is_cancelled());
        assert!(first.pulse.request().is_none());
        let busy = Pulse::new();
        let request = busy.request();
        assert!(!busy.evict() && request.is_some());
        drop(request);
        assert!(busy.evict());
    }
}
