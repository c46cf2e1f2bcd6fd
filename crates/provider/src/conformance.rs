//! What every backend has to pass, as functions over a [`Fixture`].
//!
//! Run [`check`] in a test of the backend against a remote that works. Each
//! check panics with a sentence that names the broken rule, so that a failing
//! test reads as the contract does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Journal, PodCx, PodEvents};
use crate::error::BackendError;
use crate::facts::{Listing, PodFacts};
use crate::key::PodKey;
use crate::request::{PodChange, PodRequest, Revision};

/// What the kit needs of the world around a backend.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The backend.
    fn backend(&self) -> Arc<dyn Backend>;

    /// A pod that the backend can run, bound to one of its nodes; `name` is new
    /// at each call, `image` is one that exists.
    fn pod(&self, name: &str) -> Pod;

    /// The same pod with another image that exists.
    fn updated(&self, pod: &Pod) -> Pod;

    /// Lets the remote go on until it has nothing left to do, or for a while.
    async fn settle(&self);
}

/// Rounds of [`Fixture::settle`] that a remote may take to get anything done.
const PATIENCE: u32 = 60;
/// Grace that is given to pods that are stopped.
const GRACE: Duration = Duration::from_secs(5);

/// Runs every check, one after the other.
///
/// # Panics
/// A rule of the contract is broken; the message says which.
pub async fn check(fixture: &dyn Fixture) {
    listing_is_complete_and_fresh(fixture).await;
    an_unknown_pod_is_not_found(fixture).await;
    ensure_is_durable_and_idempotent(fixture).await;
    another_revision_takes_the_place_of_the_first(fixture).await;
    a_name_may_come_back_with_another_uid(fixture).await;
    stop_ends_and_release_frees(fixture).await;
}

async fn listing_is_complete_and_fresh(fixture: &dyn Fixture) {
    let listing = listed(fixture).await;
    assert!(
        listing.complete,
        "a listing of a remote that works is complete"
    );
}

async fn an_unknown_pod_is_not_found(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let key = PodKey::new(
        "conformance",
        "nobody",
        "00000000-0000-0000-0000-00000000dead",
    );
    assert_eq!(
        backend.stop(&key, GRACE).await,
        Err(BackendError::NotFound),
        "stop of a pod that was never there answers NotFound"
    );
    let released = backend.release(&key).await;
    assert!(
        matches!(released, Ok(()) | Err(BackendError::NotFound)),
        "release of a pod that was never there is no error: {released:?}"
    );
}

async fn ensure_is_durable_and_idempotent(fixture: &dyn Fixture) {
    let request = request(&fixture.pod("conformance-ensure"));
    ensure(fixture, &request).await;
    let first = found(fixture, &request.key).await;
    assert_eq!(
        first.accepted.as_ref(),
        Some(&request.spec_revision),
        "after ensure the listing shows the revision as accepted"
    );
    ensure(fixture, &request).await;
    let again = listed(fixture).await;
    let copies = again
        .pods
        .iter()
        .filter(|f| f.key.uid == request.key.uid)
        .count();
    assert_eq!(copies, 1, "ensure twice is one pod");
    let second = found(fixture, &request.key).await;
    assert!(
        second.seq > first.seq,
        "seq rises with every newer observation"
    );
    applied(fixture, &request).await;
    end(fixture, &request.key).await;
}

async fn another_revision_takes_the_place_of_the_first(fixture: &dyn Fixture) {
    let pod = fixture.pod("conformance-update");
    let first = request(&pod);
    ensure(fixture, &first).await;
    applied(fixture, &first).await;
    let mut second = request(&fixture.updated(&pod));
    second.change = PodChange::Image;
    assert_ne!(
        first.spec_revision, second.spec_revision,
        "the fixture's update is one"
    );
    ensure(fixture, &second).await;
    applied(fixture, &second).await;
    let copies = listed(fixture)
        .await
        .pods
        .iter()
        .filter(|f| f.key.uid == first.key.uid)
        .count();
    assert_eq!(copies, 1, "an update leaves one pod");
    end(fixture, &first.key).await;
}

async fn a_name_may_come_back_with_another_uid(fixture: &dyn Fixture) {
    let old = request(&fixture.pod("conformance-reborn"));
    let mut pod = (*old.pod).clone();
    pod.metadata.uid = Some("00000000-0000-0000-0000-00000000beef".into());
    let new = request(&pod);
    ensure(fixture, &old).await;
    ensure(fixture, &new).await;
    end(fixture, &old.key).await;
    found(fixture, &new.key).await;
    end(fixture, &new.key).await;
}

