//! Watches: a stream of changes from a revision on, through a scope.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use super::Cluster;
use super::list::{ListOptions, Scope, is_set, revision};
use super::reads::Opened;
use super::status::{ApiError, FieldError};
use super::store::Change;
use super::view::View;
use crate::faults::{Effect, latency};

/// How often a quiet watch is told the revision, as in the real server.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lives that names no end: the real server's
/// `--min-request-timeout`.
const DEFAULT_LIFE: Duration = Duration::from_secs(1800);
/// Chunks a slow reader may lag behind before the watch waits for it.
const CHUNKS: usize = 16;

/// One watch while it is served.
#[derive(Debug)]
struct Watch {
    cluster: Cluster,
    scope: Scope,
    view: View,
    path: String,
    /// Changes up to here were sent.
    seen: u64,
    /// What a fault rule makes of them.
    fault: Option<Effect>,
    chunks: mpsc::Sender<Result<Bytes, std::convert::Infallible>>,
    /// Counts it for as long as it is served.
    _opened: Opened,
}

/// The reader went away, or the watch is over.
struct Over;

impl Cluster {
    /// Answers a watch. `path` is what fault rules match.
    pub(crate) fn watch_objects(
        &self,
        scope: Scope,
        options: &ListOptions,
        view: View,
        path: String,
    ) -> Result<Response, ApiError> {
        let streaming_list = is_set(options.send_initial_events.as_ref());
        if streaming_list && options.resource_version_match != "NotOlderThan" {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            let error = FieldError::forbidden("resourceVersionMatch", detail);
            return Err(ApiError::invalid(scope.resource, "", &[error]));
        }
        let from = revision(&options.resource_version)?;
        let (chunks, body) = mpsc::channel(CHUNKS);
        let watch = Watch {
            _opened: self.opened(&scope),
            cluster: self.clone(),
            scope,
            view,
            path,
            seen: from,
            fault: None,
            chunks,
        };
        let initial = from == 0 || streaming_list;
        let bookmarks = is_set(options.allow_watch_bookmarks.as_ref());
        let life = options
            .timeout_seconds
            .map_or(DEFAULT_LIFE, Duration::from_secs);
        tokio::spawn(watch.run(initial, streaming_list, bookmarks, life));
        let body = Body::from_stream(ReceiverStream::new(body));
        let mut response = Response::new(body);
        response.headers_mut().insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }
}

