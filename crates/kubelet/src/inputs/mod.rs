//! What pods refer to: read, watched, and handed to the backend.
//!
//! There is one watch for each object that some pod of ours names, shared by all
//! that name it and closed with the last of them; never a list of all Secrets or
//! ConfigMaps. A backend that wants nothing ([`InputNeeds`]) has none.
//!
//! # Guarantees
//! - An object that could not be read is never taken for one that is not there.
//! - A change marks the pods that would see it; one that waits for its inputs
//!   need not wait for its back-off then.
//! - Secrets and tokens are in memory while a pod of ours refers to them, and in
//!   no log, event or error.

mod follow;
mod gather;
mod read;
mod seen;
mod source;
mod tokens;
mod unread;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::RandomState;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use vk_provider::environment::{ApiServer, Read};
use vk_provider::{InputNeeds, PodKey, RenderError, TokenAsk, Uid};

use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::table::Table;
use gather::Wanted;
use source::{Known, Source, Watched};
use tokens::Token;

pub(crate) use seen::Seen;
pub(crate) use seen::downward;

/// What workloads outside the cluster are given of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputSettings {
    /// Namespaces whose pods get tokens of their service accounts. Elsewhere
    /// tokens do not leave the cluster. Empty by default.
    pub token_namespaces: BTreeSet<String>,
    /// Where workloads reach the API server. Without it they are told the address
    /// of the service `default/kubernetes`, where the backend wants services.
    pub api_server: Option<ApiServer>,
    /// Certificates, as PEM, that stand for `ca.crt` in the ConfigMap
    /// `kube-root-ca.crt` of every namespace.
    pub api_server_ca: Option<String>,
}

/// What the store works with.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) settings: InputSettings,
    pub(crate) needs: InputNeeds,
    pub(crate) table: Table,
    pub(crate) queue: Queue,
    pub(crate) events: Recorder,
    pub(crate) metrics: Metrics,
}

/// The objects that pods refer to; clones share them.
#[derive(Clone)]
pub(crate) struct Store(Arc<Shared>);

struct Shared {
    client: Client,
    settings: InputSettings,
    needs: InputNeeds,
    table: Table,
    queue: Queue,
    events: Recorder,
    metrics: Metrics,
    /// Of the fingerprints, so that they tell nobody anything.
    keys: RandomState,
    /// Token requests at once.
    requests: Semaphore,
    /// Some token may be due earlier than was thought.
    due_earlier: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: HashMap<Source, Watched>,
    users: HashMap<Uid, User>,
    /// When tokens are to be renewed.
    due: BTreeSet<(Instant, Uid, TokenAsk)>,
}

/// A pod and what it uses.
struct User {
    key: PodKey,
    /// Its service account.
    account: Box<str>,
    objects: BTreeMap<Source, Read>,
    tokens: BTreeMap<TokenAsk, Token>,
}

