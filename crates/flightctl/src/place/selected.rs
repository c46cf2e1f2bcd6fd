//! Which devices a pod asks for: by selector, by name or alias, by `nodeSelector`.

use std::collections::BTreeMap;

use vk_provider::PodRequest;

use super::{Candidate, DEVICE_ID_KEY, DEVICE_KEY, NoPlace, SELECTOR_ANNOTATION};
use crate::select;

/// Of each candidate the first thing the pod asks for that it is not.
pub(super) fn unmet(
    pod: &PodRequest,
    node_labels: &BTreeMap<String, String>,
    candidates: &[Candidate],
) -> Result<Vec<Option<String>>, NoPlace> {
    let mut unmet = vec![None; candidates.len()];
    let ask = |unmet: &mut Vec<Option<String>>, what: &str, is: &dyn Fn(&Candidate) -> bool| {
        for (unmet, candidate) in unmet.iter_mut().zip(candidates) {
            if unmet.is_none() && !is(candidate) {
                *unmet = Some(what.to_owned());
            }
        }
    };
    if let Some(text) = pod.annotation(SELECTOR_ANNOTATION) {
        let selector = select::parse(text)
            .map_err(|e| NoPlace::BadSelector(format!("annotation {SELECTOR_ANNOTATION}: {e}")))?;
        ask(
            &mut unmet,
            &format!("{SELECTOR_ANNOTATION} {text:?}"),
            &|c| select::matches(&selector, &c.labels),
        );
    }
    let mut named = Vec::new();
    if let Some(text) = pod.annotation(DEVICE_KEY) {
        named.push((format!("annotation {DEVICE_KEY}"), text));
    }
    for (key, value) in pod.spec().node_selector.iter().flatten() {
        if node_labels.get(key) == Some(value) || key.contains("kubernetes.io/") {
            continue;
        }
        if key == DEVICE_KEY || key == DEVICE_ID_KEY {
            named.push((format!("nodeSelector {key}"), value.as_str()));
        } else {
            ask(&mut unmet, &format!("nodeSelector {key}={value}"), &|c| {
                c.labels.get(key) == Some(value)
            });
        }
    }
    for (place, text) in named {
        let left = || {
            let left = candidates.iter().zip(&unmet);
            left.filter(|(_, unmet)| unmet.is_none()).map(|(c, _)| c)
        };
        let by_name = left().any(|c| c.name == text);
        let is = |c: &Candidate| match by_name {
            true => c.name == text,
            false => c.alias.as_deref() == Some(text),
        };
        let names: Vec<&str> = left().filter(|c| is(c)).map(|c| c.name.as_str()).collect();
        if names.len() > 1 {
            return Err(NoPlace::BadSelector(format!(
                "{place}: the alias {text:?} is not unique; name one of {}",
                names.join(", ")
            )));
        }
        ask(&mut unmet, &format!("{place} {text:?}"), &is);
    }
    Ok(unmet)
}
