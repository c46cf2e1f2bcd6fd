//! The long poll for rendered documents.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::render;
use super::reply::Refusal;
use super::store::Shared;

/// How long a poll waits for something new (`renderedWaitTimeout`).
pub(crate) const LONG_POLL: Duration = Duration::from_mins(2);

/// Takes the device's one place in the waiting list when the poll ends, be it
/// its own or a later poll's: the service unsubscribes by name.
struct Unsubscribe<'a>(&'a Arc<Shared>, &'a str);

impl Drop for Unsubscribe<'_> {
    fn drop(&mut self) {
        let Self(shared, name) = *self;
        shared.transact(|store, _| store.waiters.remove(name));
    }
}

impl Shared {
    /// `GET …/rendered`. With a known version it waits for another one; `None`
    /// is 204. An agent's poll is its heartbeat, a user's takes the agent's
    /// wake-up: there is one waiter per device, the newest.
    pub(crate) async fn rendered(
        self: &Arc<Self>,
        name: &str,
        known: Option<&str>,
        agent: bool,
    ) -> Result<Option<Value>, Refusal> {
        let waiting = self.transact(|store, now| {
            let Some(row) = store.devices.get_mut(name) else {
                return Err(Refusal::not_found("Device", name));
            };
            if agent {
                row.heartbeat = Some(now);
            }
            // An agent that was enrolled a moment ago waits for its first version.
            let first = agent && row.rendered.is_none();
            // An agent is told of sessions whatever version it knows.
            let news = agent && std::mem::take(&mut row.console_news);
            if news {
                return Ok(None);
            }
            if !first && known.is_none_or(|known| known != render::version(row)) {
                return Ok(None);
            }
            let (wake, woken) = oneshot::channel();
            store.waiters.insert(name.into(), wake);
            Ok(Some(woken))
        })?;
        if let Some(woken) = waiting {
            let _unsubscribe = Unsubscribe(self, name);
            let deadline = Instant::now() + LONG_POLL;
            match timeout_at(deadline, woken).await {
                Ok(Ok(())) => {}
                Ok(Err(_replaced)) => {
                    sleep_until(deadline).await;
                    return Ok(None);
                }
                Err(_elapsed) => return Ok(None),
            }
        }
        self.transact(|store, _| {
            if agent && let Some(row) = store.devices.get_mut(name) {
                row.console_news = false;
            }
            let row = store.device(name)?;
            match render::document(row) {
                Some(doc) => Ok(Some(doc)),
                None if agent => Ok(None),
                None => Err(Refusal::conflict("no rendered version for device")),
            }
        })
    }
}