impl Store {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared {
            client: parts.client,
            settings: parts.settings,
            needs: parts.needs,
            table: parts.table,
            queue: parts.queue,
            events: parts.events,
            metrics: parts.metrics,
            keys: RandomState::new(),
            requests: Semaphore::new(tokens::AT_ONCE),
            due_earlier: Notify::new(),
            state: Mutex::default(),
        }))
    }

    /// Whether pods are given nothing at all.
    pub(crate) fn wants_nothing(&self) -> bool {
        self.0.needs == InputNeeds::NOTHING
    }

    /// The pod needs nothing any more.
    pub(crate) fn let_go(&self, uid: &Uid) {
        if self.wants_nothing() {
            return;
        }
        let mut state = self.lock();
        if let Some(user) = state.users.remove(uid) {
            for source in user.objects.keys() {
                state.close(source, uid);
            }
            state.forget_tokens(uid, user.tokens.into_iter());
            self.0.metrics.set_watched_objects(state.watched.len());
        }
    }

    /// Fingerprints of what the pod would be given now; `None` where it was never
    /// gathered for.
    pub(crate) fn seen(&self, uid: &Uid, downward: Option<NonZeroU64>) -> Option<Seen> {
        self.lock().seen(uid, downward)
    }

    /// Watches what the pod wants, and no longer what it wanted before; what is
    /// returned is cancelled as answers come.
    fn take_up(&self, key: &PodKey, wanted: &Wanted) -> Vec<CancellationToken> {
        let mut state = self.lock();
        let user = state.users.entry(key.uid.clone()).or_insert_with(|| User {
            key: key.clone(),
            account: wanted.account.clone(),
            objects: BTreeMap::new(),
            tokens: BTreeMap::new(),
        });
        let before = std::mem::replace(&mut user.objects, wanted.objects.clone());
        for source in before.keys() {
            if !wanted.objects.contains_key(source) {
                state.close(source, &key.uid);
            }
        }
        let mut answers = Vec::new();
        for (source, read) in &wanted.objects {
            let watched = match state.watched.entry(source.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    new.insert(Watched::new(follow::follow(self, source.clone())))
                }
            };
            watched.users.insert(key.uid.clone(), *read);
            answers.push(watched.answered.clone());
        }
        self.0.metrics.set_watched_objects(state.watched.len());
        answers
    }

    /// Takes what a watch says.
    fn hear(&self, source: &Source, known: Known) {
        let told: Vec<_> = {
            let mut state = self.lock();
            let State { watched, users, .. } = &mut *state;
            let Some(watched) = watched.get_mut(source) else {
                return;
            };
            let was_read = matches!(watched.known, Known::Is(..));
            let news = watched.hear(known);
            if was_read && matches!(watched.known, Known::Denied(_)) {
                return self.tell_withdrawn(users, source, watched);
            }
            let Some(is_there) = news else {
                return;
            };
            let users = watched.users.iter();
            users
                .map(|(uid, read)| (uid.clone(), is_there && *read == Read::WhileRunning))
                .collect()
        };
        self.wake(told);
    }

    /// Running pods keep the files they have, and nobody would know why these no
    /// longer follow.
    fn tell_withdrawn(&self, users: &HashMap<Uid, User>, source: &Source, watched: &Watched) {
        let Err(why) = watched.objects(source) else {
            return;
        };
        warn!(?source, why, "an object may not be read any more");
        let message = format!("{why}; what containers have of it stays as it is");
        let see = watched.users.iter();
        let see = see.filter(|(_, read)| **read == Read::WhileRunning);
        for user in see.filter_map(|(uid, _)| users.get(uid)) {
            let events = self.0.events.for_pod(&user.key);
            events.warning(RenderError::VOLUMES_REASON, &message);
        }
    }

    /// Looks at pods again: at those that may see a difference while they run, and
    /// at those that wait for their inputs, now and not when their back-off ends.
    fn wake(&self, told: impl IntoIterator<Item = (Uid, bool)>) {
        for (uid, sees) in told {
            let waits = self.0.table.with(&uid, |record| {
                let lacks = record.lacks_inputs();
                if lacks {
                    record.reset_back_off();
                }
                lacks
            });
            if sees || waits == Some(true) {
                self.0.queue.mark(&uid);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One user less; the last one closes the watch.
    fn close(&mut self, source: &Source, uid: &Uid) {
        if let Entry::Occupied(mut watched) = self.watched.entry(source.clone()) {
            watched.get_mut().users.remove(uid);
            if watched.get().users.is_empty() {
                watched.remove();
            }
        }
    }

    fn seen(&self, uid: &Uid, downward: Option<NonZeroU64>) -> Option<Seen> {
        let user = self.users.get(uid)?;
        let print = |source| self.watched.get(source).and_then(Watched::print);
        let objects = user.objects.iter();
        Some(Seen {
            objects: objects
                .map(|(source, read)| (*read, print(source)))
                .collect(),
            downward,
            tokens: user.tokens.values().map(|token| token.number).collect(),
        })
    }
}
