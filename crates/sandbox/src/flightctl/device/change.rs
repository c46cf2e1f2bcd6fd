//! What an update changes of a device's applications.

use std::borrow::Borrow;

use super::quadlet::App;

/// What of the applications is another in the next version.
pub(super) struct Change<'a> {
    /// Of this version: those that go and those that are replaced.
    pub(super) stopped: Vec<&'a App>,
    /// Of the next one: those that come and those that replace.
    pub(super) new: Vec<&'a App>,
}

impl<'a> Change<'a> {
    pub(super) fn between(old: &'a [App], desired: &'a [App]) -> Self {
        let other = |apps: &[App], app: &App| {
            find(apps, &app.name).is_none_or(|same| !same.same_content(app))
        };
        Self {
            stopped: old.iter().filter(|app| other(desired, app)).collect(),
            new: desired.iter().filter(|app| other(old, app)).collect(),
        }
    }
}

pub(super) fn find<'a, A: Borrow<App>>(apps: &'a [A], name: &str) -> Option<&'a App> {
    apps.iter().map(Borrow::borrow).find(|app| app.name == name)
}
