//! The worker: from a device's spec to the document its agent fetches.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::model::Condition;
use super::reply::API_VERSION;
use super::store::{DeviceRow, Rendered, Store, Write};

const VERSION: &str = "device-controller/renderedVersion";
const HASH: &str = "device-controller/renderedSpecHash";

/// Renders what the device's spec is now, if it differs from what was rendered
/// last. What cannot be rendered leaves the old version in force and
/// `SpecValid=False`; going back to exactly the last rendered spec does not
/// clear that.
pub(crate) fn render(store: &mut Store, name: &str, now: Timestamp) {
    let Ok(row) = store.device(name) else {
        return;
    };
    let hash = hash_of(&row.spec);
    if !row.render_anyway && row.annotations.get(HASH) == Some(&hash) {
        return;
    }
    let spec = match rendered_spec(row) {
        Ok(spec) => spec,
        Err(why) => {
            // A write to a device that was just found cannot be refused here.
            let _ = store.write(name, now, Write::worker(), |row| {
                let condition = Condition::new("SpecValid", "False", "Invalid", &why, now);
                Condition::set(&mut row.service_conditions, condition);
                row.render_anyway = false;
                Ok(())
            });
            return;
        }
    };
    let _ = store.write(name, now, Write::worker(), |row| {
        let version = row.rendered.as_ref().map_or(0, |old| old.version) + 1;
        row.rendered = Some(Rendered { version, spec });
        row.render_anyway = false;
        row.annotations.insert(VERSION.into(), version.to_string());
        row.annotations.insert(HASH.into(), hash);
        if row.owner.is_some()
            && let Some(template) = row.annotations.get("fleet-controller/templateVersion")
        {
            let template = template.clone();
            row.annotations
                .insert("fleet-controller/renderedTemplateVersion".into(), template);
        }
        let condition = Condition::new("SpecValid", "True", "Valid", "", now);
        Condition::set(&mut row.service_conditions, condition);
        Ok(())
    });
    store.wake(name);
}

/// The document of `GET …/rendered`.
pub(crate) fn document(row: &DeviceRow) -> Option<Value> {
    let rendered = row.rendered.as_ref()?;
    let mut doc = row.doc();
    doc["apiVersion"] = json!(API_VERSION);
    doc["spec"] = rendered.spec.clone();
    doc["spec"]["consoles"] = super::device::rendered_consoles(&row.annotations);
    Some(doc)
}

/// The version to compare a poll's `knownRenderedVersion` with.
pub(crate) fn version(row: &DeviceRow) -> String {
    row.rendered
        .as_ref()
        .map_or_else(String::new, |rendered| rendered.version.to_string())
}

fn hash_of(spec: &Value) -> String {
    Sha256::digest(spec.to_string())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn rendered_spec(row: &DeviceRow) -> Result<Value, String> {
    let mut spec = row.spec.clone();
    let mut apps = match spec["applications"].take() {
        Value::Array(apps) => apps,
        _ => Vec::new(),
    };
    for app in &mut apps {
        if let Some(app) = app.as_object_mut() {
            app.entry("runAs").or_insert_with(|| json!(""));
        }
    }
    super::lifecycle::overlay(row, &mut apps);
    let config = rendered_config(&spec)?;
    spec["applications"] = Value::Array(apps);
    spec["config"] = config;
    spec["consoles"] = json!([]);
    Ok(spec)
}

/// All inline files in one nameless provider, contents in base64. What came as
/// base64 is escaped on the way, as by the real service: no agent can read `%3D`.
fn rendered_config(spec: &Value) -> Result<Value, String> {
    let providers = spec["config"].as_array().map_or(&[][..], Vec::as_slice);
    let mut files = Vec::new();
    let mut invalid = Vec::new();
    for provider in providers {
        let name = provider["name"].as_str().unwrap_or_default();
        if let Some(inline) = provider["inline"].as_array() {
            files.extend(inline.iter().map(rendered_file));
        } else {
            let repository = ["gitRef", "httpRef"]
                .iter()
                .find_map(|kind| provider[*kind]["repository"].as_str())
                .unwrap_or_default();
            invalid.push(format!(
                "{name}. Error: failed fetching specified Repository definition {repository}: Repository of name \"{repository}\" not found"
            ));
        }
    }
    match invalid.len() {
        0 if files.is_empty() => Ok(json!([])),
        0 => Ok(json!([{"name": "", "inline": files}])),
        1 => Err(format!("1 invalid configuration: {}", invalid[0])),
        n => Err(format!(
            "{n} invalid configurations: {}",
            invalid.join(", ")
        )),
    }
}

/// As for a URL (RFC 2396); of base64 it is these three.
fn escaped(base64: &str) -> String {
    let text = base64.replace('+', "%2B").replace('/', "%2F");
    text.replace('=', "%3D")
}

fn rendered_file(file: &Value) -> Value {
    use base64::Engine;
    let mut file = file.clone();
    let content = file["content"].as_str().unwrap_or_default();
    if file["contentEncoding"] == "base64" {
        file["content"] = json!(escaped(content));
    } else {
        file["content"] = json!(base64::engine::general_purpose::STANDARD.encode(content));
        file["contentEncoding"] = json!("base64");
    }
    if let Some(map) = file.as_object_mut() {
        map.entry("mode").or_insert(json!(420));
        map.entry("user").or_insert(json!("root"));
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flightctl::device::files;

    #[test]
    fn what_came_as_base64_is_escaped_and_then_no_agent_can_read_it() {
        let rendered = |content: &str, encoding: Option<&str>| {
            let file = json!({"path": "/x", "content": content, "contentEncoding": encoding});
            let spec = json!({"config": [{"name": "a", "inline": [file]}]});
            json!({"config": rendered_config(&spec).unwrap()})
        };
        let spoilt = rendered("AP8=", Some("base64"));
        assert_eq!(spoilt["config"][0]["inline"][0]["content"], "AP8%3D");
        assert!(files::read(&spoilt).is_none());
        let plain = files::read(&rendered("a", None)).unwrap();
        assert_eq!(plain["/x"].content, b"a");
        let lucky = files::read(&rendered("gIGC", Some("base64"))).unwrap();
        assert_eq!(lucky["/x"].content, [128, 129, 130]);
    }
}
