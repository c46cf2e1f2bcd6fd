//! Devices on the user API.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::events::Actor;
use super::list::{Page, Query};
use super::model::{DeviceStatus, Stated};
use super::reply::{API_VERSION, Refusal};
use super::select::{self, Field};
use super::store::{DeviceRow, Labels, Seen, Store, Write};
use super::validate::{self, Place};
use super::{patch, reply};

const SELECTABLE: [&str; 10] = [
    "metadata.alias",
    "metadata.creationTimestamp",
    "metadata.name",
    "metadata.nameOrAlias",
    "metadata.owner",
    "status.applicationsSummary.status",
    "status.capabilities.osMode",
    "status.lifecycle.status",
    "status.summary.status",
    "status.updated.status",
];

const SPEC_FIELDS: [&str; 8] = [
    "applications",
    "config",
    "consoles",
    "decommissioning",
    "os",
    "resources",
    "systemd",
    "updatePolicy",
];

pub(crate) const METADATA_FIELDS: [&str; 8] = [
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "labels",
    "name",
    "owner",
    "resourceVersion",
];

const DECOMMISSIONED: &str = "decommissioned device cannot be created or updated";

/// What a client may say about an object.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) name: String,
    pub(crate) labels: Option<Labels>,
    pub(crate) resource_version: Option<String>,
    pub(crate) spec: Option<Value>,
}

/// Reads a document of a kind, with the service's words for what is wrong.
pub(crate) fn incoming(body: &Value, kind: &str) -> Result<Incoming, Refusal> {
    let Some(fields) = body.as_object() else {
        return Err(Refusal::schema(&format!("{kind}: value must be an object")));
    };
    for key in ["apiVersion", "kind", "metadata"] {
        if !fields.contains_key(key) {
            return Err(Refusal::schema(&format!(
                "{kind}: Error at \"/{key}\": property \"{key}\" is missing"
            )));
        }
    }
    for key in fields.keys() {
        if !matches!(
            key.as_str(),
            "apiVersion" | "kind" | "metadata" | "spec" | "status"
        ) {
            return Err(Refusal::schema(&format!(
                "{kind}: property \"{key}\" is unsupported"
            )));
        }
    }
    let metadata = &body["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(Refusal::bad_request("metadata.name: Required value"));
    }
    Ok(Incoming {
        name: name.into(),
        labels: read_labels(metadata)?,
        resource_version: metadata["resourceVersion"].as_str().map(ToOwned::to_owned),
        spec: body.get("spec").filter(|spec| !spec.is_null()).cloned(),
    })
}

pub(crate) fn read_labels(metadata: &Value) -> Result<Option<Labels>, Refusal> {
    let Some(labels) = metadata.get("labels").filter(|labels| !labels.is_null()) else {
        return Ok(None);
    };
    serde_json::from_value(labels.clone())
        .map(Some)
        .map_err(|error| Refusal::bad_request(format!("metadata.labels: {error}")))
}

fn check(incoming: &Incoming) -> Result<(), Refusal> {
    let mut errors = validate::name(&incoming.name);
    if let Some(labels) = &incoming.labels {
        errors.extend(validate::labels(labels));
    }
    if let Some(spec) = &incoming.spec {
        if let Some(field) = unknown(spec, &SPEC_FIELDS) {
            errors.push(format!("json: unknown field \"{field}\""));
        }
        if spec.get("decommissioning").is_some() {
            return Err(Refusal::bad_request(DECOMMISSIONED));
        }
        errors.extend(validate::spec(spec, Place::Device));
    }
    refuse_if_any(&errors)
}

/// Several errors are one message.
pub(crate) fn refuse_if_any(errors: &[String]) -> Result<(), Refusal> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Refusal::bad_request(errors.join("\n")))
    }
}

pub(crate) fn unknown<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
    let keys = object.as_object()?.keys();
    keys.map(String::as_str).find(|key| !known.contains(key))
}

