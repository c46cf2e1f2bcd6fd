//! What the backend answers before anything is known.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use jiff::Timestamp;

use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;
use vk_provider::{Journal, PodEvents, Reach};

use super::*;
use crate::client::TokenSource;
use crate::config::default_rules;
use crate::device::AppStatus;
use crate::device::DeviceView;
use crate::mapping::tests::pod;

/// A backend whose Flight Control never answers.
fn unheard() -> FlightControl {
    let http = tower::service_fn(|_: Request<Full<Bytes>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, std::convert::Infallible>>()
    });
    let base = Uri::from_static("http://flightctl.test/");
    let client = Client::new(http, &base, TokenSource::fixed("t"));
    let world = World::new("cluster", default_rules());
    FlightControl::new(client, world, Clock::live(), SYNC_RETRY)
}

#[tokio::test(start_paused = true)]
async fn an_unknown_pod_is_not_called_gone_before_every_device_was_read() {
    let backend = unheard();
    let key = PodKey::new("default", "p", "u");
    let early = backend.stop(&key, Duration::ZERO).await;
    assert!(
        matches!(early, Err(BackendError::Unavailable { .. })),
        "{early:?}"
    );
    let now = tokio::time::Instant::now();
    backend.world().read(Vec::new(), now, true);
    let late = backend.stop(&key, Duration::ZERO).await;
    assert_eq!(late, Err(BackendError::NotFound));
}

#[tokio::test]
async fn pods_of_listed_namespaces_may_get_hold_of_their_devices() {
    let spec = json!({"hostPID": true, "containers": [{"name": "app", "image": "nginx"}]});
    let bound = NodeUse::default();
    let Admission::Reject {
        reason, message, ..
    } = unheard().admit(&pod(spec.clone()), &bound)
    else {
        panic!("no namespace is listed")
    };
    assert_eq!(reason, "Unsupported");
    assert!(message.contains("spec.hostPID"), "{message}");
    let listed = unheard().with_privileged(["shop".to_owned()].into());
    let admission = listed.admit(&pod(spec), &bound);
    assert!(
        !matches!(admission, Admission::Reject { .. }),
        "{admission:?}"
    );
}

/// Counts what it is told, and keeps nothing.
#[derive(Default)]
struct Told(AtomicUsize);

impl PodEvents for Told {
    fn normal(&self, _: &str, _: &str) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn warning(&self, _: &str, _: &str) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Journal for Told {
    async fn persist(&self, _: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

fn completing() -> PodRequest {
    pod(json!({"restartPolicy": "Never", "containers": [{"name": "app", "image": "nginx"}]}))
}

/// Device `a` that runs [`completing`], whose application shows this status.
fn running(status: &str, summary: &str) -> DeviceView {
    let app = mapping::tests::application(&completing(), "cluster").unwrap();
    let device = json!({
        "metadata": {"name": "a", "generation": 1, "resourceVersion": "1",
            "annotations": {"device-controller/renderedVersion": "5"}},
        "spec": {"applications": [app]},
        "status": {"summary": {"status": summary}, "config": {"renderedVersion": "5"}},
    });
    let mut view = DeviceView::of(&device).unwrap();
    let shown = AppStatus {
        status: status.into(),
        ready: "1/1".into(),
        ..AppStatus::default()
    };
    view.app_status
        .insert(mapping::app_name(&completing().key.uid), shown);
    view
}

/// The world after this reading, and after the rendered document of version 5.
fn verified(backend: &FlightControl, view: DeviceView) {
    let apps: Value = view.applications.clone().into();
    let now = tokio::time::Instant::now();
    backend.world().read(vec![view], now, true);
    let rendered = json!({
        "metadata": {"name": "a", "annotations": {"device-controller/renderedVersion": "5"}},
        "spec": {"applications": apps},
    });
    backend.world().rendered("a", &rendered);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_its_device_holds_as_wanted_is_not_written_again() {
    // Whoever asks this Flight Control waits until the deadline, and fails.
    let backend = unheard();
    verified(&backend, running("Running", "Online"));
    let told = Arc::new(Told::default());
    let cx = PodCx {
        events: told.clone(),
        journal: told,
        cancel: CancellationToken::new(),
    };
    let again = backend.ensure(&completing(), &cx).await;
    assert_eq!(again, Ok(()));
}

/// Time enough for a device that is not heard of to be taken for away.
async fn goes_away(backend: &FlightControl) {
    tokio::time::advance(crate::away::silence::WINDOW).await;
    backend.world().note_absences(Timestamp::UNIX_EPOCH);
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_not_ended_by_what_a_disconnected_device_said_last() {
    for (summary, ended) in [("Online", true), ("Unknown", false)] {
        let backend = unheard();
        verified(&backend, running("Completed", summary));
        goes_away(&backend).await;
        let uid = completing().key.uid;
        let facts = FlightControl::facts(&mut backend.world(), &uid, Timestamp::UNIX_EPOCH);
        assert_eq!(facts.unwrap().ended, ended, "{summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_device_that_was_never_heard_of_does_not_call_it_disconnected() {
    for (unseen, said) in [(true, "DeviceNotYetSeen"), (false, "DeviceDisconnected")] {
        let backend = unheard();
        let mut view = running("Running", "Unknown");
        (view.unseen, view.reported) = (unseen, 0);
        verified(&backend, view);
        goes_away(&backend).await;
        let uid = completing().key.uid;
        let facts = FlightControl::facts(&mut backend.world(), &uid, Timestamp::UNIX_EPOCH);
        let reach = facts.unwrap().reach;
        assert!(
            matches!(&reach, Reach::Unreachable { reason, .. } if reason == said),
            "{reach:?}"
        );
    }
}

#[tokio::test]
async fn each_word_of_a_devices_story_is_told_once() {
    let backend = unheard();
    verified(&backend, running("Running", "Online"));
    let uid = completing().key.uid;
    let told = Arc::new(Told::default());
    backend.world().with_pod(&uid, |placed| {
        placed.request = Some(Arc::new(completing()));
        placed.events = Some(told.clone());
    });
    for _ in 0..3 {
        FlightControl::tell(&mut backend.world(), &uid);
    }
    assert_eq!(told.0.load(Ordering::SeqCst), 1, "Pulled");
}

#[tokio::test(start_paused = true)]
async fn who_only_stands_by_judges_nobody() {
    let backend = unheard();
    let mut view = running("Running", "Online");
    view.app_status.clear();
    view.rendered = 6;
    view.architecture = Some("amd64".into());
    view.updating.reason = "Error".into();
    let image = "docker.io/library/nginx:latest";
    view.updating.message = format!("While Preparing: prefetch failed for {image}: x");
    let now = tokio::time::Instant::now();
    backend.world().read(vec![view], now, true);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(backend.world().judge(), []);
    let uid = completing().key.uid;
    backend
        .world()
        .with_pod(&uid, |placed| placed.names(&completing()));
    let judged = backend.world().judge();
    assert_eq!(judged.len(), 1, "the framework has named it");
    assert_eq!(judged[0].1[0].uid, uid);
    assert_eq!(backend.world().judge(), judged, "until it is written");
}
