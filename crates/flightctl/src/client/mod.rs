//! Flight Control's user API, as far as the provider needs it.
//!
//! Every call has a deadline, goes through one request budget and is never
//! repeated here: whether and when to repeat is the caller's decision.
//! Devices stay JSON: what is not understood passes through.

mod about;
mod budget;
mod console;
mod error;
mod events;
mod https;
mod paging;
mod token;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{Full, LengthLimitError};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tower::Service;
use tracing::trace;

use crate::private::text;
pub use about::{Greeting, Organization};
pub use budget::{Budget, DEFAULT_PER_MINUTE};
pub use error::ClientError;
pub use events::EventCursor;
pub use https::{ConnectError, Tls, fallback_authorities};
use paging::Paging;
pub use token::{ClientCredentials, TokenError, TokenSource};
use transport::Answer;
pub use transport::Transport;

/// Deadline of one request. The service answers an expired token only after
/// 10 s, and that answer must arrive.
const DEADLINE: Duration = Duration::from_secs(15);
/// Devices of one page, the most the service gives.
const PAGE: usize = 1000;
/// Pages of one list, so that a service that never ends one is noticed: a
/// hundred times the devices of the largest estates that Flight Control names.
const PAGES: usize = 1000;
/// Path of the user API.
const API: &str = "/api/v1";
/// Everything but what RFC 3986 leaves unreserved.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// When a device was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// In Flight Control's own words.
    pub text: String,
    /// Its own present.
    now: Timestamp,
}

impl LastSeen {
    /// When that was, and how long before the service's present.
    pub fn at(&self) -> Option<(Timestamp, Duration)> {
        let at: Timestamp = self.text.parse().ok()?;
        // Its present has no fractions.
        let age = Duration::try_from(self.now.duration_since(at)).unwrap_or_default();
        Some((at, age))
    }
}

type Observer = Arc<dyn Fn(&Call) + Send + Sync>;

/// One request as it went, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `list_devices`, `patch_device` …
    pub operation: &'static str,
    /// Status of the answer; `None` when there was none.
    pub code: Option<u16>,
    /// From the request to the end of the answer, without the wait for the budget.
    pub took: Duration,
}