/// `POST /devices`.
pub(crate) fn create(store: &mut Store, now: Timestamp, body: &Value) -> Result<Value, Refusal> {
    let incoming = incoming(body, "Device")?;
    check(&incoming)?;
    if store.devices.contains_key(&incoming.name) {
        return Err(Refusal::conflict(
            "a resource with this name already exists",
        ));
    }
    Ok(insert(store, now, incoming))
}

fn insert(store: &mut Store, now: Timestamp, incoming: Incoming) -> Value {
    let spec = incoming.spec.unwrap_or_else(|| json!({}));
    let row = DeviceRow::new(&incoming.name, incoming.labels, spec, now);
    store.insert(row, now, Actor::User)
}

/// `PUT /devices/{name}`.
pub(crate) fn replace(
    store: &mut Store,
    now: Timestamp,
    name: &str,
    body: &Value,
) -> Result<(StatusCode, Value), Refusal> {
    let incoming = incoming(body, "Device")?;
    check(&incoming)?;
    if incoming.name != name {
        return Err(Refusal::bad_request(
            "resource name specified in metadata does not match name in path",
        ));
    }
    if !store.devices.contains_key(name) {
        return Ok((StatusCode::CREATED, insert(store, now, incoming)));
    }
    let doc = store.write(name, now, Write::user(), |row| {
        if row.decommissioned() {
            return Err(Refusal::conflict(DECOMMISSIONED));
        }
        if incoming
            .resource_version
            .is_some_and(|version| version != row.resource_version.to_string())
        {
            return Err(Refusal::modified());
        }
        if let Some(spec) = incoming.spec {
            if row.owner.is_some() && spec != row.spec {
                return Err(owned());
            }
            row.spec = spec;
        }
        if incoming.labels.is_some() {
            row.labels = incoming.labels;
        }
        Ok(())
    })?;
    Ok((StatusCode::OK, doc))
}

fn owned() -> Refusal {
    Refusal::conflict("updating the resource is not allowed because it has an owner")
}

/// `PATCH /devices/{name}`.
pub(crate) fn patch(
    store: &mut Store,
    now: Timestamp,
    name: &str,
    body: &Value,
) -> Result<Value, Refusal> {
    store.write(name, now, Write::user(), |row| {
        let before = row.doc();
        let after = patch::apply(&before, body)?;
        let invalid = |field: &str| {
            Refusal::bad_request(format!(
                "patch produced an invalid resource: json: unknown field \"{field}\""
            ))
        };
        let top = ["apiVersion", "kind", "metadata", "spec", "status"];
        let stranger = unknown(&after, &top)
            .or_else(|| unknown(&after["metadata"], &METADATA_FIELDS))
            .or_else(|| unknown(&after["spec"], &SPEC_FIELDS));
        if let Some(field) = stranger {
            return Err(invalid(field));
        }
        let spec = match after.get("spec") {
            None | Some(Value::Null) => json!({}),
            Some(spec) => spec.clone(),
        };
        if !spec.is_object() {
            return Err(Refusal::bad_request(
                "patch produced an invalid resource: json: cannot unmarshal into Go struct field Device.spec of type v1beta1.DeviceSpec",
            ));
        }
        let labels = read_labels(&after["metadata"])?;
        let mut errors = Vec::new();
        let new_name = after["metadata"]["name"].as_str().unwrap_or_default();
        errors.extend(validate::name(new_name));
        if let Some(labels) = &labels {
            errors.extend(validate::labels(labels));
        }
        errors.extend(validate::spec(&spec, Place::Device));
        refuse_if_any(&errors)?;
        for (same, what) in [
            (new_name == row.name, "metadata.name is immutable"),
            (after["apiVersion"] == before["apiVersion"], "apiVersion is immutable"),
            (after["kind"] == before["kind"], "kind is immutable"),
            (after["status"] == before["status"], "status is immutable"),
        ] {
            if !same {
                return Err(Refusal::bad_request(what));
            }
        }
        if spec.get("decommissioning").is_some() {
            return Err(Refusal::bad_request(
                "spec.decommissioning cannot be changed via patch request",
            ));
        }
        if row.owner.is_some() && spec != row.spec {
            return Err(owned());
        }
        row.spec = spec;
        row.labels = labels;
        Ok(())
    })
}

