//! Label and field selectors: what parses, what is refused, what matches.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::reply::Refusal;
use crate::terms::terms;

/// A field of an object, for selection.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    /// Text, or not there.
    Text(Option<String>),
    /// A time: compared as such, whatever its precision in the selector.
    Time(Timestamp),
    /// Either of two texts.
    Either(String, Option<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Is,
    Not,
    In,
    NotIn,
    Contains,
    NotContains,
    Over,
    OverOrIs,
    Under,
    UnderOrIs,
    Exists,
    Absent,
}

#[derive(Clone, Debug)]
struct Term {
    key: String,
    op: Op,
    values: Vec<String>,
}

/// All terms must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector(Vec<Term>);

/// A label selector in Kubernetes' grammar.
pub(crate) fn labels(text: Option<&str>) -> Result<Selector, Refusal> {
    let bad = |why: &str| Refusal::bad_request(format!("failed to parse label selector: {why}"));
    let terms = parse(text.unwrap_or_default()).map_err(|why| bad(&why))?;
    for term in &terms {
        if matches!(
            term.op,
            Op::Over | Op::OverOrIs | Op::Under | Op::UnderOrIs | Op::Contains | Op::NotContains
        ) {
            return Err(bad(&format!(
                "operator is not supported for labels: {}",
                term.key
            )));
        }
        let label_char = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if !term.key.chars().all(label_char) {
            return Err(bad(&format!("invalid label key {:?}", term.key)));
        }
    }
    Ok(Selector(terms))
}

/// A field selector over the given fields.
pub(crate) fn fields(text: Option<&str>, known: &[&str]) -> Result<Selector, Refusal> {
    let terms = parse(text.unwrap_or_default())
        .map_err(|why| Refusal::bad_request(format!("failed to parse field selector: {why}")))?;
    for term in &terms {
        if !known.contains(&term.key.as_str()) {
            return Err(Refusal::bad_request(format!(
                "unknown or unsupported selector: unable to resolve selector name \"{}\". Supported selectors are: [{}]",
                term.key,
                known.join(" ")
            )));
        }
        if term.key.ends_with("Timestamp") {
            for value in &term.values {
                value.parse::<Timestamp>().map_err(|error| {
                    Refusal::bad_request(format!(
                        "failed to parse value for selector \"{}\": {error}",
                        term.key
                    ))
                })?;
            }
        }
    }
    Ok(Selector(terms))
}

impl Selector {
    pub(crate) fn matches(&self, field: impl Fn(&str) -> Field) -> bool {
        self.0.iter().all(|term| match field(&term.key) {
            Field::Text(value) => term.holds(value.as_deref()),
            Field::Time(at) => term.holds_at(at),
            Field::Either(one, other) => {
                term.holds(Some(&one)) || other.is_some_and(|other| term.holds(Some(&other)))
            }
        })
    }

    pub(crate) fn matches_labels(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches(|key| Field::Text(labels.and_then(|labels| labels.get(key)).cloned()))
    }
}

impl Term {
    fn holds(&self, value: Option<&str>) -> bool {
        let first = self.values.first().map_or("", String::as_str);
        let listed = |value: &str| self.values.iter().any(|one| one == value);
        match self.op {
            Op::Is => value == Some(first),
            Op::Not => value != Some(first),
            Op::In => value.is_some_and(listed),
            Op::NotIn => !value.is_some_and(listed),
            Op::Contains => value.is_some_and(|value| value.contains(first)),
            Op::NotContains => !value.is_some_and(|value| value.contains(first)),
            Op::Over => value.is_some_and(|value| value > first),
            Op::OverOrIs => value.is_some_and(|value| value >= first),
            Op::Under => value.is_some_and(|value| value < first),
            Op::UnderOrIs => value.is_some_and(|value| value <= first),
            Op::Exists => value.is_some(),
            Op::Absent => value.is_none(),
        }
    }

    fn holds_at(&self, at: Timestamp) -> bool {
        let times: Vec<Timestamp> = self
            .values
            .iter()
            .filter_map(|value| value.parse().ok())
            .collect();
        let compare = |ok: fn(&Timestamp, &Timestamp) -> bool| {
            times.first().is_some_and(|time| ok(&at, time))
        };
        match self.op {
            Op::Is | Op::In => times.contains(&at),
            Op::Not | Op::NotIn => !times.contains(&at),
            Op::Over => compare(Timestamp::gt),
            Op::OverOrIs => compare(Timestamp::ge),
            Op::Under => compare(Timestamp::lt),
            Op::UnderOrIs => compare(Timestamp::le),
            Op::Exists => true,
            Op::Contains | Op::NotContains | Op::Absent => false,
        }
    }
}

