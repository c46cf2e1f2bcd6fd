//! One bad application holds up all others of its device: it gives way to them.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use tokio::time::sleep;
use tracing::{info, warn};
use vk_provider::BackendError;

use super::FlightControl;
use crate::contest::Contest;
use crate::placed::WayBack;
use crate::world::GivesWay;
use crate::writer::Change;

/// Between looks at what devices say: they are read as often.
const LOOK: Duration = Duration::from_secs(1);
/// Devices at once; the writers bound what reaches the service.
const AT_ONCE: usize = 32;

impl FlightControl {
    /// Runs until dropped.
    pub(super) async fn heal(&self) {
        // Of devices that could not be written.
        let mut failing: HashMap<String, Contest> = HashMap::new();
        loop {
            failing.retain(|_, contest| !contest.is_calm());
            let mut judged = self.world().judge();
            judged.retain(|(device, _)| failing.get(device).is_none_or(|c| c.wait().is_none()));
            let written: Vec<(String, bool)> = stream::iter(judged)
                .map(|(device, give_way)| async move {
                    // Together they are one write.
                    let all = give_way.iter().map(|one| self.give_way(&device, one));
                    let written = join_all(all).await.iter().all(|written| *written);
                    (device, written)
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            for (device, written) in written {
                if written {
                    failing.remove(&device);
                } else {
                    failing.entry(device).or_default().again();
                }
            }
            self.wake.notify_one();
            sleep(LOOK).await;
        }
    }

    /// Whether it is out of the way.
    async fn give_way(&self, device: &str, one: &GivesWay) -> bool {
        let app = one.app.as_str();
        let change = match &one.how {
            WayBack::Restore(before) => Change::Restore(before.clone()),
            WayBack::End => Change::End(app.to_owned()),
            WayBack::Remove => Change::Remove(app.to_owned()),
        };
        match self.writers.submit(device, change).await {
            Ok(written) => {
                info!(
                    operation = "heal",
                    device, app, "gives way: the device does not take it"
                );
                self.world().gave_way(device, one, written.after);
                self.wrote(&written);
                true
            }
            Err(BackendError::NotFound) => {
                self.world().device_deleted(device);
                true
            }
            Err(error) => {
                warn!(operation = "heal", device, app, %error, "holds up its neighbours for now");
                false
            }
        }
    }
}
