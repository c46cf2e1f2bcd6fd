//! Tokens for a client of its own at an issuer of OpenID Connect: the endpoint is
//! found by discovery, and asked for the client's own credentials (RFC 6749, 4.4).

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::grant::{self, Refused};
use super::{Transport, file};
use crate::client::encode;

/// A client that an issuer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCredentials {
    /// The issuer's URL, as it says it itself.
    pub issuer: String,
    /// The client's name there.
    pub client_id: String,
    /// The file with its secret, read each time.
    pub secret_file: PathBuf,
    /// What is asked for; often nothing.
    pub scopes: Vec<String>,
    /// For whom the token is to be, for issuers that want to be told.
    pub audience: Option<String>,
}

/// OpenID Connect Discovery 1.0, 3.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    token_endpoint: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl ClientCredentials {
    /// A fresh token and its life. May be repeated.
    pub(super) async fn ask(
        &self,
        http: &Transport,
    ) -> Result<(SecretString, Option<Duration>), Refused> {
        let secret = file::read(&self.secret_file).map_err(|e| Refused::because(e.to_string()))?;
        let secret = Zeroizing::new(secret);
        let secret = secret.trim();
        let found = self.discover(http).await?;
        let scope = self.scopes.join(" ");
        let mut fields = vec![("grant_type", "client_credentials")];
        if !scope.is_empty() {
            fields.push(("scope", &scope));
        }
        if let Some(audience) = &self.audience {
            fields.push(("audience", audience));
        }
        let authorization = if found.takes("client_secret_basic") {
            Some(basic(&self.client_id, secret)?)
        } else if found.takes("client_secret_post") {
            fields.extend([("client_id", &*self.client_id), ("client_secret", secret)]);
            None
        } else {
            return Err(Refused::because(
                "it takes neither client_secret_basic nor client_secret_post, which is what there is here",
            ));
        };
        let endpoint = &found.token_endpoint;
        let granted = grant::ask(http, endpoint, &fields, authorization, &[secret]).await?;
        Ok((granted.access, granted.life))
    }

    async fn discover(&self, http: &Transport) -> Result<Discovery, Refused> {
        let issuer = self.issuer.trim_end_matches('/');
        let url = format!("{issuer}/.well-known/openid-configuration");
        let request = Request::builder()
            .uri(&url)
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|e| Refused::because(e.to_string()))?;
        let (status, retry_after, body) = grant::answer(http, &url, request).await?;
        let refused = |why: String| Refused { why, retry_after };
        if !(200..300).contains(&status) {
            return Err(refused(format!(
                "{url} answers {status}; flightctl.oidc.issuer is the URL before /.well-known"
            )));
        }
        let found: Discovery = serde_json::from_slice(&body)
            .map_err(|e| refused(format!("{url} is no discovery document: {e}")))?;
        // Discovery, 4.3: it has to name itself, or anybody may have answered.
        if found.issuer.trim_end_matches('/') != issuer {
            return Err(refused(format!(
                "{url} is the issuer {:?}; write that as flightctl.oidc.issuer if you mean it",
                found.issuer
            )));
        }
        if issuer.starts_with("https://") && !found.token_endpoint.starts_with("https://") {
            return Err(refused(format!(
                "its token endpoint {} would be sent the secret in the clear",
                found.token_endpoint
            )));
        }
        Ok(found)
    }
}

impl Discovery {
    /// One that does not say takes `client_secret_basic` (Discovery, 3).
    fn takes(&self, method: &str) -> bool {
        match &self.token_endpoint_auth_methods_supported {
            Some(known) => known.iter().any(|one| one == method),
            None => method == "client_secret_basic",
        }
    }
}

/// RFC 6749, 2.3.1: each of both as in a form, then as HTTP has it.
fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, Refused> {
    let secret = Zeroizing::new(encode(secret));
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id), *secret));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    // Base64 is always a header; the error says nothing of it.
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Refused::because("the client's secret cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