/// The client; clones share token, budget and connections.
#[derive(Clone)]
pub struct Client {
    http: Transport,
    base: Arc<str>,
    token: TokenSource,
    organization: Option<Arc<str>>,
    budget: Budget,
    paging: Arc<Paging>,
    observer: Observer,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client over any HTTP service, for the service at `base`.
    pub fn new<S, B>(http: S, base: &Uri, token: TokenSource) -> Self
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
        Self::through(Transport::over(http), base, token)
    }

    /// A client of the service at `base` through `http`.
    pub fn through(http: Transport, base: &Uri, token: TokenSource) -> Self {
        Self {
            http,
            base: base.to_string().trim_end_matches('/').into(),
            token,
            organization: None,
            budget: Budget::default(),
            paging: Arc::default(),
            observer: Arc::new(|_| {}),
        }
    }

    /// The service's URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The service and the organization in it, as one text.
    pub fn scope(&self) -> String {
        match &self.organization {
            None => self.base.to_string(),
            Some(organization) => format!("{} {organization}", self.base),
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

    /// The same client, telling each call. The callback must not block.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// All devices, or those a field selector names, page by page.
    ///
    /// # Errors
    /// See [`ClientError`]. A page that fails fails the list: there are no
    /// partial lists.
    pub async fn list_devices(
        &self,
        field_selector: Option<&str>,
    ) -> Result<Vec<Value>, ClientError> {
        let mut devices = Vec::new();
        let selector = field_selector.map_or_else(String::new, |selector| {
            format!("&fieldSelector={}", encode(selector))
        });
        let mut from = String::new();
        for _ in 0..PAGES {
            let limit = self.paging.limit();
            let path = format!("/devices?limit={limit}{selector}{from}");
            let begun = Instant::now();
            let page = self
                .call("list_devices", Method::GET, &path, None, "devices")
                .await;
            let mut page = match page {
                Err(error @ ClientError::TooLarge { .. }) => {
                    if self.paging.too_large(limit) {
                        continue;
                    }
                    return Err(error);
                }
                Err(error) => {
                    if matches!(error, ClientError::Timeout { .. }) {
                        self.paging.too_slow(limit);
                    }
                    return Err(error);
                }
                Ok(page) => page,
            };
            self.paging.answered(begun.elapsed());
            let next = next_page(&page).map(encode);
            // An answer without a list is no empty list: that would mean that
            // every device is gone.
            items(&page, "devices")?;
            if let Some(items) = page["items"].as_array_mut() {
                devices.append(items);
            }
            match next {
                Some(token) => from = format!("&continue={token}"),
                None => return Ok(devices),
            }
        }
        Err(ClientError::Decode {
            object: "devices".into(),
            why: "the list does not end".into(),
        })
    }

    /// One device.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn get_device(&self, name: &str) -> Result<Value, ClientError> {
        self.call(
            "get_device",
            Method::GET,
            &format!("/devices/{}", encode(name)),
            None,
            name,
        )
        .await
    }

    /// The document that the device is given, with the version it is.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn rendered(&self, name: &str) -> Result<Value, ClientError> {
        // Never with knownRenderedVersion: that takes the device's own wake-up.
        self.call(
            "rendered",
            Method::GET,
            &format!("/devices/{}/rendered", encode(name)),
            None,
            name,
        )
        .await
    }

    /// How many requests the budget has for so long.
    pub(crate) fn requests_in(&self, span: Duration) -> usize {
        self.budget.requests_in(span)
    }

    /// When the device was last heard of; `None` for one that never was.
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    pub async fn last_seen(&self, name: &str) -> Result<Option<LastSeen>, ClientError> {
        let path = format!("/devices/{}/lastseen", encode(name));
        let (json, date) = self
            .dated("last_seen", Method::GET, &path, None, name)
            .await?;
        let text = json["lastSeen"].as_str();
        Ok(text.map(|text| LastSeen {
            text: text.to_owned(),
            now: date.unwrap_or_else(Timestamp::now),
        }))
    }

    /// A JSON Patch; answers the device as it then is.
    ///
    /// # Errors
    /// `TestFailed` when a `test` does not hold, `Owned` when a Fleet owns the
    /// device, `Invalid` when the result would be.
    pub async fn patch_device(&self, name: &str, patch: &Value) -> Result<Value, ClientError> {
        self.call(
            "patch_device",
            Method::PATCH,
            &format!("/devices/{}", encode(name)),
            Some(patch),
            name,
        )
        .await
    }

    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        object: &str,
    ) -> Result<Value, ClientError> {
        let answer = self.dated(operation, method, path, body, object).await;
        answer.map(|(json, _)| json)
    }

    /// An answer, and the service's own time.
    async fn dated(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        object: &str,
    ) -> Result<(Value, Option<Timestamp>), ClientError> {
        let write = method != Method::GET;
        // Before the deadline of the request: at most `DEADLINE` where the service
        // has asked for a pause, and else the turns of the few that ask at once
        // (the writers' permits, the follower, a listing).
        if let Err(retry_after) = self.budget.take(write, DEADLINE).await {
            return Err(ClientError::TooManyRequests { retry_after });
        }
        let request = self.request(method, path, body).await?;
        let answer = self.send(operation, request, object, DEADLINE).await?;
        if answer.status == http::StatusCode::NO_CONTENT {
            return Ok((Value::Null, answer.date));
        }
        let json = serde_json::from_slice(&answer.body).map_err(|e| ClientError::Decode {
            object: object.into(),
            why: e.to_string(),
        })?;
        Ok((json, answer.date))
    }

    /// Sends one request; an answer that is a refusal becomes an error.
    async fn send(
        &self,
        operation: &'static str,
        request: Request<Full<Bytes>>,
        object: &str,
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        let begun = Instant::now();
        let answer = timeout(deadline, self.http.send(request)).await;
        let code = match &answer {
            Ok(Ok(answer)) => Some(answer.status.as_u16()),
            _ => None,
        };
        let took = begun.elapsed();
        trace!(operation, object, code, ?took, "asked Flight Control");
        (self.observer)(&Call {
            operation,
            code,
            took,
        });
        let answer = match answer {
            Err(_) => {
                return Err(ClientError::Timeout {
                    seconds: deadline.as_secs(),
                });
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(ClientError::TooLarge {
                    object: object.into(),
                });
            }
            Ok(Err(error)) => return Err(ClientError::transport(&self.base, &*error)),
            Ok(Ok(answer)) => answer,
        };
        if !answer.status.is_success() && answer.switched.is_none() {
            let error = ClientError::of(answer.status, answer.retry_after, &answer.body, object);
            if let ClientError::TooManyRequests { retry_after, .. } = &error {
                self.budget.pause(*retry_after);
            }
            if matches!(error, ClientError::Unauthorized { .. }) {
                self.token.refused();
            }
            return Err(error);
        }
        Ok(answer)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let content = body.map_or_else(Bytes::new, text);
        let mut request = self
            .authorized(method, &format!("{API}{path}"))
            .await?
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json-patch+json");
        }
        request
            .body(Full::new(content))
            .map_err(|e| self.no_request(&e))
    }

    /// A request of this user, to the organization.
    async fn authorized(
        &self,
        method: Method,
        path: &str,
    ) -> Result<http::request::Builder, ClientError> {
        let mut uri = format!("{}{path}", self.base);
        if let Some(organization) = &self.organization {
            let sign = if path.contains('?') { '&' } else { '?' };
            uri = format!("{uri}{sign}org_id={}", encode(organization));
        }
        let token = self.token.current().await?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| TokenError::NotAHeader)?;
        bearer.set_sensitive(true);
        let request = Request::builder().method(method).uri(&uri);
        Ok(request.header(header::AUTHORIZATION, bearer))
    }

    fn no_request(&self, error: &http::Error) -> ClientError {
        ClientError::Transport {
            base: self.base.to_string(),
            why: error.to_string(),
        }
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// The items of a list.
fn items<'a>(page: &'a Value, object: &str) -> Result<&'a Vec<Value>, ClientError> {
    page["items"].as_array().ok_or_else(|| ClientError::Decode {
        object: object.into(),
        why: "it is no list".into(),
    })
}

/// What names the next page, if there is one.
fn next_page(page: &Value) -> Option<&str> {
    page["metadata"]["continue"]
        .as_str()
        .filter(|token| !token.is_empty())
}
