//! What pods and nodes use: a trait that a backend implements where the remote
//! measures it. `kubectl top` and autoscalers read it.
//!
//! What is not measured is `None` and is left out of every answer: a zero would
//! be taken for an idle pod.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::BackendError;
use crate::key::PodKey;

/// Tells what is used.
#[async_trait]
pub trait Stats: Send + Sync {
    /// The newest measurements of one node and the pods placed for it. Changes
    /// nothing, may be repeated and dropped at any moment (the framework does
    /// after 10 s). Asked every 15 s by metrics-server: answer from a cache where
    /// measuring takes long, with the time of the measurement.
    ///
    /// # Errors
    /// `NotFound`: no such node. `Unavailable`: nothing is known now.
    async fn stats(&self, node: &str) -> Result<NodeStats, BackendError>;
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStats {
    /// Since when it runs.
    pub started_at: Option<Timestamp>,
    /// Of everything on it.
    pub usage: Usage,
    /// Its pods.
    pub pods: Vec<PodStats>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodStats {
    /// Which.
    pub key: PodKey,
    /// Since when it runs.
    pub started_at: Option<Timestamp>,
    /// Of the pod as a whole; where it is `None` the framework adds its
    /// containers up, if all of them are measured.
    pub usage: Usage,
    /// Its containers.
    pub containers: Vec<ContainerStats>,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStats {
    /// `name` in the spec.
    pub name: String,
    /// Since when it runs.
    pub started_at: Option<Timestamp>,
    /// What it uses.
    pub usage: Usage,
}

/// What something uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
}

/// Processor time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// When it was measured.
    pub at: Timestamp,
    /// All time used since the start, in nanoseconds of one core. Only rises.
    pub total_nanos: Option<u64>,
    /// Used at present, in billionths of a core.
    pub nano_cores: Option<u64>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// When it was measured.
    pub at: Timestamp,
    /// In use and not to be had back without killing: what `kubectl top` shows.
    pub working_set: Option<u64>,
    /// In use, caches included.
    pub usage: Option<u64>,
    /// Anonymous memory in use.
    pub rss: Option<u64>,
    /// Left to be used.
    pub available: Option<u64>,
}
