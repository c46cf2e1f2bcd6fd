//! The Flight Control API.
