//! How a call ended that did not succeed: a variant per decision of the caller.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use virtual_kubelet::cause::chain;

use super::token::TokenError;

/// Wait after a 429 that names no time.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Longest part of an answer that is quoted.
const QUOTED: usize = 500;

/// A failed call. Its text names the object and the remedy.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no token to send.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is missing, malformed or expired.
    #[error(
        "Flight Control refuses the token ({message}); a fresh one is used as soon as it is there: FLIGHTCTL_AUTH_TOKEN, tokenFile or `flightctl login`"
    )]
    Unauthorized {
        /// What the service said.
        message: String,
    },
    /// The token's user lacks a right.
    #[error(
        "Flight Control forbids {object} ({message}); the user needs the role operator, or patch on devices"
    )]
    Forbidden {
        /// What was asked for.
        object: String,
        /// What the service said.
        message: String,
    },
    /// The object does not exist.
    #[error("{object} does not exist in Flight Control")]
    NotFound {
        /// Its name.
        object: String,
    },
    /// A Fleet owns the device.
    #[error("device {object} is owned by a Flight Control Fleet: {message}")]
    Owned {
        /// The device.
        object: String,
        /// What the service said.
        message: String,
    },
    /// A `test` of the patch does not hold any more: read again and repeat.
    #[error("{object} was changed meanwhile")]
    TestFailed {
        /// The device.
        object: String,
    },
    /// Flight Control itself refuses the request for what it says; a proxy's
    /// refusal is a [`ClientError::Server`].
    #[error("Flight Control refuses {object}: {message}")]
    Invalid {
        /// The object.
        object: String,
        /// What the service said.
        message: String,
    },
    /// Too many requests.
    #[error("Flight Control's request limit is reached; asked again in {} s. Lower flightctl.requestsPerMinute, or raise the service's limit", retry_after.as_secs())]
    TooManyRequests {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The service failed.
    #[error("Flight Control answers {status} for {object}: {message}")]
    Server {
        /// The object.
        object: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The service could not be reached.
    #[error("Flight Control at {base} cannot be reached: {why}")]
    Transport {
        /// Its URL.
        base: String,
        /// What happened.
        why: String,
    },
    /// No answer in time; what was sent may have taken effect.
    #[error("no answer from Flight Control within {seconds} s")]
    Timeout {
        /// The deadline.
        seconds: u64,
    },
    /// The answer is larger than what is read of one.
    #[error("Flight Control's answer about {object} is too large")]
    TooLarge {
        /// The object.
        object: String,
    },
    /// The answer is not what it should be.
    #[error("Flight Control's answer about {object} cannot be read: {why}")]
    Decode {
        /// The object.
        object: String,
        /// What is wrong.
        why: String,
    },
}

impl ClientError {
    /// The error that an answer is.
    pub(super) fn of(
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
        object: &str,
    ) -> Self {
        let message = message(body);
        let object = object.to_owned();
        match status.as_u16() {
            401 => Self::Unauthorized { message },
            // No Authorization header, or one that was lost on the way.
            400 if message.contains("failed to get auth token") => Self::Unauthorized { message },
            403 => Self::Forbidden { object, message },
            // Only the service itself knows what it has not: a proxy's 404 must not
            // make a device look deleted.
            404 if message.contains(" of name ") => Self::NotFound { object },
            // The other 409 of a device is a concurrent write.
            409 if message.contains("owner") => Self::Owned { object, message },
            409 => Self::TestFailed { object },
            400 if message.contains("test failed")
                || message.contains("test operation does not apply") =>
            {
                Self::TestFailed { object }
            }
            400 | 422 if is_status(body) => Self::Invalid { object, message },
            429 => Self::TooManyRequests {
                retry_after: retry_after.unwrap_or(RETRY_AFTER),
            },
            status => Self::Server {
                object,
                status,
                message,
            },
        }
    }

    /// The error of a connection that failed.
    pub(super) fn transport(base: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut why = chain(error);
        if why.contains("certificate") {
            why.push_str("; set flightctl.caFile to the file that signed the server's certificate");
        } else {
            why.push_str("; FLIGHTCTL_API_URL or flightctl.url say where it is");
        }
        Self::Transport {
            base: base.into(),
            why,
        }
    }

    /// Whether a write that ended so may have taken effect, or still may.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::TooLarge { .. }
            | Self::Decode { .. } => true,
            Self::Server { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether the next request will most likely end the same way, whatever it
    /// is about.
    pub fn concerns_all(&self) -> bool {
        matches!(
            self,
            Self::Token(_)
                | Self::Unauthorized { .. }
                | Self::TooManyRequests { .. }
                | Self::Transport { .. }
                | Self::Timeout { .. }
        )
    }

    /// When to ask again, where the service named a time.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

/// Whether an answer is Flight Control's own: what stands in front of it says
/// the same codes for reasons of its own.
fn is_status(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|json| json["kind"] == "Status")
}

/// What begins a quotation of the request in the words of a schema checker
/// (kin-openapi's `SchemaError`): what is behind it may hold anybody's Secrets.
const QUOTATIONS: [&str; 2] = ["Schema:", "Value:"];

fn message(body: &[u8]) -> String {
    let text = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|json| json["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let is_quotation = |line: &str| QUOTATIONS.contains(&line.trim());
    let told: Vec<_> = text
        .trim()
        .lines()
        .take_while(|l| !is_quotation(l))
        .collect();
    told.join("\n").trim().chars().take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, message: &str) -> ClientError {
        let body = serde_json::json!({"kind": "Status", "message": message}).to_string();
        ClientError::of(
            StatusCode::from_u16(status).unwrap(),
            None,
            body.as_bytes(),
            "dev0",
        )
    }

    #[test]
    fn a_refusal_is_told_without_what_it_quotes_of_the_request() {
        let said = "doesn't match schema: Error at \"/spec\": odd\nSchema:\n  {}\n\nValue:\n  {\"content\": \"czNjcmV0\"}\n";
        let told = error(400, said).to_string();
        assert!(told.ends_with("Error at \"/spec\": odd"), "{told}");
        let two = error(400, "spec.a: Invalid value: \"x\"\nspec.b: odd").to_string();
        assert!(two.ends_with("\"x\"\nspec.b: odd"), "{two}");
    }

    #[test]
    fn recorded_answers_become_decisions() {
        assert!(matches!(
            error(400, "failed to get auth token"),
            ClientError::Unauthorized { .. }
        ));
        assert!(matches!(
            error(401, "failed to validate token"),
            ClientError::Unauthorized { .. }
        ));
        assert!(matches!(
            error(
                400,
                "failed to apply JSON patch: testing value /metadata/generation failed: test failed"
            ),
            ClientError::TestFailed { .. }
        ));
        assert!(matches!(
            error(
                409,
                "updating the resource is not allowed because it has an owner"
            ),
            ClientError::Owned { .. }
        ));
        assert!(matches!(
            error(429, "Rate limit exceeded"),
            ClientError::TooManyRequests { .. }
        ));
        assert!(matches!(
            error(404, "Device of name \"dev0\" not found"),
            ClientError::NotFound { .. }
        ));
        assert!(matches!(
            error(404, "404 page not found"),
            ClientError::Server { .. }
        ));
        assert!(matches!(
            error(404, "API Error: no matching operation was found"),
            ClientError::Server { .. }
        ));
        assert!(matches!(
            error(400, "no paths provided"),
            ClientError::Invalid { .. }
        ));
    }

    #[test]
    fn what_a_proxy_refuses_is_not_refused_by_flight_control() {
        for (status, body) in [
            (413, "<html>413 Request Entity Too Large</html>"),
            (413, r#"{"kind":"Status","message":"spec.applications"}"#),
            (400, "<html>400 Bad Request</html>"),
            (422, r#"{"message":"spec.applications[].name"}"#),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = ClientError::of(status, None, body.as_bytes(), "dev0");
            assert!(matches!(error, ClientError::Server { .. }), "{error}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_quoted_in_part() {
        let long = "x".repeat(10_000);
        let error = ClientError::of(StatusCode::BAD_GATEWAY, None, long.as_bytes(), "dev0");
        assert!(error.to_string().len() < 700);
    }
}
