//! The event log: what is worth an event, and reading it.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::list::{self, Page};
use super::model::Condition;
use super::reply::{API_VERSION, Refusal};
use super::select::{self, Field};
use super::store::DeviceRow;

/// Events older than this are gone, as in the service (7 days).
const RETENTION: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A bound on memory for runs that never reach [`RETENTION`]: a day of 500
/// devices that change once a minute is below it.
const MAX_EVENTS: usize = 1_000_000;

const SELECTABLE: [&str; 8] = [
    "actor",
    "involvedObject.kind",
    "involvedObject.name",
    "metadata.creationTimestamp",
    "metadata.name",
    "metadata.owner",
    "reason",
    "type",
];

const WARNINGS: [&str; 13] = [
    "DeviceApplicationDegraded",
    "DeviceApplicationError",
    "DeviceCPUCritical",
    "DeviceCPUWarning",
    "DeviceMemoryCritical",
    "DeviceMemoryWarning",
    "DeviceDiskCritical",
    "DeviceDiskWarning",
    "DeviceDisconnected",
    "DeviceSpecInvalid",
    "FleetInvalid",
    "DeviceMultipleOwnersDetected",
    "DeviceUpdateFailed",
];

/// Who caused a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Someone on the user API.
    User,
    /// The renderer and the fleet tasks.
    Worker,
    /// A device.
    Agent,
    /// The task that looks for silent devices.
    Connection,
}

impl Actor {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user:sandbox",
            Self::Worker => "service:flightctl-worker",
            Self::Agent => "service:flightctl-agent",
            Self::Connection => "service:device-connection",
        }
    }

    fn component(self) -> &'static str {
        match self {
            Self::User | Self::Agent => "flightctl-api",
            Self::Worker => "flightctl-worker",
            Self::Connection => "device-connection",
        }
    }
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    at: Timestamp,
    name: String,
    by: Actor,
    kind: String,
    object: String,
    pub(crate) reason: String,
    message: String,
    details: Option<Value>,
}

impl Event {
    fn severity(&self) -> &'static str {
        if WARNINGS.contains(&self.reason.as_str()) {
            "Warning"
        } else {
            "Normal"
        }
    }

    pub(crate) fn doc(&self) -> Value {
        let mut doc = json!({
            "actor": self.by.name(),
            "apiVersion": API_VERSION,
            "involvedObject": {"kind": self.kind, "name": self.object},
            "kind": "Event",
            "message": self.message,
            "metadata": {
                "annotations": {},
                "creationTimestamp": self.at.to_string(),
                "name": self.name,
            },
            "reason": self.reason,
            "source": {"component": self.by.component()},
            "type": self.severity(),
        });
        if let Some(details) = &self.details {
            doc["details"] = details.clone();
        }
        doc
    }

    fn field(&self, name: &str) -> Field {
        Field::Text(Some(match name {
            "actor" => self.by.name().into(),
            "involvedObject.kind" => self.kind.clone(),
            "involvedObject.name" => self.object.clone(),
            "metadata.creationTimestamp" => return Field::Time(self.at),
            "metadata.name" => self.name.clone(),
            "reason" => self.reason.clone(),
            "type" => self.severity().into(),
            _ => return Field::Text(None),
        }))
    }
}

/// All events, oldest first.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    events: VecDeque<Event>,
    count: u64,
}

impl EventLog {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// Writes one event. The database keeps microseconds, so its answers do.
    #[expect(clippy::too_many_arguments, reason = "the columns of one row")]
    pub(crate) fn add(
        &mut self,
        at: Timestamp,
        by: Actor,
        kind: &str,
        object: &str,
        reason: &str,
        message: &str,
        details: Option<Value>,
    ) {
        self.count += 1;
        let at = at.round(Unit::Microsecond).unwrap_or(at);
        let old = |event: &Event| at.duration_since(event.at) > RETENTION;
        while self.events.len() >= MAX_EVENTS || self.events.front().is_some_and(old) {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            at,
            name: name_of(self.count),
            by,
            kind: kind.into(),
            object: object.into(),
            reason: reason.into(),
            message: message.into(),
            details,
        });
    }

    pub(crate) fn created(&mut self, at: Timestamp, by: Actor, kind: &str, name: &str) {
        let message = format!("{kind} was created successfully.");
        self.add(at, by, kind, name, "ResourceCreated", &message, None);
    }

    pub(crate) fn deleted(&mut self, at: Timestamp, by: Actor, kind: &str, name: &str) {
        let message = format!("{kind} was deleted successfully.");
        self.add(at, by, kind, name, "ResourceDeleted", &message, None);
    }

    pub(crate) fn updated(
        &mut self,
        at: Timestamp,
        by: Actor,
        kind: &str,
        name: &str,
        fields: &[&str],
    ) {
        if fields.is_empty() {
            return;
        }
        let message = format!("{kind} was updated successfully ({}).", fields.join(", "));
        let details = json!({"detailType": "ResourceUpdated", "updatedFields": fields});
        self.add(
            at,
            by,
            kind,
            name,
            "ResourceUpdated",
            &message,
            Some(details),
        );
    }

    /// The events of one write to a device.
    pub(crate) fn device_changed(
        &mut self,
        at: Timestamp,
        by: Actor,
        before: &DeviceRow,
        after: &DeviceRow,
    ) {
        for (reason, message) in status_changes(before, after) {
            self.add(at, by, "Device", &after.name, reason, &message, None);
        }
        if let Some((reason, message)) = spec_validity(before, after) {
            self.add(at, by, "Device", &after.name, reason, &message, None);
        }
        if after.decommissioned() && !before.decommissioned() {
            let message = "Device was decommissioned successfully.";
            let reason = "DeviceDecommissioned";
            self.add(at, by, "Device", &after.name, reason, message, None);
            return;
        }
        let mut fields = Vec::new();
        if before.labels != after.labels {
            fields.push("labels");
        }
        if before.owner != after.owner {
            fields.push("owner");
        }
        if before.spec != after.spec {
            fields.push("spec");
        }
        self.updated(at, by, "Device", &after.name, &fields);
    }
}

