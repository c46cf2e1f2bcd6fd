//! Fleets: ownership by selector, and the rollout of their template.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::devices::{self, Incoming, METADATA_FIELDS, refuse_if_any, unknown};
use super::events::Actor;
use super::list::{Page, Query};
use super::model::Condition;
use super::reply::{API_VERSION, Refusal};
use super::select::{self, Field};
use super::store::{DeviceRow, Labels, Store, Write};
use super::template;
use super::validate::{self, Place};
use super::{patch, reply};

const SELECTABLE: [&str; 3] = [
    "metadata.creationTimestamp",
    "metadata.name",
    "metadata.owner",
];

const TEMPLATE_VERSION: &str = "fleet-controller/templateVersion";
const ROLLOUT_ERROR: &str = "fleet-controller/lastRolloutError";

/// One fleet.
#[derive(Clone, Debug)]
pub(crate) struct FleetRow {
    name: String,
    labels: Option<Labels>,
    created: Timestamp,
    generation: u64,
    resource_version: u64,
    spec: Value,
    conditions: Vec<Condition>,
    /// How often the template has changed; 0 before the worker has seen it.
    templates: u64,
    rolled_template: Value,
}

impl FleetRow {
    pub(crate) fn template_version(&self) -> String {
        format!("v{}", self.templates)
    }

    fn doc(&self) -> Value {
        let mut annotations = BTreeMap::new();
        if self.templates > 0 {
            annotations.insert(TEMPLATE_VERSION, self.template_version());
        }
        let mut doc = json!({
            "apiVersion": API_VERSION,
            "kind": "Fleet",
            "metadata": {
                "annotations": annotations,
                "creationTimestamp": self.created.to_string(),
                "generation": self.generation,
                "name": self.name,
                "resourceVersion": self.resource_version.to_string(),
            },
            "spec": self.spec,
            "status": {"conditions": self.conditions},
        });
        if let Some(labels) = &self.labels {
            doc["metadata"]["labels"] = json!(labels);
        }
        doc
    }

    fn doc_with_summary(&self, store: &Store, query: &Query) -> Value {
        let mut doc = self.doc();
        if query.get("addDevicesSummary") == Some("true") {
            let owner = format!("Fleet/{}", self.name);
            let owned = store
                .devices
                .values()
                .filter(|row| row.owner.as_ref() == Some(&owner));
            doc["status"]["devicesSummary"] = devices::summary(owned);
        }
        doc
    }

    /// An empty selector matches nothing.
    fn selects(&self, labels: Option<&Labels>) -> bool {
        let selector = &self.spec["selector"];
        let matching = selector["matchLabels"].as_object();
        let expressions = selector["matchExpressions"].as_array();
        let count = matching.map_or(0, serde_json::Map::len) + expressions.map_or(0, Vec::len);
        let label = |key: &str| {
            labels
                .and_then(|labels| labels.get(key))
                .map(String::as_str)
        };
        count > 0
            && matching
                .is_none_or(|all| all.iter().all(|(key, value)| label(key) == value.as_str()))
            && expressions.is_none_or(|all| all.iter().all(|one| holds(one, label)))
    }
}

fn holds<'a>(expression: &Value, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let value = label(expression["key"].as_str().unwrap_or_default());
    let listed = || {
        let values = expression["values"].as_array();
        values.is_some_and(|all| {
            all.iter()
                .any(|one| one.as_str() == value && value.is_some())
        })
    };
    match expression["operator"].as_str().unwrap_or_default() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

fn check(incoming: &Incoming) -> Result<Value, Refusal> {
    let spec = incoming.spec.clone().unwrap_or_else(|| json!({}));
    check_spec(&spec)?;
    let mut errors = validate::name(&incoming.name);
    if let Some(labels) = &incoming.labels {
        errors.extend(validate::labels(labels));
    }
    refuse_if_any(&errors)?;
    Ok(spec)
}

fn check_spec(spec: &Value) -> Result<(), Refusal> {
    let template = &spec["template"]["spec"];
    if !template.is_object() {
        return Err(Refusal::schema(
            "Fleet: Error at \"/spec/template\": property \"template\" is missing",
        ));
    }
    let mut errors = validate::spec(template, Place::Template);
    template::check(template, &mut errors)?;
    refuse_if_any(&errors)
}

/// `POST /fleets`.
pub(crate) fn create(store: &mut Store, now: Timestamp, body: &Value) -> Result<Value, Refusal> {
    let incoming = devices::incoming(body, "Fleet")?;
    let spec = check(&incoming)?;
    if store.fleets.contains_key(&incoming.name) {
        return Err(Refusal::conflict(
            "a resource with this name already exists",
        ));
    }
    Ok(insert(store, now, incoming, spec))
}

