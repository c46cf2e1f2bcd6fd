//! Tokens of pods' service accounts: asked for, kept in memory, renewed.
//!
//! As the kubelet's (`pkg/kubelet/token`): bound to the pod, renewed when 80 %
//! of its life or 24 hours are over, and kept while a renewal fails. Unlike
//! there, lives count from the request on the clock that nobody sets.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Resource;
use kube::api::{PostParams, Request};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use vk_provider::volumes::Content;
use vk_provider::{PodKey, RenderError, TokenAsk, Uid};
use zeroize::Zeroizing;

use super::gather::{DEADLINE, Wanted};
use super::source::missing_binding;
use super::{State, Store};
use crate::cause::chain;
use crate::table::back_off;

/// A token is renewed at this age, however long it lives (kubelet's `maxTTL`).
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// And when this part of its life is over.
const RENEW_AT: f64 = 0.8;
/// Shortest time between two renewals, whatever life the API server grants: the
/// shortest that it takes is ten minutes.
const RENEW_LEAST: Duration = Duration::from_secs(60);
/// Requests at once: after a start every pod wants one.
pub(super) const AT_ONCE: usize = 16;
/// What a failed request is counted as.
const OPERATION: &str = "token";

/// One token of one pod.
#[derive(Debug, Default)]
pub(super) struct Token {
    /// `None` before the first was issued.
    pub(super) content: Option<Content>,
    /// Grows with each.
    pub(super) number: u64,
    /// Why the last request failed, if it did.
    pub(super) trouble: Option<String>,
    failures: u32,
    /// When the next request is due.
    due: Option<Instant>,
}

#[derive(Deserialize)]
struct Answer {
    spec: AnswerSpec,
    status: AnswerStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerSpec {
    expiration_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct AnswerStatus {
    token: String,
}

/// A token and how long it lives.
type Issued = (Content, Duration);

impl Store {
    /// Asks for the tokens that the pod does not have yet.
    pub(super) async fn fetch_missing(&self, key: &PodKey, wanted: &Wanted) {
        let mut asks: Vec<_> = wanted.tokens.iter().flatten().cloned().collect();
        {
            let state = self.lock();
            let tokens = state.users.get(&key.uid).map(|user| &user.tokens);
            let issued = |ask: &TokenAsk| tokens?.get(ask)?.content.as_ref();
            asks.retain(|ask| issued(ask).is_none());
        }
        join_all(asks.iter().map(|ask| self.fetch(key, &wanted.account, ask))).await;
    }

    /// Renews what is due until `stop`.
    pub(crate) async fn keep_tokens(&self, stop: CancellationToken) {
        let mut renewals = FuturesUnordered::new();
        loop {
            let woken = self.0.due_earlier.notified();
            let next = self.lock().due.first().map(|(at, ..)| *at);
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = woken => {}
                () = due => {
                    let due = self.lock().take_due(Instant::now());
                    renewals.extend(due.into_iter().map(|(uid, ask)| self.renew(uid, ask)));
                }
                Some(()) = renewals.next() => {}
            }
        }
    }

    async fn renew(&self, uid: Uid, ask: TokenAsk) {
        let user = {
            let state = self.lock();
            let user = state.users.get(&uid);
            user.map(|user| {
                let token = user.tokens.get(&ask);
                let has_one = token.is_some_and(|token| token.content.is_some());
                (user.key.clone(), user.account.clone(), has_one)
            })
        };
        let Some((key, account, has_one)) = user else {
            return;
        };
        match self.fetch(&key, &account, &ask).await {
            Ok(()) => self.wake([(uid, true)]),
            Err(why) if has_one => self.0.events.for_pod(&key).warning(
                RenderError::VOLUMES_REASON,
                &format!("failed to fetch token: {why}; the present one is kept"),
            ),
            // Told when the pod was handed over, or waits.
            Err(_) => {}
        }
    }

    /// Asks for one token and keeps it; or asks again later.
    async fn fetch(&self, key: &PodKey, account: &str, ask: &TokenAsk) -> Result<(), String> {
        let begun = Instant::now();
        // The semaphore is never closed.
        let permit = self.0.requests.acquire().await;
        let answer = match timeout(DEADLINE, self.request(key, account, ask)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.0.metrics.count_error(OPERATION, 0);
                Err("no answer from the API server".into())
            }
        };
        drop(permit);
        if let Err(why) = &answer {
            warn!(pod = %key, account, why, "no token");
        }
        let mut state = self.lock();
        let failed = answer.as_ref().err().cloned();
        state.issue(&key.uid, ask, answer, begun);
        drop(state);
        self.0.due_earlier.notify_one();
        failed.map_or(Ok(()), Err)
    }

