//! The wire protocols of `kubectl exec`, `attach` and `port-forward`, as the kubelet
//! serves them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "tokio")]
pub mod io;
pub mod limits;
pub mod negotiate;
pub mod portforward;
mod protocol;
pub mod remote;
pub mod spdy;
pub mod websocket;

pub use protocol::{Event, NotOpen, Protocol, ProtocolError};
