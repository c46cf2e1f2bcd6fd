//! How long a connection may be without progress, and which one has to go when
//! there are too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::{ANSWER, HEADER, IDLE};

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
    /// Requests are being answered.
    Busy(Requests),
    /// All are answered, since then.
    Idle(Instant),
}

/// How many requests are being answered, by whose turn it is.
#[derive(Clone, Copy, Debug)]
struct Requests {
    node: usize,
    client: usize,
    reader: usize,
    /// The last turn of any of them.
    since: Instant,
}

/// Who has to do something for an answer to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The node: it looks for the answer, serves a session, or a log that is
    /// followed is quiet. May take for ever.
    Node,
    /// The client: it has not taken what is there of an answer of known length.
    Client,
    /// The client: it has not taken what is there of a log. Whoever reads may pause.
    Reader,
}

impl State {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Asking(since) => Some(since + HEADER),
            Self::Busy(Requests {
                node: 0,
                reader: 0,
                since,
                ..
            }) => Some(since + ANSWER),
            Self::Busy(_) => None,
            Self::Idle(since) => Some(since + IDLE),
        }
    }

    fn quiet_since(self) -> Option<Instant> {
        match self {
            Self::Asking(since)
            | Self::Busy(Requests { node: 0, since, .. })
            | Self::Idle(since) => Some(since),
            Self::Busy(_) => None,
        }
    }

    /// What one request's turn makes of it; a request comes from none and ends in none.
    fn turned(self, from: Option<Turn>, to: Option<Turn>) -> Self {
        let since = Instant::now();
        let mut requests = match self {
            Self::Busy(requests) => Requests { since, ..requests },
            Self::Asking(_) | Self::Idle(_) => Requests {
                node: 0,
                client: 0,
                reader: 0,
                since,
            },
        };
        if let Some(from) = from {
            let number = requests.number(from);
            *number = number.saturating_sub(1);
        }
        if let Some(to) = to {
            *requests.number(to) += 1;
        }
        if requests.node + requests.client + requests.reader == 0 {
            Self::Idle(since)
        } else {
            Self::Busy(requests)
        }
    }
}

impl Requests {
    fn number(&mut self, turn: Turn) -> &mut usize {
        match turn {
            Turn::Node => &mut self.node,
            Turn::Client => &mut self.client,
            Turn::Reader => &mut self.reader,
        }
    }
}

/// A request that is being answered, until it is dropped. The turn is the node's at first.
#[derive(Debug)]
pub(super) struct Busy {
    pulse: Arc<Pulse>,
    turn: Turn,
}

impl Busy {
    /// Something was done, and now it is this one's turn.
    pub(super) fn turn(&mut self, turn: Turn) {
        let from = std::mem::replace(&mut self.turn, turn);
        self.pulse.set(|state| state.turned(Some(from), Some(turn)));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.pulse.set(|state| state.turned(Some(self.turn), None));
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

    /// Makes room, unless it is the node's turn in a request: that one is safe. Under
    /// the lock: nothing begins on a connection that is about to be cut.
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
        self.set(|state| match state {
            State::Idle(_) => State::Asking(Instant::now()),
            state => state,
        });
    }

    /// A request has come whole; `None` when the connection had to make room.
    pub(super) fn request(self: &Arc<Self>) -> Option<Busy> {
        let mut room = false;
        self.set(|state| {
            room = !self.evicted.is_cancelled();
            if room {
                state.turned(None, Some(Turn::Node))
            } else {
                state
            }
        });
        room.then(|| Busy {
            pulse: self.clone(),
            turn: Turn::Node,
        })
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
        let before = state.deadline();
        *state = change(*state);
        // Not for every piece of a log.
        let moved = state.deadline() != before;
        drop(state);
        if moved {
            self.changed.notify_one();
        }
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
    /// quiet for longest makes room; `None` when it is the node's turn in every one.
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
    async fn an_answer_that_nobody_takes_ends_in_thirty_seconds_and_a_log_waits_for_its_reader() {
        let pulse = Pulse::new();
        let (mut first, mut second) = (pulse.request().unwrap(), pulse.request().unwrap());
        first.turn(Turn::Client);
        let day = Duration::from_secs(24 * 3600);
        let lasting = tokio::time::timeout(day, pulse.ends()).await;
        assert!(lasting.is_err(), "the node works on the second");
        second.turn(Turn::Client);
        assert_eq!(lasts(&pulse).await, ANSWER);
        second.turn(Turn::Client);
        assert_eq!(lasts(&pulse).await, ANSWER, "a piece was taken");
        second.turn(Turn::Reader);
        let lasting = tokio::time::timeout(day, pulse.ends()).await;
        assert!(lasting.is_err(), "a log is read beside it");
        drop(second);
        assert_eq!(lasts(&pulse).await, ANSWER);
        drop(first);
        assert_eq!(lasts(&pulse).await, IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_an_answer_makes_room_and_the_last_who_took_some_goes_last() {
        let all = Connections::new(2);
        let (first, second) = (all.admit().unwrap(), all.admit().unwrap());
        let mut log = first.pulse.request().unwrap();
        let mut refusal = second.pulse.request().unwrap();
        log.turn(Turn::Reader);
        refusal.turn(Turn::Client);
        tokio::time::advance(Duration::from_secs(1)).await;
        log.turn(Turn::Reader);
        let _third = all.admit().unwrap();
        assert!(second.pulse.evicted.is_cancelled());
        assert!(!first.pulse.evicted.is_cancelled());
        log.turn(Turn::Node);
        let fourth = all.admit().unwrap();
        assert!(!first.pulse.evicted.is_cancelled(), "its log is quiet");
        let _asked = fourth.pulse.request().unwrap();
        assert!(all.admit().is_none());
        log.turn(Turn::Reader);
        assert!(all.admit().is_some());
        assert!(first.pulse.evicted.is_cancelled(), "nobody reads it");
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