/// `DELETE /devices/{name}`: 200 also when there is none.
pub(crate) fn delete(store: &mut Store, now: Timestamp, name: &str) -> Value {
    store.remove(name, now, Actor::User);
    reply::success()
}

/// `PUT /devices/{name}/decommission`.
pub(crate) fn decommission(
    store: &mut Store,
    now: Timestamp,
    name: &str,
    body: &Value,
) -> Result<Value, Refusal> {
    let target = body["target"].as_str().unwrap_or_default();
    if !matches!(target, "Unenroll" | "FactoryReset") {
        return Err(Refusal::schema(
            "DeviceDecommission: Error at \"/target\": value is not one of the allowed values [\"Unenroll\",\"FactoryReset\"]",
        ));
    }
    let write = Write {
        keep_generation: true,
        seen: Seen::Keep,
        ..Write::user()
    };
    store.write(name, now, write, |row| {
        if row.decommissioned() {
            return Err(Refusal::modified());
        }
        row.spec["decommissioning"] = json!({ "target": target });
        row.owner = None;
        row.labels = None;
        row.status.lifecycle = Stated::bare("Decommissioning");
        Ok(())
    })
}

/// Stores what a device says of itself. Words that only the service knows are
/// computed or kept.
pub(crate) fn put_status(
    store: &mut Store,
    now: Timestamp,
    name: &str,
    body: &Value,
    by: Actor,
) -> Result<Value, Refusal> {
    if body["metadata"]["name"] != name {
        return Err(Refusal::bad_request(
            "resource name specified in metadata does not match name in path",
        ));
    }
    let status = body.get("status").filter(|status| !status.is_null());
    let Some(status) = status else {
        return Err(Refusal::bad_request("device status is required"));
    };
    let status: DeviceStatus = serde_json::from_value(status.clone())
        .map_err(|error| Refusal::schema(&format!("Device: Error at \"/status\": {error}")))?;
    check_words(&status)?;
    let seen = if by == Actor::Agent {
        Seen::Now
    } else {
        Seen::Never
    };
    let write = Write {
        by,
        seen,
        ..Write::user()
    };
    store.write(name, now, write, |row| {
        let old = std::mem::replace(&mut row.status, status);
        if row.status.lifecycle.status == "Unknown" {
            row.status.lifecycle = old.lifecycle;
        }
        if row.status.integrity.status == "Unknown" {
            row.status.integrity = old.integrity;
        }
        let service = ["SpecValid", "MultipleOwners"];
        row.status
            .conditions
            .retain(|condition| !service.contains(&condition.kind.as_str()));
        if by == Actor::Agent {
            row.heartbeat = Some(now);
            row.reported = Some(now);
        }
        Ok(())
    })
}

fn check_words(status: &DeviceStatus) -> Result<(), Refusal> {
    const APPLICATION: [&str; 8] = [
        "Preparing",
        "Starting",
        "Running",
        "Error",
        "Unknown",
        "Completed",
        "Stopped",
        "Stopping",
    ];
    const SUMMARY: [&str; 5] = ["Healthy", "Degraded", "Error", "Unknown", "NoApplications"];
    let bad = |at: &str, allowed: &[&str]| {
        Refusal::schema(&format!(
            "Device: Error at \"/status/{at}\": value is not one of the allowed values {}",
            json!(allowed)
        ))
    };
    for (index, app) in status.applications.iter().enumerate() {
        if !APPLICATION.contains(&app.status.as_str()) {
            return Err(bad(&format!("applications/{index}/status"), &APPLICATION));
        }
    }
    if !SUMMARY.contains(&status.applications_summary.status.as_str()) {
        return Err(bad("applicationsSummary/status", &SUMMARY));
    }
    Ok(())
}

