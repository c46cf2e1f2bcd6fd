//! Flight Control's user API, as far as the provider needs it.
//!
//! Every call has a deadline, goes through one request budget and is never
//! repeated here: whether and when to repeat is the caller's decision.
//! Devices stay JSON: what is not understood passes through.

mod budget;
mod error;
mod https;
mod token;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::timeout;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

pub use budget::{Budget, DEFAULT_PER_MINUTE};
pub use error::ClientError;
pub use https::{ConnectError, Tls};
pub use token::{TokenError, TokenSource};

/// Deadline of one request. The service answers an expired token only after
/// 10 s, and that answer must arrive.
const DEADLINE: Duration = Duration::from_secs(15);
/// Largest answer read: a page of 1,000 devices of some 30 KB each.
const ANSWER_LIMIT: usize = 64 << 20;
/// Devices of one page, the most the service gives.
const PAGE: usize = 1000;
/// Events that an [`EventCursor`] remembers, so that those of the overlapping
/// seconds are told once.
const REMEMBERED_EVENTS: usize = 2000;
/// Path of the user API.
const API: &str = "/api/v1";
/// Everything but what RFC 3986 leaves unreserved.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Http = BoxCloneSyncService<Request<Full<Bytes>>, Answer, tower::BoxError>;

/// Status, headers and whole body of an answer.
struct Answer {
    status: http::StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

/// The client; clones share token, budget and connections.
#[derive(Clone)]
pub struct Client {
    http: Http,
    base: Arc<str>,
    token: TokenSource,
    organization: Option<Arc<str>>,
    budget: Budget,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Where the reading of events stands.
#[derive(Debug, Default)]
pub struct EventCursor {
    since: Option<String>,
    known: VecDeque<String>,
}

impl Client {
    /// A client over any HTTP service, for the service at `base`.
    pub fn new<S, B>(http: S, base: &Uri, token: TokenSource) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<tower::BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        let http = http.map_err(Into::into).and_then(read_answer::<B>);
        Self {
            http: BoxCloneSyncService::new(http),
            base: base.to_string().trim_end_matches('/').into(),
            token,
            organization: None,
            budget: Budget::default(),
        }
    }

    /// The same client for one organization, by its UUID; needed by users who
    /// belong to several.
    #[must_use]
    pub fn with_organization(mut self, organization: Option<&str>) -> Self {
        self.organization = organization.map(Into::into);
        self
    }

    /// The same client with another budget of requests per minute.
    #[must_use]
    pub fn with_budget(mut self, per_minute: u32) -> Self {
        self.budget = Budget::new(per_minute);
        self
    }

    /// Answers when the service does and takes the token.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), ClientError> {
        self.call(Method::GET, "/devices?limit=1", None, "devices").await.map(drop)
    }

    /// All devices, or those a field selector names, page by page.
    ///
    /// # Errors
    /// See [`ClientError`]. A page that fails fails the list: there are no
    /// partial lists.
    pub async fn list_devices(&self, field_selector: Option<&str>) -> Result<Vec<Value>, ClientError> {
        let mut devices = Vec::new();
        let mut path = format!("/devices?limit={PAGE}");
        if let Some(selector) = field_selector {
            path = format!("{path}&fieldSelector={}", encode(selector));
        }
        let mut page_path = path.clone();
        loop {
            let mut page = self.call(Method::GET, &page_path, None, "devices").await?;
            if let Some(items) = page["items"].as_array_mut() {
                devices.append(items);
            }
            match page["metadata"]["continue"].as_str().filter(|c| !c.is_empty()) {
                Some(token) => page_path = format!("{path}&continue={}", encode(token)),
                None => return Ok(devices),
            }
        }
    }

