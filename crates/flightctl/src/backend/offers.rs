//! What is offered where the configuration allows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::FlightControl;
use crate::console::{Console, Consoles};

impl FlightControl {
    /// The same backend, which offers logs and processes through the consoles of
    /// these devices.
    #[must_use]
    pub fn with_consoles(mut self, consoles: Consoles) -> Self {
        self.console = consoles.any().then(|| {
            Console::new(
                consoles,
                self.client.clone(),
                self.world.clone(),
                self.writers.clone(),
                self.follower.clone(),
            )
        });
        self
    }

    /// The same backend, which lets pods of these namespaces get hold of their
    /// devices (`privileged`, `hostPID` and the like).
    #[must_use]
    pub fn with_privileged(mut self, namespaces: BTreeSet<String>) -> Self {
        self.privileged = Arc::new(namespaces);
        self
    }
}
