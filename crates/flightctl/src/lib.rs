//! Kubernetes pods on edge devices managed by Flight Control.
//!
//! A pod becomes one quadlet application of one device. The way of the data:
//!
//! ```text
//! PodRequest ─▶ place ─▶ mapping ─▶ writer ─▶ Flight Control ─▶ device
//!                 ▲                                │
//!              world ◀────────── follow ◀──────────┘
//!                 └─▶ report ─▶ PodFacts
//! ```
//!
//! - Pure: [`device`] (reads a device), [`fleet`] (device to node), [`place`]
//!   (pod to device), [`ports`] (what is published there), [`mapping`] and [`quadlet`] (pod to units), [`items`]
//!   (its files), [`marker`] (whose application it is), [`facts`] and [`report`] (status to facts),
//!   [`away`] (devices that go away), [`blame`] and [`search`] (who keeps a device from its version), [`contest`] (patience with
//!   other writers).
//! - State: [`world`], and in it each pod as [`placed`], which may be on [`hold`].
//! - I/O: [`client`], [`follow`], [`writer`], [`console`] (logs and processes); [`backend`]
//!   ties them to the contract, [`run`] to the framework; `rights` asks which of the
//!   cluster's there are, [`doctor`] whether everything else is as it should be, and
//!   [`explain`] why a pod goes where it goes.

pub mod away;
pub mod backend;
pub mod blame;
pub mod client;
pub mod config;
pub mod console;
pub mod contest;
pub mod device;
pub mod doctor;
mod echo;
mod edit;
pub mod explain;
pub mod facts;
pub mod fleet;
pub mod follow;
pub mod hold;
pub mod items;
pub mod logs;
pub mod mapping;
pub mod marker;
pub mod metrics;
pub mod place;
pub mod placed;
pub mod ports;
mod private;
pub mod quadlet;
pub mod report;
mod rights;
pub mod run;
pub mod search;
pub mod select;
pub mod types;
pub mod world;
pub mod writer;
