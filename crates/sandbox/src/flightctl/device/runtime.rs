//! What an agent makes of its host: images, units, their states, its console.

use std::collections::BTreeSet;
use std::future::Future;

use serde_json::Value;

use super::files::Files;
use super::quadlet::App;
use crate::flightctl::console::ConsoleStreams;
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

/// The generator dropped a file, a unit was not loaded, or the host did not do what it
/// was told.
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
pub(crate) trait Runtime: Clone + Send + Sync + 'static {
    /// Starts what pulls are missing and says where they stand.
    fn prefetch(&self, images: &BTreeSet<String>) -> impl Future<Output = Prefetch> + Send;

    /// Pulls that have not ended are given up.
    fn forget_pulls(&self);

    /// Brings the device's config files to these.
    ///
    /// # Errors
    /// The path of one that cannot be written.
    fn keep(&self, files: &Files) -> impl Future<Output = Result<(), String>> + Send;

    /// Takes the files of applications away, then writes those of others. Units go on
    /// as they are.
    fn place(
        &self,
        gone: &[&App],
        new: &[&App],
    ) -> impl Future<Output = Result<(), Rejected>> + Send;

    /// Stops all units of an application. Completes when the last container has ended.
    fn remove(
        &self,
        app: &str,
        for_update: bool,
    ) -> impl Future<Output = Result<(), Rejected>> + Send;

    /// Lets the generator run over all files.
    fn reload(&self) -> impl Future<Output = Result<(), Rejected>> + Send;

    /// Starts the target of an application whose files are there. Completes when every
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

    /// Runs a session of the console to its end.
    fn attend(&self, session: &Value, streams: ConsoleStreams) -> impl Future<Output = ()> + Send;

    /// Runs the command of a session that nobody came to.
    fn unattended(&self, session: &Value);
}
