//! The world in one process, for tests and demos: services that answer, refuse
//! and fail as the real ones do.
//!
//! - [`kubernetes`]: the Kubernetes API, with a small scheduler and workloads.
//! - [`flightctl`]: the Flight Control API, its renderer, and simulated devices.
//!
//! Each is an [`axum::Router`] behind [`transport`]: over in-memory connections
//! with a stepped [`clock`], or on loopback with TLS and the live one.
//! [`faults`] can be switched on for either, at `/_sandbox/faults`; the time is
//! at `/_sandbox/clock`, and a stepped clock is stepped there ([`control`]). The sandbox is the referee: it
//! depends on no product crate (of this repository on the codecs of
//! `kubelet-streams` alone), and an unsupported verb is answered 501 by name.

pub mod clock;
pub mod control;
pub mod faults;
pub mod flightctl;
pub mod kubernetes;
mod terms;
pub mod tls;
pub mod transport;
