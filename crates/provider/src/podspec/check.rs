//! A pod against a declaration.

use serde_json::Value;

use super::declaration::{Declaration, Ruled};
use super::refusal::Refusals;
use super::rule::Handling;
use crate::request::PodRequest;

/// Comes through a subresource into a pod that runs: refusing it does not end
/// the pod. Its own status says that it is refused.
const ADDED_LATER: &str = "spec.ephemeralContainers";

/// Why a field that nobody declared is refused.
const UNDECLARED: &str = "this backend does not know the field; leave it out";

impl Declaration {
    /// All fields of a pod that make it one which cannot run here. Pure.
    pub fn refusals(&self, pod: &PodRequest) -> Refusals {
        match serde_json::to_value(pod.spec()) {
            Ok(spec) => self.check(&spec, |name| pod.annotation(name).map(str::to_owned)),
            Err(why) => {
                let mut refusals = Refusals::default();
                refusals.add("spec", format!("it cannot be read: {why}"));
                refusals
            }
        }
    }

    /// The same over a serialized `spec`, and the pod's annotations.
    pub(super) fn check(
        &self,
        spec: &Value,
        annotation: impl Fn(&str) -> Option<String>,
    ) -> Refusals {
        let mut visit = Visit {
            annotation: &annotation,
            path: "spec".to_owned(),
            refusals: Refusals::default(),
        };
        match self.tree().below.get("spec") {
            Some(at) => visit.field(at, spec),
            None => visit.refuse(UNDECLARED),
        }
        visit.refusals.sort();
        visit.refusals
    }
}

struct Visit<'a> {
    annotation: &'a dyn Fn(&str) -> Option<String>,
    /// Of the field that is looked at, with indices.
    path: String,
    refusals: Refusals,
}

impl Visit<'_> {
    /// Looks at a field.
    fn field(&mut self, at: &Ruled, value: &Value) {
        let speaks = says_something(value) || (at.chooses && !value.is_null());
        if !speaks || at.path.trim_end_matches("[]") == ADDED_LATER {
            return;
        }
        if at.split {
            return self.below(at, value);
        }
        match at.rule.map(|rule| rule.handling) {
            None => self.refuse(UNDECLARED),
            Some(Handling::Refused {
                reason,
                except,
                waived_by,
            }) => {
                if except.hold(value) {
                    return;
                }
                match waived_by {
                    None => self.refuse(reason),
                    Some((name, text)) if (self.annotation)(name).as_deref() == Some(text) => {}
                    Some((name, text)) => self.refuse(&format!(
                        "{reason}; the annotation {name}: {text} accepts that it is ignored"
                    )),
                }
            }
            Some(Handling::Honoured {
                only: Some((values, otherwise)),
                ..
            }) if !values.hold(value) => self.refuse(otherwise),
            // Below may be what the record does not know.
            Some(Handling::Honoured { .. } | Handling::NoMeaning { .. }) => self.below(at, value),
        }
    }

    fn below(&mut self, at: &Ruled, value: &Value) {
        let here = self.path.len();
        match value {
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    self.below(at, element);
                    self.path.truncate(here);
                }
            }
            // A map, or an object of a kind that has no fields of its own.
            Value::Object(_) if at.below.is_empty() => {}
            Value::Object(fields) => {
                for (name, inner) in fields {
                    self.path.push('.');
                    self.path.push_str(name);
                    match at.below.get(name.as_str()) {
                        Some(field) => self.field(field, inner),
                        None if inner.is_null() => {}
                        None => self.refuse(UNDECLARED),
                    }
                    self.path.truncate(here);
                }
            }
            _ => {}
        }
    }

    fn refuse(&mut self, message: &str) {
        self.refusals.add(self.path.clone(), message);
    }
}

/// Whether a value is more than a way to write nothing (`""`, `[]`, `{}`).
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(fields) => fields.values().any(says_something),
        Value::Bool(_) | Value::Number(_) => true,
    }
}
