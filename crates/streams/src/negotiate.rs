//! What a request asks for, and the answer: pure functions from headers to the protocol
//! and a response.
//!
//! As the kubelet does it (k8s.io/streaming `httpstream.Handshake`, `wsstream` and
//! `golang.org/x/net/websocket`), with all header lines read: the first protocol *of the
//! client* that is spoken here wins, except that `v5` and the tunnel win over the older
//! WebSocket protocols.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};

use crate::websocket::Encoding;

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";

/// Version of the protocol of `exec` and `attach`. It decides how the outcome is told and
/// whether there is a resize stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `channel.k8s.io`.
    V1,
    /// `v2.channel.k8s.io`.
    V2,
    /// `v3.channel.k8s.io`: resize.
    V3,
    /// `v4.channel.k8s.io`: exit codes.
    V4,
    /// `v5.channel.k8s.io`, over WebSocket alone: half close.
    V5,
}

/// How `exec` or `attach` will be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// Streams over SPDY; versions 1 to 4.
    Spdy(Version),
    /// Channels over WebSocket; versions 1, 4 and 5.
    WebSocket(Version, Encoding),
}

impl Remote {
    /// The version, whatever carries it.
    #[must_use]
    pub fn version(self) -> Version {
        let (Self::Spdy(version) | Self::WebSocket(version, _)) = self;
        version
    }
}

/// How a port-forward will be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Pairs of streams over SPDY.
    Spdy,
    /// The same inside of WebSocket messages.
    Tunnel,
    /// Pairs of WebSocket channels for ports named in the query: the legacy form.
    WebSocket(Encoding),
}

/// A request that will be served: the protocol, and the answer (101) behind which it starts.
#[derive(Debug)]
pub struct Accepted<P> {
    /// What will be spoken.
    pub protocol: P,
    /// The answer.
    pub response: Response<()>,
}

/// A request that cannot be served, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to upgrade: {reason}")]
pub struct Refusal {
    /// 400 for a request that is no upgrade, 403 for one to a protocol that is not spoken here.
    pub status: StatusCode,
    reason: String,
    accepted: Vec<&'static str>,
    websocket_version: bool,
}