impl Watch {
    async fn run(mut self, initial: bool, streaming_list: bool, bookmarks: bool, life: Duration) {
        let faults = self.cluster.faults().clone();
        // Registered before the rules are first read, so that none is missed.
        let mut changed = Box::pin(faults.changed());
        let _ = futures::poll!(changed.as_mut());
        if self.obey(faults.on_watch(&self.path)).await.is_err() {
            return;
        }
        let mut news = self.cluster.store().changes();
        let end = Instant::now() + life;
        let mut bookmark = Instant::now() + BOOKMARK_EVERY;
        if initial
            && self
                .send_existing(streaming_list && bookmarks)
                .await
                .is_err()
        {
            return;
        }
        loop {
            news.mark_unchanged();
            let told = match self.fault {
                // The real server, too, bookmarks nothing that it has not told.
                Some(Effect::WatchBookmarksOnly) => {
                    let object = self.view.bookmark(self.seen, false);
                    self.send("BOOKMARK", &object).await
                }
                _ => self.send_changes().await,
            };
            if told.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = self.chunks.closed() => return,
                () = changed.as_mut() => {
                    changed = Box::pin(faults.changed());
                    let _ = futures::poll!(changed.as_mut());
                    if self.obey(faults.on_watch(&self.path)).await.is_err() {
                        return;
                    }
                }
                end = news.changed() => if end.is_err() { return },
                () = sleep_until(bookmark), if bookmarks => {
                    bookmark += BOOKMARK_EVERY;
                    let object = self.view.bookmark(self.seen, false);
                    if self.send("BOOKMARK", &object).await.is_err() {
                        return;
                    }
                }
                () = sleep_until(end) => return,
            }
        }
    }

    /// What a fault rule does to this watch.
    async fn obey(&mut self, effect: Option<Effect>) -> Result<(), Over> {
        match effect {
            Some(Effect::WatchClose) => Err(Over),
            Some(Effect::WatchGone) => {
                let gone = ApiError::expired("The resourceVersion is too old (a fault rule)");
                self.send("ERROR", &gone.body()).await?;
                Err(Over)
            }
            Some(Effect::WatchStall) => {
                // Stalled for good: whoever reads must notice and hang up.
                self.chunks.closed().await;
                Err(Over)
            }
            other => {
                self.fault = other;
                Ok(())
            }
        }
    }

    async fn send_existing(&mut self, mark_end: bool) -> Result<(), Over> {
        let (revision, objects) = self.cluster.store().read(|state| {
            let objects: Vec<Arc<Value>> = self
                .scope
                .select(state)
                .map(|(_, o)| Arc::clone(o))
                .collect();
            (state.revision(), objects)
        });
        let mut text = Vec::new();
        for object in objects {
            self.line(&mut text, "ADDED", &object);
        }
        self.seen = revision;
        if mark_end {
            encode(&mut text, "BOOKMARK", &self.view.bookmark(revision, true));
        }
        self.flush(text).await
    }

    async fn send_changes(&mut self) -> Result<(), Over> {
        if let Some(Effect::WatchLag(millis)) = self.fault {
            sleep(latency(millis)).await;
        }
        let changes = self
            .cluster
            .store()
            .read(|state| (state.revision(), state.since(self.seen)));
        let (revision, changes) = match changes {
            (revision, Ok(changes)) => (revision, changes),
            (_, Err(too_old)) => {
                let text = format!(
                    "too old resource version: {} ({})",
                    self.seen, too_old.oldest
                );
                self.send("ERROR", &ApiError::expired(text).body()).await?;
                return Err(Over);
            }
        };
        let mut text = Vec::new();
        for change in changes {
            let Some(kind) = self.translate(&change) else {
                continue;
            };
            match &change.old {
                // It left the selection: shown as it last was inside.
                Some(old) if kind == "DELETED" && !change.deleted => {
                    let mut last = Value::clone(old);
                    last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                    self.line(&mut text, kind, &last);
                }
                _ => self.line(&mut text, kind, &change.new),
            }
            if self.fault == Some(Effect::WatchRepeat) {
                self.line(&mut text, kind, &change.new);
                if let (Some(old), "MODIFIED") = (&change.old, kind) {
                    self.line(&mut text, kind, old);
                }
            }
        }
        // A watch from the future stays there until the present reaches it.
        self.seen = self.seen.max(revision);
        self.flush(text).await
    }

    /// What the change is for a client that sees only the selected objects.
    fn translate(&self, change: &Change) -> Option<&'static str> {
        let namespace = super::object::namespace(&change.new);
        if !self.scope.covers(change.resource, namespace) {
            return None;
        }
        let was = change
            .old
            .as_ref()
            .is_some_and(|old| self.scope.selects(old));
        let is = !change.deleted && self.scope.selects(&change.new);
        match (was, is) {
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, true) => Some("ADDED"),
            (false, false) => None,
        }
    }

    fn line(&self, text: &mut Vec<u8>, kind: &str, object: &Value) {
        let shown = self.view.one(object.clone(), self.cluster.now());
        encode(text, kind, &shown);
    }

    async fn send(&self, kind: &str, object: &Value) -> Result<(), Over> {
        let mut text = Vec::new();
        encode(&mut text, kind, object);
        self.flush(text).await
    }

    async fn flush(&self, text: Vec<u8>) -> Result<(), Over> {
        if text.is_empty() {
            return Ok(());
        }
        self.chunks.send(Ok(text.into())).await.map_err(|_| Over)
    }
}

fn encode(text: &mut Vec<u8>, kind: &str, object: &Value) {
    // In this order, as Kubernetes writes it: clients read the object by its type.
    let line = format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
    text.extend_from_slice(line.as_bytes());
}
