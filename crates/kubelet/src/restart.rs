//! Starting an ended pod again, for backends whose remote does not do it by
//! itself ([`vk_provider::Capabilities::restarts`]). Pure; the rhythm is the
//! kubelet's (`doBackOff` in `pkg/kubelet/kuberuntime`): the first start at
//! once, then 10 s after the end, doubled up to five minutes, anew after ten
//! minutes of running.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use vk_provider::{ContainerFact, ContainerState, PodFacts};

use crate::desired::Desired;

/// First wait of a crash loop.
const FIRST: Duration = Duration::from_secs(10);
/// Longest wait of a crash loop.
const LONGEST: Duration = Duration::from_secs(300);
/// A run of this length ends a crash loop: twice the longest wait.
const SOUND: Duration = Duration::from_secs(600);

/// Starts and ends of one pod, as far as this process saw them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounds {
    /// All starts after an end, those that an earlier process asked for too.
    total: i32,
    /// Those since it last ran soundly.
    count: u32,
    /// When the last of them was.
    began: Option<Instant>,
    /// When it was seen to have ended; `None` while it has not.
    ended: Option<Instant>,
}

impl Rounds {
    /// The facts say whether the pod has ended.
    pub fn observe(&mut self, ended: bool, now: Instant) {
        if !ended {
            self.ended = None;
        } else if self.ended.is_none() {
            let ran = self.began.map(|began| now - began);
            if ran.is_some_and(|ran| ran > SOUND) {
                self.count = 0;
            }
            self.ended = Some(now);
        }
    }

    /// Kubernetes shows restarts from before this process began.
    pub fn shown(&mut self, pod: &Pod) {
        let status = pod.status.as_ref();
        let shown = status.and_then(|s| {
            s.container_statuses
                .iter()
                .flatten()
                .map(|c| c.restart_count)
                .max()
        });
        self.total = self.total.max(shown.unwrap_or_default());
    }

    /// A start was asked for and taken; `again` after an end.
    pub fn started(&mut self, now: Instant, again: bool) {
        self.count = self.count.saturating_add(u32::from(again));
        self.total = self.total.saturating_add(i32::from(again));
        self.began = Some(now);
        self.ended = None;
    }

    /// The whole wait between end and start in the present round.
    pub fn back_off(&self) -> Duration {
        match self.count {
            0 => Duration::ZERO,
            n => FIRST.saturating_mul(1 << (n - 1).min(5)).min(LONGEST),
        }
    }

    /// What is left of it; `None` while the pod has not ended.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let ended = self.ended?;
        Some((ended + self.back_off()).saturating_duration_since(now))
    }
}

/// Whether an ended pod is to be started again, by its restart policy.
pub(crate) fn wanted(desired: &Desired, facts: &PodFacts) -> bool {
    if !facts.ended {
        return false;
    }
    let failed = |c: &ContainerFact| match &c.state {
        ContainerState::Terminated(end) => end.exit_code != Some(0),
        _ => true,
    };
    if desired.always || desired.at_most_once {
        return desired.always;
    }
    facts.containers.iter().any(failed) || facts.containers.is_empty()
}

/// The facts of a pod that we start again, as they are shown: with our count of
/// its restarts, and until the next start, if one is `due`, not as an end for
/// good but with what is waited for.
pub(crate) fn shown(facts: &PodFacts, rounds: &Rounds, due: bool, now: Instant) -> PodFacts {
    let mut shown = facts.clone();
    for container in &mut shown.containers {
        container.restarts = container.restarts.or(Some(rounds.total));
    }
    if !due {
        return shown;
    }
    shown.ended = false;
    if rounds.wait(now).is_none_or(|wait| wait.is_zero()) {
        return shown;
    }
    for container in &mut shown.containers {
        if let ContainerState::Terminated(end) = &container.state {
            container.last = Some(end.clone());
            container.state = ContainerState::Waiting {
                reason: "CrashLoopBackOff".into(),
                message: format!(
                    "back-off {}s restarting failed container={} pod={}_{}({})",
                    rounds.back_off().as_secs(),
                    container.name,
                    facts.key.name,
                    facts.key.namespace,
                    facts.key.uid,
                ),
            };
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use vk_provider::{PodKey, Terminated};

    fn ended(code: i32) -> PodFacts {
        let mut facts = PodFacts::new(PodKey::new("default", "a", "1"), "node".into(), 1);
        facts.ended = true;
        facts.containers.push(ContainerFact::new(
            "app",
            ContainerState::Terminated(Terminated {
                exit_code: Some(code),
                ..Terminated::default()
            }),
        ));
        facts
    }

    fn of_policy(policy: &str) -> Desired {
        let mut pod = crate::table::tests::pod("a", "1");
        pod.spec.as_mut().unwrap().restart_policy = Some(policy.into());
        Desired::after(&pod, None).unwrap()
    }

    #[test]
    fn the_restart_policy_decides() {
        let table = [
            ("Always", 0, true),
            ("Always", 1, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 0, false),
            ("Never", 1, false),
        ];
        for (policy, code, again) in table {
            assert_eq!(
                wanted(&of_policy(policy), &ended(code)),
                again,
                "{policy} {code}"
            );
        }
        let mut running = ended(1);
        running.ended = false;
        assert!(!wanted(&of_policy("Always"), &running));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_loop_waits_as_the_kubelet_does_and_ends_with_a_sound_run() {
        let mut rounds = Rounds::default();
        let now = Instant::now;
        let mut waits = Vec::new();
        for _ in 0..8 {
            rounds.observe(true, now());
            waits.push(rounds.wait(now()).unwrap().as_secs());
            rounds.started(now(), true);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        tokio::time::advance(Duration::from_secs(601)).await;
        rounds.observe(true, now());
        assert_eq!(rounds.wait(now()), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_counts_from_the_end_and_repeated_news_do_not_restart_it() {
        let mut rounds = Rounds::default();
        rounds.started(Instant::now(), true);
        rounds.observe(true, Instant::now());
        tokio::time::advance(Duration::from_secs(4)).await;
        rounds.observe(true, Instant::now());
        assert_eq!(rounds.wait(Instant::now()), Some(Duration::from_secs(6)));
        rounds.observe(false, Instant::now());
        assert_eq!(rounds.wait(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_starts_a_container_waits_and_keeps_its_last_end() {
        let mut rounds = Rounds::default();
        rounds.started(Instant::now(), false);
        rounds.started(Instant::now(), true);
        rounds.observe(true, Instant::now());
        let shown = shown(&ended(3), &rounds, true, Instant::now());
        assert!(!shown.ended);
        assert_eq!(shown.containers[0].restarts, Some(1));
        let container = &shown.containers[0];
        assert_eq!(container.last.as_ref().unwrap().exit_code, Some(3));
        let ContainerState::Waiting { reason, message } = &container.state else {
            panic!("{container:?}");
        };
        assert_eq!(reason, "CrashLoopBackOff");
        assert_eq!(
            message,
            "back-off 10s restarting failed container=app pod=a_default(1)"
        );
    }
}
