//! Reads the fields of a pod's spec out of the API server's OpenAPI document.

use serde_json::Value;

const SCHEMAS: &str = "#/components/schemas/";

/// `path type` of every field, sorted; `[]` behind a list, `{}` behind a map.
pub fn pod_spec(document: &Value) -> Vec<String> {
    let mut fields = Vec::new();
    let schema = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    assert!(schema.is_object(), "the document has pods");
    object("spec", schema, document, &mut fields);
    fields.sort_unstable();
    fields
}

fn object(path: &str, schema: &Value, document: &Value, fields: &mut Vec<String>) {
    fields.push(format!("{path} object"));
    for (name, inner) in schema["properties"].as_object().unwrap() {
        field(&format!("{path}.{name}"), inner, document, fields);
    }
}

fn field(path: &str, schema: &Value, document: &Value, fields: &mut Vec<String>) {
    if let Some(name) = reference(schema) {
        let target = &document["components"]["schemas"][name];
        if target["properties"].is_object() {
            object(path, target, document, fields);
        } else {
            fields.push(format!("{path} {}", short(name)));
        }
        return;
    }
    match schema["type"].as_str().unwrap() {
        "array" => field(&format!("{path}[]"), &schema["items"], document, fields),
        "object" => {
            let values = &schema["additionalProperties"];
            let kind = reference(values).map(short).or(values["type"].as_str());
            fields.push(format!("{path}{{}} {}", kind.unwrap()));
        }
        plain => fields.push(format!("{path} {plain}")),
    }
}

/// The schema that this one stands for: by itself, or with a default beside it.
fn reference(schema: &Value) -> Option<&str> {
    let name = schema
        .get("$ref")
        .or_else(|| schema.pointer("/allOf/0/$ref"))?;
    name.as_str()?.strip_prefix(SCHEMAS)
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
