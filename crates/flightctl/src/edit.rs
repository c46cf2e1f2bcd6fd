//! What someone else changed of an application of ours, for the people who look for
//! them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::marker::{CHANGES_IT, is_empty};

/// Files and fields that a message names, of many: enough to see what it was.
const NAMED: usize = 5;

/// An application of ours that is not as we left it.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    /// As it was found; none where it was taken out.
    pub(crate) found: Option<Value>,
    /// What of its files was changed, in words.
    pub(crate) items: Vec<&'static str>,
}

impl Edit {
    /// What was changed, given the application as it is put back.
    pub(crate) fn words(&self, ours: &Value) -> String {
        let Some(found) = &self.found else {
            return "it was taken out".into();
        };
        let mut all = differences(found, ours);
        all.extend(self.items.iter().map(|&item| item.to_owned()));
        let more = all.len().saturating_sub(NAMED);
        all.truncate(NAMED);
        let mut words = all.join(", ");
        if more > 0 {
            words.push_str(&format!(" and {more} more"));
        }
        words
    }
}

/// Paths of files and names of fields that differ.
fn differences(found: &Value, ours: &Value) -> Vec<String> {
    let (theirs, files) = (files(found), files(ours));
    let paths: BTreeSet<&str> = theirs.keys().chain(files.keys()).copied().collect();
    let mut all: Vec<String> = paths
        .into_iter()
        .filter(|path| theirs.get(path) != files.get(path))
        .map(str::to_owned)
        .collect();
    if found["appType"] != ours["appType"] {
        all.push("appType".into());
    }
    let set = CHANGES_IT.into_iter().filter(|f| !is_empty(found.get(f)));
    all.extend(set.map(str::to_owned));
    all
}

fn files(app: &Value) -> BTreeMap<&str, &str> {
    let files = app["inline"].as_array().into_iter().flatten();
    let named = |file| -> Option<(&str, &str)> {
        let file: &Value = file;
        Some((
            file["path"].as_str()?,
            file["content"].as_str().unwrap_or_default(),
        ))
    };
    files.filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::tests::{application_of, pod};
    use serde_json::json;

    #[test]
    fn an_edit_is_told_by_the_files_and_fields_that_differ() {
        let ours = application_of(&pod(
            json!({"containers": [{"name": "app", "image": "nginx"}]}),
        ));
        let told = |found: Option<&Value>, items: &[&'static str]| {
            let (found, items) = (found.cloned(), items.to_vec());
            Edit { found, items }.words(&ours)
        };
        assert_eq!(told(None, &[]), "it was taken out");
        let mut edited = ours.clone();
        for file in edited["inline"].as_array_mut().unwrap() {
            if file["path"] == "app.container" {
                file["content"] = "[Container]\nImage=evil\n".into();
            }
        }
        edited["runAs"] = "someone".into();
        edited["ofTheFuture"] = 1.into();
        assert_eq!(told(Some(&edited), &[]), "app.container, runAs");
        assert_eq!(told(Some(&ours), &["its variables"]), "its variables");
        let many: Vec<Value> = (0..9)
            .map(|n| json!({"path": format!("{n}"), "content": ""}))
            .collect();
        edited = json!({"name": "a", "appType": "quadlet", "inline": many});
        let words = told(Some(&edited), &[]);
        assert_eq!(words, "0, 1, 2, 3, 4 and 6 more");
    }
}
