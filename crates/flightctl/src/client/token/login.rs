//! What `flightctl login` left behind: a token and mostly a refresh token, which
//! Flight Control passes on to the issuer (`/api/v1/auth/{provider}/token`).
//!
//! The file is the user's and is never written. Where the issuer gives another
//! refresh token with each renewal, the newest is in memory alone.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Uri;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

use super::grant::{self, Refused};
use super::kept::{Kept, Way};
use super::{TokenError, Transport, file};
use crate::client::encode;
use crate::config::client_yaml::{self, Tokens};

/// The file, and the token that came of it.
#[derive(Debug)]
pub(super) struct Login {
    path: PathBuf,
    http: Transport,
    base: String,
    last: Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    /// `None` makes it be read again.
    modified: Option<SystemTime>,
    text: SecretString,
    kept: Kept,
}

impl Login {
    pub(super) fn new(path: PathBuf, http: Transport, base: &Uri) -> Self {
        Self {
            path,
            http,
            base: base.to_string().trim_end_matches('/').to_owned(),
            last: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The token of the file as it is now. One that was renewed since stays, until
    /// the file changes.
    pub(super) fn kept(&self) -> Result<Kept, TokenError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let modified = file::modified(&self.path);
        if let Some(known) = &*last
            && modified.is_some()
            && known.modified == modified
        {
            return Ok(known.kept.clone());
        }
        let text = SecretString::from(file::read(&self.path)?);
        let text_is = |known: &Read| known.text.expose_secret() == text.expose_secret();
        let kept = match last.take().filter(text_is) {
            Some(same) => same.kept,
            None => self.read(text.expose_secret(), Timestamp::now())?,
        };
        *last = Some(Read {
            modified,
            text,
            kept: kept.clone(),
        });
        Ok(kept)
    }

    /// The service did not take the token: somebody may have logged in anew, and
    /// otherwise it is renewed.
    pub(super) fn refused(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &mut *last {
            known.modified = None;
            known.kept.refused();
        }
    }

    fn read(&self, text: &str, now: Timestamp) -> Result<Kept, TokenError> {
        let path = self.path.display().to_string();
        let Some(tokens) = client_yaml::tokens(text) else {
            return Err(TokenError::Empty { path });
        };
        let left = left(&tokens, now);
        let Tokens {
            token,
            refresh,
            id_is_used,
            ..
        } = tokens;
        let way = refresh.map(|refresh| {
            Way::Refresh(Refresh {
                path: path.clone(),
                http: self.http.clone(),
                endpoint: format!(
                    "{}/api/v1/auth/{}/token",
                    self.base,
                    encode(&refresh.provider)
                ),
                client_id: refresh.client_id,
                id_is_used,
                token: Mutex::new(refresh.token),
            })
        });
        Ok(Kept::seeded(path, token, left, way))
    }
}

/// What is left of the token's life: the file says when the access token is over,
/// and a JWT says it of itself.
fn left(tokens: &Tokens, now: Timestamp) -> Option<Duration> {
    let written = grant::claims(tokens.token.expose_secret())
        .and_then(|claims| Timestamp::from_second(claims.exp?).ok());
    let until = written.into_iter().chain(tokens.expiry).min()?;
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    Some(left.min(grant::LONGEST))
}

/// A refresh token and where it is good for something.
pub(super) struct Refresh {
    path: String,
    http: Transport,
    endpoint: String,
    client_id: String,
    id_is_used: bool,
    token: Mutex<SecretString>,
}

impl Refresh {
    /// A fresh token and its life. Never twice at once: an issuer may take a refresh
    /// token that comes again for a stolen one.
    pub(super) async fn ask(&self) -> Result<(SecretString, Option<Duration>), Refused> {
        let present = self.token().clone();
        let present = present.expose_secret();
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("refresh_token", present),
        ];
        let asked = grant::ask(&self.http, &self.endpoint, &fields, None, &[present]).await;
        let granted = asked.map_err(|mut refused| {
            if refused.why.contains("invalid_grant") {
                refused
                    .why
                    .push_str("; the login is over: run flightctl login");
            }
            refused
        })?;
        if let Some(next) = granted.refresh.filter(|t| t.expose_secret() != present) {
            let mut token = self.token();
            warn!(
                path = self.path,
                "the issuer has replaced the refresh token of this login, and the file is left as it is: it needs flightctl login before the next start. flightctl.oidc needs no login"
            );
            *token = next;
        }
        match (self.id_is_used, granted.id) {
            (false, _) => Ok((granted.access, granted.life)),
            (true, Some(id)) => {
                let written = grant::claims(id.expose_secret()).and_then(|claims| claims.life());
                Ok((id, granted.life.into_iter().chain(written).min()))
            }
            (true, None) => Err(Refused::because(
                "it grants no id_token, which is what this login uses; run flightctl login",
            )),
        }
    }

    fn token(&self) -> std::sync::MutexGuard<'_, SecretString> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
