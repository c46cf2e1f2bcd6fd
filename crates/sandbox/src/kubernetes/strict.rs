//! `fieldValidation=Strict`, which kubectl asks for: fields that no type knows are
//! refused instead of dropped. Without it, and with `Warn`, nothing is said.

use serde_json::Value;

use super::resource::Resource;
use super::status::ApiError;

/// Refuses an object with fields that would be dropped.
pub(crate) fn check(resource: &Resource, given: &Value) -> Result<(), ApiError> {
    // What is no such object at all is refused later, with a better reason.
    let Ok(kept) = resource.typed(given.clone()) else {
        return Ok(());
    };
    let mut unknown = Vec::new();
    compare(given, &kept, "", &mut unknown);
    if unknown.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "{0} in version \"v1\" cannot be handled as a {0}: strict decoding error: {1}",
        resource.kind,
        unknown.join(", ")
    )))
}

fn compare(given: &Value, kept: &Value, at: &str, unknown: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given.iter().filter(|(_, value)| says_something(value)) {
                let dot = if at.is_empty() { "" } else { "." };
                let at = format!("{at}{dot}{name}");
                match kept.get(name) {
                    Some(kept) => compare(value, kept, &at, unknown),
                    None => unknown.push(format!("unknown field {at:?}")),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(given, kept, &format!("{at}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

/// Types leave out what is empty, known or not.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::resource::PODS;

    #[test]
    fn a_field_that_no_type_knows_is_named_by_its_path() {
        let pod = |container: Value| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web", "creationTimestamp": null, "annotations": {"x.y/z": "1"}},
                "spec": {"containers": [container], "volumes": []}, "status": {}})
        };
        let fine = json!({"name": "app", "image": "x", "resources": {"requests": {"cpu": "1"}},
            "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": ""}]});
        assert_eq!(check(&PODS, &pod(fine)), Ok(()));
        let typo = json!({"name": "app", "imag": "x", "env": [{"name": "A", "valu": "b"}]});
        let error = check(&PODS, &pod(typo)).unwrap_err();
        assert_eq!(error.code, 400);
        assert_eq!(
            error.message,
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: \
             unknown field \"spec.containers[0].env[0].valu\", \
             unknown field \"spec.containers[0].imag\""
        );
    }
}
