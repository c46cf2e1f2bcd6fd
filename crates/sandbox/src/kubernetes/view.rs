//! How objects are shown to one client: as they are stored, as the other API
//! group's events, or as rows of a table.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resource::{EVENTS_GROUP, Resource};
use super::{events, table};

/// A presentation of one resource.
#[derive(Clone, Debug)]
pub(crate) struct View {
    resource: &'static Resource,
    group: String,
    table: bool,
}

impl View {
    pub(crate) fn new(resource: &'static Resource, group: &str, accept: &str) -> Self {
        Self {
            resource,
            group: group.to_owned(),
            table: wants_table(accept),
        }
    }

    fn is_renamed(&self) -> bool {
        self.group == EVENTS_GROUP
    }

    fn api_version(&self) -> String {
        if self.is_renamed() {
            format!("{EVENTS_GROUP}/v1")
        } else {
            self.resource.api_version()
        }
    }

    /// What a client sent, as it is stored.
    pub(crate) fn read(&self, body: Value) -> Value {
        if self.is_renamed() {
            events::to_core(body)
        } else {
            body
        }
    }

    /// A stored object, in the client's version.
    pub(crate) fn object(&self, object: Value) -> Value {
        if self.is_renamed() {
            events::to_new(object)
        } else {
            object
        }
    }

    /// A stored object as the whole answer.
    pub(crate) fn one(&self, object: Value, now: Timestamp) -> Value {
        if self.table {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            return table::table(self.resource, &[object], &metadata, now);
        }
        self.object(object)
    }

    pub(crate) fn list(&self, objects: Vec<Value>, metadata: &Value) -> Value {
        // Items of a list carry no kind of their own.
        let items: Vec<Value> = objects
            .into_iter()
            .map(|object| {
                let mut object = self.object(object);
                if let Some(map) = object.as_object_mut() {
                    map.remove("apiVersion");
                    map.remove("kind");
                }
                object
            })
            .collect();
        json!({"kind": format!("{}List", self.resource.kind), "apiVersion": self.api_version(),
            "metadata": metadata, "items": items})
    }

    /// A list as a table, where the client asked for one.
    pub(crate) fn tabulate(&self, list: Value, now: Timestamp) -> Value {
        if !self.table {
            return list;
        }
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        table::table(self.resource, items, &list["metadata"], now)
    }

    /// A bookmark at a revision.
    pub(crate) fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        json!({"kind": self.resource.kind, "apiVersion": self.api_version(), "metadata": metadata})
    }
}

/// The first media type we speak decides.
fn wants_table(accept: &str) -> bool {
    accept
        .split(',')
        .map(str::trim)
        .find(|kind| kind.starts_with("application/json") || kind.starts_with("*/*"))
        .is_some_and(|kind| kind.contains("as=Table") && !kind.contains("v=v1beta1"))
}
