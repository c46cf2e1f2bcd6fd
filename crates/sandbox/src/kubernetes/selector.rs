//! Label and field selectors, in the grammar of list options.

use serde_json::Value;

use super::object;
use super::resource::Resource;
use super::status::ApiError;
use crate::terms::terms;

/// One requirement on labels.
#[derive(Clone, Debug, PartialEq)]
enum Need {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Greater(String, i64),
    Less(String, i64),
}

/// A parsed label selector; without requirements it selects everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Labels(Vec<Need>);

impl Labels {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let refuse = |why: String| {
            ApiError::bad_request(format!("unable to parse requirement: {why} in {text:?}"))
        };
        let mut needs = Vec::new();
        for part in terms(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(refuse("found an empty requirement".into()));
            }
            needs.push(requirement(part).map_err(refuse)?);
        }
        Ok(Self(needs))
    }

    /// From a `LabelSelector` object; an unknown operator selects nothing.
    pub(crate) fn from_object(selector: &Value) -> Self {
        let mut needs: Vec<Need> = selector["matchLabels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| {
                let value = value.as_str().unwrap_or_default().to_owned();
                Need::In(key.clone(), vec![value])
            })
            .collect();
        needs.extend(
            object::items(selector, "/matchExpressions")
                .iter()
                .map(expression),
        );
        Self(needs)
    }

    /// One `NodeSelectorTerm`'s `matchExpressions`.
    pub(crate) fn from_expressions(expressions: &[Value]) -> Self {
        Self(expressions.iter().map(expression).collect())
    }

    /// Whether these labels (a JSON object, or null) satisfy it.
    pub(crate) fn matches(&self, labels: &Value) -> bool {
        let get = |key: &str| labels.get(key).and_then(Value::as_str);
        let number = |key: &str| get(key).and_then(|v| v.parse::<i64>().ok());
        self.0.iter().all(|need| match need {
            Need::Exists(key) => get(key).is_some(),
            Need::Absent(key) => get(key).is_none(),
            Need::In(key, values) => get(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Need::NotIn(key, values) => get(key).is_none_or(|v| values.iter().all(|w| w != v)),
            Need::Greater(key, bound) => number(key).is_some_and(|v| v > *bound),
            Need::Less(key, bound) => number(key).is_some_and(|v| v < *bound),
        })
    }
}

fn expression(expression: &Value) -> Need {
    let key = object::text(expression, "/key").to_owned();
    let values: Vec<String> = object::items(expression, "/values")
        .iter()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect();
    let bound = values.first().and_then(|v| v.parse().ok());
    match (object::text(expression, "/operator"), bound) {
        ("In", _) => Need::In(key, values),
        ("NotIn", _) => Need::NotIn(key, values),
        ("Exists", _) => Need::Exists(key),
        ("DoesNotExist", _) => Need::Absent(key),
        ("Gt", Some(bound)) => Need::Greater(key, bound),
        ("Lt", Some(bound)) => Need::Less(key, bound),
        _ => Need::In(key, Vec::new()),
    }
}

