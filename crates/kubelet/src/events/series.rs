//! Which events are the first of their kind and which repeat one. Pure.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Told;

/// A repeat later than this after the previous one is a new event, as in
/// Kubernetes' own recorder.
pub const SERIES: Duration = Duration::from_secs(6 * 60);
/// Events remembered for repeats: the lane twice over. Beyond it the oldest half
/// is forgotten, and a repeat of those is told as a new event.
const REMEMBERED: usize = 4096;
/// The API's limit on `note`, in bytes.
const NOTE_LIMIT: usize = 1024;
/// The API's limit on `reason`, in bytes.
const REASON_LIMIT: usize = 128;
/// Bytes of the object's name kept in the event's: a name has at most 253, and
/// 34 go to the dots, the time and the number.
const NAME_KEPT: usize = 253 - 34;

/// What goes to the API server.
#[derive(Debug, PartialEq)]
pub(super) enum Outgoing {
    /// A new event.
    First(Box<Event>),
    /// One more of an event that is stored already.
    Again {
        /// Its name.
        name: String,
        /// A merge patch of its series, the only field that may change.
        body: Value,
    },
}

/// Fingerprint of what makes two events the same: thousands are remembered, and
/// their texts would take most of the room.
type Kind = [u8; 16];

struct Stored {
    name: String,
    count: i32,
    at: Timestamp,
}

/// What was sent lately.
pub(super) struct Series {
    controller: String,
    number: u64,
    stored: HashMap<Kind, Stored>,
}

impl Series {
    pub(super) fn new(controller: &str) -> Self {
        Self {
            controller: controller.into(),
            number: 0,
            stored: HashMap::new(),
        }
    }

    /// What to send for this.
    pub(super) fn next(&mut self, told: &Told, now: Timestamp) -> Outgoing {
        match self.stored.get(&kind(told)) {
            Some(stored) if now.duration_since(stored.at).unsigned_abs() < SERIES => {
                Outgoing::Again {
                    name: stored.name.clone(),
                    body: json!({"series": {
                        "count": stored.count.saturating_add(1),
                        "lastObservedTime": MicroTime(now),
                    }}),
                }
            }
            _ => {
                self.number += 1;
                Outgoing::First(Box::new(self.first(told, now)))
            }
        }
    }

    /// The API server has taken it.
    pub(super) fn sent(&mut self, told: &Told, send: &Outgoing, now: Timestamp) {
        match send {
            Outgoing::First(event) => {
                self.make_room(now);
                let name = event.metadata.name.clone().unwrap_or_default();
                self.stored.insert(
                    kind(told),
                    Stored {
                        name,
                        count: 1,
                        at: now,
                    },
                );
            }
            Outgoing::Again { .. } => {
                if let Some(stored) = self.stored.get_mut(&kind(told)) {
                    stored.count = stored.count.saturating_add(1);
                    stored.at = now;
                }
            }
        }
    }

    /// The API server does not have it any more.
    pub(super) fn forget(&mut self, told: &Told) {
        self.stored.remove(&kind(told));
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.stored.len() < REMEMBERED {
            return;
        }
        self.stored
            .retain(|_, s| now.duration_since(s.at).unsigned_abs() < SERIES);
        if self.stored.len() >= REMEMBERED {
            let mut times: Vec<Timestamp> = self.stored.values().map(|s| s.at).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.stored.retain(|_, s| s.at > middle);
        }
    }

    fn first(&self, told: &Told, now: Timestamp) -> Event {
        let object = told.regarding.name.as_deref().unwrap_or_default();
        let reason = shortened(&told.reason, REASON_LIMIT);
        Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}.{:x}",
                    shortened(object, NAME_KEPT).trim_end_matches(['.', '-']),
                    now.as_nanosecond(),
                    self.number
                )),
                namespace: Some(
                    told.regarding
                        .namespace
                        .clone()
                        .unwrap_or_else(|| "default".into()),
                ),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            regarding: Some(told.regarding.clone()),
            type_: Some(told.severity.as_str().into()),
            // Required by the API; kubectl shows only the reason.
            action: Some(reason.clone()),
            reason: Some(reason),
            note: Some(shortened(&told.message, NOTE_LIMIT)),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(shortened(&self.controller, REASON_LIMIT)),
            ..Event::default()
        }
    }
}

