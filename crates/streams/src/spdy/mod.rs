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

pub use connection::{Connection, ConnectionError, FlowControl, OpenError, Role};