fn requirement(part: &str) -> Result<Need, String> {
    let word = |text: &str| -> Result<String, String> {
        let text = text.trim();
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if text.chars().all(fine) {
            Ok(text.to_owned())
        } else {
            Err(format!("found '{text}', expected a label key or value"))
        }
    };
    let key = |text: &str| match word(text) {
        Ok(key) if key.is_empty() => Err("found an empty key".to_owned()),
        other => other,
    };
    if let Some((left, rest)) = part.split_once('(') {
        let inner = rest
            .strip_suffix(')')
            .ok_or_else(|| format!("found '{part}', expected ')'"))?;
        let values = inner.split(',').map(word).collect::<Result<Vec<_>, _>>()?;
        return match left.split_whitespace().collect::<Vec<_>>()[..] {
            [k, "in"] => Ok(Need::In(key(k)?, values)),
            [k, "notin"] => Ok(Need::NotIn(key(k)?, values)),
            _ => Err(format!("found '{left}', expected: in, notin")),
        };
    }
    if let Some((k, v)) = part.split_once("!=") {
        return Ok(Need::NotIn(key(k)?, vec![word(v)?]));
    }
    if let Some((k, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Need::In(key(k)?, vec![word(v)?]));
    }
    for (sign, greater) in [('>', true), ('<', false)] {
        if let Some((k, v)) = part.split_once(sign) {
            let bound = v
                .trim()
                .parse()
                .map_err(|_| format!("found '{v}', expected an integer"))?;
            let key = key(k)?;
            return Ok(if greater {
                Need::Greater(key, bound)
            } else {
                Need::Less(key, bound)
            });
        }
    }
    match part.strip_prefix('!') {
        Some(k) => Ok(Need::Absent(key(k)?)),
        None => Ok(Need::Exists(key(part)?)),
    }
}

/// A parsed field selector.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Vec<(String, String, bool)>);

impl Fields {
    pub(crate) fn parse(resource: &Resource, text: &str) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (field, value, equal) = if let Some((f, v)) = part.split_once("!=") {
                (f, v, false)
            } else if let Some((f, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (f, v, true)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            if !supported(resource).contains(&field) {
                return Err(ApiError::bad_request(format!(
                    "field label not supported: {field}"
                )));
            }
            terms.push((field.to_owned(), value.to_owned(), equal));
        }
        Ok(Self(terms))
    }

    /// The name of the only object that can match, if a term says it.
    pub(crate) fn single(&self) -> Option<&str> {
        let named =
            |(field, _, equal): &&(String, String, bool)| *equal && field == "metadata.name";
        self.0.iter().find(named).map(|(_, name, _)| name.as_str())
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, value, equal)| {
            let pointer = match field.as_str() {
                "source" => "/source/component".to_owned(),
                field => format!("/{}", field.replace('.', "/")),
            };
            let found = match object.pointer(&pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None if is_flag(field) => "false".into(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            (found == *value) == *equal
        })
    }
}

fn is_flag(field: &str) -> bool {
    matches!(field, "spec.unschedulable" | "spec.hostNetwork")
}

fn supported(resource: &Resource) -> Vec<&'static str> {
    let mut fields = vec!["metadata.name"];
    if resource.namespaced {
        fields.push("metadata.namespace");
    }
    fields.extend_from_slice(match resource.plural {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        "services" => &["spec.clusterIP", "spec.type"],
        "replicasets" => &["status.replicas"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    });
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::resource::{NODES, PODS};
    use serde_json::json;

    #[test]
    fn every_form_of_the_label_grammar_selects() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, api),tier notin (back)", true),
            ("app in (api)", false),
            ("tier", true),
            ("!tier", false),
            ("!absent", true),
            ("absent!=x", true),
            ("n>4,n<6", true),
            ("n>5", false),
            ("a.b/c=", false),
        ] {
            assert_eq!(
                Labels::parse(text).unwrap().matches(&labels),
                expected,
                "{text}"
            );
        }
        for text in ["a b", "app in web", "app in (web", "=x", "a,,b", "n>x"] {
            assert_eq!(Labels::parse(text).unwrap_err().code, 400, "{text}");
        }
    }

    #[test]
    fn only_the_fields_the_real_server_indexes_are_selectable() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {}});
        let matches = |text| Fields::parse(&PODS, text).unwrap().matches(&pod);
        assert!(matches("spec.nodeName=n,metadata.name!=q"));
        assert!(!matches("spec.nodeName="));
        assert!(matches("status.phase="));
        assert_eq!(Fields::parse(&PODS, "spec.foo=x").unwrap_err().code, 400);
        let node = json!({"spec": {}});
        assert!(
            Fields::parse(&NODES, "spec.unschedulable=false")
                .unwrap()
                .matches(&node)
        );
    }
}
