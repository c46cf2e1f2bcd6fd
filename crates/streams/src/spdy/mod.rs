//! SPDY/3.1 as far as Kubernetes uses it.
//!
//! [`frame`] cuts bytes into frames, [`headers`] reads and writes what is compressed in
//! them, [`Connection`] knows what they mean. None of them does I/O.
//!
//! The peer to get along with is `moby/spdystream`, in every kube-apiserver and kubectl.
//! It ignores flow control (see [`FlowControl`]), drops what it gets on a stream that is
//! not accepted yet, and hangs up on frame types that it does not know: this crate sends
//! none.

mod connection;
mod dictionary;
pub mod frame;
pub mod headers;
mod window;

#[cfg(test)]
mod connection_tests;

pub use connection::Connection;

use frame::{FrameError, StreamId};
use headers::DecompressError;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams with odd numbers: kube-apiserver and kubectl.
    Client,
    /// Opens streams with even numbers, though the kubelet opens none.
    Server,
}

/// Whether credit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowControl {
    /// It is not, in either direction. Go's `moby/spdystream`, which is the peer in every
    /// kube-apiserver and kubectl, never gives credit and never asks for it: whoever
    /// waited for it would stop for good after 64 KiB. Back-pressure is then the
    /// socket's, and one stream that nobody reads holds up the others.
    #[default]
    Ignored,
    /// It is, as the draft says. For peers that do the same, such as this crate.
    Kept,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// No frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No header block.
    #[error(transparent)]
    Headers(#[from] DecompressError),
    /// A stream number that is not the peer's to use, or not higher than the last one.
    #[error("stream {stream} was opened after stream {last}, or by the wrong side")]
    StreamOrder {
        /// The number.
        stream: StreamId,
        /// The peer's highest number before, 0 for none.
        last: u32,
    },
    /// More data than the connection's window allowed, or credit beyond what there is.
    #[error("the connection's flow control window was overrun")]
    FlowControl,
}

/// No stream can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// One of the sides said that it takes no more.
    #[error("the connection takes no new streams")]
    GoneAway,
    /// All 2^30 numbers are used up.
    #[error("the connection has no stream numbers left")]
    Exhausted,
}
