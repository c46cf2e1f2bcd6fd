//! What a container wrote, bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::watch;
use vk_provider::{BackendError, LogChunk, LogItem, LogQuery, LogSource, LogStream, Logs};

use super::{Processes, unavailable};

/// Bytes kept of one run of a container, and so what a reader may be behind. The
/// oldest go first.
const KEPT: usize = 16 << 20;
/// What a chunk takes beside its bytes, about.
const OVERHEAD: usize = 100;

/// A log; clones share it.
#[derive(Clone)]
pub(super) struct Log(Arc<Inner>);

struct Inner {
    kept: Mutex<Kept>,
    /// Whether the log is complete; also told with every chunk.
    complete: watch::Sender<bool>,
}

#[derive(Default)]
struct Kept {
    chunks: VecDeque<LogChunk>,
    /// Chunks that were dropped.
    dropped: u64,
    bytes: usize,
}

impl Kept {
    /// The number of the chunk that comes next.
    fn end(&self) -> u64 {
        self.dropped + self.chunks.len() as u64
    }
}

impl Log {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            kept: Mutex::default(),
            complete: watch::Sender::new(false),
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, source: LogSource, bytes: Bytes, at: Timestamp) {
        {
            let mut kept = self.kept();
            kept.bytes += bytes.len() + OVERHEAD;
            kept.chunks.push_back(LogChunk { at, source, bytes });
            while kept.bytes > KEPT
                && let Some(oldest) = kept.chunks.pop_front()
            {
                kept.bytes -= oldest.bytes.len() + OVERHEAD;
                kept.dropped += 1;
            }
        }
        self.0.complete.send_modify(|_| {});
    }

    /// Nothing more will be written.
    pub(super) fn close(&self) {
        self.0.complete.send_replace(true);
    }

    /// A reader of all that is written from now on.
    pub(super) fn follow(&self) -> Follower {
        let next = self.kept().end();
        self.follow_from(next)
    }

    /// What is there now, and a reader of all that comes.
    fn read(&self) -> (Vec<LogChunk>, Follower) {
        let kept = self.kept();
        let present = kept.chunks.iter().cloned().collect();
        let next = kept.end();
        drop(kept);
        (present, self.follow_from(next))
    }

    fn follow_from(&self, next: u64) -> Follower {
        Follower {
            complete: self.0.complete.subscribe(),
            log: self.clone(),
            next,
        }
    }
}

/// Reads a log as it grows.
pub(super) struct Follower {
    log: Log,
    next: u64,
    complete: watch::Receiver<bool>,
}

impl Follower {
    /// The next chunk; `None` when the log is complete. Cancel-safe.
    ///
    /// # Errors
    /// More was written meanwhile than is kept.
    pub(super) async fn next(&mut self) -> Result<Option<LogChunk>, BackendError> {
        loop {
            // Before looking, so that what comes after the look is not missed.
            let complete = *self.complete.borrow_and_update();
            {
                let kept = self.log.kept();
                let Some(index) = self.next.checked_sub(kept.dropped) else {
                    return Err(unavailable("the log grew faster than it was read"));
                };
                let found = usize::try_from(index).ok().and_then(|i| kept.chunks.get(i));
                if let Some(chunk) = found {
                    self.next += 1;
                    return Ok(Some(chunk.clone()));
                }
            }
            if complete || self.complete.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    fn items(self) -> BoxStream<'static, Result<LogItem, BackendError>> {
        stream::try_unfold(self, |mut follower| async move {
            let chunk = follower.next().await?;
            Ok(chunk.map(|chunk| (LogItem::Written(chunk), follower)))
        })
        .boxed()
    }
}

#[async_trait]
impl Logs for Processes {
    async fn open(&self, query: &LogQuery) -> Result<LogStream, BackendError> {
        let log = {
            let pods = self.pods();
            let pod = pods.get(&query.pod.uid).ok_or(BackendError::NotFound)?;
            let container = pod.container(&query.container);
            let container = container.ok_or(BackendError::NotFound)?;
            match query.previous {
                false => container.now.log().clone(),
                true => container
                    .before
                    .as_ref()
                    .ok_or(BackendError::NotFound)?
                    .log()
                    .clone(),
            }
        };
        let (present, follower) = log.read();
        let present = stream::iter(present).map(|chunk| Ok(LogItem::Written(chunk)));
        let items = match query.follow {
            false => present.boxed(),
            true => {
                let present = present.chain(stream::iter([Ok(LogItem::Present)]));
                present.chain(follower.items()).boxed()
            }
        };
        Ok(LogStream {
            items,
            tailed: false,
        })
    }
}
