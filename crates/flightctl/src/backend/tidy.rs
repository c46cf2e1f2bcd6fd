//! Takes out what nobody asks for again: second copies of a pod, applications that
//! came back after they were taken out, and files of pods that have left.

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

/// What is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Application,
    /// What an application of ours has left.
    Files,
}

impl FlightControl {
    /// Runs until dropped.
    pub(super) async fn tidy(&self) {
        let mut contests: HashMap<((String, String), What), Contest> = HashMap::new();
        loop {
            contests.retain(|_, contest| !contest.is_calm());
            let mut due: Vec<_> = {
                let world = self.world();
                let applications = world.surplus().into_iter();
                let files = world.surplus_files().into_iter();
                applications
                    .map(|place| (place, What::Application))
                    .chain(files.map(|place| (place, What::Files)))
                    .collect()
            };
            due.retain(|what| contests.get(what).is_none_or(|c| c.wait().is_none()));
            for what in &due {
                contests.entry(what.clone()).or_default().again();
            }
            stream::iter(due)
                .for_each_concurrent(AT_ONCE, |((device, app), what)| async move {
                    match what {
                        What::Application => self.take_out(device, app).await,
                        What::Files => self.clear(device, app).await,
                    }
                })
                .await;
            sleep(LOOK).await;
        }
    }

    async fn clear(&self, device: String, app: String) {
        match self
            .writers
            .submit(&device, Change::Clear(app.clone()))
            .await
        {
            Ok(written) => {
                info!(
                    operation = "tidy",
                    device, app, "took out the files of a pod that has left"
                );
                self.wrote(&written);
            }
            Err(BackendError::NotFound) => self.world().device_deleted(&device),
            Err(error) => {
                warn!(operation = "tidy", device, app, %error, "the files of a pod that has left stay for now");
            }
        }
    }

    async fn take_out(&self, device: String, app: String) {
        // One that came back while its pod leaves ends as pods do.
        let leaves = {
            let world = self.world();
            world.leaving(&device, &app).is_some() || world.is_ghost(&device, &app)
        };
        let change = if leaves {
            Change::End(app.clone())
        } else {
            Change::Remove(app.clone())
        };
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
