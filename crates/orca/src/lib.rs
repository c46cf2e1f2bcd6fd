//! ORCA: each pod on an EC2 instance of its own.
//!
//! So far it chooses: which instance types a pod fits on and what they cost.
//! Nothing here talks to AWS or Kubernetes yet.

pub mod catalogue;
pub mod choose;
mod config;
pub mod money;
pub mod pattern;
pub mod request;
