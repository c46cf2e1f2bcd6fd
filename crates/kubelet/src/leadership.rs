//! Who may write for a node: the process that holds the node's lease, and only
//! for [`WRITING`] after the start of its last successful renewal.
//!
//! # Flow
//! `lease` tells this module how the lease stands; everything that writes asks
//! [`Leadership::may_write`] right before it does.
//!
//! # Guarantees
//! Time is the monotonic clock's and is looked at with each question, so that a
//! process that was stopped and goes on writes nothing, whichever of its tasks
//! runs first.
//!
//! # Caveats
//! A request that was under way is not called back: writes to Kubernetes name
//! the UID they are for, and those of backends are compare-and-swap or
//! idempotent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use vk_provider::Uid;

use crate::lease::{DURATION, RENEW_EVERY};
use crate::table::{Place, Table};

/// How long a renewal lets its holder write: another process may take the
/// lease over `lease::DURATION` after it, and clocks and requests have their delays.
pub const WRITING: Duration = DURATION.saturating_sub(RENEW_EVERY);

/// How this process stands towards one node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Role {
    /// Not known yet, or in dispute.
    #[default]
    Contending,
    /// The lease is ours. The number grows when writing begins again after a
    /// pause, because the lease could not be renewed in time.
    Leading(u64),
    /// The lease is another's.
    Standby {
        /// As the lease names it.
        holder: String,
    },
}

impl Role {
    /// Whether the lease was ours when it was last looked at.
    pub(crate) fn leads(&self) -> bool {
        matches!(self, Self::Leading(_))
    }
}

#[derive(Debug, Default)]
struct Standing {
    until: Option<Instant>,
    role: watch::Sender<Role>,
}

/// All nodes of this process; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Leadership {
    nodes: Arc<Mutex<HashMap<Arc<str>, Standing>>>,
    changes: watch::Sender<u64>,
    taken_over: watch::Sender<u64>,
}

impl Leadership {
    /// The node is one of this process's from now on, and not led yet.
    pub(crate) fn contend(&self, node: &str) -> watch::Receiver<Role> {
        self.lock().entry(node.into()).or_default().role.subscribe()
    }

    /// The node is no longer any of this process's business.
    pub(crate) fn leave(&self, node: &str) {
        self.lock().remove(node);
        self.tell();
    }

    /// A renewal that began at `started` succeeded.
    pub(crate) fn renewed(&self, node: &str, started: Instant) {
        let mut nodes = self.lock();
        let Some(standing) = nodes.get_mut(node) else {
            return;
        };
        let paused = standing.until.is_none_or(|until| until <= started);
        standing.until = Some(started + WRITING);
        let term = match &*standing.role.borrow() {
            Role::Leading(_) if !paused => return,
            Role::Leading(term) => term + 1,
            _ => 0,
        };
        let before = standing.role.send_replace(Role::Leading(term));
        drop(nodes);
        self.tell();
        if matches!(before, Role::Standby { .. }) {
            self.taken_over.send_modify(|number| *number += 1);
        }
    }

    /// The lease is not ours; `holder` is whose it is, if anyone's.
    pub(crate) fn lost(&self, node: &str, holder: Option<&str>) {
        let mut nodes = self.lock();
        let Some(standing) = nodes.get_mut(node) else {
            return;
        };
        standing.until = None;
        let role = match holder {
            None => Role::Contending,
            Some(holder) => Role::Standby {
                holder: holder.into(),
            },
        };
        let changed = standing.role.send_if_modified(|known| {
            let changed = *known != role;
            *known = role;
            changed
        });
        drop(nodes);
        if changed {
            self.tell();
        }
    }

    /// Whether this process may write for the node now.
    pub fn may_write(&self, node: &str) -> bool {
        let nodes = self.lock();
        nodes
            .get(node)
            .and_then(|standing| standing.until)
            .is_some_and(|until| Instant::now() < until)
    }

    /// Whether the node is one of this process's, led or not.
    pub(crate) fn knows(&self, node: &str) -> bool {
        self.lock().contains_key(node)
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nodes that another process serves, with its name, in order.
    pub fn standby(&self) -> Vec<(Arc<str>, String)> {
        let mut all: Vec<_> = self
            .lock()
            .iter()
            .filter_map(|(node, standing)| match &*standing.role.borrow() {
                Role::Standby { holder } => Some((node.clone(), holder.clone())),
                _ => None,
            })
            .collect();
        all.sort();
        all
    }

    /// How many nodes this process has each role for.
    pub(crate) fn roles(&self) -> [(&'static str, usize); 3] {
        let nodes = self.lock();
        let count = |of: fn(&Role) -> bool| {
            let roles = nodes.values().filter(|s| of(&s.role.borrow()));
            roles.count()
        };
        [
            ("leading", count(Role::leads)),
            ("standby", count(|r| matches!(r, Role::Standby { .. }))),
            ("contending", count(|r| *r == Role::Contending)),
        ]
    }

    /// Changes whenever a role does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes whenever a node of another process becomes ours: that process has
    /// then given its other nodes up, too.
    pub(crate) fn taken_over(&self) -> watch::Receiver<u64> {
        self.taken_over.subscribe()
    }

    fn tell(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Standing>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same question about a pod; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    leadership: Leadership,
    table: Table,
}

impl Gate {
    /// A gate for the pods of `table`.
    pub(crate) fn new(leadership: Leadership, table: Table) -> Self {
        Self { leadership, table }
    }

    /// Whether this process may write about the pod, to Kubernetes or the remote.
    pub(crate) fn pod(&self, uid: &Uid) -> bool {
        match self.table.place(uid) {
            Some(Place::Bound(node)) => self.leadership.may_write(&node),
            // Nobody wants it: whoever sees that may end it, but for nodes where
            // another process sees more.
            Some(Place::Remote(node)) => self.node(&node),
            None => true,
        }
    }

    /// Whether this process may write about a node, be it that the node is none
    /// that it ever served.
    pub(crate) fn node(&self, node: &str) -> bool {
        !self.leadership.knows(node) || self.leadership.may_write(node)
    }

    /// The node that a pod is for, as far as it is known.
    pub(crate) fn node_of(&self, uid: &Uid) -> Option<Arc<str>> {
        Some(self.table.place(uid)?.node().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_renewal_lets_write_for_thirty_seconds_from_its_start() {
        let all = Leadership::default();
        assert!(!all.may_write("n"));
        let role = all.contend("n");
        assert!(!all.may_write("n"), "known is not led");
        let started = Instant::now();
        tokio::time::advance(Duration::from_secs(4)).await;
        all.renewed("n", started);
        assert_eq!(*role.borrow(), Role::Leading(0));
        tokio::time::advance(Duration::from_millis(25_999)).await;
        assert!(all.may_write("n"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!all.may_write("n"), "without anyone having been told");
        all.renewed("n", Instant::now());
        assert_eq!(
            *role.borrow(),
            Role::Leading(1),
            "those who gave up try again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_lease_ends_writing_at_once_and_names_the_holder() {
        let all = Leadership::default();
        let _role = all.contend("n");
        all.renewed("n", Instant::now());
        let changes = all.changes();
        all.lost("n", Some("n_other"));
        assert!(!all.may_write("n"));
        assert!(changes.has_changed().unwrap());
        assert_eq!(all.standby(), [("n".into(), "n_other".to_owned())]);
    }
}
