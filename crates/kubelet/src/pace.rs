//! How fast the API server may be asked: the pause that an error names, and the
//! pace of a watcher.
//!
//! kube's watcher opens a watch that ended cleanly again at once, within one
//! poll, where no adapter of its stream sees it; every `Init` resets its
//! back-off, so that failing LISTs are repeated at the shortest pause for ever;
//! and it does not read `Retry-After`. So its requests are paced below it.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, header};
use kube::Client;
use kube::client::Body;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// First pause, doubled up to [`LONGEST`]: client-go's reflector has the same two.
const FIRST: Duration = Duration::from_millis(800);
/// Longest pause; a `Retry-After` beyond it is not obeyed to the letter, because
/// what is not watched is not served.
const LONGEST: Duration = Duration::from_secs(30);
/// A watch that lived this long ended as watches do, after some minutes.
const LIVED: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Pace {
    not_before: Instant,
    /// When the last watch was opened.
    opened: Instant,
    wait: Duration,
}

impl Pace {
    fn grow(&mut self) -> Duration {
        self.wait = (self.wait * 2).clamp(FIRST, LONGEST);
        self.wait
    }

    /// A watch is opened now; the next request follows at once only if it lives.
    fn open(&mut self, now: Instant) {
        if now - self.opened > LIVED {
            self.wait = Duration::ZERO;
        }
        self.opened = now;
        self.not_before = now + self.grow();
    }

    fn failed(&mut self, now: Instant, named: Option<Duration>) {
        let wait = self.grow().max(named.unwrap_or_default()).min(LONGEST);
        self.not_before = self.not_before.max(now + wait);
    }
}

/// A client for one watcher, which has one request at a time. It shares the
/// connections of `client`.
pub(crate) fn paced(client: Client) -> Client {
    let now = Instant::now();
    let pace = Arc::new(Mutex::new(Pace {
        not_before: now,
        opened: now,
        wait: Duration::ZERO,
    }));
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, pace) = (client.clone(), pace.clone());
        async move { send(client, request, &pace).await }
    });
    Client::new(service, namespace)
}

async fn send(
    client: Client,
    request: Request<Body>,
    pace: &Mutex<Pace>,
) -> kube::Result<Response<Body>> {
    let watch = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    // Held until the answer: see `paced`.
    let mut pace = pace.lock().await;
    sleep_until(pace.not_before).await;
    if watch {
        pace.open(Instant::now());
    }
    let answer = client.send(request).await;
    match &answer {
        Ok(answer) if is_refused(answer.status()) => {
            pace.failed(Instant::now(), retry_after(answer));
        }
        Ok(_) => {}
        Err(_) => pace.failed(Instant::now(), None),
    }
    answer
}

/// Whether the answer is no until something changes: the server's load, its
/// health or our rights.
fn is_refused(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 429) || status.is_server_error()
}

/// How long the API server wants to be left alone, where an error of its own
/// names a time. How much of it is obeyed is the caller's to say.
pub(crate) fn named_pause(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// The API server names seconds.
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_names_a_pause_only_where_the_server_said_one() {
        let said = |status| {
            let status = serde_json::from_value(status).unwrap();
            named_pause(&kube::Error::Api(Box::new(status)))
        };
        let seconds = |seconds| json!({"details": {"retryAfterSeconds": seconds}});
        assert_eq!(said(seconds(7)), Some(Duration::from_secs(7)));
        assert_eq!(said(seconds(0)), None);
        assert_eq!(said(json!({})), None);
        let no_answer = kube::Error::LinesCodecMaxLineLengthExceeded;
        assert_eq!(named_pause(&no_answer), None);
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_at_once_are_opened_ever_more_rarely_until_one_lives() {
        let start = Instant::now();
        let mut pace = Pace {
            not_before: start,
            opened: start,
            wait: Duration::ZERO,
        };
        let mut waits = Vec::new();
        for _ in 0..8 {
            let now = pace.not_before;
            pace.open(now);
            waits.push((pace.not_before - now).as_millis());
        }
        assert_eq!(
            waits,
            [800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]
        );
        let later = pace.opened + LIVED + Duration::from_secs(1);
        pace.open(later);
        assert_eq!(pace.not_before - later, FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_asks_again_ever_more_rarely() {
        for code in [401, 403, 429, 503] {
            let answer = move |_| async move {
                let answer = Response::builder().status(code);
                Ok::<_, tower::BoxError>(answer.body(Body::empty()).unwrap())
            };
            let client = paced(Client::new(tower::service_fn(answer), "default"));
            let begun = Instant::now();
            for _ in 0..4 {
                let list = Request::get("/api/v1/namespaces/shop/secrets");
                let list = list.body(Body::empty()).unwrap();
                client.send(list).await.unwrap();
            }
            let waited = FIRST + FIRST * 2 + FIRST * 4;
            assert_eq!(begun.elapsed(), waited, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_server_names_is_obeyed_up_to_the_longest_pause() {
        let start = Instant::now();
        let mut pace = Pace {
            not_before: start,
            opened: start,
            wait: Duration::ZERO,
        };
        pace.failed(start, Some(Duration::from_secs(20)));
        assert_eq!(pace.not_before - start, Duration::from_secs(20));
        pace.failed(start, Some(Duration::from_secs(3600)));
        assert_eq!(pace.not_before - start, LONGEST);
    }
}
