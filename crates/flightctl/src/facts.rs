//! What Flight Control's status of an application says about the pod's
//! containers. Pure, and only what it says: one word, `n/m` and a count of
//! restarts for the whole application; never an exit code but the 0 that
//! `Completed` means.
//!
//! `m` counts every container that was ever created since the device's boot
//! (a pod's infra container too), `n` those that run. Containers are created in
//! an order that the units force: init containers one by one, then the rest.
//! From that it often follows which container is meant; where it does not, its
//! state is unknown.

mod on_its_way;

use vk_provider::{ContainerFact, ContainerState, Terminated};

use crate::blame::names;
use crate::device::{AppStatus, DeviceView};
use crate::hold::{CREATE_ERROR, Why};
use crate::mapping::{Expected, Member, Policy, Role, app_id};

/// What is known of a pod's application on its device.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Name of the application.
    pub app: &'a str,
    /// The device as last read.
    pub device: &'a DeviceView,
    /// The device runs a version that holds the pod's present revision.
    pub applied: bool,
    /// Why the device refuses the pod, as reason and sentence.
    pub refused: Option<(&'a str, &'a str)>,
    /// Why it is kept out of the device's spec, or was when it was last refused.
    pub held: Option<&'a Why>,
    /// What else keeps the device, as reason and sentence: none of ours.
    pub refusal: Option<(&'static str, &'a str)>,
    /// It has shown the same for longer than two of its status intervals: what
    /// only passes by is over.
    pub settled: bool,
    /// And the device was heard of since: what it does not show is not there.
    pub confirmed: bool,
    /// What it shows may be what was: its agent has just restarted.
    pub echo: bool,
    /// It had ended before.
    pub ended: bool,
}

/// What it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Regular containers.
    pub containers: Vec<ContainerFact>,
    /// Init containers, sidecars included.
    pub init: Vec<ContainerFact>,
    /// Nothing of the pod runs, and nothing on the device will start it again.
    pub ended: bool,
    /// Why the device does not get on with this pod, as reason and sentence.
    pub trouble: Option<(&'static str, String)>,
}

/// Reads the status of an application.
pub fn facts(expected: &Expected, sight: &Sight<'_>) -> Seen {
    let mut story = Story {
        expected,
        states: vec![ContainerState::Unknown; expected.members.len()],
        down: false,
        ended: false,
        trouble: None,
        last: None,
    };
    let status = sight.device.app_status.get(sight.app);
    match status {
        _ if !sight.applied => story.on_its_way(sight),
        Some(status) if !sight.echo => story.shown(status, sight),
        // The agent has just restarted: what was known stands.
        _ => story.ended = sight.ended,
    }
    story.told(sight, status.filter(|_| sight.applied && !sight.echo))
}

struct Story<'a> {
    expected: &'a Expected,
    states: Vec<ContainerState>,
    /// Some container is down and it is not known which.
    down: bool,
    ended: bool,
    trouble: Option<(&'static str, String)>,
    /// The end before the present wait, of a pod of one container.
    last: Option<Terminated>,
}

/// Kubelet's words.
const CREATING: &str = "ContainerCreating";
const INITIALIZING: &str = "PodInitializing";
const BACK_OFF: &str = "CrashLoopBackOff";
/// Ours: an operator stopped the application in Flight Control.
const STOPPED: &str = "StoppedByFlightControl";

fn waiting(reason: &str, message: impl Into<String>) -> ContainerState {
    ContainerState::Waiting {
        reason: reason.into(),
        message: message.into(),
    }
}

fn succeeded() -> ContainerState {
    ContainerState::Terminated(Terminated {
        exit_code: Some(0),
        ..Terminated::default()
    })
}

fn ended_somehow(reason: &str, message: &str) -> ContainerState {
    ContainerState::Terminated(Terminated {
        exit_code: None,
        reason: reason.into(),
        message: message.into(),
        ..Terminated::default()
    })
}

