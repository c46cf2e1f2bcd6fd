//! Label selectors as text, in Kubernetes' grammar:
//! `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt};

/// A text that is no label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a label selector: {why}; write for example fleet=paris or zone in (a,b)")]
pub struct SelectorError {
    text: String,
    why: String,
}

/// Parses a selector; the empty text selects everything.
///
/// # Errors
/// The text is not in the grammar.
pub fn parse(text: &str) -> Result<Selector, SelectorError> {
    let fail = |why: &str| SelectorError {
        text: text.into(),
        why: why.into(),
    };
    let mut expressions = Vec::new();
    for part in split(text).ok_or_else(|| fail("parentheses do not match"))? {
        let part = part.trim();
        if part.is_empty() {
            if text.trim().is_empty() {
                continue;
            }
            return Err(fail("a requirement is empty"));
        }
        expressions.push(expression(part).map_err(|why| fail(&why))?);
    }
    Ok(expressions.into_iter().collect())
}

/// Whether labels match.
pub fn matches(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches(labels)
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (depth == 0).then_some(parts)
}

fn expression(part: &str) -> Result<Expression, String> {
    if let Some(name) = part.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(name)?));
    }
    if let Some((name, value)) = part.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, label_value(value)?));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, label_value(value)?));
    }
    let mut words = part.splitn(2, char::is_whitespace);
    let name = words.next().unwrap_or_default();
    let Some(rest) = words.next().map(str::trim) else {
        if let Some((name, _)) = part.split_once('(') {
            return Err(format!(
                "{name:?} needs the word in or notin before its list"
            ));
        }
        return Ok(Expression::Exists(key(name)?));
    };
    for (word, negative) in [("notin", true), ("in", false)] {
        if let Some(list) = rest.strip_prefix(word) {
            let list = list
                .trim()
                .strip_prefix('(')
                .and_then(|l| l.strip_suffix(')'))
                .ok_or_else(|| format!("{word} needs a list in parentheses"))?;
            let values = list.split(',').map(label_value).collect::<Result<_, _>>()?;
            return Ok(if negative {
                Expression::NotIn(key(name)?, values)
            } else {
                Expression::In(key(name)?, values)
            });
        }
    }
    Err(format!("{rest:?} is no operator"))
}

fn key(text: &str) -> Result<String, String> {
    let text = text.trim();
    is_label_key(text)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} is not a label key"))
}

fn label_value(text: &str) -> Result<String, String> {
    let text = text.trim();
    is_label_value(text)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} is not a label value"))
}

/// A label key by Kubernetes' rules: optional DNS prefix, `/`, a name of 63.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
pub fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let dns = |p: &str| {
        !p.is_empty()
            && p.len() <= 253
            && p.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            })
    };
    prefix.is_none_or(dns) && !name.is_empty() && is_label_value(name)
}

/// A label value by Kubernetes' rules: empty, or 63 of `[A-Za-z0-9._-]` that
/// begins and ends with a letter or digit.
pub fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.is_empty()
        || (text.len() <= 63
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && edge(text.chars().next())
            && edge(text.chars().last()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selects(text: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        matches(&parse(text).unwrap(), &labels)
    }

    #[test]
    fn selects_as_kubectl_selects() {
        let labels = [("fleet", "paris"), ("zone", "a")];
        for text in [
            "",
            "fleet=paris",
            "fleet==paris,zone in (a,b)",
            "zone",
            "!gone",
            "zone!=b",
            "zone notin (b,c)",
        ] {
            assert!(selects(text, &labels), "{text}");
        }
        for text in [
            "fleet=rome",
            "zone in (b)",
            "!zone",
            "gone",
            "zone!=a",
            "zone notin (a)",
        ] {
            assert!(!selects(text, &labels), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_selector() {
        for text in [
            "a=b,", "a in b", "a in (b", "a b c", "=b", "a=b c", "-a=b", "a(b)",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text in ".*") {
            let _ = parse(&text);
        }
    }
}