fn parse(text: &str) -> Result<Vec<Term>, String> {
    terms(text)
        .into_iter()
        .filter(|part| !part.trim().is_empty())
        .map(|part| term(part.trim()))
        .collect()
}

fn term(text: &str) -> Result<Term, String> {
    let made = |key: &str, op, values: Vec<&str>| Term {
        key: key.trim().into(),
        op,
        values: values.into_iter().map(|v| v.trim().to_owned()).collect(),
    };
    if let Some(key) = text.strip_prefix('!') {
        return Ok(made(key, Op::Absent, Vec::new()));
    }
    for (word, op) in [
        ("!=", Op::Not),
        ("==", Op::Is),
        (">=", Op::OverOrIs),
        ("<=", Op::UnderOrIs),
        ("=", Op::Is),
        (">", Op::Over),
        ("<", Op::Under),
    ] {
        if let Some((key, value)) = text.split_once(word)
            && !key.contains('(')
        {
            if key.trim().is_empty() {
                return Err(format!("no key before {word:?} in {text:?}"));
            }
            return Ok(made(key, op, vec![value]));
        }
    }
    let Some((key, rest)) = text.split_once(char::is_whitespace) else {
        return Ok(made(text, Op::Exists, Vec::new()));
    };
    let rest = rest.trim();
    for (word, op) in [("notin", Op::NotIn), ("in", Op::In)] {
        if let Some(list) = rest.strip_prefix(word).map(str::trim)
            && let Some(list) = list.strip_prefix('(').and_then(|l| l.strip_suffix(')'))
        {
            return Ok(made(key, op, list.split(',').collect()));
        }
    }
    for (word, op) in [
        ("notcontains ", Op::NotContains),
        ("contains ", Op::Contains),
    ] {
        if let Some(value) = rest.strip_prefix(word) {
            return Ok(made(key, op, vec![value]));
        }
    }
    match rest {
        "exists" => Ok(made(key, Op::Exists, Vec::new())),
        _ => Err(format!(
            "unable to parse requirement: found {rest:?}, expected: in, notin, =, ==, !="
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn label_selectors_follow_the_kubernetes_grammar() {
        let here = set(&[("fleet", "x"), ("zone", "a")]);
        for (text, hit) in [
            ("fleet=x", true),
            ("fleet==x,zone!=b", true),
            ("fleet in (x, y),zone", true),
            ("fleet notin (x)", false),
            ("!gone", true),
            ("gone", false),
            ("", true),
        ] {
            let selector = labels(Some(text)).unwrap();
            assert_eq!(selector.matches_labels(Some(&here)), hit, "{text}");
        }
        assert!(labels(Some("i>3")).is_err());
        assert!(labels(Some("a b c")).is_err());
    }

    #[test]
    fn an_unknown_field_is_refused_by_name_with_what_is_supported() {
        let refusal = fields(Some("lastSeen<2026-01-01"), &["metadata.name"]).unwrap_err();
        assert_eq!(
            refusal.message,
            "unknown or unsupported selector: unable to resolve selector name \"lastSeen\". Supported selectors are: [metadata.name]"
        );
        assert!(fields(Some("metadata.name in (a,b)"), &["metadata.name"]).is_ok());
    }

    #[test]
    fn times_compare_as_times_and_not_as_text() {
        let at: Timestamp = "2026-11-21T04:00:00.5Z".parse().unwrap();
        let known = ["metadata.creationTimestamp"];
        for (text, hit) in [
            (
                "metadata.creationTimestamp>=2026-11-21T04:00:00.500000Z",
                true,
            ),
            ("metadata.creationTimestamp>2026-11-21T04:00:00Z", true),
            ("metadata.creationTimestamp<2026-11-21T04:00:00Z", false),
        ] {
            let selector = fields(Some(text), &known).unwrap();
            assert_eq!(selector.matches(|_| Field::Time(at)), hit, "{text}");
        }
        assert!(fields(Some("metadata.creationTimestamp>yesterday"), &known).is_err());
    }
}
