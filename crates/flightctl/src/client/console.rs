//! The connection to a device's console: a WebSocket through the service
//! (internal/transport/v1beta1/console.go of Flight Control).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use serde_json::Value;
use tokio::time::timeout;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::{Client, ClientError, DEADLINE, encode};

/// Until the service says that the device came or did not: it waits 60 s for the
/// device, and takes 10 s to refuse an expired token.
const OPEN_DEADLINE: Duration = Duration::from_secs(75);

/// The one protocol that agents speak.
const PROTOCOL: &str = "v5.channel.k8s.io";

/// What an answer 101 leaves behind.
pub(super) struct Switched {
    connection: OnUpgrade,
    headers: HeaderMap,
}

impl Switched {
    /// Of an answer, if it is one.
    pub(super) fn of<B>(response: &mut Response<B>) -> Option<Self> {
        (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| Self {
            connection: hyper::upgrade::on(&mut *response),
            headers: response.headers().clone(),
        })
    }

    fn says(&self, name: header::HeaderName, value: &str) -> bool {
        self.headers.get(name).is_some_and(|said| said == value)
    }
}

impl Client {
    /// Opens the console of a device, for the command in `metadata`: a WebSocket
    /// of channels, past its handshake. Takes up to 5 s on a device that polled
    /// shortly before, and 60 s until a device is given up.
    ///
    /// Not cancel-safe: an opening that is dropped after it was sent leaves its
    /// entry on the device for ever. Writes the device's spec and annotations as
    /// it reads them, so that a write of others that crosses it is undone.
    ///
    /// # Errors
    /// `Server` with 504 when the device did not come.
    pub async fn console(&self, device: &str, metadata: &Value) -> Result<Upgraded, ClientError> {
        if let Err(retry_after) = self.budget.take(true, DEADLINE).await {
            return Err(ClientError::TooManyRequests { retry_after });
        }
        let key = generate_key();
        let path = format!(
            "/ws/v1/devices/{}/console?metadata={}",
            encode(device),
            encode(&metadata.to_string())
        );
        let request = self
            .authorized(Method::GET, &path)
            .await?
            .header(header::CONNECTION, HeaderValue::from_static("Upgrade"))
            .header(header::UPGRADE, HeaderValue::from_static("websocket"))
            .header(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            )
            .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .body(Full::new(Bytes::new()))
            .map_err(|e| self.no_request(&e))?;
        let answer = self.send("console", request, device, OPEN_DEADLINE).await?;
        let wrong = |why: &str| ClientError::Decode {
            object: device.into(),
            why: why.into(),
        };
        let switched = answer
            .switched
            .ok_or_else(|| wrong("it is no console, which is what was asked for"))?;
        if !switched.says(
            header::SEC_WEBSOCKET_ACCEPT,
            &derive_accept_key(key.as_bytes()),
        ) {
            return Err(wrong("the WebSocket was accepted for someone else"));
        }
        if !switched.says(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
            return Err(wrong("the console speaks another protocol than asked for"));
        }
        match timeout(DEADLINE, switched.connection).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(ClientError::transport(&self.base, &error)),
            Err(_) => Err(ClientError::Timeout {
                seconds: DEADLINE.as_secs(),
            }),
        }
    }
}
