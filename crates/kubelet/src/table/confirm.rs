//! What a complete listing of the remote says, of what it shows and of what it
//! does not.

use std::collections::HashSet;

use vk_provider::{Listing, Uid};

use super::Inner;
use crate::plan::Absence;

impl Inner {
    /// Takes the listing; answers which pods to look at again.
    pub(super) fn confirm(&mut self, listing: Listing) -> Vec<Uid> {
        let first = !self.listed;
        self.listed = true;
        self.listings += 1;
        let number = self.listings;
        let synced = self.served && self.unsynced.is_empty();
        let mut changed = Vec::new();
        let mut seen = HashSet::new();
        for facts in listing.pods {
            let uid = facts.key.uid.clone();
            seen.insert(uid.clone());
            let known = self.records.get(&uid);
            let same = known.is_some_and(|r| r.desired.is_some() && r.says_nothing_new(&facts));
            // It was not made known to the backend before it was seen anew.
            let awaited = known.is_some_and(|r| !r.ensured && self.stale(r));
            self.observe(facts, listing.as_of);
            if let Some(record) = self.records.get_mut(&uid) {
                record.listing = number;
            }
            if let Some(record) = self.records.get_mut(&uid)
                && let Absence::Orphan { confirmed } = &mut record.absence
            {
                match record.orphaned {
                    _ if !synced => {}
                    None => record.orphaned = Some(listing.as_of),
                    Some(before) => *confirmed = listing.as_of > before,
                }
            }
            // Thousands of pods are listed every minute, and few have changed.
            if !same || awaited {
                changed.push(uid);
            }
        }
        for (uid, record) in &mut self.records {
            if seen.contains(uid) {
                continue;
            }
            // A listing that is older than what we know cannot deny it.
            if record.seen.is_some_and(|seen| seen >= listing.as_of) {
                continue;
            }
            let was = record.facts.take().is_some() | record.accepted.take().is_some();
            let ends = !record.stopped
                && record
                    .stopping
                    .is_some_and(|stop| listing.as_of > stop.taken);
            record.stopped |= ends;
            if was || ends {
                changed.push(uid.clone());
            }
        }
        if first {
            changed = self.records.keys().cloned().collect();
        }
        for uid in &changed {
            self.settle(uid);
        }
        changed
    }
}
