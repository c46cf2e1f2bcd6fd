//! WebSocket: channels over messages, and SPDY inside of messages.
//!
//! The framing (RFC 6455) is `tungstenite`'s, run over buffers in memory. At level trace it
//! writes what passes into the `log` crate's log, users' bytes included.

mod channels;
mod pipe;
mod socket;
mod tunnel;

#[cfg(test)]
mod tests;

pub use channels::{Channels, Direction, Encoding};
pub use pipe::Pipe;
pub use socket::{Role, SocketError};
pub use tunnel::Tunnel;
