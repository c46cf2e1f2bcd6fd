//! The wire protocols of `kubectl exec`, `attach` and `port-forward`, as a kubelet serves
//! them to kube-apiserver, kubectl and older clients.
//!
//! | | asked for with | module |
//! |---|---|---|
//! | `exec`, `attach` over SPDY/3.1 | `v4.channel.k8s.io` down to `channel.k8s.io` | [`spdy`] |
//! | the same over WebSocket | `v5.channel.k8s.io`, `v4`, `channel`, `base64` of the last two | [`websocket`] |
//! | port-forward over SPDY/3.1 | `portforward.k8s.io` | [`spdy`], [`portforward`] |
//! | the same in a WebSocket tunnel | `SPDY/3.1+portforward.k8s.io` | [`websocket`], [`portforward`] |
//! | port-forward over WebSocket channels | `v4.channel.k8s.io` and `?port=` | [`websocket`], [`portforward`] |
//!
//! Everything but [`io`] is free of I/O and clocks: bytes and calls in, bytes and events
//! out ([`Protocol`]). Input is hostile: it costs bounded memory ([`limits`]), gives a
//! typed error and never a panic. [`io`] (feature `tokio`, on by default) runs it over
//! sockets.
//!
//! A server answers with what [`negotiate`] says, takes the upgraded connection from its
//! HTTP library, and serves it:
//!
//! ```
//! use kubelet_streams::io::{Session, connect};
//! use kubelet_streams::negotiate::Remote;
//! use kubelet_streams::remote::{Options, Outcome};
//! use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
//!
//! async fn serve<T>(upgraded: T, protocol: Remote, options: Options) -> std::io::Result<()>
//! where
//!     T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
//! {
//!     let (handle, driver) = connect(options.connection(protocol), upgraded);
//!     tokio::spawn(driver);
//!     let Ok(session) = Session::accept(handle, protocol, options).await else {
//!         return Ok(()); // The client did not create its streams, and was told so.
//!     };
//!     if let Some(mut stdout) = session.stdout {
//!         stdout.write_all(b"hello\n").await?;
//!     }
//!     session.ending.finish(&Outcome::Exited(0)).await
//! }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

/// Its examples are compiled and run with the rest.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;

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