fn kind(told: &Told) -> Kind {
    let mut hash = Sha256::new();
    let of = |text: &Option<String>| text.as_deref().unwrap_or_default().len();
    let (kind, uid) = (of(&told.regarding.kind), of(&told.regarding.uid));
    // The lengths tell where one text ends and the next begins.
    for length in [kind, uid, told.reason.len()] {
        hash.update(length.to_le_bytes());
    }
    for text in [&told.regarding.kind, &told.regarding.uid] {
        hash.update(text.as_deref().unwrap_or_default());
    }
    for text in [told.severity.as_str(), &told.reason, &told.message] {
        hash.update(text);
    }
    let mut kind = Kind::default();
    kind.copy_from_slice(&hash.finalize()[..size_of::<Kind>()]);
    kind
}

/// At most `limit` bytes, cut between characters and then marked.
fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.into();
    }
    let mut end = limit - 3;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Severity;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn told(message: &str) -> Told {
        Told {
            regarding: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("default".into()),
                name: Some("nginx".into()),
                uid: Some("u".into()),
                ..Default::default()
            },
            severity: Severity::Normal,
            reason: "Created".into(),
            message: message.into(),
            node: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tell(series: &mut Series, message: &str, second: i64) -> Outgoing {
        let send = series.next(&told(message), at(second));
        series.sent(&told(message), &send, at(second));
        send
    }

    #[test]
    fn a_repeat_within_six_minutes_only_counts_up() {
        let mut series = Series::new("test");
        let Outgoing::First(first) = tell(&mut series, "a", 0) else {
            panic!("not first")
        };
        for (second, count) in [(10, 2), (300, 3), (600, 4)] {
            let Outgoing::Again { name, body } = tell(&mut series, "a", second) else {
                panic!("not again")
            };
            assert_eq!(Some(name), first.metadata.name);
            assert_eq!(body["series"]["count"], count);
        }
        assert!(matches!(tell(&mut series, "a", 2000), Outgoing::First(_)));
    }

    #[test]
    fn another_text_is_another_event_even_at_the_same_moment() {
        let mut series = Series::new("test");
        let Outgoing::First(a) = tell(&mut series, "Created container a", 0) else {
            panic!()
        };
        let Outgoing::First(b) = tell(&mut series, "Created container b", 0) else {
            panic!()
        };
        assert_ne!(a.metadata.name, b.metadata.name);
    }

    #[test]
    fn a_series_whose_first_event_is_gone_starts_anew() {
        let mut series = Series::new("test");
        tell(&mut series, "a", 0);
        series.forget(&told("a"));
        assert!(matches!(tell(&mut series, "a", 1), Outgoing::First(_)));
    }

    #[test]
    fn what_the_api_would_refuse_is_shortened() {
        let mut series = Series::new("test");
        let mut long = told(&"ä".repeat(2000));
        long.regarding.name = Some("n".repeat(253));
        long.reason = "R".repeat(300);
        let Outgoing::First(event) = series.next(&long, at(0)) else {
            panic!()
        };
        assert!(event.note.as_ref().unwrap().len() <= 1024);
        assert!(event.reason.as_ref().unwrap().len() <= 128);
        assert!(event.metadata.name.as_ref().unwrap().len() <= 253);
    }

    #[test]
    fn memory_of_events_is_bounded() {
        let mut series = Series::new("test");
        for i in 0..10_000 {
            tell(&mut series, &i.to_string(), 0);
        }
        assert!(series.stored.len() <= REMEMBERED);
    }
}