fn field(row: &DeviceRow, name: &str) -> Field {
    let alias = || {
        row.labels
            .as_ref()
            .and_then(|labels| labels.get("alias"))
            .cloned()
    };
    let status = &row.status;
    Field::Text(Some(match name {
        "metadata.creationTimestamp" => return Field::Time(row.created),
        "metadata.nameOrAlias" => return Field::Either(row.name.clone(), alias()),
        "metadata.alias" => return Field::Text(alias()),
        "metadata.owner" => return Field::Text(row.owner.clone()),
        "status.capabilities.osMode" => {
            let mode = status
                .capabilities
                .as_ref()
                .and_then(|c| c["osMode"].as_str());
            return Field::Text(mode.map(ToOwned::to_owned));
        }
        "metadata.name" => row.name.clone(),
        "status.applicationsSummary.status" => status.applications_summary.status.clone(),
        "status.lifecycle.status" => status.lifecycle.status.clone(),
        "status.summary.status" => status.summary.status.clone(),
        "status.updated.status" => status.updated.status.clone(),
        _ => return Field::Text(None),
    }))
}

fn chosen<'a>(store: &'a Store, query: &Query) -> Result<Vec<&'a DeviceRow>, Refusal> {
    let labels = select::labels(query.get("labelSelector"))?;
    let fields = select::fields(query.get("fieldSelector"), &SELECTABLE)?;
    Ok(store
        .devices
        .values()
        .filter(|row| labels.matches_labels(row.labels.as_ref()))
        .filter(|row| fields.matches(|name| field(row, name)))
        .collect())
}

/// `GET /devices`.
pub(crate) fn list(store: &Store, query: &Query) -> Result<Value, Refusal> {
    let rows = chosen(store, query)?;
    let (items, metadata, counted) = if query.get("summaryOnly") == Some("true") {
        if query.get("limit").is_some() || query.get("continue").is_some() {
            return Err(Refusal::bad_request(
                "parameters such as 'limit', and 'continue' are not supported when 'summaryOnly' is true",
            ));
        }
        (&[][..], json!({}), rows.as_slice())
    } else {
        let (items, metadata) = Page::parse(query)?.cut(&rows, |row| vec![row.name.clone()]);
        (items, metadata, items)
    };
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": "DeviceList",
        "metadata": metadata,
        "items": items.iter().map(|row| row.doc()).collect::<Vec<_>>(),
        "summary": summary(counted.iter().copied()),
    }))
}

/// Counters over devices.
pub(crate) fn summary<'a>(rows: impl Iterator<Item = &'a DeviceRow>) -> Value {
    let mut total = 0;
    let mut counts: [BTreeMap<&str, u64>; 3] = Default::default();
    for row in rows {
        total += 1;
        let status = &row.status;
        for (count, word) in counts.iter_mut().zip([
            &status.applications_summary.status,
            &status.summary.status,
            &status.updated.status,
        ]) {
            *count.entry(word).or_default() += 1;
        }
    }
    let [applications, summaries, updates] = counts;
    json!({
        "total": total,
        "applicationStatus": applications,
        "summaryStatus": summaries,
        "updateStatus": updates,
    })
}

/// `GET /labels?kind=Device`.
pub(crate) fn list_labels(store: &Store, query: &Query) -> Result<Value, Refusal> {
    if query.get("kind") != Some("Device") {
        return Err(Refusal::bad_request(
            "API Error: parameter \"kind\" in query has an error: value is not one of the allowed values [\"Device\"]",
        ));
    }
    let mut pairs: Vec<String> = chosen(store, query)?
        .iter()
        .filter_map(|row| row.labels.as_ref())
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.sort();
    pairs.dedup();
    let (page, _) = Page::parse(query)?.cut(&pairs, |pair| vec![pair.clone()]);
    Ok(json!(page))
}

/// `systemInfo` and the rest of a status, for agents that build theirs.
pub(crate) fn status_document(name: &str, status: &DeviceStatus) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(name));
    json!({
        "apiVersion": API_VERSION,
        "kind": "Device",
        "metadata": metadata,
        "status": status,
    })
}
