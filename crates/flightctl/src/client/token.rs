//! The bearer token, and where a fresh one comes from.

mod file;
mod grant;
mod kept;
mod login;
mod oidc;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use secrecy::SecretString;

use super::Transport;
use file::TokenFile;
use kept::{Kept, Way};
use login::Login;
pub use oidc::ClientCredentials;

/// There is no token to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the Flight Control token file {path} cannot be read: {why}")]
    File {
        /// Its path.
        path: String,
        /// What happened.
        why: String,
    },
    /// The file holds no token.
    #[error("the Flight Control token file {path} has no token in it")]
    Empty {
        /// Its path.
        path: String,
    },
    /// Whoever gives tokens gave none, and the last one is over.
    #[error("no token for Flight Control from {from}: {why}")]
    Grant {
        /// Who was asked.
        from: String,
        /// What was said, and the remedy.
        why: String,
    },
    /// The token cannot stand in a header.
    #[error("the Flight Control token has characters that no token has; check it for line breaks")]
    NotAHeader,
}

/// Where the token comes from; clones share what was read or granted.
#[derive(Clone, Debug)]
pub struct TokenSource(Arc<Source>);

#[derive(Debug)]
enum Source {
    Fixed(SecretString),
    File(TokenFile),
    Login(Login),
    Granted(Kept),
}

impl TokenSource {
    /// Always this token.
    pub fn fixed(token: &str) -> Self {
        Self::of(Source::Fixed(token.trim().to_owned().into()))
    }

    /// The content of a file, read again when it changes.
    pub fn file(path: PathBuf) -> Self {
        Self::of(Source::File(TokenFile::new(path)))
    }

    /// The token of Flight Control's own `client.yaml`, read again when
    /// `flightctl login` writes it anew; renewed with the refresh token in it, where
    /// there is one, through the service at `base`. The file is never written: what
    /// was renewed is kept in memory.
    pub fn client_config(path: PathBuf, http: Transport, base: &Uri) -> Self {
        Self::of(Source::Login(Login::new(path, http, base)))
    }

    /// What an issuer grants to a client of its own (RFC 6749, 4.4), renewed before
    /// it runs out.
    pub fn client_credentials(client: ClientCredentials, http: Transport) -> Self {
        let from = client.issuer.clone();
        Self::of(Source::Granted(Kept::nothing(
            from,
            Way::Client(client, http),
        )))
    }

    fn of(source: Source) -> Self {
        Self(Arc::new(source))
    }

    /// The token to send now. Cancel-safe: a renewal goes on without who asked for it.
    ///
    /// # Errors
    /// There is none.
    pub async fn current(&self) -> Result<SecretString, TokenError> {
        match &*self.0 {
            Source::Fixed(token) => Ok(token.clone()),
            Source::File(file) => file.current(),
            Source::Login(login) => login.kept()?.current().await,
            Source::Granted(kept) => kept.current().await,
        }
    }

    /// The service did not take the token: a file is read again even if its
    /// time stamp did not change, and a granted token is renewed.
    pub fn refused(&self) {
        match &*self.0 {
            Source::Fixed(_) => {}
            Source::File(file) => file.forget(),
            Source::Login(login) => login.refused(),
            Source::Granted(kept) => kept.refused(),
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Source::Fixed(_) => f.write_str("a token of the environment"),
            Source::File(file) => write!(f, "the file {}", file.path().display()),
            Source::Login(login) => write!(f, "the login in {}", login.path().display()),
            Source::Granted(kept) => write!(f, "client credentials at {}", kept.from()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let source = TokenSource::fixed("very-secret");
        let shown = format!("{source:?} {source}");
        assert!(!shown.contains("very-secret"), "{shown}");
    }
}
