//! The wire protocols of `kubectl exec`, `attach` and `port-forward`, as the kubelet
//! serves them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod limits;
mod protocol;
pub mod spdy;
pub mod websocket;

pub use protocol::{Event, NotOpen, Protocol, ProtocolError};
