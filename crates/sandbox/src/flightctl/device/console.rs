//! The agent's side of consoles: it starts what the rendered document names, each
//! session once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::link::Link;
use super::runtime::Runtime;
use crate::flightctl::console::noted;

/// The agent remembers an ended session for this long; one that is still noted then
/// is started again.
const REMEMBERED: Duration = Duration::from_mins(5);

/// What a device's agent knows of sessions; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Sessions<R> {
    host: R,
    /// When each ended; `None` while it runs.
    known: Arc<Mutex<BTreeMap<String, Option<Instant>>>>,
}

impl<R: Runtime> Sessions<R> {
    pub(crate) fn new(host: R) -> Self {
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
                    Some(streams) => sessions.host.attend(&metadata, streams).await,
                    None => sessions.host.unattended(&metadata),
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

/// What the agent says at the end of a session.
pub(super) fn status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
    json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "details": {"causes": causes}, "code": code})
}

/// The words of a session's command.
pub(super) fn command(session: &Value) -> Vec<String> {
    let command = &session["command"];
    let args = command["args"].as_array().into_iter().flatten();
    std::iter::once(&command["command"])
        .chain(args)
        .filter_map(|word| Some(word.as_str()?.to_owned()))
        .collect()
}

/// The sessions that a rendered document names.
pub(crate) fn rendered(annotations: &BTreeMap<String, String>) -> Value {
    noted(annotations).into()
}
