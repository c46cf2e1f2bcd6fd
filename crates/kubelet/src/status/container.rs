//! One entry of `containerStatuses`: what the facts say, laid over what
//! Kubernetes shows already.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vk_provider::facts::ContainerState as Fact;
use vk_provider::{ContainerFact, Terminated};

use super::{Shown, Waiting, phase, whole_seconds};

/// SIGKILL's code, which the kubelet shows for an end that nobody saw.
const UNKNOWN_EXIT: i32 = 137;
/// The kubelet's reason for it.
const UNKNOWN_REASON: &str = "ContainerStatusUnknown";
const UNKNOWN_MESSAGE: &str = "The container has ended; how is not known";

/// Which list a container stands in, and by which rules it counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Init,
    /// An init container that keeps running.
    Sidecar,
    Regular,
}

/// Everything known about one container.
pub(super) struct Seen<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    /// As the user wrote it.
    pub(super) image: &'a str,
    /// The container's restart policy, or the pod's.
    pub(super) policy: &'a str,
    /// The facts describe the present spec.
    pub(super) current: bool,
    /// The pod's phase is terminal already.
    pub(super) frozen: bool,
    /// Nothing of the pod is at the remote any more, and it waits for a place.
    pub(super) lost: bool,
    pub(super) fact: Option<&'a ContainerFact>,
    pub(super) have: Option<&'a ContainerStatus>,
    pub(super) waiting: Option<&'a Waiting>,
    /// The pod has init containers.
    pub(super) after_init: bool,
}

pub(super) fn status(seen: &Seen<'_>) -> ContainerStatus {
    let before = seen.have.and_then(|h| h.state.clone()).unwrap_or_default();
    if let Some(have) = seen.have
        && seen.frozen
        && before.running.is_none()
    {
        return have.clone();
    }
    // Fields that are not ours to know (resources, user, mounts) stay.
    let mut status = seen.have.cloned().unwrap_or_default();
    status.name = seen.name.into();
    if status.image.is_empty() || seen.current {
        status.image = seen.image.into();
    }
    let Some(fact) = seen.fact else {
        let again = before.terminated.is_some() && !stays(seen.policy, &before);
        if seen.lost && !seen.frozen && (before.running.is_some() || again) {
            let told = not_started(seen);
            let last = before_that(None, &status, &before, &told, false);
            status.last_state = last.or(status.last_state);
            status.state = Some(told);
        } else {
            status.state = Some(unheard(seen, before));
        }
        return settled(seen, status, None);
    };
    if before.terminated.is_some() && stays(seen.policy, &before) && !ends(fact) {
        status.state = Some(before);
        return settled(seen, status, None);
    }
    let told = state(seen, fact, &before);
    let anew = in_its_place(fact, &status, &before);
    status.restart_count = restarts(fact, &status, &before, &told);
    let last = before_that(fact.last.as_ref(), &status, &before, &told, anew);
    status.last_state = last.or(status.last_state.take());
    if fact.container_id.is_some() {
        status.container_id.clone_from(&fact.container_id);
    }
    if let Some(id) = &fact.image_id {
        status.image_id.clone_from(id);
    }
    status.state = Some(told);
    settled(seen, status, fact.ready)
}

/// The state of a container that the remote says nothing about.
fn unheard(seen: &Seen<'_>, before: ContainerState) -> ContainerState {
    if seen.frozen || before.running.is_some() || before.terminated.is_some() {
        return before;
    }
    not_started(seen)
}

fn not_started(seen: &Seen<'_>) -> ContainerState {
    let shows = |shown: &Shown| match shown {
        // Behind init containers only those wait for anything else.
        Shown::ByAll => !seen.after_init || seen.kind != Kind::Regular,
        Shown::By(name) => name == seen.name,
        Shown::Nowhere => false,
    };
    match seen.waiting {
        Some(why) if shows(&why.shown) => waiting(&why.reason, &why.message),
        _ if seen.after_init => waiting("PodInitializing", ""),
        _ => waiting("ContainerCreating", ""),
    }
}

