//! SPDY/3.1 as far as Kubernetes uses it.
//!
//! [`frame`] cuts bytes into frames, [`headers`] reads and writes what is
//! compressed in them. Nothing here does I/O.

mod dictionary;
pub mod frame;
pub mod headers;