    async fn request(&self, key: &PodKey, account: &str, ask: &TokenAsk) -> Result<Issued, String> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: ask.audience.clone().map(|audience| vec![audience]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(key.name.to_string()),
                    uid: Some(key.uid.to_string()),
                }),
                expiration_seconds: Some(ask.expiration_seconds),
            }),
            ..TokenRequest::default()
        };
        let path = ServiceAccount::url_path(&(), Some(&key.namespace));
        let body = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
        let request = Request::new(path)
            .create_subresource("token", account, &PostParams::default(), body)
            .map_err(|e| e.to_string())?;
        // Not as a value: kube logs the text of what it cannot read.
        let answer = self.0.client.request_text(request).await;
        let text = Zeroizing::new(answer.map_err(|error| {
            self.0.metrics.api_error(OPERATION, &error);
            words(&error, &key.namespace)
        })?);
        let Ok(answer) = serde_json::from_str::<Answer>(&text) else {
            return Err("the API server's answer is no TokenRequest".into());
        };
        let asked = u64::try_from(ask.expiration_seconds).unwrap_or_default();
        let life = answer.spec.expiration_seconds.unwrap_or(asked);
        let content = Content::from(answer.status.token);
        Ok((content, Duration::from_secs(life)))
    }
}

impl State {
    fn take_due(&mut self, now: Instant) -> Vec<(Uid, TokenAsk)> {
        let mut due = Vec::new();
        while self.due.first().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, uid, ask)) = self.due.pop_first()
        {
            due.push((uid, ask));
        }
        due
    }

    /// A token that has not come in time is asked for again later: for a pod that
    /// runs nobody gathers anew. Answers whether any is.
    pub(super) fn expect_tokens(&mut self, uid: &Uid, wanted: &Wanted) -> bool {
        let Some(user) = self.users.get_mut(uid) else {
            return false;
        };
        let before = self.due.len();
        for ask in wanted.tokens.iter().flatten() {
            let token = user.tokens.entry(ask.clone()).or_default();
            if token.due.is_none() {
                let at = Instant::now() + back_off(0);
                token.due = Some(at);
                self.due.insert((at, uid.clone(), ask.clone()));
            }
        }
        self.due.len() > before
    }

    fn issue(&mut self, uid: &Uid, ask: &TokenAsk, answer: Result<Issued, String>, begun: Instant) {
        // The pod may be gone.
        let Some(user) = self.users.get_mut(uid) else {
            return;
        };
        let token = user.tokens.entry(ask.clone()).or_default();
        let at = match answer {
            Ok((content, life)) => {
                token.content = Some(content);
                token.number += 1;
                (token.trouble, token.failures) = (None, 0);
                begun + renew_after(life)
            }
            Err(why) => {
                let wait = back_off(token.failures);
                token.trouble = Some(why);
                token.failures = token.failures.saturating_add(1);
                Instant::now() + wait
            }
        };
        if let Some(before) = token.due.replace(at) {
            self.due.remove(&(before, uid.clone(), ask.clone()));
        }
        self.due.insert((at, uid.clone(), ask.clone()));
    }

    /// The tokens of a pod that is gone are no longer renewed.
    pub(super) fn forget_tokens(
        &mut self,
        uid: &Uid,
        tokens: impl Iterator<Item = (TokenAsk, Token)>,
    ) {
        for (ask, token) in tokens {
            if let Some(at) = token.due {
                self.due.remove(&(at, uid.clone(), ask));
            }
        }
    }
}

fn renew_after(life: Duration) -> Duration {
    life.mul_f64(RENEW_AT).clamp(RENEW_LEAST, RENEW_AFTER)
}

/// What the API server said, and the remedy where it is ours to name.
fn words(error: &kube::Error, namespace: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{}; {}",
            status.message,
            missing_binding(namespace, "create serviceaccounts/token")
        ),
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_and_every_day() {
        let of = |seconds| renew_after(Duration::from_secs(seconds)).as_secs();
        assert_eq!(of(3600), 2880);
        assert_eq!(of(7 * 24 * 3600), 24 * 3600);
        assert_eq!(of(0), 60, "whatever is granted");
    }
}