fn state(seen: &Seen<'_>, fact: &ContainerFact, before: &ContainerState) -> ContainerState {
    match &fact.state {
        Fact::Unknown => unheard(seen, before.clone()),
        Fact::Waiting { reason, .. } if reason.is_empty() => not_started(seen),
        Fact::Waiting { reason, message } => waiting(reason, message),
        Fact::Running { started_at } => {
            let same =
                |id: &Option<String>| fact.container_id.is_none() || *id == fact.container_id;
            let known = before.running.as_ref().and_then(|r| r.started_at.clone());
            let known = known.filter(|_| seen.have.is_some_and(|h| same(&h.container_id)));
            ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: started_at.map(|at| Time(whole_seconds(at))).or(known),
                }),
                ..ContainerState::default()
            }
        }
        Fact::Terminated(end) => ContainerState {
            terminated: Some(terminated(end, fact.container_id.as_deref(), before)),
            ..ContainerState::default()
        },
    }
}

/// The end as it is shown, completed from what was shown before.
fn terminated(
    end: &Terminated,
    id: Option<&str>,
    before: &ContainerState,
) -> ContainerStateTerminated {
    if end.exit_code.is_none()
        && let Some(known) = &before.terminated
    {
        return known.clone();
    }
    let mut shown = named(end);
    shown.container_id = id.map(str::to_owned);
    if let Some(known) = &before.terminated
        && known.exit_code == shown.exit_code
    {
        shown.started_at = shown.started_at.or_else(|| known.started_at.clone());
        shown.finished_at = shown.finished_at.or_else(|| known.finished_at.clone());
        shown.container_id = shown.container_id.or_else(|| known.container_id.clone());
    }
    let started = before.running.as_ref().and_then(|r| r.started_at.clone());
    shown.started_at = shown.started_at.or(started);
    shown
}

fn named(end: &Terminated) -> ContainerStateTerminated {
    let text = |own: &str, otherwise: &str| {
        let text = if own.is_empty() { otherwise } else { own };
        Some(text.to_owned()).filter(|text| !text.is_empty())
    };
    let times = ContainerStateTerminated {
        started_at: end.started_at.map(|at| Time(whole_seconds(at))),
        finished_at: end.finished_at.map(|at| Time(whole_seconds(at))),
        ..ContainerStateTerminated::default()
    };
    match end.exit_code {
        Some(code) => ContainerStateTerminated {
            exit_code: code,
            reason: text(&end.reason, if code == 0 { "Completed" } else { "Error" }),
            message: text(&end.message, ""),
            ..times
        },
        None => ContainerStateTerminated {
            exit_code: UNKNOWN_EXIT,
            reason: text("", UNKNOWN_REASON),
            message: text(&end.message, UNKNOWN_MESSAGE),
            ..times
        },
    }
}

/// Whether the API keeps a terminated container terminated.
fn stays(policy: &str, before: &ContainerState) -> bool {
    let code = before.terminated.as_ref().map_or(0, |t| t.exit_code);
    match policy {
        "Always" => false,
        "OnFailure" => code == 0,
        _ => true,
    }
}

fn ends(fact: &ContainerFact) -> bool {
    matches!(fact.state, Fact::Terminated(_))
}

/// The remote's count where it counts; else, as the kubelet's, one more for each
/// start after an end. Never less than before: a remote may start counting anew,
/// as it does for a container that it makes in another place. Then it is one more
/// than before, all the same.
fn restarts(
    fact: &ContainerFact,
    have: &ContainerStatus,
    before: &ContainerState,
    told: &ContainerState,
) -> i32 {
    let started = told.running.is_some();
    let one_more = |again: bool| have.restart_count.saturating_add(i32::from(again));
    if let Some(counted) = fact.restarts {
        let again = started && phase::has_run(have) && in_its_place(fact, have, before);
        return counted.max(one_more(again));
    }
    let ended = before.terminated.is_some() || ended_before(have).is_some();
    let again = match before.running {
        Some(_) => in_its_place(fact, have, before),
        None => ended,
    };
    one_more(started && again)
}

