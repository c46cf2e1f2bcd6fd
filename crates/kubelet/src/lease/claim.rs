//! Whose a lease is, and what is written to it. Pure.
//!
//! A lease that is not renewed for its duration is anyone's. How long it was not
//! renewed is known for certain by watching it on one's own clock, as client-go
//! does. Its time is the holder's wall clock, and either clock may have been set
//! by an hour: it only shortens the watching, so that the successor of a process
//! that was killed is in time for the node not to become NotReady.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use tokio::time::Instant;

use super::{DURATION, NAMESPACE, RENEW_EVERY};

/// A live holder renews within this, whatever the time on its clock.
const SILENCE: Duration = RENEW_EVERY.saturating_add(Duration::from_secs(5));

/// The API writes the time of a lease in microseconds.
const FINEST: SignedDuration = SignedDuration::from_micros(1);

/// Whose a lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Ours,
    /// Given up, or never anyone's.
    Free,
    /// Another's who no longer renews it.
    RunOut(String),
    /// Another's.
    Held(String),
}

/// A lease as it was seen, and since when it is as it is.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    holder: Option<String>,
    renewed: Option<Timestamp>,
    duration: Duration,
    since: Instant,
}

impl Observed {
    /// What is known of the lease after another look.
    pub(super) fn again(before: Option<Self>, lease: &Lease, at: Instant) -> Self {
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|s| u64::try_from(s.lease_duration_seconds?).ok());
        let now = Self {
            holder: spec
                .and_then(|s| s.holder_identity.clone())
                .filter(|holder| !holder.is_empty()),
            renewed: spec.and_then(|s| Some(s.renew_time.as_ref()?.0)),
            duration: seconds.map_or(DURATION, Duration::from_secs),
            since: at,
        };
        match before {
            Some(before) if before.holder == now.holder && before.renewed == now.renewed => before,
            _ => now,
        }
    }

    pub(super) fn claim(&self, identity: &str, wall: Timestamp, at: Instant) -> Claim {
        let Some(holder) = &self.holder else {
            return Claim::Free;
        };
        if holder == identity {
            return Claim::Ours;
        }
        let unchanged = at.saturating_duration_since(self.since);
        let age = self.renewed.map_or(Duration::ZERO, |renewed| {
            wall.duration_since(renewed).try_into().unwrap_or_default()
        });
        let silent = unchanged >= SILENCE && age >= self.duration;
        let run_out = unchanged >= self.duration || silent;
        if run_out {
            Claim::RunOut(holder.clone())
        } else {
            Claim::Held(holder.clone())
        }
    }
}

/// The lease as it is to be written: ours where it is ours, the rest kept.
/// `owner` is the Node's UID, while there is a Node.
pub(super) fn renewed(
    have: Option<&Lease>,
    node: &str,
    owner: Option<&str>,
    identity: &str,
    now: Timestamp,
) -> Lease {
    let mut lease = have.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(node.into()),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let owners = lease.metadata.owner_references.get_or_insert_default();
    // A reference to a Node that is gone would have the lease collected.
    owners.retain(|o| o.kind != "Node" || Some(&*o.uid) == owner);
    if let Some(owner) = owner.filter(|owner| !owners.iter().any(|o| o.uid == *owner)) {
        owners.push(OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.into(),
            uid: owner.into(),
            ..OwnerReference::default()
        });
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if spec.holder_identity.as_deref() != Some(identity) {
        spec.acquire_time = Some(MicroTime(now));
        if have.is_some() {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default() + 1);
        }
    }
    spec.holder_identity = Some(identity.into());
    spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    spec.renew_time = Some(later(spec, now));
    lease
}

/// The lease as its holder leaves it. Renewed once more: the node has its whole
/// grace while the next holder comes.
pub(super) fn released(mut lease: Lease, now: Timestamp) -> Lease {
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = None;
        spec.renew_time = Some(later(spec, now));
    }
    lease
}