impl Refusal {
    fn bad(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason: reason.into(),
            accepted: Vec::new(),
            websocket_version: false,
        }
    }

    /// The answer, with the reason as its body.
    #[must_use]
    pub fn response(&self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        *response.status_mut() = self.status;
        for version in &self.accepted {
            response
                .headers_mut()
                .append(ACCEPTED_VERSIONS, HeaderValue::from_static(version));
        }
        if self.websocket_version {
            response
                .headers_mut()
                .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

const REMOTE_SPDY: [(&str, Remote); 4] = [
    ("v4.channel.k8s.io", Remote::Spdy(Version::V4)),
    ("v3.channel.k8s.io", Remote::Spdy(Version::V3)),
    ("v2.channel.k8s.io", Remote::Spdy(Version::V2)),
    ("channel.k8s.io", Remote::Spdy(Version::V1)),
];
const V5: &str = "v5.channel.k8s.io";
const REMOTE_WEBSOCKET: [(&str, Remote); 5] = [
    (V5, Remote::WebSocket(Version::V5, Encoding::Binary)),
    (
        "v4.channel.k8s.io",
        Remote::WebSocket(Version::V4, Encoding::Binary),
    ),
    (
        "v4.base64.channel.k8s.io",
        Remote::WebSocket(Version::V4, Encoding::Base64),
    ),
    (
        "channel.k8s.io",
        Remote::WebSocket(Version::V1, Encoding::Binary),
    ),
    (
        "base64.channel.k8s.io",
        Remote::WebSocket(Version::V1, Encoding::Base64),
    ),
];
const FORWARD_SPDY: [(&str, Forward); 1] = [("portforward.k8s.io", Forward::Spdy)];
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const FORWARD_WEBSOCKET: [(&str, Forward); 3] = [
    (TUNNEL, Forward::Tunnel),
    ("v4.channel.k8s.io", Forward::WebSocket(Encoding::Binary)),
    (
        "v4.base64.channel.k8s.io",
        Forward::WebSocket(Encoding::Base64),
    ),
];

/// Reads the headers of an `exec` or `attach` request. The method is the caller's to
/// check: WebSocket is GET alone.
///
/// # Errors
/// When the request is no upgrade, or to nothing that is spoken here.
pub fn remote(headers: &HeaderMap) -> Result<Accepted<Remote>, Refusal> {
    if is_websocket(headers) {
        let unnamed = Remote::WebSocket(Version::V1, Encoding::Binary);
        return websocket(headers, &REMOTE_WEBSOCKET, V5, unnamed);
    }
    spdy(headers, &REMOTE_SPDY)
}

/// Reads the headers of a port-forward request. The method is the caller's to check:
/// WebSocket is GET alone.
///
/// # Errors
/// When the request is no upgrade, or to nothing that is spoken here.
pub fn port_forward(headers: &HeaderMap) -> Result<Accepted<Forward>, Refusal> {
    if is_websocket(headers) {
        let unnamed = Forward::WebSocket(Encoding::Binary);
        return websocket(headers, &FORWARD_WEBSOCKET, TUNNEL, unnamed);
    }
    spdy(headers, &FORWARD_SPDY)
}

/// Names and what they stand for.
type Table<P> = [(&'static str, P)];

fn spdy<P: Copy>(headers: &HeaderMap, known: &Table<P>) -> Result<Accepted<P>, Refusal> {
    if !(has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, SPDY)) {
        return Err(Refusal::bad(
            "no Upgrade to SPDY/3.1 or websocket in the request's headers",
        ));
    }
    let offered = values(headers, &PROTOCOL_VERSION);
    if offered.is_empty() {
        return Err(Refusal::bad(
            "header X-Stream-Protocol-Version is missing or empty",
        ));
    }
    let (name, protocol) = choose(&offered, known)?;
    let mut response = switching(SPDY);
    response
        .headers_mut()
        .insert(PROTOCOL_VERSION, HeaderValue::from_static(name));
    Ok(Accepted { protocol, response })
}

/// `newest` wins over all others, wherever it stands; `unnamed` is for clients that name
/// no protocol.
fn websocket<P: Copy>(
    headers: &HeaderMap,
    known: &Table<P>,
    newest: &str,
    unnamed: P,
) -> Result<Accepted<P>, Refusal> {
    let accept = tungstenite::handshake::derive_accept_key(websocket_key(headers)?);
    let mut offered = values(headers, &SEC_WEBSOCKET_PROTOCOL);
    if offered.contains(&newest) {
        offered = vec![newest];
    }
    let mut response = switching("websocket");
    let protocol = if offered.is_empty() {
        unnamed
    } else {
        let (name, protocol) = choose(&offered, known)?;
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        protocol
    };
    // Base64 is always a header's value.
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(Accepted { protocol, response })
}

fn choose<P: Copy>(offered: &[&str], known: &Table<P>) -> Result<(&'static str, P), Refusal> {
    let known_as = |offer: &&str| known.iter().find(|(name, _)| name == offer).copied();
    offered.iter().find_map(known_as).ok_or_else(|| {
        let accepted: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let reason = format!("the client offers {offered:?}, {accepted:?} are spoken here");
        Refusal {
            status: StatusCode::FORBIDDEN,
            reason,
            accepted,
            websocket_version: false,
        }
    })
}

fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

fn websocket_key(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    if values(headers, &SEC_WEBSOCKET_VERSION) != ["13"] {
        return Err(Refusal {
            websocket_version: true,
            ..Refusal::bad("Sec-WebSocket-Version is not 13")
        });
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    key.filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
        .ok_or_else(|| Refusal::bad("Sec-WebSocket-Key is not 16 bytes in base64"))
}

/// All values of a header, over lines and commas.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers
        .get_all(name)
        .into_iter()
        .filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    values(headers, name)
        .iter()
        .any(|value| value.eq_ignore_ascii_case(token))
}

fn switching(to: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(to));
    response
}

#[cfg(test)]
mod tests;
