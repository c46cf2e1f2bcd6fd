//! Who reads what, for tests: the watches that are open, and the lists and
//! watches that named no single object.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Cluster;
use super::list::Scope;

/// Lists and watches, since the cluster began, that did not say
/// `fieldSelector=metadata.name=…`. Refused ones count: they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnnamedReads {
    /// LISTs; every page is one.
    pub lists: usize,
    /// Watches that were opened.
    pub watches: usize,
}

/// What an open watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenWatch {
    /// The namespace, or none for a watch across all.
    pub namespace: Option<String>,
    /// The single object that its field selector names.
    pub name: Option<String>,
}

/// The counters of one cluster.
#[derive(Debug)]
pub(crate) struct Reads {
    counts: Mutex<Counts>,
    /// Rings when a watch opens or ends.
    bell: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Counts {
    unnamed: BTreeMap<&'static str, UnnamedReads>,
    open: BTreeMap<u64, (&'static str, OpenWatch)>,
    next: u64,
}

/// Counts as an open watch for as long as it lives.
#[derive(Debug)]
pub(crate) struct Opened {
    cluster: Cluster,
    id: u64,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            counts: Mutex::default(),
            bell: watch::Sender::new(()),
        }
    }
}

impl Reads {
    /// Counts a list or a watch that names no single object.
    pub(crate) fn unnamed(&self, plural: &'static str, is_watch: bool) {
        let mut counts = self.lock();
        let reads = counts.unnamed.entry(plural).or_default();
        if is_watch {
            reads.watches += 1;
        } else {
            reads.lists += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let reads = self.cluster.reads();
        reads.lock().open.remove(&self.id);
        reads.bell.send_replace(());
    }
}

impl Cluster {
    /// The lists and watches of a resource that named no single object;
    /// `plural` as in URLs.
    pub fn unnamed_reads(&self, plural: &str) -> UnnamedReads {
        let counts = self.reads().lock();
        counts.unnamed.get(plural).copied().unwrap_or_default()
    }

    /// The watches of a resource that are open now, by namespace and name;
    /// `plural` as in URLs. The API knows that one is over when its connection
    /// closed, which a client does a moment after it lost interest.
    pub fn open_watches(&self, plural: &str) -> Vec<OpenWatch> {
        let counts = self.reads().lock();
        let of_it = counts.open.values().filter(|(of, _)| *of == plural);
        let mut open: Vec<OpenWatch> = of_it.map(|(_, watch)| watch.clone()).collect();
        open.sort();
        open
    }

    /// Waits until the open watches of a resource are as `fine` wants them; it
    /// looks now and whenever a watch opens or ends.
    pub async fn until_watches(&self, plural: &str, mut fine: impl FnMut(&[OpenWatch]) -> bool) {
        let mut news = self.reads().bell.subscribe();
        while !fine(&self.open_watches(plural)) {
            if news.changed().await.is_err() {
                // The bell lives as long as `self`; it cannot be gone.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn opened(&self, scope: &Scope) -> Opened {
        let watch = OpenWatch {
            namespace: scope.namespace.clone(),
            name: scope.single().map(str::to_owned),
        };
        let reads = self.reads();
        let mut counts = reads.lock();
        let id = counts.next;
        counts.next += 1;
        counts.open.insert(id, (scope.resource.plural, watch));
        drop(counts);
        reads.bell.send_replace(());
        Opened {
            cluster: self.clone(),
            id,
        }
    }
}
