//! Events of `events.k8s.io/v1` are the core ones under other names.

use serde_json::{Value, json};

use super::resource::EVENTS_GROUP;

/// Field of core/v1, field of events.k8s.io/v1.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A stored event as events.k8s.io/v1 shows it.
pub(crate) fn to_new(mut event: Value) -> Value {
    event["apiVersion"] = json!(format!("{EVENTS_GROUP}/v1"));
    rename(&mut event, |(core, new)| (core, new));
    event
}

/// An events.k8s.io/v1 event as it is stored.
pub(crate) fn to_core(mut event: Value) -> Value {
    event["apiVersion"] = json!("v1");
    rename(&mut event, |(core, new)| (new, core));
    event
}

fn rename<'a>(event: &mut Value, pair: impl Fn((&'a str, &'a str)) -> (&'a str, &'a str)) {
    if let Some(map) = event.as_object_mut() {
        for names in NAMES {
            let (from, to) = pair(names);
            if let Some(value) = map.remove(from) {
                map.insert(to.into(), value);
            }
        }
    }
}
