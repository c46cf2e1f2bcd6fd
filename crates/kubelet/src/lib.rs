//! A kubelet for nodes that are not machines.
//!
//! ```text
//! Kubernetes ──watch──▶ desired ──▶ queue ──▶ plan ──▶ act ──▶ Backend ──▶ remote system
//!      ▲                                                                        │
//!      └────── publish ◀── status ◀──────────── observe ◀───────────────────────┘
//! ```
//!
//! A provider hands its backend to a [`Host`] and runs it; [`connect`], [`admin`],
//! [`events`] and [`metrics`] are what a process needs besides.
//!
//! Each word above is a module. `desired`, `plan` and [`status`] are pure functions
//! over values; the others only move bytes and time. State is one [`table`]
//! keyed by pod UID. Everything is level-triggered: an event only marks a UID as
//! *look again*, so a lost event costs time, never correctness.
//!
//! # Tasks
//! | task | runs | reads | writes |
//! |---|---|---|---|
//! | `host` | once | the backend's node set | starts and ends the tasks of a node |
//! | [`node`] | per node | node facts, own Node object | Node object and status |
//! | `lease` | per node | – | the node's Lease, on a client of its own |
//! | `watch` | per node | pods bound to it | table, queue |
//! | `observe` | once | the backend's changes and listings | table, queue |
//! | `act` | once, a child per UID at work | queue | backend, pod status, pod deletion |
//! | `inputs` | per object that pods refer to | that object | the store of inputs, queue |
//! | `inputs` | once | when tokens are due | tokens of pods, queue |
//! | [`api`] | per node, if asked for | table, backend | – |
//! | [`events`] | once | a bounded lane | Event objects |

mod act;
pub mod admin;
pub mod api;
pub mod cause;
pub mod connect;
mod desired;
pub mod events;
mod holding;
mod host;
mod inputs;
pub mod leadership;
mod lean;
mod lease;
pub mod metrics;
pub mod node;
mod observe;
mod pace;
mod plan;
mod publish;
mod queue;
mod restart;
pub mod status;
mod story;
pub mod table;
mod unending;
mod watch;

pub use api::{ApiSettings, ClientCa, ServingCertificate};
pub use desired::JOURNAL_ANNOTATION;
pub use host::{DRAIN_WITHIN, Drain, Host, KeptNode, Settings, Shutdown, Undrained};
pub use inputs::InputSettings;