/// Whether it is another container than the one that ran before.
fn in_its_place(fact: &ContainerFact, have: &ContainerStatus, before: &ContainerState) -> bool {
    let ended = before.terminated.as_ref().or_else(|| ended_before(have));
    let ended = ended.filter(|_| before.running.is_none());
    let ended = ended.and_then(|end| end.container_id.as_ref());
    let old = ended.or(have.container_id.as_ref());
    old.is_some() && fact.container_id.is_some() && old != fact.container_id.as_ref()
}

fn ended_before(have: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    have.last_state.as_ref()?.terminated.as_ref()
}

/// The end before the present state: what the remote says, else what was seen.
/// `anew` says that another container has taken the place of the one before.
fn before_that(
    last: Option<&Terminated>,
    have: &ContainerStatus,
    before: &ContainerState,
    told: &ContainerState,
    anew: bool,
) -> Option<ContainerState> {
    let end = match last {
        Some(end) => named(end),
        None if told.terminated.is_some() => return None,
        None => match (&before.terminated, &before.running) {
            (Some(seen), _) => seen.clone(),
            // It ran, and now another one does or waits to: it has ended unseen.
            (None, Some(ran)) if told.waiting.is_some() || anew => ContainerStateTerminated {
                started_at: ran.started_at.clone(),
                container_id: have.container_id.clone(),
                ..unknown_end()
            },
            _ => return None,
        },
    };
    Some(ContainerState {
        terminated: Some(end),
        ..ContainerState::default()
    })
}

/// `ready` and `started` follow from the state.
fn settled(seen: &Seen<'_>, mut status: ContainerStatus, ready: Option<bool>) -> ContainerStatus {
    let state = status.state.as_ref();
    let running = state.is_some_and(|s| s.running.is_some());
    let succeeded = state
        .and_then(|s| s.terminated.as_ref())
        .is_some_and(|t| t.exit_code == 0);
    let silent = seen.fact.is_none_or(|f| f.state == Fact::Unknown);
    let shown = seen.have.is_none_or(|h| h.ready);
    status.ready = match seen.kind {
        Kind::Init => succeeded,
        _ if silent => running && ready.unwrap_or(shown),
        _ => running && ready.unwrap_or(true),
    };
    status.started = Some(running);
    status
}

/// Ends a container of a pod that has stopped: by its last known end, if it
/// waited for another start, else by one that nobody knows.
pub(super) fn end(status: &mut ContainerStatus) {
    let state = status.state.take().unwrap_or_default();
    if state.terminated.is_some() {
        status.state = Some(state);
        return;
    }
    status.ready = false;
    status.started = Some(false);
    let known = status
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.clone());
    let end = match known.filter(|_| state.waiting.is_some()) {
        Some(known) => {
            // Empty, not absent: that is how the API shows it.
            status.last_state = Some(ContainerState::default());
            known
        }
        None => ContainerStateTerminated {
            started_at: state.running.and_then(|r| r.started_at),
            container_id: status.container_id.clone(),
            ..unknown_end()
        },
    };
    status.state = Some(ContainerState {
        terminated: Some(end),
        ..ContainerState::default()
    });
}

fn unknown_end() -> ContainerStateTerminated {
    named(&Terminated::default())
}

pub(super) fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            message: Some(message.to_owned()).filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    }
}

/// Why an ephemeral container will never start.
pub const UNSUPPORTED: &str = "Unsupported";

/// `kubectl debug` waits for the container and prints this message.
pub(super) fn unsupported(name: &str, image: Option<&str>) -> ContainerStatus {
    ContainerStatus {
        name: name.into(),
        image: image.unwrap_or_default().into(),
        state: Some(waiting(
            UNSUPPORTED,
            "This node cannot run ephemeral containers",
        )),
        ..ContainerStatus::default()
    }
}
