//! What the backend answers before anything is known.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;

use super::*;
use crate::client::TokenSource;
use crate::config::default_rules;

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
