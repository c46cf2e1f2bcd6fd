//! How a version is applied: as a whole, or not at all.

use std::borrow::Borrow;

use super::super::files::Files;
use super::super::link::Link;
use super::super::quadlet::App;
use super::super::runtime::{Rejected, Runtime};
use super::{Agent, Version, element};

/// What of the applications is another in the next version.
struct Change<'a> {
    /// Of this version: those that go and those that are replaced.
    stopped: Vec<&'a App>,
    /// Of the next one: those that come and those that replace.
    new: Vec<&'a App>,
}

impl<'a> Change<'a> {
    fn between(old: &'a [App], desired: &'a [App]) -> Self {
        let other = |apps: &[App], app: &App| {
            find(apps, &app.name).is_none_or(|same| !same.same_content(app))
        };
        Self {
            stopped: old.iter().filter(|app| other(desired, app)).collect(),
            new: desired.iter().filter(|app| other(old, app)).collect(),
        }
    }
}

fn find<'a, A: Borrow<App>>(apps: &'a [A], name: &str) -> Option<&'a App> {
    apps.iter().map(Borrow::borrow).find(|app| app.name == name)
}

impl<L: Link, R: Runtime> Agent<L, R> {
    /// First all files, then all stops one after the other, then all starts; only of
    /// what changed. When something is rejected, what was stopped is started again.
    ///
    /// # Errors
    /// Why it was rejected, in the agent's words.
    pub(super) async fn apply(&mut self, desired: &Version) -> Result<(), String> {
        // Copies: a reboot may interrupt this anywhere.
        let old = self.current.apps.clone();
        let files = self.current.files.clone().unwrap_or_default();
        let config = match &desired.files {
            Some(wanted) => self.runtime.keep(wanted).await.map_err(|path| {
                let path = element(&path);
                format!("config failed for {path}: required resource not found")
            }),
            None => Err("config failed: internal error occurred".to_owned()),
        };
        if let Err(why) = config {
            self.rolling_back().await;
            self.keep_again(&files).await;
            let stays = |old: &App| {
                let mut new = desired.apps.iter().filter(|app| app.name == old.name);
                new.any(|app| app.same_content(old))
            };
            self.start_anew(|old| !stays(old)).await;
            return Err(format!("While ApplyingUpdate: {why}"));
        }
        let change = Change::between(&old, &desired.apps);
        let mut started = Vec::new();
        if self.change(&change, &mut started).await.is_err() {
            self.rolling_back().await;
            self.keep_again(&files).await;
            // It ran before; nobody is left to tell if it does not now.
            let _ = self.change_back(&change, &started).await;
            // The agent names neither the application nor the cause.
            return Err("While Rebooting: unknown failed: an error occurred".into());
        }
        for app in &desired.apps {
            let before = find(&old, &app.name).filter(|before| before.same_content(app));
            if let Some(before) = before {
                self.obey(before, app).await;
            }
        }
        Ok(())
    }

    /// What a version that failed would have changed is started anew as it was, though
    /// nothing of the version was applied: an agent goes back from it as to another one.
    pub(super) async fn start_anew(&self, changed: impl Fn(&App) -> bool) {
        let apps = self.current.apps.iter();
        let changed: Vec<&App> = apps.filter(|app| changed(app)).collect();
        // It ran before; nobody is left to tell if it does not now.
        let _ = self.restart(&changed).await;
    }

    async fn restart(&self, apps: &[&App]) -> Result<(), Rejected> {
        if apps.is_empty() {
            return Ok(());
        }
        self.runtime.place(&[], apps).await?;
        for app in apps {
            self.runtime.remove(&app.name, true).await?;
        }
        self.runtime.reload().await?;
        for app in apps {
            let _ = self.runtime.start(app).await;
        }
        Ok(())
    }

    async fn change<'a>(
        &self,
        change: &Change<'a>,
        started: &mut Vec<&'a App>,
    ) -> Result<(), Rejected> {
        if change.stopped.is_empty() && change.new.is_empty() {
            return Ok(());
        }
        self.runtime.place(&change.stopped, &change.new).await?;
        for app in &change.stopped {
            let for_update = find(&change.new, &app.name).is_some();
            self.runtime.remove(&app.name, for_update).await?;
        }
        self.runtime.reload().await?;
        for app in &change.new {
            self.runtime.start(app).await?;
            started.push(*app);
        }
        Ok(())
    }

    async fn change_back(&self, change: &Change<'_>, started: &[&App]) -> Result<(), Rejected> {
        self.runtime.place(&change.new, &change.stopped).await?;
        for app in started {
            self.runtime.remove(&app.name, false).await?;
        }
        self.runtime.reload().await?;
        for app in &change.stopped {
            let _ = self.runtime.start(app).await;
        }
        Ok(())
    }

    /// The files of the version that goes on: they could be written before.
    async fn keep_again(&self, files: &Files) {
        let _ = self.runtime.keep(files).await;
    }

    /// An operator's stop, start and restart of an unchanged application.
    async fn obey(&self, before: &App, app: &App) {
        if app.stopped && !before.stopped {
            self.runtime.halt(&app.name).await;
        } else if before.stopped && !app.stopped {
            self.runtime.resume(&app.name).await;
        } else if app.restart_generation != before.restart_generation && !app.stopped {
            self.runtime.halt(&app.name).await;
            self.runtime.resume(&app.name).await;
        }
    }
}
