//! The agent's side of consoles: it starts what the rendered document names, each
//! session once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::link::Link;
use super::podman;
use super::simulated::Simulated;
use crate::flightctl::console::{ConsoleStreams, noted};

/// The agent remembers an ended session for this long; one that is still noted then
/// is started again.
const REMEMBERED: Duration = Duration::from_mins(5);

/// What a device's agent knows of sessions; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    host: Simulated,
    /// When each ended; `None` while it runs.
    known: Arc<Mutex<BTreeMap<String, Option<Instant>>>>,
}

impl Sessions {
    pub(crate) fn new(host: Simulated) -> Self {
        Self {
            host,
            known: Arc::default(),
        }
    }

    /// A document came.
    pub(crate) fn sync<L: Link>(&self, doc: &Value, link: &Arc<L>) {
        for console in doc["spec"]["consoles"].as_array().into_iter().flatten() {
            let Some(id) = console["sessionID"].as_str().map(str::to_owned) else {
                continue;
            };
            if !self.begin(&id) {
                continue;
            }
            let text = console["sessionMetadata"].as_str().unwrap_or_default();
            let metadata: Value = serde_json::from_str(text).unwrap_or_default();
            let (sessions, link) = (self.clone(), Arc::clone(link));
            tokio::spawn(async move {
                // Without a client the agent starts the command too, with an input
                // that is at its end.
                match link.console(&id).await {
                    Some(streams) => run(&sessions.host, &metadata, streams).await,
                    None => podman::unattended(&sessions.host, &metadata),
                }
                sessions.lock().insert(id, Some(Instant::now()));
            });
        }
    }

    fn begin(&self, id: &str) -> bool {
        let mut known = self.lock();
        known.retain(|_, ended| ended.is_none_or(|at| at.elapsed() < REMEMBERED));
        if known.contains_key(id) {
            return false;
        }
        known.insert(id.to_owned(), None);
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<Instant>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(host: &Simulated, metadata: &Value, streams: ConsoleStreams) {
    let ConsoleStreams {
        stdin,
        mut stdout,
        mut stderr,
        mut status,
        sizes,
        gone,
        end,
    } = streams;
    let session = podman::run(host, metadata, stdin, sizes, &mut stdout, &mut stderr);
    let code = tokio::select! {
        biased;
        () = gone.cancelled() => return,
        code = session => code,
    };
    // Without sudo the agent starts nothing, and says nothing.
    let Some(code) = code else { return };
    let said = if code == 0 {
        json!({"metadata": {}, "status": "Success"})
    } else {
        let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
        json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": causes}, "code": code})
    };
    let _ = status.write_all(said.to_string().as_bytes()).await;
    drop(end);
}

/// The sessions that a rendered document names.
pub(crate) fn rendered(annotations: &BTreeMap<String, String>) -> Value {
    noted(annotations).into()
}
