//! `/containerLogs/{namespace}/{pod}/{container}`.

mod lines;
mod query;
mod started;

use std::collections::VecDeque;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::timeout;
use vk_provider::{BackendError, LogItem, LogQuery, LogStream, PodKey};

use self::lines::{Shown, Tail, TooLong};
use self::query::{BadQuery, Options};
use self::started::is_in_spec;
use super::answer;
use super::limits::{LOG_OPEN, TAIL_BYTES};
use super::node::NodeApi;
use super::route::InPod;

/// The log, or why there is none, in the kubelet's words.
pub(super) async fn serve(api: &NodeApi, place: InPod<'_>, query: &str) -> Response<Body> {
    let backend = &api.shared.backend;
    let Some(logs) = backend.logs() else {
        return answer::not_implemented(&**backend, "logs (kubectl logs)");
    };
    let (question, options) = match question(api, place, query) {
        Ok(question) => question,
        Err(Refusal(status, text)) => return answer::text(status, text),
    };
    match timeout(LOG_OPEN, logs.open(&question)).await {
        Ok(Ok(log)) => answer::of(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            body(log, options),
        ),
        Ok(Err(BackendError::NotFound)) => answer::text(
            StatusCode::BAD_REQUEST,
            format!(
                "the log of container {:?} in pod {:?} is no longer there",
                place.container, place.pod
            ),
        ),
        Ok(Err(error)) => answer::backend_error(&error),
        Err(_) => answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "the log could not be opened within {} s",
                LOG_OPEN.as_secs()
            ),
        ),
    }
}

/// There is no log for this request, and why.
struct Refusal(StatusCode, String);

/// What the backend is asked; the order of refusals is the kubelet's.
fn question(api: &NodeApi, place: InPod<'_>, query: &str) -> Result<(LogQuery, Options), Refusal> {
    let options = query::parse(query, api.shared.clock.now()).map_err(|bad| match bad {
        BadQuery::Undecodable => Refusal(
            StatusCode::BAD_REQUEST,
            r#"{"message": "Unable to decode query."}"#.into(),
        ),
        BadQuery::Invalid => Refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            r#"{"message": "Invalid request."}"#.into(),
        ),
    })?;
    let not_found = |text: String| Refusal(StatusCode::NOT_FOUND, text);
    let InPod { pod, container, .. } = place;
    let found = api.pod(place);
    let found = found.ok_or_else(|| not_found(format!("pod {pod:?} does not exist")))?;
    if !is_in_spec(&found, container) {
        let text = format!("container {container:?} not found in pod {pod:?}");
        return Err(not_found(text));
    }
    let facts = PodKey::of(&found).and_then(|key| api.shared.table.facts(&key.uid));
    if let Some(why) = started::missing(&found, facts.as_deref(), container, options.previous) {
        return Err(Refusal(StatusCode::BAD_REQUEST, why));
    }
    let question = log_query(&found, container, &options)
        .ok_or_else(|| not_found(format!("pod {pod:?} does not exist")))?;
    Ok((question, options))
}

fn log_query(pod: &Pod, container: &str, options: &Options) -> Option<LogQuery> {
    Some(LogQuery {
        pod: PodKey::of(pod)?,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        container: container.into(),
        previous: options.previous,
        follow: options.follow,
        since: options.since,
        tail: options.tail,
    })
}

/// A log on its way to the client.
struct Reading {
    items: BoxStream<'static, Result<LogItem, BackendError>>,
    shown: Shown,
    /// Until all that was there has been told.
    tail: Option<Tail>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

fn body(log: LogStream, options: Options) -> Body {
    let tail = options.tail.filter(|_| !log.tailed);
    let reading = Reading {
        items: log.items,
        shown: Shown::new(options),
        tail: tail.map(|lines| Tail::new(lines, TAIL_BYTES)),
        ready: VecDeque::new(),
        ended: false,
    };
    Body::from_stream(stream::unfold(reading, |mut reading| async move {
        let bytes = reading.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), reading))
    }))
}

impl Reading {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.ended || self.shown.is_full() {
                return None;
            }
            match self.items.next().await {
                None => {
                    self.release();
                    self.ended = true;
                }
                Some(Ok(LogItem::Present)) => self.release(),
                Some(Ok(LogItem::Written(chunk))) => match &mut self.tail {
                    None => self.ready.extend(self.shown.show(&chunk)),
                    Some(tail) => {
                        if tail.push(&chunk) == Err(TooLong) {
                            self.tail = None;
                            self.fail(&format!(
                                "the last lines asked for take more than {} MiB: ask for fewer, or for all",
                                TAIL_BYTES >> 20
                            ));
                        }
                    }
                },
                Some(Err(error)) => {
                    self.release();
                    self.fail(&error.to_string());
                }
            }
        }
    }

    /// The last lines of what was there.
    fn release(&mut self) {
        let held = self.tail.take().into_iter().flat_map(Tail::into_chunks);
        for chunk in held {
            self.ready.extend(self.shown.show(&chunk));
        }
    }

    /// The status has been sent, and the API server shows a log that breaks off
    /// like one that ends. So it is said where the kubelet says it: in the log.
    fn fail(&mut self, why: &str) {
        let begin = if self.shown.is_within_line() {
            "\n"
        } else {
            ""
        };
        self.ready
            .push_back(format!("{begin}the log breaks off here: {why}\n").into());
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use vk_provider::{LogChunk, LogSource};

    fn written(text: &str) -> Result<LogItem, BackendError> {
        Ok(LogItem::Written(LogChunk {
            at: Timestamp::UNIX_EPOCH,
            source: LogSource::Stdout,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }))
    }

    async fn read(
        items: Vec<Result<LogItem, BackendError>>,
        tailed: bool,
        options: Options,
    ) -> String {
        let items = stream::iter(items).boxed();
        let body = body(LogStream { items, tailed }, options);
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn last(lines: u64) -> Options {
        Options {
            tail: Some(lines),
            ..Options::default()
        }
    }

    #[tokio::test]
    async fn a_tail_ends_where_the_present_does_and_what_follows_is_shown_whole() {
        let items = || vec![written("a\nb\n"), Ok(LogItem::Present), written("c\nd\n")];
        assert_eq!(read(items(), false, last(1)).await, "b\nc\nd\n");
        assert_eq!(read(items(), false, last(0)).await, "c\nd\n");
        let whole = vec![written("a\nb\nc\n")];
        assert_eq!(read(whole, false, last(2)).await, "b\nc\n");
        let cut_there = vec![written("b\nc\nd\n")];
        assert_eq!(read(cut_there, true, last(2)).await, "b\nc\nd\n");
    }

    #[tokio::test]
    async fn a_log_that_breaks_off_says_so_on_a_line_of_its_own() {
        let broken = || {
            Err(BackendError::Unavailable {
                message: "device lost".into(),
                retry: None,
            })
        };
        let text = read(vec![written("ha"), broken()], false, Options::default()).await;
        assert_eq!(text, "ha\nthe log breaks off here: device lost\n");
        let text = read(vec![written("a\nb\n"), broken()], false, last(1)).await;
        assert_eq!(text, "b\nthe log breaks off here: device lost\n");
    }

    #[tokio::test]
    async fn a_limit_ends_a_log_that_goes_on() {
        let endless = stream::repeat_with(|| written("xxxx")).boxed();
        let log = LogStream {
            items: endless,
            tailed: true,
        };
        let options = Options {
            limit: Some(10),
            ..Options::default()
        };
        let bytes = axum::body::to_bytes(body(log, options), usize::MAX).await;
        assert_eq!(bytes.unwrap().len(), 10);
    }
}
