//! What containers wrote: a trait that a backend implements where the remote
//! keeps it.
//!
//! # Who does what
//! The framework checks the question, knows whether the container has started,
//! drops what is older than [`LogQuery::since`], cuts at `limitBytes`, puts
//! timestamps before lines and counts the lines of a tail. A backend opens the
//! log and tells what is in it; it may skip what [`LogQuery::since`] and
//! [`LogQuery::tail`] leave out, so that less crosses the network, and then says
//! so ([`LogStream::tailed`]).

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::error::BackendError;
use crate::key::PodKey;

/// Reads the logs of containers at the remote.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Opens the log of one container. Asked only for containers of pods that
    /// Kubernetes has and whose container runs or ran.
    ///
    /// Changes nothing at the remote and may be repeated. Cancel-safe: the
    /// framework drops the future after 30 s or when the client goes, and then
    /// the stream, at any moment; both end what was begun for them.
    ///
    /// # Errors
    /// `NotFound`: the remote has no such log (any more). `Unavailable`: it could
    /// not be asked; nothing is repeated, the user is told. `Unsupported`: this
    /// question cannot be answered (its `field` names the part: `previous`).
    async fn open(&self, query: &LogQuery) -> Result<LogStream, BackendError>;
}

/// Which log, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The pod.
    pub pod: PodKey,
    /// Its labels, those of [`crate::PodFacts::labels`] among them: where it was is
    /// still known so when a backend has forgotten it, as after a restart. Whoever
    /// may change the pod may change them, so they are a hint and no proof.
    pub labels: BTreeMap<String, String>,
    /// `name` of a container in its spec, init and ephemeral ones included.
    pub container: String,
    /// The log of the container before its last restart.
    pub previous: bool,
    /// The stream goes on with what is written from now on, and ends when the
    /// container does; it lasts through any time in which nothing is written.
    pub follow: bool,
    /// What is older need not be told; the framework drops it anyway.
    pub since: Option<Timestamp>,
    /// Of what is there now, only so many last lines are wanted. May be ignored:
    /// see [`LogStream::tailed`].
    pub tail: Option<u64>,
}

/// An open log.
pub struct LogStream {
    /// What is in it, oldest first. An error ends it, and the user is told.
    pub items: BoxStream<'static, Result<LogItem, BackendError>>,
    /// The stream begins with the last [`LogQuery::tail`] lines already. Otherwise
    /// the framework counts, in bounded memory; it needs [`LogItem::Present`] for
    /// that from a stream that follows.
    pub tailed: bool,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStream")
            .field("tailed", &self.tailed)
            .finish_non_exhaustive()
    }
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// Something was written.
    Written(LogChunk),
    /// All that was there when the log was opened has been told: what follows is
    /// new. Told once, by streams that follow and are not `tailed`.
    Present,
}

/// What a container wrote at one moment: a line, several, or a part of one. Bytes
/// are shown as they are; nothing is decoded or completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// When, by the remote's clock; a chunk of several lines has one time.
    pub at: Timestamp,
    /// Where to.
    pub source: LogSource,
    /// What, with its line ends.
    pub bytes: Bytes,
}

/// Where a container writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output; also a terminal, which has no other.
    Stdout,
    /// Standard error.
    Stderr,
}
