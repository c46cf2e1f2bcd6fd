//! What containers wrote, where a test says so.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use vk_provider::{
    BackendError, ContainerFact, ContainerState, LogChunk, LogItem, LogQuery, LogSource, LogStream,
    Logs, Terminated, Uid,
};

use super::Remote;

/// Logs by pod and container.
pub type Written = HashMap<(Uid, String), Runs>;

/// The log of the present run and that of the one before.
#[derive(Debug, Default)]
pub struct Runs {
    present: Vec<LogChunk>,
    before: Vec<LogChunk>,
}

impl Remote {
    /// A container writes.
    pub fn write(&self, uid: &str, container: &str, source: LogSource, text: &[u8]) {
        let chunk = LogChunk {
            at: self.clock.now(),
            source,
            bytes: Bytes::copy_from_slice(text),
        };
        let key = (Uid::new(uid), container.to_owned());
        let mut state = self.lock();
        state.logs.entry(key).or_default().present.push(chunk);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The remote starts a container again that ended with this code.
    pub fn restart(&self, uid: &str, container: &str, code: i32) {
        let now = self.clock.now();
        let key = (Uid::new(uid), container.to_owned());
        if let Some(runs) = self.lock().logs.get_mut(&key) {
            runs.before = std::mem::take(&mut runs.present);
        }
        self.edit(uid, |facts| {
            let named = |fact: &&mut ContainerFact| fact.name == container;
            if let Some(fact) = facts.containers.iter_mut().find(named) {
                fact.restarts = Some(fact.restarts.unwrap_or_default() + 1);
                fact.last = Some(Terminated {
                    exit_code: Some(code),
                    finished_at: Some(now),
                    ..Terminated::default()
                });
            }
        });
    }

    /// What a follower has not heard yet, and whether more can come.
    pub(super) fn after(&self, query: &LogQuery, told: usize) -> (Vec<LogChunk>, bool) {
        let key = (query.pod.uid.clone(), query.container.clone());
        let state = self.lock();
        let runs = state.logs.get(&key);
        let log = runs.map(|runs| {
            if query.previous {
                &runs.before
            } else {
                &runs.present
            }
        });
        let new = log.and_then(|log| log.get(told..)).unwrap_or_default();
        let facts = state.pods.get(&query.pod.uid);
        let mut containers = facts.iter().flat_map(|facts| &facts.containers);
        let runs = containers.any(|fact| {
            fact.name == query.container && matches!(fact.state, ContainerState::Running { .. })
        });
        (new.to_vec(), runs && !query.previous)
    }
}

#[async_trait]
impl Logs for Remote {
    async fn open(&self, query: &LogQuery) -> Result<LogStream, BackendError> {
        if !self.runs(query.pod.uid.as_str()) {
            return Err(BackendError::NotFound);
        }
        let (present, _) = self.after(query, 0);
        let told = present.len();
        let mut items: Vec<_> = present.into_iter().map(LogItem::Written).collect();
        items.push(LogItem::Present);
        let items = stream::iter(items);
        let items = if query.follow {
            items
                .chain(self.clone().follow(query.clone(), told))
                .boxed()
        } else {
            items.boxed()
        };
        Ok(LogStream {
            items: items.map(Ok).boxed(),
            tailed: false,
        })
    }
}

impl Remote {
    pub(super) fn follow(
        self,
        query: LogQuery,
        told: usize,
    ) -> impl futures::Stream<Item = LogItem> {
        let news = stream::unfold((self, query, told), |(remote, query, told)| async move {
            loop {
                let changed = remote.changed.clone();
                let mut woken = std::pin::pin!(changed.notified());
                woken.as_mut().enable();
                let (new, goes_on) = remote.after(&query, told);
                if !new.is_empty() {
                    let told = told + new.len();
                    return Some((new, (remote, query, told)));
                }
                if !goes_on {
                    return None;
                }
                woken.await;
            }
        });
        news.flat_map(|new| stream::iter(new.into_iter().map(LogItem::Written)))
    }
}
