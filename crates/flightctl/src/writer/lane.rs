//! What waits for a device: changes, and those who want it left alone.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Change, Outcome};

/// Longest time that a lane is held: what it is held for takes milliseconds, and
/// 5 s where it waits for a device's next poll; pods wait no longer than that.
const HOLD: Duration = Duration::from_secs(5);

/// One device's lane; there while it has work or has to keep its distance.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) waiting: Vec<Waiting>,
    holds: VecDeque<oneshot::Sender<Hold>>,
}

/// A change that is not under way yet, and those who wait for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) change: Change,
    pub(super) replies: Vec<oneshot::Sender<Outcome>>,
}

/// A device's lane without writes, until it is dropped or 5 s are over.
#[derive(Debug)]
pub struct Hold {
    _end: oneshot::Sender<()>,
}

/// What a lane does next.
pub(super) enum Next {
    Write(Vec<Waiting>),
    Hold(oneshot::Sender<Hold>),
}

impl Lane {
    /// A change said again takes the place of the one that waits: while the
    /// service makes us wait for minutes, callers come back again and again.
    pub(super) fn add(&mut self, change: Change, reply: oneshot::Sender<Outcome>) {
        let last = self
            .waiting
            .iter_mut()
            .rfind(|w| w.change.app() == change.app());
        match last {
            Some(last)
                if std::mem::discriminant(&last.change) == std::mem::discriminant(&change) =>
            {
                last.change = change;
                last.replies.retain(|reply| !reply.is_closed());
                last.replies.push(reply);
            }
            _ => self.waiting.push(Waiting {
                change,
                replies: vec![reply],
            }),
        }
    }

    pub(super) fn hold(&mut self, reply: oneshot::Sender<Hold>) {
        self.holds.push_back(reply);
    }

    /// Holds first: they are short, and there is one at a time.
    pub(super) fn next(&mut self) -> Option<Next> {
        if let Some(hold) = self.holds.pop_front() {
            return Some(Next::Hold(hold));
        }
        let waiting = std::mem::take(&mut self.waiting);
        (!waiting.is_empty()).then_some(Next::Write(waiting))
    }
}

impl Hold {
    /// Gives a hold to whoever waits for it, and waits for its end.
    pub(super) async fn give(reply: oneshot::Sender<Self>) {
        let (end, ended) = oneshot::channel();
        if reply.send(Self { _end: end }).is_ok() {
            // Nothing is sent: it is over when the other end is dropped.
            let _ = timeout(HOLD, ended).await;
        }
    }
}
