//! What the remote shows, from the backend into the table: its changes as they
//! come, and listings that heal whatever was lost.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use vk_provider::{Backend, BackendError, Change};

use crate::queue::Queue;
use crate::table::Table;
use crate::unending::unending;

/// Between listings: heals lost changes; a listing is one call to the backend.
const LIST_INTERVAL: Duration = Duration::from_secs(60);
/// The same while workloads without a pod wait for the listing that confirms
/// them: they cost something, and pods are synced within seconds.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);
/// Before the remote has been listed once nothing can start: ask again soon.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Deadline of one listing; large estates are paged inside.
const LIST_DEADLINE: Duration = Duration::from_secs(120);

/// Runs until `stop`.
pub(crate) async fn observe(
    backend: Arc<dyn Backend>,
    table: Table,
    queue: Queue,
    stop: CancellationToken,
) {
    let resync = Arc::new(Notify::new());
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow(&backend, &table, &queue, &resync) => {}
        () = list_again_and_again(&*backend, &table, &queue, &resync) => {}
    }
}

async fn follow(backend: &Arc<dyn Backend>, table: &Table, queue: &Queue, resync: &Arc<Notify>) {
    let (backend, again) = (backend.clone(), resync.clone());
    let mut first = true;
    let mut changes = unending("changes", move || {
        if !std::mem::take(&mut first) {
            // What was said meanwhile is lost.
            again.notify_one();
        }
        backend.changes()
    });
    while let Some(change) = changes.next().await {
        match change {
            Change::Facts(facts) => {
                if let Some(uid) = table.observe(*facts, Instant::now()) {
                    queue.mark(&uid);
                }
            }
            Change::Look(key) => {
                table.with(&key.uid, crate::table::Record::reset_back_off);
                queue.mark(&key.uid);
            }
            Change::Resync => resync.notify_one(),
        }
    }
}

async fn list_again_and_again(
    backend: &dyn Backend,
    table: &Table,
    queue: &Queue,
    resync: &Notify,
) {
    let started = Instant::now();
    let mut listed = false;
    loop {
        let wait = match list(backend, table, queue, started).await {
            Ok(true) => {
                listed = true;
                LIST_INTERVAL
            }
            Ok(false) => RETRY_INTERVAL,
            Err(error) => {
                warn!(operation = "list", %error, "listing the remote failed");
                if listed {
                    CONFIRM_INTERVAL
                } else {
                    RETRY_INTERVAL
                }
            }
        };
        let until = Instant::now() + wait;
        // A resync that was asked for meanwhile is kept by the Notify.
        while timeout(wait.min(CONFIRM_INTERVAL), resync.notified())
            .await
            .is_err()
        {
            if Instant::now() >= until || table.wants_listing() {
                break;
            }
        }
    }
}

async fn list(
    backend: &dyn Backend,
    table: &Table,
    queue: &Queue,
    started: Instant,
) -> Result<bool, BackendError> {
    let call = AssertUnwindSafe(backend.list()).catch_unwind();
    let mut listing = match timeout(LIST_DEADLINE, call).await {
        Ok(Ok(answer)) => answer?,
        Ok(Err(_)) => return Err(failed("the backend panicked".into())),
        Err(_) => {
            let message = format!("no listing within {} s", LIST_DEADLINE.as_secs());
            return Err(failed(message));
        }
    };
    // What the process before us did last may be missing from an older one.
    listing.complete &= listing.as_of >= started;
    let complete = listing.complete;
    debug!(pods = listing.pods.len(), complete, "listed the remote");
    table
        .listing(listing)
        .iter()
        .for_each(|uid| queue.mark(uid));
    Ok(complete)
}

fn failed(message: String) -> BackendError {
    BackendError::Unavailable {
        message,
        retry: None,
    }
}