impl Story<'_> {
    /// The application's status of the right version.
    fn shown(&mut self, status: &AppStatus, sight: &Sight<'_>) {
        let (up, seen) = counts(&status.ready).unwrap_or_default();
        match status.status.as_str() {
            "Preparing" | "Starting" => self.starting(up, seen, status.restarts),
            "Running" => self.running(up, seen, status.restarts),
            "Completed" => self.completed(seen),
            "Error" => self.error(seen, sight.confirmed),
            "Stopping" | "Stopped" => self.all(&waiting(
                STOPPED,
                "an operator stopped the application in Flight Control",
            )),
            _ => self.unheard_of(sight),
        }
    }

    fn starting(&mut self, up: usize, seen: usize, restarts: i64) {
        if self.alone() && self.expected.restart_policy != Policy::Never && restarts > 0 {
            self.all(&waiting(BACK_OFF, "the container is started again"));
        } else if !self.by_order(up, seen, restarts == 0) {
            if up <= usize::from(self.expected.pod) {
                self.not_started("");
            } else {
                self.down = true;
            }
        }
    }

    fn running(&mut self, up: usize, seen: usize, restarts: i64) {
        if self.whole(up, seen) {
            for (state, member) in self.states.iter_mut().zip(&self.expected.members) {
                *state = match member.role {
                    Role::Init => succeeded(),
                    Role::Sidecar | Role::App => ContainerState::Running { started_at: None },
                };
            }
        } else if !self.by_order(up, seen, restarts == 0) {
            self.down = true;
            // The infra container alone is up.
            if self.expected.pod
                && up == 1
                && seen == self.total()
                && self.expected.restart_policy == Policy::Always
            {
                self.back_off("the container ended and is started again");
            }
        }
    }

    fn completed(&mut self, seen: usize) {
        if self.expected.restart_policy == Policy::Always {
            if !self.init_phase(seen) {
                self.last = Some(Terminated {
                    exit_code: Some(0),
                    ..Terminated::default()
                });
                self.back_off("the container completed and is started again");
            }
            return;
        }
        // The Podman pod of an OnFailure pod ends only when all have succeeded;
        // after a reboot those that had done so before are not counted again.
        let podman = self.expected.pod && self.expected.restart_policy == Policy::OnFailure;
        if seen == self.total() || (podman && seen > self.expected.count(Role::Init)) {
            self.all(&succeeded());
            self.ended = true;
        } else if !self.init_phase(seen) {
            self.down = true;
        }
    }

    fn error(&mut self, seen: usize, confirmed: bool) {
        if self.expected.restart_policy != Policy::Never {
            if !self.init_failed(
                seen,
                &waiting(BACK_OFF, "the init container failed and is started again"),
            ) {
                self.last = self.alone().then(|| Terminated {
                    reason: "Error".into(),
                    ..Terminated::default()
                });
                match self.expected.restart_policy {
                    Policy::Always => self.back_off("the container failed and is started again"),
                    _ if self.expected.count(Role::App) == 1 => {
                        self.back_off("the container failed and is started again")
                    }
                    _ => self.down = true,
                }
            }
            return;
        }
        let end = ended_somehow(
            "",
            "a container of the application failed; Flight Control does not say which or how",
        );
        if self.init_failed(
            seen,
            &ended_somehow(
                "",
                "the init container failed; Flight Control does not say how",
            ),
        ) {
            self.ended = true;
        } else if seen == self.total() || confirmed {
            self.all(&end);
            self.inits_succeeded();
            self.ended = true;
        } else {
            self.down = true;
        }
    }

    /// `Unknown 0/0`: usual for the first moments, and until the next report.
    fn unheard_of(&mut self, sight: &Sight<'_>) {
        if self.expected.restart_policy == Policy::Never {
            if !sight.confirmed {
                return;
            }
            // It was started once, and that is all it gets: by now it ended
            // unseen (a reboot), or never came to be.
            self.all(&ended_somehow(
                "",
                "the device shows nothing of the container and does not start it again",
            ));
            self.ended = true;
        } else if sight.settled {
            let mut message = "the device has started none of its units: no container of it was ever created; the device's journal says why".to_owned();
            if let Some(words) = words(&sight.device.words, sight.app) {
                message.push_str(&format!("; the device says: {words}"));
            }
            self.all(&waiting(CREATE_ERROR, message.as_str()));
            self.trouble = Some((CREATE_ERROR, message));
        }
    }

    /// While init containers run nothing else was created: the number created
    /// says which one it is. Tells nothing with sidecars among them.
    fn by_order(&mut self, up: usize, seen: usize, first_try: bool) -> bool {
        let Some(created) = self.inits_created(seen) else {
            return false;
        };
        let infra = usize::from(self.infra_first());
        self.in_init_phase(created);
        let current = match up.checked_sub(infra) {
            Some(1) => ContainerState::Running { started_at: None },
            // Restarts may be those of the ones before.
            Some(0) if first_try || created > 1 => waiting(CREATING, ""),
            Some(0) => waiting(BACK_OFF, "the init container is started again"),
            _ => ContainerState::Unknown,
        };
        if let Some(state) = created
            .checked_sub(1)
            .and_then(|at| self.states.get_mut(at))
        {
            *state = current;
        }
        true
    }

    /// All init containers created so far have succeeded, the next one or the
    /// regular containers are about to start.
    fn init_phase(&mut self, seen: usize) -> bool {
        let Some(created) = self.inits_created(seen) else {
            return false;
        };
        self.in_init_phase(created);
        if let Some(state) = created
            .checked_sub(1)
            .and_then(|at| self.states.get_mut(at))
        {
            *state = succeeded();
        }
        true
    }

    /// The last init container that was created is the one that failed.
    fn init_failed(&mut self, seen: usize, how: &ContainerState) -> bool {
        let Some(created) = self.inits_created(seen) else {
            return false;
        };
        self.in_init_phase(created);
        if let Some(state) = created
            .checked_sub(1)
            .and_then(|at| self.states.get_mut(at))
        {
            *state = how.clone();
        }
        true
    }

    /// Before the `created`th init container all have succeeded, behind it
    /// nothing was created.
    fn in_init_phase(&mut self, created: usize) {
        for (index, (state, member)) in self
            .states
            .iter_mut()
            .zip(&self.expected.members)
            .enumerate()
        {
            *state = match member.role {
                Role::Init if index + 1 < created => succeeded(),
                Role::Init if index == 0 => waiting(CREATING, ""),
                _ => waiting(INITIALIZING, ""),
            };
        }
    }

    /// How many init containers were created, if nothing else was.
    fn inits_created(&self, seen: usize) -> Option<usize> {
        let inits = self.expected.count(Role::Init);
        let created = seen.checked_sub(usize::from(self.infra_first()))?;
        (self.expected.count(Role::Sidecar) == 0 && (1..=inits).contains(&created))
            .then_some(created)
    }

    /// Whether the infra container comes before the init containers.
    fn infra_first(&self) -> bool {
        self.expected.pod && self.expected.restart_policy == Policy::Always
    }

    /// A pod of one container.
    fn alone(&self) -> bool {
        self.expected.members.len() == 1
    }

    /// Every container there must be.
    fn total(&self) -> usize {
        usize::from(self.expected.pod) + self.expected.members.len()
    }

    /// Everything that keeps running runs, and everything was created.
    fn whole(&self, up: usize, seen: usize) -> bool {
        seen == self.total() && up.checked_add(self.expected.count(Role::Init)) == Some(seen)
    }

    fn all(&mut self, state: &ContainerState) {
        self.states.fill(state.clone());
    }

    fn inits_succeeded(&mut self) {
        for (state, member) in self.states.iter_mut().zip(&self.expected.members) {
            if member.role == Role::Init {
                *state = succeeded();
            }
        }
    }

    fn back_off(&mut self, message: &str) {
        self.all(&waiting(BACK_OFF, message));
        self.inits_succeeded();
    }

    fn not_started(&mut self, message: &str) {
        let behind_init = self.expected.count(Role::Init) > 0;
        for (state, member) in self.states.iter_mut().zip(&self.expected.members) {
            let reason = if behind_init && member.role == Role::App {
                INITIALIZING
            } else {
                CREATING
            };
            *state = waiting(reason, message);
        }
    }

    fn told(self, sight: &Sight<'_>, status: Option<&AppStatus>) -> Seen {
        let alone = self.alone();
        let id = app_id(sight.app);
        let mut containers = Vec::new();
        let mut init = Vec::new();
        for (Member { name, role, .. }, state) in self.expected.members.iter().zip(self.states) {
            let mut fact = ContainerFact::new(name, state);
            if matches!(
                fact.state,
                ContainerState::Running { .. } | ContainerState::Terminated(_)
            ) {
                fact.container_id = Some(format!("flightctl://{}/{id}-{name}", sight.device.name));
            }
            if self.down && *role != Role::Init {
                fact.ready = Some(false);
            }
            if alone {
                fact.restarts =
                    status.map(|s| i32::try_from(s.restarts.max(0)).unwrap_or(i32::MAX));
                fact.last = self.last.clone();
            }
            match role {
                Role::App => containers.push(fact),
                Role::Init | Role::Sidecar => init.push(fact),
            }
        }
        Seen {
            containers,
            init,
            ended: self.ended,
            trouble: self.trouble,
        }
    }
}

/// What the agent says of this application, of all it says: what it says of its
/// neighbours is not the pod's.
fn words(all: &str, app: &str) -> Option<String> {
    let ours = all.split(", ").filter(|words| names(words, app));
    let ours: Vec<&str> = ours.collect();
    (!ours.is_empty()).then(|| ours.join(", "))
}

/// `n/m`.
pub(crate) fn counts(ready: &str) -> Option<(usize, usize)> {
    let (up, seen) = ready.split_once('/')?;
    Some((up.trim().parse().ok()?, seen.trim().parse().ok()?))
}

#[cfg(test)]
mod tests;
