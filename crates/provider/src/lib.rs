//! The contract between a virtual node and the system its pods really run on.
//!
//! ```text
//! Kubernetes ──▶ framework ── PodRequest ──▶ Backend ──▶ remote system
//!      ▲             │                          │
//!      └── status ◀──┴──── PodFacts ◀───────────┘
//! ```
//!
//! A backend implements [`Backend`]: it *brings* the remote to what a
//! [`PodRequest`] says and *reports* what it sees as [`PodFacts`]. It never
//! computes a pod phase, never talks to the Kubernetes API and keeps nothing on
//! disk: what must survive a restart is at the remote or in the pod's journal.
//! The framework (`virtual-kubelet`) does everything a kubelet owes Kubernetes.
//!
//! What a fact does not say is unknown and is shown as unknown. Facts are
//! level-triggered: they may be lost, repeated or reordered, the newest
//! [`PodFacts::seq`] of a UID wins, and a complete [`Listing`] heals the rest.
//!
//! Modules, in the order data moves: [`key`], [`request`], [`backend`],
//! [`facts`], [`node`]; beside them [`admission`], [`quantity`], [`clock`],
//! [`podspec`] (what a backend does with every field of a pod), [`inputs`],
//! [`environment`], [`volumes`] and [`rendered`] (what a pod is given, what its
//! containers are started with, its files, and all of it together), [`image`] and
//! [`pull`] (image names in full, and what they are pulled with), [`logs`],
//! [`streams`] and [`stats`] (what a backend may do besides: logs, processes and
//! connections inside pods, what they use), [`error`] and,
//! with the feature `conformance`, the kit that every backend passes
//! (`conformance`). How to write a backend: `docs/writing-a-backend.md` and
//! `examples/memory`.

pub mod admission;
pub mod backend;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod downward;
pub mod environment;
pub mod error;
pub mod facts;
pub mod image;
pub mod inputs;
pub mod key;
pub mod logs;
pub mod node;
pub mod podspec;
pub mod pull;
pub mod quantity;
pub mod rendered;
pub mod request;
pub mod stats;
pub mod streams;
pub mod volumes;

pub use admission::{Admission, NODE_AFFINITY, NodeUse, admit, node_fit};
pub use backend::{Backend, Capabilities, Grace, Heeds, InputNeeds, Journal, PodCx, PodEvents};
pub use clock::Clock;
pub use error::BackendError;
pub use facts::{
    Change, ContainerFact, ContainerState, Listing, PodFacts, Reach, Terminated, Verdict,
};
pub use inputs::{Inputs, Sealed, TokenAsk};
pub use key::{PodKey, Uid};
pub use logs::{LogChunk, LogItem, LogQuery, LogSource, LogStream, Logs};
pub use node::{NodeFacts, NodeInfo, NodeSet};
pub use pull::PullCredentials;
pub use rendered::{RenderError, RenderedContainer, RenderedPayload, RenderedPod};
pub use request::{PodChange, PodRequest, Revision};
pub use stats::Stats;
pub use streams::{Attach, Exec, PortForward, TermSize};
