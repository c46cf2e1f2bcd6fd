//! What happened to a device's containers, in order: the truth that status
//! reports are compared with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Clock;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Occurrence {
    /// The container's process runs.
    Start,
    /// It was told to end.
    Stop,
    /// It has ended, with this code.
    Exit(i32),
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalEntry {
    /// When.
    pub at: Timestamp,
    /// The application's name.
    pub app: String,
    /// The container's name, as its unit gives it.
    pub container: String,
    /// Its image.
    pub image: String,
    /// What happened.
    pub event: Occurrence,
}

/// A journal that can be awaited; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    clock: Clock,
    entries: Arc<Mutex<Vec<JournalEntry>>>,
    length: watch::Sender<usize>,
}

impl Journal {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            entries: Arc::default(),
            length: watch::Sender::new(0),
        }
    }

    pub(crate) fn write(&self, app: &str, container: &str, image: &str, event: Occurrence) {
        self.insert(JournalEntry {
            at: self.clock.now(),
            app: app.into(),
            container: container.into(),
            image: image.into(),
            event,
        });
    }

    /// Puts an entry where its time belongs: it may be told late.
    pub(crate) fn insert(&self, entry: JournalEntry) {
        let mut entries = self.lock();
        let place = entries.partition_point(|other| other.at <= entry.at);
        entries.insert(place, entry);
        self.length.send_replace(entries.len());
    }

    /// Whether this very thing is in it.
    pub(crate) fn has(&self, entry: &JournalEntry) -> bool {
        let entries = self.lock();
        let since = entries.iter().rev();
        let mut since = since.take_while(|other| other.at >= entry.at);
        since.any(|other| other == entry)
    }

    pub(crate) fn entries(&self) -> Vec<JournalEntry> {
        self.lock().clone()
    }

    /// Completes at the next entry.
    pub(crate) async fn changed(&self) {
        let mut length = self.length.subscribe();
        // The sender is part of self, so it cannot close meanwhile.
        let _ = length.changed().await;
    }

    /// Completes when `done` holds for the whole journal.
    pub(crate) async fn until(&self, done: impl Fn(&[JournalEntry]) -> bool) {
        let mut length = self.length.subscribe();
        while !done(&self.entries()) {
            if length.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<JournalEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
