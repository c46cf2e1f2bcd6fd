//! What the three transports have in common, so that one driver serves them all.

use bytes::BytesMut;

use crate::spdy::frame::{Payload, ResetStatus, StreamId};
use crate::spdy::headers::Headers;
use crate::{spdy, websocket};

/// What a connection has to tell, in the order in which the peer sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream. It waits for [`Protocol::accept`] or [`Protocol::reset`].
    Opened {
        /// The new stream.
        stream: StreamId,
        /// What it is for.
        headers: Headers,
    },
    /// The peer accepted a stream that was opened here.
    Accepted {
        /// The stream.
        stream: StreamId,
    },
    /// More headers for an open stream. Nothing in Kubernetes sends any.
    Headers {
        /// The stream.
        stream: StreamId,
        /// The headers.
        headers: Headers,
    },
    /// Bytes of a stream, to be reported to [`Protocol::consumed`] once they are used.
    /// They share the memory of the input: copy what is to be kept for long.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes, never none.
        data: Payload,
    },
    /// The peer is done sending on a stream.
    Finished {
        /// The stream.
        stream: StreamId,
    },
    /// A stream ended in both directions, by the peer or because the peer broke the
    /// protocol on it.
    Reset {
        /// The stream, no longer known.
        stream: StreamId,
        /// Why.
        status: ResetStatus,
    },
    /// A stream, or every one (`None`), may send more than it could before.
    Credit {
        /// The stream.
        stream: Option<StreamId>,
    },
    /// A ping of this side came back.
    Pong {
        /// What [`spdy::Connection::ping`] returned.
        id: u32,
    },
    /// The peer takes no new streams; those that are open go on.
    GoAway,
    /// The peer said goodbye: nothing more will come on any stream.
    Closed,
}

/// Why a connection is over. Whatever is in the output is worth sending still: it tells
/// the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not the SPDY/3.1 it should be.
    #[error("SPDY: {0}")]
    Spdy(#[from] spdy::ConnectionError),
    /// Not the WebSocket messages they should be.
    #[error("WebSocket: {0}")]
    WebSocket(#[from] websocket::SocketError),
}

/// The stream cannot send: it is unknown, was reset, is finished or not yet accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stream {0} is not open for sending")]
pub struct NotOpen(pub StreamId);

/// One connection without its I/O: bytes from the peer go in, events come out; calls go
/// in, bytes for the peer come out. Nothing blocks and nothing waits.
pub trait Protocol: Send {
    /// Takes bytes off the front of `input` until there is something to tell. `None`
    /// when more bytes are needed, or when more than
    /// [`ANSWERS_HIGH_WATER`](crate::limits::ANSWERS_HIGH_WATER) bytes of output wait to be
    /// sent.
    ///
    /// # Errors
    /// When the peer broke the protocol. Every later call gives the same error.
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ProtocolError>;

    /// Streams that are open from the start and of which no event tells: the channels of a
    /// WebSocket.
    fn initial(&self) -> Vec<StreamId> {
        Vec::new()
    }

    /// Bytes for the peer; whoever sends them takes them out.
    fn output(&mut self) -> &mut BytesMut;

    /// Accepts a stream of the peer; nothing where it is not waiting for it.
    fn accept(&mut self, stream: StreamId);

    /// Sends bytes of a stream, as many as may go now, and returns how many.
    ///
    /// # Errors
    /// When the stream cannot send (any more).
    fn send(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, NotOpen>;

    /// Says that nothing more will be sent on a stream. Idempotent.
    fn finish(&mut self, stream: StreamId);

    /// Ends a stream in both directions. Idempotent.
    fn reset(&mut self, stream: StreamId, status: ResetStatus);

    /// Tells that so many bytes of [`Event::Data`] were used up, for the peer's credit.
    fn consumed(&mut self, stream: StreamId, bytes: usize);

    /// Says goodbye. What was sent before goes out before. Idempotent.
    fn close(&mut self);
}
