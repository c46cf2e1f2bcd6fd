//! HTTP as the client uses it: any service under it, whole answers out of it.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use super::console::Switched;

/// Largest answer read: a page of 1,000 devices of some 60 KB each; where theirs
/// are larger, pages get smaller.
const ANSWER_LIMIT: usize = 64 << 20;
/// Longest `Retry-After` that is obeyed, the service's own window by default:
/// one request a minute burdens nobody, and tells early that it is over.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Any HTTP service; clones share its connections.
#[derive(Clone)]
pub struct Transport(BoxCloneSyncService<Request<Full<Bytes>>, Answer, tower::BoxError>);

/// Status, headers and whole body of an answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    /// When the server says that it answered, to the second.
    pub(crate) date: Option<Timestamp>,
    pub(crate) body: Bytes,
    /// The connection is another protocol's from here on.
    pub(super) switched: Option<Switched>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Transport {
    /// Over this service.
    pub fn over<S, B>(http: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = http::Response<B>>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        S::Error: Into<tower::BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        let http = http.map_err(Into::into).and_then(read_answer::<B>);
        Self(BoxCloneSyncService::new(http))
    }

    /// Sends one request. Without a deadline, which is its caller's.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, tower::BoxError> {
        self.0.clone().oneshot(request).await
    }
}

/// Reads a whole answer, up to the limit.
async fn read_answer<B>(mut response: http::Response<B>) -> Result<Answer, tower::BoxError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let switched = Switched::of(&mut response);
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes();
    let header = |name| parts.headers.get(name)?.to_str().ok();
    let retry_after = header(header::RETRY_AFTER)
        .and_then(|v| v.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
    let date = header(header::DATE).and_then(|v| DateTimeParser::new().parse_timestamp(v).ok());
    Ok(Answer {
        status: parts.status,
        retry_after,
        date,
        body,
        switched,
    })
}
