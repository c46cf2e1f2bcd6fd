//! Stop, start and restart of single applications: an annotation that the
//! renderer lays over the spec.

use serde_json::{Map, Value, json};

use super::events::Actor;
use super::reply::Refusal;
use super::store::Store;
use super::store::{DeviceRow, Write};
use jiff::Timestamp;

const ANNOTATION: &str = "device-controller/applicationLifecycle";

/// What `POST …/applications/{app}/actions/{action}` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Stop,
    Start,
    Restart,
}

impl Action {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "stop" => Some(Self::Stop),
            "start" => Some(Self::Start),
            "restart" => Some(Self::Restart),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
        }
    }
}

fn overrides(row: &DeviceRow) -> Map<String, Value> {
    row.annotations
        .get(ANNOTATION)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn has_application(row: &DeviceRow, app: &str) -> bool {
    row.spec["applications"]
        .as_array()
        .is_some_and(|apps| apps.iter().any(|one| one["name"] == app))
}

/// Carries an action out.
pub(crate) fn act(
    store: &mut Store,
    now: Timestamp,
    device: &str,
    app: &str,
    action: Action,
) -> Result<Value, Refusal> {
    let write = Write {
        seen: super::store::Seen::Keep,
        ..Write::user()
    };
    let doc = store.write(device, now, write, |row| {
        if row.decommissioned() {
            return Err(Refusal::bad_request(
                "decommissioned device cannot be created or updated",
            ));
        }
        if !has_application(row, app) {
            return Err(Refusal::not_found("Application", app));
        }
        let mut all = overrides(row);
        let entry = all.entry(app).or_insert_with(|| json!({}));
        match action {
            Action::Stop => entry["desiredState"] = json!("stopped"),
            Action::Start => entry["desiredState"] = json!("running"),
            Action::Restart => {
                let generation = entry["restartGeneration"].as_u64().unwrap_or_default() + 1;
                entry["restartGeneration"] = json!(generation);
            }
        }
        if action != Action::Restart {
            entry["desiredStateVersion"] =
                json!(i64::try_from(now.as_nanosecond()).unwrap_or_default());
        }
        row.annotations
            .insert(ANNOTATION.into(), Value::Object(all).to_string());
        row.render_anyway = true;
        Ok(())
    })?;
    let details = json!({
        "action": action.word(),
        "appName": app,
        "detailType": "ApplicationLifecycleChanged",
    });
    let message = format!("Application {app} was requested to {}.", action.word());
    store.events.add(
        now,
        Actor::User,
        "Device",
        device,
        "ApplicationLifecycleChanged",
        &message,
        Some(details),
    );
    Ok(doc)
}

/// Overrides go with their application.
pub(crate) fn prune(row: &mut DeviceRow) {
    let mut all = overrides(row);
    if all.is_empty() {
        return;
    }
    all.retain(|app, _| has_application(row, app));
    if all.is_empty() {
        row.annotations.remove(ANNOTATION);
    } else {
        row.annotations
            .insert(ANNOTATION.into(), Value::Object(all).to_string());
    }
}

/// Lays the overrides over rendered applications.
pub(crate) fn overlay(row: &DeviceRow, apps: &mut [Value]) {
    let all = overrides(row);
    for app in apps {
        let Some(entry) = app["name"].as_str().and_then(|name| all.get(name)) else {
            continue;
        };
        for key in ["desiredState", "restartGeneration"] {
            if let Some(value) = entry.get(key) {
                app[key] = value.clone();
            }
        }
    }
}
