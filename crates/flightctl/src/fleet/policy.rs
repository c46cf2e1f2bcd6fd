//! How the devices of a fleet are used, as the configuration says it.

use std::time::Duration;

use crate::place::Strategy;

/// What holds for a fleet's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// Nodes.
    pub nodes: Nodes,
    /// Which device of a node a pod goes to.
    pub placement: Strategy,
    /// What becomes of pods on a device that leaves the fleet.
    pub on_leave: OnLeave,
    /// Who gives up the pods of a node's device that is away.
    pub eviction: Eviction,
    /// A pod that no device has room for is refused after so long; without it it
    /// waits.
    pub reject_after: Option<Duration>,
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Nodes {
    /// All devices of a fleet that are of one architecture.
    #[default]
    PerFleet,
    /// One device: the Kubernetes scheduler does all the choosing.
    PerDevice,
}

/// Who gives up the pods of a node that is one device, when that is away. Never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Eviction {
    /// We do, after `reconnectTimeout`; the node stays Ready.
    #[default]
    Provider,
    /// Kubernetes does: the node is not known to be Ready, and its controllers evict
    /// the pods by their tolerations.
    Kubernetes,
}

/// What becomes of pods on a device that leaves the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnLeave {
    /// They run on.
    #[default]
    Keep,
    /// They are evicted: their grace, then Failed, so that controllers replace them.
    Drain,
}
