//! What the downward API says in files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector, ResourceRequirements};

use crate::downward::{List, Wanted, subscript};
use crate::quantity::{Amount, Resources};

/// A field of the pod, as a volume may name it.
///
/// # Errors
/// There is no such field for a volume; in the kubelet's words.
pub(super) fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    let value = |map: &Option<BTreeMap<String, String>>, key: &str| {
        let value = map.as_ref().and_then(|map| map.get(key));
        Ok(value.cloned().unwrap_or_default())
    };
    if let Some((map, key)) = subscript(path) {
        return match map {
            "metadata.annotations" => value(&meta.annotations, key),
            "metadata.labels" => value(&meta.labels, key),
            _ => Err(format!("fieldPath {path:?} does not support subscript")),
        };
    }
    let text = match path {
        "metadata.annotations" => return Ok(lines(meta.annotations.as_ref())),
        "metadata.labels" => return Ok(lines(meta.labels.as_ref())),
        "metadata.name" => &meta.name,
        "metadata.namespace" => &meta.namespace,
        "metadata.uid" => &meta.uid,
        _ => return Err(format!("unsupported fieldPath: {path}")),
    };
    Ok(text.clone().unwrap_or_default())
}

/// `key="value"` per line, sorted by key, nothing at the end.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    lines.join("\n")
}

/// A string as Go's `strconv.Quote` writes it.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\x7f' => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c if c.is_ascii() || is_printable(c) => quoted.push(c),
            c if u32::from(c) < 0x10000 => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Letters, marks, numbers, punctuation and symbols, as in Go. The standard
/// library tells only while it escapes, and a mark only after another character.
fn is_printable(c: char) -> bool {
    !format!("x{c}").escape_debug().any(|e| e == '\\')
}

/// A resource of a container, in units of the divisor, rounded up.
///
/// # Errors
/// There is no such container, resource or divisor; in the kubelet's words.
pub(super) fn resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    allocatable: &Resources,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let found = container_resources(pod, name);
    let resources = found.ok_or_else(|| format!("container {name} not found"))?;
    let named = &selector.resource;
    let wanted = Wanted::of(selector);
    let wanted = wanted.ok_or_else(|| format!("unsupported container resource : {named}"))?;
    let amount = match wanted.declared(resources) {
        Amount::ZERO if wanted.list == List::Limits && wanted.may_lack_limit() => {
            allocatable.get(wanted.resource)
        }
        amount => amount,
    };
    let numbers = wanted.numbers(amount, selector);
    let (amount, divisor) = numbers.map_err(|why| why.to_string())?;
    if divisor <= 0 {
        return Err(format!("the divisor of {named} has to be positive"));
    }
    let rest = i128::from(amount.rem_euclid(divisor) != 0);
    Ok((amount.div_euclid(divisor) + rest).to_string())
}

/// The resources of a regular or init container: `None` if there is no such one.
fn container_resources<'a>(pod: &'a Pod, name: &str) -> Option<Option<&'a ResourceRequirements>> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.find(|c| c.name == name).map(|c| c.resources.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_quotes_them() {
        for (text, quoted) in [
            ("plain text", r#""plain text""#),
            ("", r#""""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            ("\0\x1b\x7f", r#""\x00\x1b\x7f""#),
            ("it's é ☺ 界 e\u{301}", "\"it's é ☺ 界 e\u{301}\""),
            (
                "\u{85}\u{a0}\u{200b}\u{feff}",
                r#""\u0085\u00a0\u200b\ufeff""#,
            ),
            ("\u{10ffff}", r#""\U0010ffff""#),
        ] {
            assert_eq!(quote(text), quoted, "{text:?}");
        }
    }
}
