//! The heartbeat of a node: its Lease in `kube-node-lease`.
//!
//! # Guarantees
//! Renewed every [`RENEW_EVERY`] on a client of its own; an attempt that hangs is
//! given up after [`ATTEMPT_DEADLINE`], a failed one is repeated soon, so that
//! several fit into the [`DURATION`] after which Kubernetes calls the node lost.
//! A conflict is read again and resolved at once. The lease belongs to the Node
//! object: it names the Node's present UID as owner, also after the node was
//! registered anew.
//!
//! # Caveats
//! Two processes with one node name both renew; nothing here keeps them apart.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use vk_provider::Clock;

use crate::metrics::Metrics;

/// Where Kubernetes looks for the leases of nodes.
pub const NAMESPACE: &str = "kube-node-lease";
/// The kubelet's lease duration.
pub const DURATION: Duration = Duration::from_secs(40);
/// A quarter of it, as the kubelet.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Three attempts with their pauses fit between two missed renewals and the end.
pub const ATTEMPT_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after a failed attempt.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A conflict or a lease that came or went is resolved by reading again, this
/// often in a row before it counts as a failure.
const AT_ONCE: usize = 3;

/// Keeps the lease of `node` until `stop`, from the moment its Node has a UID.
pub async fn keep_lease(
    client: Client,
    node: String,
    mut uid: watch::Receiver<Option<String>>,
    clock: Clock,
    metrics: Option<Metrics>,
    stop: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut known = None;
    let mut due = Instant::now();
    loop {
        let owner = uid.borrow_and_update().clone();
        if let Some(owner) = owner {
            let started = Instant::now();
            let attempt = timeout(
                ATTEMPT_DEADLINE,
                renew(&api, &node, &owner, &mut known, &clock),
            );
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = attempt => result,
            };
            due = match result {
                Ok(Ok(())) => {
                    debug!(node, "lease renewed");
                    if let Some(metrics) = &metrics {
                        metrics.lease_renewed(clock.now());
                    }
                    started + RENEW_EVERY
                }
                Ok(Err(error)) => {
                    warn!(node, %error, "lease not renewed");
                    if let Some(metrics) = &metrics {
                        metrics.api_error("lease", &error);
                    }
                    Instant::now() + pause(&error)
                }
                Err(_) => {
                    // The write may have arrived: what is known may be old.
                    known = None;
                    warn!(node, "lease not renewed: no answer");
                    Instant::now() + RETRY_AFTER
                }
            };
        }
        let registered = uid.borrow().is_some();
        tokio::select! {
            () = stop.cancelled() => return,
            changed = uid.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(due), if registered => {}
        }
    }
}

async fn renew(
    api: &Api<Lease>,
    node: &str,
    owner: &str,
    known: &mut Option<Lease>,
    clock: &Clock,
) -> kube::Result<()> {
    let params = PostParams::default();
    let mut result = Ok(());
    for _ in 0..AT_ONCE {
        if known.is_none() {
            *known = api.get_opt(node).await?;
        }
        let next = renewed(known.as_ref(), node, owner, clock.now());
        let written = match known {
            Some(_) => api.replace(node, &params, &next).await,
            None => api.create(&params, &next).await,
        };
        match written {
            Ok(lease) => {
                *known = Some(lease);
                return Ok(());
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                *known = None;
                result = Err(kube::Error::Api(status));
            }
            Err(error) => {
                *known = None;
                return Err(error);
            }
        }
    }
    result
}

/// The lease as it is to be written: ours where it is ours, the rest kept.
fn renewed(have: Option<&Lease>, node: &str, owner: &str, now: Timestamp) -> Lease {
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
    owners.retain(|o| o.kind != "Node" || o.uid == owner);
    if !owners.iter().any(|o| o.uid == owner) {
        owners.push(OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.into(),
            uid: owner.into(),
            ..OwnerReference::default()
        });
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(node.into());
    spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease
}

fn pause(error: &kube::Error) -> Duration {
    let named = match error {
        kube::Error::Api(status) => status.details.as_ref().map_or(0, |d| d.retry_after_seconds),
        _ => 0,
    };
    // One answer that names an hour must not cost the node.
    Duration::from_secs(named.into()).clamp(RETRY_AFTER, RENEW_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_new_lease_is_the_kubelets() {
        let lease = renewed(None, "n", "u1", at(5));
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("n"));
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
        let mut lease = renewed(None, "n", "u1", at(5));
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
        let lease = renewed(Some(&lease), "n", "u2", at(15));
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
}
