//! What the provider asks of Flight Control.

use std::collections::BTreeMap;

use http::{Method, Request, StatusCode};
use tokio::time::Instant;

/// Counted since it was last cleared.
#[derive(Debug, Default)]
pub struct Traffic {
    /// When what was asked.
    pub asked: Vec<(Instant, &'static str)>,
    /// Answers that the limit was exceeded.
    pub refused: usize,
    /// Most devices that were written at the same time.
    pub written_at_once: usize,
    /// When the spec of a device first held the application of a pod, by UID.
    pub accepted: BTreeMap<String, Instant>,
    writing: usize,
}

impl Traffic {
    /// A request goes out; gives what it is.
    pub(super) fn asks<B>(&mut self, request: &Request<B>) -> &'static str {
        let path = request.uri().path();
        let what = if request.method() == Method::PATCH {
            self.writing += 1;
            self.written_at_once = self.written_at_once.max(self.writing);
            "write"
        } else if path.ends_with("/lastseen") {
            "last seen"
        } else if path.ends_with("/rendered") {
            "rendered"
        } else if path.ends_with("/events") {
            "events"
        } else if path.ends_with("/devices") {
            "list"
        } else {
            "device"
        };
        self.asked.push((Instant::now(), what));
        what
    }

    pub(super) fn answered(&mut self, what: &str, status: StatusCode, patch: &[u8]) {
        self.refused += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
        if what != "write" {
            return;
        }
        self.writing -= 1;
        if status.is_success() {
            let text = String::from_utf8_lossy(patch);
            let names = text.split("\"vk-").skip(1);
            for uid in names.filter_map(|rest| rest.split_once('"')) {
                self.accepted
                    .entry(uid.0.to_owned())
                    .or_insert_with(Instant::now);
            }
        }
    }

    /// Requests so far, by kind.
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for (_, what) in &self.asked {
            *kinds.entry(*what).or_default() += 1;
        }
        kinds
    }

    /// Most requests within any minute.
    pub fn most_in_a_minute(&self) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (at, (now, _)) in self.asked.iter().enumerate() {
            while now.duration_since(self.asked[first].0).as_secs() >= 60 {
                first += 1;
            }
            most = most.max(at + 1 - first);
        }
        most
    }
}