async fn stop_ends_and_release_frees(fixture: &dyn Fixture) {
    let backend = fixture.backend();
    let request = request(&fixture.pod("conformance-stop"));
    ensure(fixture, &request).await;
    applied(fixture, &request).await;
    end(fixture, &request.key).await;
    assert_eq!(
        backend.stop(&request.key, GRACE).await,
        Err(BackendError::NotFound),
        "after release the pod is not found"
    );
    let left = listed(fixture)
        .await
        .pods
        .into_iter()
        .any(|f| f.key.uid == request.key.uid);
    assert!(!left, "after release the listing does not show the pod");
}

/// A pod as the framework would ask for it.
fn request(pod: &Pod) -> PodRequest {
    let spec = pod
        .spec
        .as_ref()
        .unwrap_or_else(|| panic!("the fixture's pod has a spec"));
    PodRequest {
        key: PodKey::of(pod).unwrap_or_else(|| panic!("the fixture's pod has a name and a UID")),
        node: spec
            .node_name
            .as_deref()
            .unwrap_or_else(|| panic!("the fixture's pod is bound"))
            .into(),
        spec_revision: Revision::of(spec),
        pod: Arc::new(pod.clone()),
        change: PodChange::First,
        journal: None,
    }
}

async fn ensure(fixture: &dyn Fixture, request: &PodRequest) {
    let cx = PodCx {
        events: Arc::new(Quiet),
        journal: Arc::new(Remembered::default()),
        cancel: CancellationToken::new(),
    };
    for _ in 0..PATIENCE {
        match fixture.backend().ensure(request, &cx).await {
            Ok(()) => return,
            Err(BackendError::Unavailable { .. } | BackendError::Waiting { .. }) => {
                fixture.settle().await
            }
            Err(error) => panic!("ensure of {:?} failed: {error}", request.key),
        }
    }
    panic!("ensure of {:?} is never accepted", request.key);
}

async fn applied(fixture: &dyn Fixture, request: &PodRequest) {
    for _ in 0..PATIENCE {
        if found(fixture, &request.key).await.applied.as_ref() == Some(&request.spec_revision) {
            return;
        }
        fixture.settle().await;
    }
    panic!(
        "the facts of {:?} never say that its revision is applied",
        request.key
    );
}

async fn end(fixture: &dyn Fixture, key: &PodKey) {
    let backend = fixture.backend();
    for _ in 0..PATIENCE {
        match backend.stop(key, GRACE).await {
            Err(BackendError::NotFound) => {
                let released = backend.release(key).await;
                assert!(
                    matches!(released, Ok(()) | Err(BackendError::NotFound)),
                    "release of a stopped pod works: {released:?}"
                );
                return;
            }
            Ok(()) | Err(BackendError::Unavailable { .. }) => {
                let ended = listed(fixture)
                    .await
                    .pods
                    .iter()
                    .any(|f| f.key.uid == key.uid && f.ended);
                if ended {
                    let _ = backend.release(key).await;
                    return;
                }
                fixture.settle().await;
            }
            Err(error) => panic!("stop of {key:?} failed: {error}"),
        }
    }
    panic!("the end of {key:?} is never confirmed");
}

async fn found(fixture: &dyn Fixture, key: &PodKey) -> PodFacts {
    let listing = listed(fixture).await;
    listing
        .pods
        .into_iter()
        .find(|f| f.key.uid == key.uid)
        .unwrap_or_else(|| panic!("the listing shows {key:?}"))
}

async fn listed(fixture: &dyn Fixture) -> Listing {
    for _ in 0..PATIENCE {
        match fixture.backend().list().await {
            Ok(listing) => return listing,
            Err(_) => fixture.settle().await,
        }
    }
    panic!("the backend never lists");
}

struct Quiet;

impl PodEvents for Quiet {
    fn normal(&self, _: &str, _: &str) {}
    fn warning(&self, _: &str, _: &str) {}
}

#[derive(Default)]
struct Remembered(Mutex<String>);

#[async_trait]
impl Journal for Remembered {
    async fn persist(&self, text: &str) -> Result<(), BackendError> {
        text.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}