/// The time of a renewal: now, or just after one that is dated later. The node controller
/// heeds only one that is later (`tryUpdateNodeHealth` in
/// `pkg/controller/nodelifecycle`), and our clock may have been set back: after
/// that, a node that is renewed in time would be called lost, and its pods evicted.
fn later(before: &LeaseSpec, now: Timestamp) -> MicroTime {
    let before = before.renew_time.as_ref().map(|before| before.0);
    let ahead = before.filter(|before| *before > now);
    let next = ahead.and_then(|before| before.checked_add(FINEST).ok());
    MicroTime(next.unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_new_lease_is_the_kubelets() {
        let lease = renewed(None, "n", Some("u1"), "n_a", at(5));
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("n_a"));
        assert_eq!(spec.lease_duration_seconds, Some(40));
        assert_eq!(spec.renew_time, Some(MicroTime(at(5))));
        let owner = &lease.metadata.owner_references.unwrap()[0];
        assert_eq!(
            (&*owner.api_version, &*owner.kind, &*owner.uid),
            ("v1", "Node", "u1")
        );
    }

    #[test]
    fn a_new_node_takes_its_lease_over_and_others_keep_their_part() {
        let mut lease = renewed(None, "n", Some("u1"), "n_a", at(5));
        let spec = lease.spec.as_mut().unwrap();
        spec.lease_transitions = Some(7);
        lease.metadata.resource_version = Some("3".into());
        let other = OwnerReference {
            kind: "Other".into(),
            uid: "x".into(),
            ..Default::default()
        };
        lease
            .metadata
            .owner_references
            .as_mut()
            .unwrap()
            .push(other);
        let lease = renewed(Some(&lease), "n", Some("u2"), "n_a", at(15));
        let uids: Vec<String> = lease
            .metadata
            .owner_references
            .unwrap()
            .into_iter()
            .map(|o| o.uid)
            .collect();
        assert_eq!(uids, ["x", "u2"]);
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("3"));
        assert_eq!(lease.spec.unwrap().lease_transitions, Some(7));
    }

    #[test]
    fn a_change_of_holder_is_counted_and_a_renewal_is_not() {
        let lease = renewed(None, "n", None, "n_a", at(5));
        let lease = renewed(Some(&lease), "n", None, "n_a", at(15));
        assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, None);
        let lease = renewed(Some(&released(lease, at(16))), "n", None, "n_b", at(20));
        let spec = lease.spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(1));
        assert_eq!(spec.acquire_time, Some(MicroTime(at(20))));
    }

    #[test]
    fn a_renewal_is_later_than_the_one_before_also_by_a_clock_that_was_set_back() {
        let time = |lease: &Lease| lease.spec.as_ref().unwrap().renew_time.clone().unwrap().0;
        let first = renewed(None, "n", None, "n_a", at(3600));
        let second = renewed(Some(&first), "n", None, "n_a", at(10));
        let third = released(second.clone(), at(20));
        let successors = renewed(Some(&third), "n", None, "n_b", at(30));
        let times = [&first, &second, &third, &successors].map(time);
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        let caught_up = renewed(Some(&successors), "n", None, "n_b", at(3700));
        assert_eq!(time(&caught_up), at(3700));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_anothers_until_it_has_run_out_for_certain() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let lease = renewed(None, "n", None, "n_a", at(100));
        let seen = Observed::again(None, &lease, start);
        let claim = |wall, after| seen.claim("n_b", at(wall), later(after));
        let held = Claim::Held("n_a".into());
        let run_out = Claim::RunOut("n_a".into());
        assert_eq!(claim(105, 0), held);
        assert_eq!(claim(105, 39), held, "its clock may be ahead");
        assert_eq!(claim(105, 40), run_out);
        assert_eq!(claim(139, 30), held);
        assert_eq!(claim(140, 14), held, "a live holder may have a slow clock");
        assert_eq!(claim(140, 15), run_out);
        assert_eq!(claim(3700, 0), held, "either clock may have been set");
        assert_eq!(claim(3700, 14), held);
        assert_eq!(claim(3700, 15), run_out);
        assert_eq!(seen.claim("n_a", at(105), start), Claim::Ours);
        let again = renewed(Some(&lease), "n", None, "n_a", at(110));
        let seen = Observed::again(Some(seen), &again, later(10));
        assert_eq!(
            seen.claim("n_b", at(145), later(45)),
            held,
            "it was renewed"
        );
        let free = Observed::again(Some(seen), &released(again, at(146)), later(46));
        assert_eq!(free.claim("n_b", at(146), later(46)), Claim::Free);
    }
}