    /// One device.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn get_device(&self, name: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, &format!("/devices/{}", encode(name)), None, name).await
    }

    /// The document that the device is given, with the version it is.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn rendered(&self, name: &str) -> Result<Value, ClientError> {
        // Never with knownRenderedVersion: that takes the device's own wake-up.
        self.call(Method::GET, &format!("/devices/{}/rendered", encode(name)), None, name).await
    }

    /// A JSON Patch; answers the device as it then is.
    ///
    /// # Errors
    /// `TestFailed` when a `test` does not hold, `Owned` when a Fleet owns the
    /// device, `Invalid` when the result would be.
    pub async fn patch_device(&self, name: &str, patch: &Value) -> Result<Value, ClientError> {
        self.call(Method::PATCH, &format!("/devices/{}", encode(name)), Some(patch), name).await
    }

    /// Names of the devices that events since the cursor are about. The first
    /// call only finds the end of the log.
    ///
    /// # Errors
    /// See [`ClientError`]; the cursor stays where it was.
    pub async fn devices_in_events(&self, cursor: &mut EventCursor) -> Result<BTreeSet<String>, ClientError> {
        let Some(since) = cursor.since.clone() else {
            let page = self.call(Method::GET, "/events?limit=1&order=desc", None, "events").await?;
            cursor.since = newest(&page).or_else(|| Some("1970-01-01T00:00:00Z".into()));
            return Ok(BTreeSet::new());
        };
        let selector = format!("involvedObject.kind=Device,metadata.creationTimestamp>={}", overlap(&since));
        let path = format!("/events?order=asc&limit={PAGE}&fieldSelector={}", encode(&selector));
        let page = self.call(Method::GET, &path, None, "events").await?;
        let mut names = BTreeSet::new();
        for event in page["items"].as_array().into_iter().flatten() {
            let id = event["metadata"]["name"].as_str().unwrap_or_default();
            if cursor.known.iter().any(|known| known == id) {
                continue;
            }
            cursor.known.push_back(id.to_owned());
            if let Some(device) = event["involvedObject"]["name"].as_str() {
                names.insert(device.to_owned());
            }
        }
        while cursor.known.len() > REMEMBERED_EVENTS {
            cursor.known.pop_front();
        }
        cursor.since = newest(&page).or(cursor.since.take());
        Ok(names)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        object: &str,
    ) -> Result<Value, ClientError> {
        let write = method != Method::GET;
        self.budget.take(write).await;
        let request = self.request(method, path, body)?;
        let answer = match timeout(DEADLINE, self.http.clone().oneshot(request)).await {
            Err(_) => return Err(ClientError::Timeout { seconds: DEADLINE.as_secs() }),
            Ok(Err(error)) => return Err(ClientError::Transport { base: self.base.to_string(), why: chain(&*error) }),
            Ok(Ok(answer)) => answer,
        };
        if !answer.status.is_success() {
            let error = ClientError::of(answer.status, answer.retry_after, &answer.body, object);
            if let ClientError::TooManyRequests { retry_after, .. } = &error {
                self.budget.pause(*retry_after);
            }
            if matches!(error, ClientError::Unauthorized { .. }) {
                self.token.refused();
            }
            return Err(error);
        }
        serde_json::from_slice(&answer.body)
            .map_err(|e| ClientError::Decode { object: object.into(), why: e.to_string() })
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut uri = format!("{}{API}{path}", self.base);
        if let Some(organization) = &self.organization {
            let sign = if path.contains('?') { '&' } else { '?' };
            uri = format!("{uri}{sign}org_id={}", encode(organization));
        }
        let token = self.token.current()?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| TokenError::NotAHeader)?;
        bearer.set_sensitive(true);
        let content = body.map_or_else(Bytes::new, |json| json.to_string().into());
        let mut request = Request::builder()
            .method(method)
            .uri(&uri)
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json-patch+json");
        }
        request
            .body(Full::new(content))
            .map_err(|e| ClientError::Transport { base: self.base.to_string(), why: e.to_string() })
    }
}

/// Reads a whole answer, up to the limit.
async fn read_answer<B>(response: http::Response<B>) -> Result<Answer, tower::BoxError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes();
    let retry_after = parts
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    Ok(Answer { status: parts.status, retry_after, body })
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// An error with its causes: TLS and DNS say what is wrong only there.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Several processes of the service write events: one may be late by this.
const OVERLAP: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

fn overlap(since: &str) -> String {
    since
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| at.checked_sub(OVERLAP).ok())
        .map_or_else(|| since.to_owned(), |at| at.to_string())
}

fn newest(page: &Value) -> Option<String> {
    let items = page["items"].as_array()?;
    items
        .iter()
        .filter_map(|e| e["metadata"]["creationTimestamp"].as_str())
        .max()
        .map(str::to_owned)
}
