//! What every backend has to pass.
//!
//! Describe the world around your backend as a [`Fixture`], then, in a test:
//!
//! ```no_run
//! # async fn test(fixture: &dyn vk_provider::conformance::Fixture) {
//! let report = vk_provider::conformance::check(fixture).await;
//! assert!(report.broken().is_empty(), "{report}");
//! assert!(report.not_run().is_empty(), "{report}");
//! # }
//! ```
//!
//! Each check is a function of its own in the module of its theme and can be
//! called alone. A check ends at the first thing that is wrong and says which
//! [`Rule`] that breaks and what was seen. Rules hold in every check: a listing
//! that shows a pod twice is found wherever one is made.
//!
//! The kit never believes the backend about itself: what ran is counted by the
//! remote ([`Fixture::record`]). It polls [`Backend::changes`] in one check
//! alone; everywhere else every notification counts as lost.
//!
//! | module | theme |
//! |---|---|
//! | [`ensure`] | idempotent, durable, old before new |
//! | [`stop`] | the end is begun, observed and true; release frees |
//! | [`identity`] | a name comes back with another UID |
//! | [`listing`] | whole, fresh, partial only when it says so, heals |
//! | [`news`] | changes and listing agree in the end |
//! | [`cancel`] | every call dropped at every await point |
//! | [`outage`] | silence and lost answers |
//! | [`restart`] | a new process finds everything |
//! | [`inputs`] | what pods refer to: missing, changed, gone |
//! | [`crowd`] | hundreds of calls pending at once |
//! | [`admission`] | nodes are published, `admit` is pure, `heed` is noted |

pub mod admission;
mod call;
pub mod cancel;
pub mod crowd;
pub mod ensure;
pub mod identity;
pub mod inputs;
pub mod listing;
pub mod news;
pub mod outage;
mod report;
pub mod restart;
mod rule;
mod run;
mod seen;
pub mod stop;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::backend::Backend;
use crate::key::Uid;

pub use report::{Halt, Outcome, Report};
pub use rule::Rule;

/// The world around a backend: one remote that works, and a backend over it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A backend over the remote, as a process that has just started would have
    /// it: it remembers nothing. The one before it is dead, and so is all that
    /// it ran in the background. Must work while the remote is in trouble.
    async fn start(&self) -> Arc<dyn Backend>;

    /// A pod with exactly one container, which runs until it is stopped and
    /// then ends quickly; bound to a node of the backend, small enough that
    /// some hundred of them fit. The kit gives it a UID.
    fn pod(&self, name: &str) -> Pod;

    /// The same pod with another image that the remote has.
    fn updated(&self, pod: &Pod) -> Pod;

    /// The same pod with a container that ignores TERM, so that it ends only
    /// when its grace period does. `None`: the remote has no such thing.
    fn stubborn(&self, pod: &Pod) -> Option<Pod> {
        let _ = pod;
        None
    }

    /// Lets the remote's time pass: some seconds, or until it has nothing left
    /// to do. The kit calls it up to 60 times before it gives up on anything.
    async fn pass(&self);

    /// The wall time, by which one run is told from another.
    fn now(&self) -> Timestamp;

    /// What the remote itself has recorded of a pod, all copies of it taken
    /// together. Not through the backend.
    fn record(&self, uid: &Uid) -> Record;

    /// What the running container of a pod reads at this path now; `Some(None)`
    /// where it has no such file. `None`: the fixture cannot look, and the checks
    /// of backends that want what pods refer to ([`crate::InputNeeds::objects`])
    /// are reported as not run.
    fn reads(&self, uid: &Uid, path: &str) -> Option<Option<Vec<u8>>> {
        let _ = (uid, path);
        None
    }

    /// The container of a pod ends by itself with exit code 0. `false`: the
    /// fixture cannot make it.
    async fn exit(&self, uid: &Uid) -> bool {
        let _ = uid;
        false
    }

    /// Switches a trouble on or off. `false`: the fixture cannot make it, and
    /// the checks that need it are reported as not run.
    async fn trouble(&self, trouble: Trouble, on: bool) -> bool {
        let _ = (trouble, on);
        false
    }
}

/// What a remote can be made to suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Nothing answers, and nothing that is sent takes effect.
    Silent,
    /// One of several places that pods are spread over does not answer.
    PlaceAway,
    /// Writes take effect, their answers are lost.
    AnswersLost,
}

/// What the remote has recorded of one pod's container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// How often it was started.
    pub starts: u32,
    /// How many copies of it run now.
    pub running: u32,
    /// How many ran at the same time, at most.
    pub most_at_once: u32,
}

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its function's path below this module.
    pub name: &'static str,
    /// Runs it.
    pub run: for<'a> fn(&'a dyn Fixture) -> BoxFuture<'a, Outcome>,
}

macro_rules! checks {
    ($($module:ident :: $check:ident),* $(,)?) => {
        &[$(Check {
            name: concat!(stringify!($module), "::", stringify!($check)),
            run: |fixture| Box::pin($module::$check(fixture)),
        }),*]
    };
}

/// All checks.
pub const CHECKS: &[Check] = checks![
    admission::nodes_are_published,
    admission::asking_changes_nothing,
    admission::annotations_of_a_node_change_nothing_that_runs,
    ensure::it_takes_effect,
    ensure::repeating_it_does_nothing,
    ensure::metadata_restarts_nothing,
    ensure::it_does_not_wait_for_the_workload,
    ensure::it_outlives_the_process,
    ensure::another_image_takes_the_place_of_the_first,
    ensure::an_ended_pod_starts_again_only_when_asked,
    stop::an_unknown_pod_is_not_found,
    stop::it_ends_what_runs,
    stop::it_may_come_before_the_start,
    stop::it_may_be_repeated,
    stop::less_grace_hurries,
    stop::release_frees,
    identity::a_name_comes_back_with_another_uid,
    identity::a_stranger_with_a_known_name_is_not_found,
    listing::it_is_whole_and_fresh,
    listing::a_lost_notification_is_healed,
    listing::a_missing_place_is_declared,
    news::changes_and_listing_agree,
    cancel::a_dropped_ensure_is_repeated,
    cancel::a_dropped_ensure_is_stopped,
    cancel::a_dropped_ensure_is_repeated_by_the_next_process,
    cancel::a_dropped_update_is_repeated,
    cancel::a_dropped_stop_is_repeated,
    cancel::a_dropped_release_is_repeated,
    cancel::a_dropped_listing_is_repeated,
    outage::silence_is_no_answer,
    outage::a_start_in_silence_knows_nothing,
    outage::a_lost_answer_is_repeated,
    inputs::a_change_reaches_files_and_restarts_nothing,
    inputs::a_pod_waits_for_what_is_missing,
    inputs::an_object_that_goes_stops_nothing,
    restart::everything_is_found_again,
    restart::what_was_ending_ends,
    crowd::hundreds_are_served_at_once,
];

/// Runs every check, one after the other.
pub async fn check(fixture: &dyn Fixture) -> Report {
    let mut report = Report::default();
    for check in CHECKS {
        report.add(check.name, (check.run)(fixture).await);
        for trouble in [Trouble::Silent, Trouble::PlaceAway, Trouble::AnswersLost] {
            // A check that ended early must not spoil the next one.
            fixture.trouble(trouble, false).await;
        }
    }
    report
}
