//! What consoles and tests find on the host, and what they change there.

use super::Simulated;
use crate::flightctl::device::files::{Container, Files};
use crate::flightctl::device::podman::Printed;
use crate::flightctl::device::quadlet::Kind;

impl Simulated {
    /// A running container.
    pub(crate) fn container(&self, app: &str, name: &str) -> Option<Container> {
        let host = self.0.host();
        let started = host.apps.get(app)?.started.get(name)?;
        Some(started.seen(&host.disk))
    }

    /// The same, by the name that podman knows it by.
    pub(crate) fn inside(&self, container: &str) -> Option<Container> {
        let host = self.0.host();
        let (app, name) = host.container(container)?;
        let started = host.apps.get(app)?.started.get(name)?;
        Some(started.seen(&host.disk))
    }

    /// A process in a container writes a file.
    pub(crate) fn write_into(&self, container: &str, path: &str, content: Vec<u8>) {
        let mut host = self.0.host();
        let place = host.container(container);
        let Some((app, name)) = place.map(|(app, name)| (app.to_owned(), name.to_owned())) else {
            return;
        };
        let app = host.apps.get_mut(&app);
        if let Some(started) = app.and_then(|app| app.started.get_mut(&name)) {
            started.write(path, content);
        }
    }

    /// Whether a container runs, by the name that podman knows it by.
    pub(crate) fn is_running(&self, container: &str) -> bool {
        self.0.host().container(container).is_some()
    }

    /// Which run of a container is the present one.
    pub(crate) fn run_of(&self, container: &str) -> Option<usize> {
        let host = self.0.host();
        let (app, name) = host.container(container)?;
        let unit =
            host.apps.get(app)?.units.values().find(
                |run| matches!(&run.unit.kind, Kind::Container { name: own, .. } if own == name),
            );
        unit.map(|unit| unit.runs.saturating_sub(1))
    }

    /// What a container wrote in all its runs, as far as it is kept.
    pub(crate) fn printed(&self, container: &str) -> Vec<Printed> {
        self.0.host().printed.of(container)
    }

    /// Completes when a container wrote something or ended after this call.
    pub(crate) fn logged(&self) -> impl Future<Output = ()> + use<> {
        let mut logged = self.0.logged.subscribe();
        async move {
            // The host outlives whoever asks.
            let _ = logged.changed().await;
        }
    }

    pub(crate) fn has_sudo(&self) -> bool {
        !self.0.host().no_sudo
    }

    pub(crate) fn set_replays(&self) {
        self.0.host().replays = true;
    }

    pub(crate) fn remove_sudo(&self) {
        self.0.host().no_sudo = true;
    }

    pub(crate) fn note_command(&self, command: &str) {
        self.0.host().commands.push(command.to_owned());
    }

    pub(crate) fn commands(&self) -> Vec<String> {
        self.0.host().commands.all()
    }

    /// The files of the device's config.
    pub(crate) fn files(&self) -> Files {
        self.0.host().disk.files.clone()
    }
}
