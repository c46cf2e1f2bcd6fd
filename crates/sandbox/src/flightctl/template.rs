//! The part of Go's templates that fleets here use: a device's name and labels.

use serde_json::Value;

use super::reply::Refusal;
use super::store::Labels;

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parameter {
    Name,
    Label(String),
}

/// Splits a text into literal parts and parameters.
fn parse(text: &str) -> Result<Vec<Result<Parameter, &str>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, after)) = after.split_once("}}") else {
            return Err("template: unclosed action".into());
        };
        parts.push(Err(before));
        parts.push(Ok(parameter(inside.trim_matches(['-', ' ', '\t']))?));
        rest = after;
    }
    parts.push(Err(rest));
    Ok(parts)
}

fn parameter(text: &str) -> Result<Parameter, String> {
    if text == ".metadata.name" {
        return Ok(Parameter::Name);
    }
    let label = text.strip_prefix(".metadata.labels.").or_else(|| {
        let quoted = text.strip_prefix("index .metadata.labels ")?.trim();
        quoted.strip_prefix('"')?.strip_suffix('"')
    });
    match label {
        Some(label) if !label.is_empty() && !label.contains(char::is_whitespace) => {
            Ok(Parameter::Label(label.into()))
        }
        _ => Err(format!("template: cannot use {{{{ {text} }}}}")),
    }
}

/// What is wrong with the parameters of a template. Functions that the real
/// service knows and this does not are not taken for errors of the user's.
pub(crate) fn check(template: &Value, errors: &mut Vec<String>) -> Result<(), Refusal> {
    match template {
        Value::String(text) => {
            const FUNCTIONS: [&str; 6] =
                ["{{ if", "{{if", "{{ with", "{{with", "{{ upper", "{{ lower"];
            if FUNCTIONS.iter().any(|one| text.contains(one)) {
                return Err(Refusal::not_implemented("functions in fleet templates"));
            }
            if let Err(why) = parse(text) {
                errors.push(format!("invalid parameter syntax: {why}"));
            }
            Ok(())
        }
        Value::Array(list) => list.iter().try_for_each(|one| check(one, errors)),
        Value::Object(map) => map.values().try_for_each(|one| check(one, errors)),
        _ => Ok(()),
    }
}

/// Puts a device's values in.
pub(crate) fn expand(
    template: &Value,
    name: &str,
    labels: Option<&Labels>,
) -> Result<Value, String> {
    Ok(match template {
        Value::String(text) => Value::String(expand_text(text, name, labels)?),
        Value::Array(list) => Value::Array(
            list.iter()
                .map(|one| expand(one, name, labels))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| Ok((key.clone(), expand(value, name, labels)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

fn expand_text(text: &str, name: &str, labels: Option<&Labels>) -> Result<String, String> {
    let mut out = String::new();
    for part in parse(text)? {
        match part {
            Err(literal) => out.push_str(literal),
            Ok(Parameter::Name) => out.push_str(name),
            Ok(Parameter::Label(key)) => {
                let value = labels.and_then(|labels| labels.get(&key)).ok_or_else(|| {
                    format!("template: executing at <.metadata.labels.{key}>: map has no entry for key \"{key}\"")
                })?;
                out.push_str(value);
            }
        }
    }
    Ok(out)
}
