//! Objects by resource, namespace and name under one lock, one global
//! revision, and the history that watches are served from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::object;
use super::resource::{EVENTS, Resource};

/// Changes kept for watches. The real server keeps five minutes of etcd; this
/// holds the start of a thousand pods many times over and some tens of MB.
const HISTORY: usize = 20_000;

/// Events live this long, the default of the real server's `--event-ttl`.
const EVENT_TTL: std::time::Duration = std::time::Duration::from_secs(3600);

/// Namespace and name; the namespace is empty for what has none.
pub(crate) type Key = (String, String);

/// One change, as a watch needs it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) resource: &'static Resource,
    /// Before the change; none when the object is new.
    pub(crate) old: Option<Arc<Value>>,
    /// After it, or for a deletion the last state at the deletion's revision.
    pub(crate) new: Arc<Value>,
    pub(crate) deleted: bool,
}

/// The wanted revision is no longer in the history.
#[derive(Debug)]
pub(crate) struct TooOld {
    pub(crate) oldest: u64,
}

/// What is under the lock.
#[derive(Debug, Default)]
pub(crate) struct State {
    revision: u64,
    objects: BTreeMap<&'static str, BTreeMap<Key, Arc<Value>>>,
    history: VecDeque<Arc<Change>>,
    /// Changes up to this revision are forgotten.
    compacted: u64,
    /// Keys of events, oldest first.
    expiring: VecDeque<(Timestamp, Key)>,
}

impl State {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, resource: &Resource, ns: &str, name: &str) -> Option<&Arc<Value>> {
        let key = (ns.to_owned(), name.to_owned());
        self.objects.get(resource.plural)?.get(&key)
    }

    /// Objects of one namespace, or of all, by namespace and name.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &Resource,
        ns: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let start = (ns.unwrap_or_default().to_owned(), String::new());
        self.objects
            .get(resource.plural)
            .into_iter()
            .flat_map(move |objects| objects.range(start.clone()..))
            .take_while(move |(key, _)| ns.is_none_or(|ns| key.0 == ns))
    }

    /// Writes an object at the next revision.
    pub(crate) fn put(&mut self, resource: &'static Resource, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let key = (
            object::namespace(&object).to_owned(),
            object::name(&object).to_owned(),
        );
        let new = Arc::new(object);
        let objects = self.objects.entry(resource.plural).or_default();
        let old = objects.insert(key, Arc::clone(&new));
        self.log(resource, old, Arc::clone(&new), false);
        new
    }

    /// Removes an object; returns its last state at the deletion's revision.
    pub(crate) fn remove(
        &mut self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let key = (ns.to_owned(), name.to_owned());
        let old = self.objects.get_mut(resource.plural)?.remove(&key)?;
        self.revision += 1;
        let mut last = Value::clone(&old);
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let last = Arc::new(last);
        self.log(resource, Some(old), Arc::clone(&last), true);
        Some(last)
    }

    fn log(
        &mut self,
        resource: &'static Resource,
        old: Option<Arc<Value>>,
        new: Arc<Value>,
        deleted: bool,
    ) {
        self.history.push_back(Arc::new(Change {
            revision: self.revision,
            resource,
            old,
            new,
            deleted,
        }));
        if self.history.len() > HISTORY
            && let Some(gone) = self.history.pop_front()
        {
            self.compacted = gone.revision;
        }
    }

    /// Notes when an event goes, and drops those whose time has come.
    pub(crate) fn expire_events(&mut self, now: Timestamp, added: Key) {
        self.expiring.push_back((now, added));
        while let Some((at, _)) = self.expiring.front()
            && now.duration_since(*at).unsigned_abs() >= EVENT_TTL
            && let Some((_, (ns, name))) = self.expiring.pop_front()
        {
            self.remove(&EVENTS, &ns, &name);
        }
    }

    /// Everything after `revision`, oldest first.
    pub(crate) fn since(&self, revision: u64) -> Result<Vec<Arc<Change>>, TooOld> {
        if revision < self.compacted {
            return Err(TooOld {
                oldest: self.compacted,
            });
        }
        let from = self.history.partition_point(|c| c.revision <= revision);
        Ok(self.history.range(from..).cloned().collect())
    }
}

/// The lock and the bell.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            revision: watch::Sender::new(0),
        }
    }
}

impl Store {
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// One transaction; whoever waits is woken when it wrote something.
    pub(crate) fn write<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        let now = state.revision;
        drop(state);
        self.revision.send_if_modified(|seen| {
            let newer = now > *seen;
            *seen = now.max(*seen);
            newer
        });
        result
    }

    /// Changes whenever something was written.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Forgets the history: older watches and continue tokens are Expired.
    pub(crate) fn compact(&self) {
        let mut state = self.lock();
        state.history.clear();
        state.compacted = state.revision;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
