//! JSON Patch as the service applies it: its four operations, its messages,
//! its liberties (`replace` adds what is not there).

use serde_json::{Map, Value};

use super::reply::Refusal;

/// One operation that passed the schema.
#[derive(Clone, Debug)]
struct Op<'a> {
    name: &'a str,
    path: &'a str,
    value: Option<&'a Value>,
}

/// Applies a request body to a document. Nothing is changed by a refusal.
pub(crate) fn apply(doc: &Value, body: &Value) -> Result<Value, Refusal> {
    let ops = check_schema(body)?;
    let mut doc = doc.clone();
    for op in ops {
        run(&mut doc, &op)
            .map_err(|why| Refusal::bad_request(format!("failed to apply JSON patch: {why}")))?;
    }
    Ok(doc)
}

fn check_schema(body: &Value) -> Result<Vec<Op<'_>>, Refusal> {
    let bad =
        |at: &str, why: &str| Refusal::schema(&format!("PatchRequest: Error at \"{at}\": {why}"));
    let Some(list) = body.as_array() else {
        return Err(Refusal::schema("PatchRequest: value must be an array"));
    };
    let mut ops = Vec::new();
    for (index, op) in list.iter().enumerate() {
        let Some(fields) = op.as_object() else {
            return Err(bad(&format!("/{index}"), "value must be an object"));
        };
        for name in fields.keys() {
            if !matches!(name.as_str(), "op" | "path" | "value") {
                let why = format!("property \"{name}\" is unsupported");
                return Err(bad(&format!("/{index}"), &why));
            }
        }
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        let missing = |key: &str| {
            bad(
                &format!("/{index}/{key}"),
                &format!("property \"{key}\" is missing"),
            )
        };
        let name = text("op").ok_or_else(|| missing("op"))?;
        let path = text("path").ok_or_else(|| missing("path"))?;
        if !matches!(name, "add" | "replace" | "remove" | "test") {
            let why =
                "value is not one of the allowed values [\"add\",\"replace\",\"remove\",\"test\"]";
            return Err(bad(&format!("/{index}/op"), why));
        }
        let value = fields.get("value");
        if value.is_some_and(Value::is_null) {
            return Err(bad(&format!("/{index}/value"), "Value is not nullable"));
        }
        ops.push(Op { name, path, value });
    }
    Ok(ops)
}

fn run(doc: &mut Value, op: &Op<'_>) -> Result<(), String> {
    let path = op.path;
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", path));
    let key = key.replace("~1", "/").replace("~0", "~");
    let container = doc
        .pointer_mut(parent)
        .filter(|v| v.is_object() || v.is_array());
    let value = op.value.cloned().unwrap_or(Value::Null);
    let Some(container) = container else {
        return Err(match op.name {
            "add" => format!(
                "add operation does not apply: doc is missing path: \"{path}\": missing value"
            ),
            "remove" => format!(
                "remove operation does not apply: doc is missing path: \"{path}\": missing value"
            ),
            "replace" => format!(
                "replace operation does not apply: doc is missing path: {path}: missing value"
            ),
            _ => format!("test operation does not apply: is missing path: {path}: missing value"),
        });
    };
    match op.name {
        "test" => {
            let found = member(container, &key);
            if found.is_some_and(|found| same(found, &value)) {
                return Ok(());
            }
            Err(format!("testing value {path} failed: test failed"))
        }
        "add" => add(container, &key, value)
            .map_err(|why| format!("error in add for path: '{path}': {why}")),
        "remove" => remove(container, &key)
            .map_err(|why| format!("error in remove for path: '{path}': {why}")),
        _ => replace(container, &key, value).ok_or_else(|| {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }),
    }
}

fn member<'a>(container: &'a Value, key: &str) -> Option<&'a Value> {
    match container {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

fn bad_index(key: &str) -> String {
    format!("Unable to access invalid index: {key}: invalid index referenced")
}

fn add(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Object(map) => {
            map.insert(key.into(), value);
            Ok(())
        }
        Value::Array(list) if key == "-" => {
            list.push(value);
            Ok(())
        }
        Value::Array(list) => match key.parse::<usize>() {
            Ok(at) if at <= list.len() => {
                list.insert(at, value);
                Ok(())
            }
            _ => Err(bad_index(key)),
        },
        _ => Err(bad_index(key)),
    }
}

fn remove(container: &mut Value, key: &str) -> Result<(), String> {
    match container {
        Value::Object(map) => map
            .remove(key)
            .map(drop)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Value::Array(list) => match key.parse::<usize>() {
            Ok(at) if at < list.len() => {
                list.remove(at);
                Ok(())
            }
            _ => Err(bad_index(key)),
        },
        _ => Err(bad_index(key)),
    }
}

fn replace(container: &mut Value, key: &str, value: Value) -> Option<()> {
    match container {
        Value::Object(map) => {
            map.insert(key.into(), value);
        }
        Value::Array(list) => *list.get_mut(key.parse::<usize>().ok()?)? = value,
        _ => return None,
    }
    Some(())
}

/// Equality as the service has it: 2 is 2.0, the order of keys does not matter.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => same_maps(a, b),
        _ => a == b,
    }
}

fn same_maps(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refused_patch_changes_nothing_and_an_accepted_one_changes_all() {
        let doc = json!({"metadata": {"generation": 2}, "spec": {"applications": [{"name": "a"}]}});
        let done = apply(
            &doc,
            &json!([
                {"op": "test", "path": "/metadata/generation", "value": 2.0},
                {"op": "add", "path": "/spec/applications/-", "value": {"name": "b"}},
                {"op": "remove", "path": "/spec/applications/0"},
            ]),
        );
        assert_eq!(
            done.unwrap()["spec"],
            json!({"applications": [{"name": "b"}]})
        );
        let refused = apply(
            &doc,
            &json!([{"op": "test", "path": "/metadata/generation", "value": "2"}]),
        );
        assert_eq!(
            refused.unwrap_err().message,
            "failed to apply JSON patch: testing value /metadata/generation failed: test failed"
        );
    }
}
