//! Takes out what nobody asks for again: second copies of a pod, and
//! applications that came back after they were taken out.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::sleep;
use tracing::{info, warn};
use vk_provider::BackendError;

use super::FlightControl;
use crate::contest::Contest;
use crate::placed::Stage;
use crate::writer::Change;

/// Between looks at what the world holds too much: a set that is nearly always
/// empty.
const LOOK: Duration = Duration::from_secs(1);
/// Removals under way at once; the writers bound what reaches the service.
const AT_ONCE: usize = 32;

impl FlightControl {
    /// Runs until dropped.
    pub(super) async fn tidy(&self) {
        let mut contests: HashMap<(String, String), Contest> = HashMap::new();
        loop {
            contests.retain(|_, contest| !contest.is_calm());
            let mut due = self.world().surplus();
            due.retain(|place| contests.get(place).is_none_or(|c| c.wait().is_none()));
            for place in &due {
                contests.entry(place.clone()).or_default().again();
            }
            stream::iter(due)
                .for_each_concurrent(AT_ONCE, |(device, app)| self.take_out(device, app))
                .await;
            sleep(LOOK).await;
        }
    }

    async fn take_out(&self, device: String, app: String) {
        let change = Change::Remove(app.clone());
        match self.writers.submit(&device, change).await {
            Ok(written) => {
                info!(
                    operation = "tidy",
                    device, app, "took out an application that must not run there"
                );
                {
                    let mut world = self.world();
                    if let Some(uid) = world.leaving(&device, &app) {
                        world.with_pod(&uid, |placed| {
                            placed.shown_anew();
                            placed.stage = Stage::Removed {
                                version: None,
                                after: written.after,
                            };
                        });
                    }
                }
                self.wrote(&written);
            }
            Err(BackendError::NotFound) => self.world().device_deleted(&device),
            Err(error) => {
                warn!(operation = "tidy", device, app, %error, "an application that must not run there stays for now");
            }
        }
    }
}
