//! A kubelet process over the suite's backend in memory.

use std::ops::{Deref, DerefMut};

use serde_json::json;
use virtual_kubelet::ApiSettings;
use vk_provider::Clock;

pub use crate::served::{NODE, Served, TOKEN, request};
use crate::suite::memory::Remote;

pub struct Rig {
    pub remote: Remote,
    served: Served,
}

impl Deref for Rig {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Served {
        &mut self.served
    }
}

impl Rig {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One whose settings are changed first.
    pub async fn with(change: impl FnOnce(&mut ApiSettings)) -> Self {
        Self::of(&[NODE], change).await
    }

    /// One with these nodes, of which [`NODE`] is one.
    pub async fn of(nodes: &[&str], change: impl FnOnce(&mut ApiSettings)) -> Self {
        let clock = Clock::live();
        let remote = Remote::new(clock.clone(), nodes);
        let served = Served::start(remote.backend(), clock, change).await;
        Self { remote, served }
    }

    /// A pod that runs.
    pub async fn runs(&self, name: &str) -> String {
        self.runs_with(name, false).await
    }

    /// The same, with an input and a terminal or without.
    pub async fn runs_with(&self, name: &str, terminal: bool) -> String {
        let app = json!({"name": "app", "image": "app:1", "stdin": terminal, "tty": terminal});
        self.served.runs_pod(name, json!([app])).await
    }

    /// Ends the process.
    pub async fn end(self) {
        self.served.end().await;
    }
}