fn insert(store: &mut Store, now: Timestamp, incoming: Incoming, spec: Value) -> Value {
    let row = FleetRow {
        name: incoming.name,
        labels: incoming.labels,
        created: now,
        generation: 1,
        resource_version: 1,
        spec,
        conditions: Vec::new(),
        templates: 0,
        rolled_template: Value::Null,
    };
    let doc = row.doc();
    store.events.created(now, Actor::User, "Fleet", &row.name);
    store.fleets.insert(row.name.clone(), row);
    store.fleets_soon();
    doc
}

/// `GET /fleets/{name}`.
pub(crate) fn get(store: &Store, name: &str, query: &Query) -> Result<Value, Refusal> {
    let row = store.fleets.get(name);
    let row = row.ok_or_else(|| Refusal::not_found("Fleet", name))?;
    Ok(row.doc_with_summary(store, query))
}

/// `GET /fleets`.
pub(crate) fn list(store: &Store, query: &Query) -> Result<Value, Refusal> {
    let labels = select::labels(query.get("labelSelector"))?;
    let fields = select::fields(query.get("fieldSelector"), &SELECTABLE)?;
    let rows: Vec<&FleetRow> = store
        .fleets
        .values()
        .filter(|row| labels.matches_labels(row.labels.as_ref()))
        .filter(|row| {
            fields.matches(|name| match name {
                "metadata.name" => Field::Text(Some(row.name.clone())),
                "metadata.creationTimestamp" => Field::Time(row.created),
                _ => Field::Text(None),
            })
        })
        .collect();
    let (items, metadata) = Page::parse(query)?.cut(&rows, |row| vec![row.name.clone()]);
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": "FleetList",
        "metadata": metadata,
        "items": items.iter().map(|row| row.doc_with_summary(store, query)).collect::<Vec<_>>(),
    }))
}

/// `PUT /fleets/{name}`.
pub(crate) fn replace(
    store: &mut Store,
    now: Timestamp,
    name: &str,
    body: &Value,
) -> Result<(StatusCode, Value), Refusal> {
    let incoming = devices::incoming(body, "Fleet")?;
    let spec = check(&incoming)?;
    if incoming.name != name {
        return Err(Refusal::bad_request(
            "resource name specified in metadata does not match name in path",
        ));
    }
    let Some(row) = store.fleets.get(name) else {
        return Ok((StatusCode::CREATED, insert(store, now, incoming, spec)));
    };
    if incoming
        .resource_version
        .is_some_and(|version| version != row.resource_version.to_string())
    {
        return Err(Refusal::modified());
    }
    let labels = incoming.labels.or_else(|| row.labels.clone());
    Ok((StatusCode::OK, update(store, now, name, labels, spec)?))
}

/// `PATCH /fleets/{name}`.
pub(crate) fn patch(
    store: &mut Store,
    now: Timestamp,
    name: &str,
    body: &Value,
) -> Result<Value, Refusal> {
    let row = store.fleets.get(name);
    let row = row.ok_or_else(|| Refusal::not_found("Fleet", name))?;
    let before = row.doc();
    let after = patch::apply(&before, body)?;
    if let Some(field) = unknown(&after["metadata"], &METADATA_FIELDS)
        .or_else(|| unknown(&after["spec"], &["selector", "rolloutPolicy", "template"]))
    {
        return Err(Refusal::bad_request(format!(
            "patch produced an invalid resource: json: unknown field \"{field}\""
        )));
    }
    check_spec(&after["spec"])?;
    for (same, what) in [
        (
            after["metadata"]["name"] == *name,
            "metadata.name is immutable",
        ),
        (after["status"] == before["status"], "status is immutable"),
    ] {
        if !same {
            return Err(Refusal::bad_request(what));
        }
    }
    let labels = devices::read_labels(&after["metadata"])?;
    update(store, now, name, labels, after["spec"].clone())
}

fn update(
    store: &mut Store,
    now: Timestamp,
    name: &str,
    labels: Option<Labels>,
    spec: Value,
) -> Result<Value, Refusal> {
    let row = store.fleets.get_mut(name);
    let row = row.ok_or_else(|| Refusal::not_found("Fleet", name))?;
    let mut fields = Vec::new();
    if row.labels != labels {
        fields.push("labels");
    }
    if row.spec != spec {
        fields.push("spec");
        row.generation += 1;
    }
    row.resource_version += 1;
    row.labels = labels;
    row.spec = spec;
    let doc = row.doc();
    store
        .events
        .updated(now, Actor::User, "Fleet", name, &fields);
    store.fleets_soon();
    Ok(doc)
}