fn spec_validity(before: &DeviceRow, after: &DeviceRow) -> Option<(&'static str, String)> {
    let valid = |row: &DeviceRow| {
        Condition::find(&row.service_conditions, "SpecValid").map(|c| c.status == "True")
    };
    let (was, is) = (valid(before), valid(after)?);
    if was == Some(is) {
        return None;
    }
    if is {
        return Some(("DeviceSpecValid", "Device specification is valid.".into()));
    }
    let message = &Condition::find(&after.service_conditions, "SpecValid")?.message;
    Some((
        "DeviceSpecInvalid",
        format!("Device specification is invalid: {message}."),
    ))
}

fn status_changes(before: &DeviceRow, after: &DeviceRow) -> Vec<(&'static str, String)> {
    let (old, new) = (&before.status, &after.status);
    let mut changes: Vec<(&'static str, String)> = Vec::new();
    let mut push = |reason, info: &Option<String>| {
        changes.push((reason, info.clone().unwrap_or_default()));
    };
    if old.summary.status != new.summary.status {
        match new.summary.status.as_str() {
            "Unknown" => push("DeviceDisconnected", &new.summary.info),
            "Rebooting" => push("DeviceIsRebooting", &new.summary.info),
            "Online" => push("DeviceConnected", &new.summary.info),
            _ => {}
        }
    }
    if old.updated.status != new.updated.status {
        let failed = Condition::find(&new.conditions, "Updating")
            .is_some_and(|c| c.reason == "Error" && !c.message.is_empty());
        match new.updated.status.as_str() {
            "Unknown" => push("DeviceDisconnected", &new.updated.info),
            "Updating" => push("DeviceContentUpdating", &new.updated.info),
            "OutOfDate" if failed => push("DeviceUpdateFailed", &new.updated.info),
            "OutOfDate" => push("DeviceContentOutOfDate", &new.updated.info),
            "UpToDate" if old.updated.status != "Unknown" => {
                push("DeviceContentUpToDate", &new.updated.info);
            }
            _ => {}
        }
    }
    let (old, new) = (&old.applications_summary, &new.applications_summary);
    if old.status != new.status {
        match new.status.as_str() {
            "Unknown" => push("DeviceDisconnected", &new.info),
            "Error" => push("DeviceApplicationError", &new.info),
            "Degraded" => push("DeviceApplicationDegraded", &new.info),
            "Healthy" | "NoApplications" => push("DeviceApplicationHealthy", &new.info),
            _ => {}
        }
    }
    let mut told = false;
    changes.retain(|(reason, _)| {
        *reason != "DeviceDisconnected" || !std::mem::replace(&mut told, true)
    });
    changes
}

/// A name in the form of a UUID, the same in every run.
fn name_of(count: u64) -> String {
    let hash = Sha256::digest(count.to_be_bytes());
    let hex: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!(
        "{}-{}-4{}-8{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

/// `GET /events`.
pub(crate) fn list(log: &EventLog, query: &list::Query) -> Result<Value, Refusal> {
    let page = Page::parse(query)?;
    let selector = select::fields(query.get("fieldSelector"), &SELECTABLE)?;
    let newest_first = match query.get("order") {
        None | Some("" | "desc") => true,
        Some("asc") => false,
        Some(_) => {
            return Err(Refusal::bad_request(
                "API Error: parameter \"order\" in query has an error: value is not one of the allowed values [\"asc\",\"desc\"]",
            ));
        }
    };
    let mut chosen: Vec<&Event> = log
        .iter()
        .filter(|event| selector.matches(|field| event.field(field)))
        .collect();
    // Equal times stay in the order in which they happened.
    chosen.sort_by_key(|event| event.at);
    if newest_first {
        chosen.reverse();
    }
    let (items, metadata) = page.cut(&chosen, |event| {
        vec![event.at.to_string(), event.name.clone()]
    });
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": "EventList",
        "metadata": metadata,
        "items": items.iter().map(|event| event.doc()).collect::<Vec<_>>(),
    }))
}
