//! Places that go silent, are given up, or are taken from their pods.

use std::time::Duration;

use tokio::time::Instant;
use vk_provider::Uid;

use super::{At, Remote};

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Remote {
    /// The place of a pod says nothing from now on.
    pub fn silence(&self, uid: &Uid) {
        self.advance();
        let mut state = self.lock();
        if let Some(pod) = state.pods.get_mut(uid)
            && pod.is_alive()
            && !pod.displaced
        {
            self.court
                .note(format!("  remote: the place of {} is silent", pod.called()));
            pod.silent.get_or_insert(self.clock.now());
            self.tell(&mut state, uid);
        }
    }

    /// Every silent place is back: what it was told meanwhile happens.
    pub fn hear_again(&self) {
        let mut state = self.lock();
        let back: Vec<Uid> = state
            .pods
            .iter_mut()
            .filter_map(|(uid, pod)| pod.silent.take().map(|_| uid.clone()))
            .collect();
        for uid in back {
            self.court
                .note(format!("  remote: {uid} is heard of again"));
            self.tell(&mut state, &uid);
        }
        drop(state);
        self.due.notify_one();
    }

    /// A silent pod is given up, to be replaced.
    pub fn give_up(&self, uid: &Uid) {
        let mut state = self.lock();
        if let Some(pod) = state.pods.get_mut(uid)
            && pod.silent.is_some()
        {
            self.court
                .note(format!("  remote: {} is given up", pod.called()));
            pod.given_up = true;
            self.court.fated(uid.as_str(), |fate| fate.given_up = true);
            self.tell(&mut state, uid);
        }
    }

    /// A silent pod is taken from its place, to be run in another. What it left
    /// there is none of this remote's pods any more.
    pub fn displace(&self, uid: &Uid) {
        let mut state = self.lock();
        if let Some(pod) = state.pods.get_mut(uid)
            && pod.silent.is_some()
            && !pod.given_up
            && pod.stop.is_none()
            && pod.policy != "Never"
        {
            self.court
                .note(format!("  remote: {} loses its place", pod.called()));
            let shown = self.court.pod(uid.as_str()).unwrap_or_default();
            let status = &shown["status"]["containerStatuses"][0];
            let counts = !status["state"]["running"].is_null() && status["containerID"] == pod.id();
            pod.silent = None;
            pod.displaced = true;
            // Nothing goes on where it is not.
            pod.at = At::BackOff {
                until: Instant::now() + NEVER,
            };
            self.court.fated(uid.as_str(), |fate| {
                fate.moves += u64::from(counts);
                fate.alive = false;
            });
            self.tell(&mut state, uid);
        }
    }

    /// A pod's container as it is called there, and what it was told of its
    /// annotations.
    pub fn known(&self, uid: &str) -> Option<(String, Option<String>)> {
        let state = self.lock();
        let pod = state.pods.get(&Uid::new(uid))?;
        Some((pod.id(), pod.heeded.clone()))
    }
}
