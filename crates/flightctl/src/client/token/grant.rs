//! A token endpoint of OAuth 2.0 (RFC 6749, 5): asked once, it grants a token
//! for some time or says why not.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use virtual_kubelet::cause::chain;
use zeroize::Zeroizing;

use crate::client::{Transport, encode};

/// Deadline of one request. Flight Control waits 10 s and then 30 s for the issuer
/// behind it (internal/service/auth_token_proxy.go), and an answer that nobody
/// waited for may hold the only refresh token that is still good.
const ASK_DEADLINE: Duration = Duration::from_secs(45);
/// No clock of ours runs out of this, and no process outlives it: a hundred years.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Longest part of what an issuer says that is quoted.
const QUOTED: usize = 200;

/// What was granted.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) access: SecretString,
    pub(super) id: Option<SecretString>,
    pub(super) refresh: Option<SecretString>,
    /// As far as anybody says.
    pub(super) life: Option<Duration>,
}

/// Nothing was.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) retry_after: Option<Duration>,
}

impl Refused {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            retry_after: None,
        }
    }
}

/// The answer of a token endpoint, and its refusal.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    access_token: Option<String>,
    id_token: Option<String>,
    refresh_token: Option<String>,
    /// Some say it as a text.
    expires_in: Value,
    error: Option<String>,
    error_description: Option<String>,
}

/// Asks with these fields. `secrets` are in no error, whoever repeats them.
pub(super) async fn ask(
    http: &Transport,
    endpoint: &str,
    fields: &[(&str, &str)],
    authorization: Option<HeaderValue>,
    secrets: &[&str],
) -> Result<Granted, Refused> {
    let length = fields.iter().map(|(k, v)| k.len() + 3 * v.len() + 2).sum();
    // In one piece, and wiped: one that grew would leave copies behind.
    let mut form = Zeroizing::new(Vec::with_capacity(length));
    for (key, value) in fields {
        if !form.is_empty() {
            form.push(b'&');
        }
        form.extend_from_slice(key.as_bytes());
        form.push(b'=');
        form.extend_from_slice(Zeroizing::new(encode(value)).as_bytes());
    }
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(endpoint)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request
        .body(Full::new(Bytes::from_owner(form)))
        .map_err(|e| Refused::because(format!("{endpoint}: {e}")))?;
    let (status, retry_after, body) = answer(http, endpoint, request).await?;
    granted(endpoint, status, &body).map_err(|mut why| {
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            why = why.replace(secret, "(hidden)");
        }
        Refused { why, retry_after }
    })
}

/// One request and its answer, whatever its status.
pub(super) async fn answer(
    http: &Transport,
    url: &str,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Option<Duration>, Bytes), Refused> {
    match timeout(ASK_DEADLINE, http.send(request)).await {
        Ok(Ok(answer)) => Ok((answer.status.as_u16(), answer.retry_after, answer.body)),
        Ok(Err(error)) => {
            let mut why = format!("{url} cannot be reached: {}", chain(&*error));
            if why.contains("certificate") {
                why.push_str("; the caFile beside it names who signed its certificate");
            }
            Err(Refused::because(why))
        }
        Err(_) => Err(Refused::because(format!(
            "{url} does not answer within {} s",
            ASK_DEADLINE.as_secs()
        ))),
    }
}

fn granted(endpoint: &str, status: u16, body: &[u8]) -> Result<Granted, String> {
    let said: Said = serde_json::from_slice(body).unwrap_or_default();
    if let Some(error) = said.error {
        let more = said.error_description.unwrap_or_default();
        let told = [error, more].join(" ");
        let told: String = told.trim().chars().take(QUOTED).collect();
        return Err(format!("{endpoint} says {told}"));
    }
    let access = said.access_token.filter(|token| !token.is_empty());
    // Nothing of such a body is quoted: it may well hold the token.
    let (200..300, Some(access)) = (status, access) else {
        return Err(format!("{endpoint} answers {status} and no access_token"));
    };
    let told = match &said.expires_in {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    // Some say 0 of what has no end.
    let told = told.map(Duration::from_secs).filter(|life| !life.is_zero());
    let written = claims(&access).and_then(|claims| claims.life());
    Ok(Granted {
        life: told
            .into_iter()
            .chain(written)
            .min()
            .map(|life| life.min(LONGEST)),
        access: access.into(),
        id: said.id_token.map(Into::into),
        refresh: said.refresh_token.filter(|t| !t.is_empty()).map(Into::into),
    })
}

/// What a JWT says of its own time, in seconds since 1970. Nobody is trusted with
/// it: Flight Control checks the token.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) exp: Option<i64>,
    iat: Option<i64>,
}

impl Claims {
    /// From its making on, by its maker's clock alone.
    pub(super) fn life(&self) -> Option<Duration> {
        let seconds = self.exp?.checked_sub(self.iat?)?;
        Some(Duration::from_secs(seconds.try_into().ok()?))
    }
}

/// `None` where the token is no JWT.
pub(super) fn claims(token: &str) -> Option<Claims> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(status: u16, body: &Value) -> Result<Granted, String> {
        granted("https://i/token", status, body.to_string().as_bytes())
    }

    #[test]
    fn the_shorter_of_two_lives_counts_and_a_text_is_a_number() {
        let claims = URL_SAFE_NO_PAD.encode(json!({"iat": 1000, "exp": 1060}).to_string());
        let jwt = format!("e30.{claims}.sig");
        let life = |body: Value| read(200, &body).unwrap().life;
        let minute = Some(Duration::from_secs(60));
        assert_eq!(
            life(json!({"access_token": jwt, "expires_in": 300})),
            minute
        );
        assert_eq!(
            life(json!({"access_token": "x", "expires_in": "60"})),
            minute
        );
        assert_eq!(life(json!({"access_token": "x"})), None);
        assert_eq!(life(json!({"access_token": "x", "expires_in": 0})), None);
        let endless = json!({"access_token": "x", "expires_in": u64::MAX});
        assert_eq!(life(endless), Some(LONGEST));
    }

    #[test]
    fn a_refusal_is_told_and_a_body_that_is_not_understood_is_not_quoted() {
        let refused = json!({"error": "invalid_grant", "error_description": "Session not active"});
        let said = read(400, &refused).unwrap_err();
        assert!(said.ends_with("invalid_grant Session not active"), "{said}");
        // As Flight Control's proxy may have it: 200 with an error.
        assert!(read(200, &refused).is_err());
        let said = read(500, &json!({"access_token": "very-secret"})).unwrap_err();
        assert!(said.contains("500") && !said.contains("secret"), "{said}");
        let granted = read(200, &json!({"access_token": "very-secret"})).unwrap();
        assert!(!format!("{granted:?}").contains("very-secret"));
    }
}
