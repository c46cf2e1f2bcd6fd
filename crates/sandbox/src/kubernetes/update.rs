//! Changing objects: PUT, PATCH, `status`, `scale`, and a pod's `resize` and
//! `ephemeralcontainers`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::resource::Resource;
use super::status::{ApiError, FieldError};
use super::{Cluster, defaults, object, services, validate};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The resource itself: everything but `status`.
    Main,
    /// The `status` subresource.
    Status,
    /// The `resize` subresource of a pod: the resources of its containers.
    Resize,
    /// The `ephemeralcontainers` subresource of a pod: additions to that list.
    Ephemeral,
}

impl Cluster {
    /// Replaces an object with what `revise` makes of it, in one transaction.
    pub(crate) fn revise(
        &self,
        resource: &'static Resource,
        (ns, name): (&str, &str),
        part: Part,
        revise: impl FnOnce(&Value) -> Result<Value, ApiError>,
    ) -> Result<Arc<Value>, ApiError> {
        self.store().write(|state| {
            let old = state
                .get(resource, ns, name)
                .ok_or_else(|| ApiError::not_found(resource, name))?;
            let old = Arc::clone(old);
            let mut new = resource.normalise(revise(&old)?)?;
            same_place(&new, ns, name)?;
            let wanted = object::text(&new, "/metadata/resourceVersion");
            if !wanted.is_empty() && wanted != object::text(&old, "/metadata/resourceVersion") {
                return Err(ApiError::modified(resource, name));
            }
            keep(resource, part, &old, &mut new);
            let errors = match part {
                Part::Main => {
                    defaults::fill(resource, &mut new);
                    validate::updated(resource, &old, &new)
                }
                Part::Status => validate::status_updated(resource, &old, &new),
                Part::Resize => Vec::new(),
                Part::Ephemeral => {
                    defaults::fill(resource, &mut new);
                    validate::ephemeral_added(&old, &new)
                }
            };
            if !errors.is_empty() {
                return Err(ApiError::invalid(resource, name, &errors));
            }
            if new == *old {
                return Ok(old);
            }
            if resource.generation && new["spec"] != old["spec"] {
                let count = object::int(&old, "/metadata/generation").unwrap_or_default();
                new["metadata"]["generation"] = json!(count + 1);
            }
            let finished = object::is_deleting(&new)
                && object::items(&new, "/metadata/finalizers").is_empty()
                && object::int(&new, "/metadata/deletionGracePeriodSeconds").unwrap_or_default()
                    == 0;
            let stored = state.put(resource, new);
            if finished {
                super::delete::remove(state, resource, ns, name);
            }
            Ok(stored)
        })
    }

    /// PUT of a whole object.
    pub(crate) fn put_object(
        &self,
        resource: &'static Resource,
        (ns, name): (&str, &str),
        part: Part,
        body: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let body = resource.normalise(body)?;
        same_place(&body, ns, name)?;
        let exists = self
            .store()
            .read(|state| state.get(resource, ns, name).is_some());
        if !exists && resource.create_on_update && part == Part::Main {
            // Not made anew from what is left of one that was deleted.
            let wanted = object::uid(&body);
            if !wanted.is_empty() {
                let why = format!(
                    "Precondition failed: UID in precondition: {wanted}, UID in object meta: "
                );
                let what = resource.qualified();
                return Err(ApiError::conflict(&what, resource, name, &why));
            }
            let mut body = body;
            body["metadata"]["name"] = json!(name);
            return self.create_object(resource, ns, body);
        }
        if !resource.unconditional_update && object::revision(&body) == 0 {
            let detail = "must be specified for an update";
            let missing = FieldError::invalid("metadata.resourceVersion", &json!(0), detail);
            return Err(ApiError::invalid(resource, name, &[missing]));
        }
        self.revise(resource, (ns, name), part, |_| Ok(body))
    }
}

fn same_place(object: &Value, ns: &str, name: &str) -> Result<(), ApiError> {
    let (given, given_ns) = (object::name(object), object::namespace(object));
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    if !given_ns.is_empty() && given_ns != ns {
        return Err(ApiError::bad_request(
            "the namespace of the object does not match the namespace on the request",
        ));
    }
    Ok(())
}

/// Takes from the old object what this write may not touch.
fn keep(resource: &Resource, part: Part, old: &Value, new: &mut Value) {
    match part {
        Part::Main | Part::Status => {}
        Part::Resize => {
            let mut resized = old.clone();
            for list in ["containers", "initContainers"] {
                let asked = object::items(&new["spec"], &format!("/{list}")).to_vec();
                let containers = resized["spec"].get_mut(list).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    if let Some(to) = asked.iter().find(|c| c["name"] == container["name"]) {
                        container["resources"] = to["resources"].clone();
                    }
                }
            }
            *new = resized;
            return;
        }
        Part::Ephemeral => {
            let added = new["spec"]["ephemeralContainers"].take();
            new.clone_from(old);
            new["spec"]["ephemeralContainers"] = added;
            return;
        }
    }
    let copy = |new: &mut Value, field: &str| match old.get(field) {
        Some(value) => new[field] = value.clone(),
        None => {
            if let Some(map) = new.as_object_mut() {
                map.remove(field);
            }
        }
    };
    let (before, after) = (&old["metadata"], &mut new["metadata"]);
    let mut fixed = vec![
        "name",
        "namespace",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
    ];
    // A client may leave these out, but not change them.
    fixed.extend(
        ["uid", "creationTimestamp"]
            .into_iter()
            .filter(|f| after[*f].is_null()),
    );
    if part == Part::Status {
        fixed.push("ownerReferences");
        if resource.group == "apps" {
            fixed.push("labels");
        }
    }
    for field in fixed {
        match before.get(field) {
            Some(value) => after[field] = value.clone(),
            None => {
                if let Some(map) = after.as_object_mut() {
                    map.remove(field);
                }
            }
        }
    }
    if part == Part::Main && resource.plural == "services" {
        services::keep_address(old, new);
    }
    if !resource.has_status() {
        return;
    }
    match part {
        Part::Main => copy(new, "status"),
        Part::Status => {
            copy(new, "spec");
            if resource.plural == "pods" {
                keep_pod_status(&old["status"], &mut new["status"]);
            }
        }
        // Done above.
        Part::Resize | Part::Ephemeral => {}
    }
}

fn keep_pod_status(old: &Value, new: &mut Value) {
    for field in ["qosClass", "observedGeneration"] {
        if new[field].is_null() || new[field] == 0 || new[field] == "" {
            if let Some(value) = old.get(field) {
                new[field] = value.clone();
            } else if let Some(map) = new.as_object_mut() {
                map.remove(field);
            }
        }
    }
    if let Some(conditions) = new["conditions"].as_array_mut() {
        for condition in conditions {
            let before = object::items(old, "/conditions")
                .iter()
                .find(|c| c["type"] == condition["type"]);
            if condition.get("observedGeneration").is_none()
                && let Some(generation) = before.and_then(|c| c.get("observedGeneration"))
            {
                condition["observedGeneration"] = generation.clone();
            }
        }
    }
    // As the real server's conversion has it: the single address wins, and a
    // list alone gives the single one.
    let first = new.pointer("/podIPs/0/ip").cloned();
    let single = new.get("podIP").filter(|ip| *ip != "").cloned();
    match (single, first) {
        (Some(ip), first) if first.as_ref() != Some(&ip) => new["podIPs"] = json!([{"ip": ip}]),
        (None, Some(ip)) => new["podIP"] = ip,
        _ => {}
    }
    if let Some(map) = new.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
}
