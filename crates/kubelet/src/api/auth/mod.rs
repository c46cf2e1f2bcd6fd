//! Who sends a request, and whether they may: the kubelet's webhook
//! authentication and authorization (pkg/kubelet/server/auth.go).
//!
//! A certificate that one of the cluster's client authorities vouches for names
//! its user; else a bearer token does, by TokenReview. What the request needs is
//! asked by SubjectAccessReview, the finest first. Anonymous clients are none.

mod authority;
mod cache;
mod review;
mod user;

use http::HeaderMap;
use kube::Client;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use vk_provider::Clock;

use self::authority::Authorities;
use self::cache::{Cache, Key, Unanswered};
use self::review::Reviewer;
use self::user::{User, bearer};
use super::limits::{ALLOWED, DENIED, REMEMBERED, TOKEN};
use super::route::Needs;
use super::settings::ClientCa;

/// Why a request is not answered, in the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody known sends it.
    Unauthorized,
    /// They may not.
    Forbidden(String),
    /// Kubernetes did not say whether they may.
    Unanswered(String),
}

/// For all nodes of the process.
pub(super) struct Auth {
    client: Client,
    from: ClientCa,
    clock: Clock,
    authorities: Authorities,
    reviewer: Reviewer,
    tokens: Cache<Option<User>>,
    rights: Cache<bool>,
}

impl Auth {
    pub(super) fn new(client: Client, from: ClientCa, clock: Clock) -> Self {
        Self {
            reviewer: Reviewer::new(client.clone()),
            client,
            from,
            clock,
            authorities: Authorities::default(),
            tokens: Cache::new(REMEMBERED, |_| TOKEN),
            rights: Cache::new(
                REMEMBERED,
                |allowed| if *allowed { ALLOWED } else { DENIED },
            ),
        }
    }

    /// Reads the client authorities until `stop`.
    pub(super) async fn keep_authorities(&self, stop: &CancellationToken) {
        self.authorities.keep(&self.client, &self.from, stop).await;
    }

    /// Whether a request to this node may be answered.
    pub(super) async fn check(
        &self,
        node: &str,
        shown: &[CertificateDer<'_>],
        headers: &HeaderMap,
        needs: &Needs,
    ) -> Result<(), Refused> {
        let user = self.user(shown, headers).await?;
        for subresource in needs.subresources {
            let spec = review::access(&user, node, needs.verb, subresource);
            // Texts and lists of texts serialize without fail.
            let key = hash(&serde_json::to_vec(&spec).unwrap_or_default());
            let reviewer = self.reviewer.clone();
            match self.rights.get(key, || reviewer.access(spec)).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Unanswered(why)) => {
                    warn!(
                        node,
                        user = user.name,
                        why,
                        "whether a client may is not known"
                    );
                    return Err(Refused::Unanswered(unanswered(&user, needs, subresource)));
                }
            }
        }
        debug!(node, user = user.name, ?needs, "a client may not");
        Err(Refused::Forbidden(forbidden(&user, needs)))
    }

    async fn user(
        &self,
        shown: &[CertificateDer<'_>],
        headers: &HeaderMap,
    ) -> Result<User, Refused> {
        let first = shown.first().filter(|_| {
            let now = self.clock.now();
            self.authorities.vouch(shown, now)
        });
        if let Some(user) = first.and_then(User::of_certificate) {
            return Ok(user);
        }
        let token = bearer(headers).ok_or(Refused::Unauthorized)?;
        let (key, reviewer) = (hash(token.as_bytes()), self.reviewer.clone());
        let asked = token.to_owned();
        match self.tokens.get(key, || reviewer.token(asked)).await {
            Ok(user) => user.ok_or(Refused::Unauthorized),
            Err(Unanswered(why)) => {
                // As the kubelet: who cannot be known is not known.
                warn!(why, "whose token a client has is not known");
                Err(Refused::Unauthorized)
            }
        }
    }
}

fn hash(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn forbidden(user: &User, needs: &Needs) -> String {
    format!(
        "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])\n",
        user.name,
        needs.verb,
        needs.subresources.join(" ")
    )
}

fn unanswered(user: &User, needs: &Needs, subresource: &str) -> String {
    format!(
        "Authorization error (user={}, verb={}, resource=nodes, subresource={subresource})",
        user.name, needs.verb
    )
}

#[cfg(test)]
mod tests;
