//! What an agent makes of its host: images, units, their states.

use std::collections::BTreeSet;
use std::future::Future;

use super::files::Files;
use super::quadlet::App;
use crate::flightctl::model::ApplicationStatus;

/// Where the images of a version stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// All there.
    Ready,
    /// On the way; the text is the agent's status message.
    Pending(String),
    /// This image will not come, and why.
    Failed(String, &'static str),
}

/// The generator dropped a file, or a unit was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejected;

/// How an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    Degraded,
    Error,
    Unknown,
}

/// The host of an agent.
pub(crate) trait Runtime: Send + Sync + 'static {
    /// Starts what pulls are missing and says where they stand.
    fn prefetch(&self, images: &BTreeSet<String>) -> Prefetch;

    /// Pulls that have not ended are given up.
    fn forget_pulls(&self);

    /// Brings the device's config files to these.
    ///
    /// # Errors
    /// The path of one that cannot be written.
    fn keep(&self, files: &Files) -> Result<(), String>;

    /// Stops all units of an application, then removes its files. Completes
    /// when the last container has ended.
    fn remove(&self, app: &str, for_update: bool) -> impl Future<Output = ()> + Send;

    /// Lets the generator run over all files.
    fn reload(&self) -> impl Future<Output = ()> + Send;

    /// Installs an application and starts its target. Completes when every
    /// unit's start job is over.
    fn start(&self, app: &App) -> impl Future<Output = Result<(), Rejected>> + Send;

    /// Stops an application's units and leaves its files.
    fn halt(&self, app: &str) -> impl Future<Output = ()> + Send;

    /// Starts what [`Runtime::halt`] has stopped.
    fn resume(&self, app: &str) -> impl Future<Output = ()> + Send;

    /// The applications as their containers' events show them.
    fn status(&self) -> Vec<(ApplicationStatus, Health)>;

    /// The agent starts anew: every target is started again.
    fn agent_restarted(&self);

    /// The power goes, and comes back. Completes when the agent would start.
    fn reboot(&self) -> impl Future<Output = ()> + Send;
}
