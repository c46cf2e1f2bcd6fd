//! What the real service answered, in the order in which the provider saw it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The device and the pod, in place of names that no second run has.
pub const DEVICE: &str = "device-1";
pub const POD: &str = "{pod}";

/// A recorded cycle.
#[derive(Debug, Deserialize, Serialize)]
pub struct Trace {
    /// When the provider began.
    pub begun: Timestamp,
    /// The device as it was read first.
    pub device: Value,
    /// By version: the applications in what the device is given.
    pub rendered: Map<String, Value>,
    pub steps: Vec<Step>,
}

/// One thing that the provider was told.
#[derive(Debug, Deserialize, Serialize)]
pub struct Step {
    /// Milliseconds since the step before.
    pub after: i64,
    #[serde(flatten)]
    pub news: News,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum News {
    /// The answer to a write of this many applications.
    Written { applications: usize, change: Value },
    /// The device, otherwise than before: a JSON merge patch.
    Change(Value),
    /// An event of the device.
    Event(Value),
    /// When the device was last heard of.
    LastSeen(Value),
    /// Something was done to the device.
    Act(String),
}

impl Trace {
    pub fn load(name: &str) -> Self {
        let file = std::fs::read_to_string(path(name)).unwrap();
        serde_json::from_str(&file).unwrap()
    }

    pub fn save(&self, name: &str) {
        // A step a line, so that differences can be read.
        let steps: Vec<_> = self.steps.iter().map(line).collect();
        let text = format!(
            "{{\"begun\":{},\n\"device\":{},\n\"rendered\":{},\n\"steps\":[\n{}\n]}}\n",
            line(&self.begun),
            self.device,
            line(&self.rendered),
            steps.join(",\n")
        );
        std::fs::write(path(name), text).unwrap();
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/traces/{name}.json"))
}

/// What makes `to` of `from` (RFC 7386).
pub fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in to {
        match from.get(key) {
            Some(before) if before == value => {}
            Some(before) => drop(patch.insert(key.clone(), difference(before, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

/// Applies what [`difference`] made.
pub fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}