/// `DELETE /fleets/{name}`.
pub(crate) fn delete(store: &mut Store, now: Timestamp, name: &str) -> Value {
    if store.fleets.remove(name).is_some() {
        store.events.deleted(now, Actor::User, "Fleet", name);
        store.fleets_soon();
    }
    reply::success()
}

/// The worker's part: new template versions, owners, rollouts.
pub(crate) fn reconcile(store: &mut Store, now: Timestamp) {
    for row in store.fleets.values_mut() {
        let template = &row.spec["template"]["spec"];
        if *template != row.rolled_template {
            row.rolled_template = template.clone();
            row.templates += 1;
            row.resource_version += 1;
            let condition = Condition::new("Valid", "True", "Valid", "", now);
            Condition::set(&mut row.conditions, condition);
        }
    }
    let names: Vec<String> = store.devices.keys().cloned().collect();
    for name in names {
        reconcile_device(store, now, &name);
    }
}

fn reconcile_device(store: &mut Store, now: Timestamp, name: &str) {
    let Some(row) = store.devices.get(name).filter(|row| !row.decommissioned()) else {
        return;
    };
    let matching: Vec<&str> = store
        .fleets
        .values()
        .filter(|fleet| fleet.selects(row.labels.as_ref()))
        .map(|fleet| fleet.name.as_str())
        .collect();
    let owner = match matching.as_slice() {
        [] => None,
        [one] => Some(format!("Fleet/{one}")),
        _ => row.owner.clone(),
    };
    let several = matching.len() > 1;
    let message = matching.join(",");
    let was_several = Condition::find(&row.service_conditions, "MultipleOwners")
        .is_some_and(|condition| condition.status == "True");
    if owner != row.owner || several != was_several {
        // A device that was just found, and a change that refuses nothing.
        let _ = store.write(name, now, Write::worker(), |row| {
            row.owner = owner;
            if several != was_several {
                let (status, reason) = if several {
                    ("True", "MultipleOwners")
                } else {
                    ("False", "SingleOwner")
                };
                let text = if several { message.as_str() } else { "" };
                let condition = Condition::new("MultipleOwners", status, reason, text, now);
                Condition::set(&mut row.service_conditions, condition);
            }
            Ok(())
        });
        if several != was_several {
            owners_event(store, now, name, several, &message);
        }
    }
    if !several {
        roll_out(store, now, name);
    }
}

fn owners_event(store: &mut Store, now: Timestamp, name: &str, several: bool, fleets: &str) {
    let (reason, message) = if several {
        let all = fleets.replace(',', ", ");
        (
            "DeviceMultipleOwnersDetected",
            format!("Device matches multiple fleets: {all}."),
        )
    } else {
        (
            "DeviceMultipleOwnersResolved",
            "Device multiple owners conflict was resolved.".to_owned(),
        )
    };
    let by = Actor::Worker;
    store
        .events
        .add(now, by, "Device", name, reason, &message, None);
}

/// Copies the fleet's whole expanded template into the device's spec.
fn roll_out(store: &mut Store, now: Timestamp, name: &str) {
    let Some(row) = store.devices.get(name) else {
        return;
    };
    let fleet = row
        .owner
        .as_ref()
        .and_then(|owner| owner.strip_prefix("Fleet/"))
        .and_then(|fleet| store.fleets.get(fleet));
    let Some(fleet) = fleet else {
        return;
    };
    let version = fleet.template_version();
    let expanded = expand(row, &fleet.spec["template"]["spec"]);
    match expanded {
        Ok(spec) => {
            if row.spec == spec && row.annotations.get(TEMPLATE_VERSION) == Some(&version) {
                return;
            }
            let _ = store.write(name, now, Write::worker(), |row| {
                row.spec = spec;
                row.annotations.insert(TEMPLATE_VERSION.into(), version);
                row.annotations.remove(ROLLOUT_ERROR);
                row.render_anyway = true;
                Ok(())
            });
        }
        Err(why) => {
            let why = format!("failed replacing parameters in applications: {why}");
            if row.annotations.get(ROLLOUT_ERROR) == Some(&why) {
                return;
            }
            let _ = store.write(name, now, Write::worker(), |row| {
                row.annotations.insert(ROLLOUT_ERROR.into(), why);
                Ok(())
            });
        }
    }
}

fn expand(row: &DeviceRow, template: &Value) -> Result<Value, String> {
    let mut spec = template::expand(template, &row.name, row.labels.as_ref())?;
    if let Some(apps) = spec["applications"].as_array_mut() {
        for app in apps {
            if let Some(app) = app.as_object_mut() {
                app.entry("runAs").or_insert_with(|| json!(""));
            }
        }
    }
    Ok(spec)
}
