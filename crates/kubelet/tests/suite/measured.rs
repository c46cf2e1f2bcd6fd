//! What the remote measures, where a test says so.

use async_trait::async_trait;
use vk_provider::stats::NodeStats;
use vk_provider::{BackendError, Stats};

use super::Remote;

/// `None`: it measures nothing.
pub type Measured = Option<Result<NodeStats, BackendError>>;

impl Remote {
    /// What it answers from now on.
    pub fn measures(&self, measured: Measured) {
        self.lock().measured = measured;
    }
}

#[async_trait]
impl Stats for Remote {
    async fn stats(&self, _node: &str) -> Result<NodeStats, BackendError> {
        let measured = self.lock().measured.clone();
        measured.unwrap_or(Err(BackendError::NotFound))
    }
}
