//! Port-forward: pairs of a data and an error stream, one pair for each connection that
//! is forwarded (k8s.io/cri-streaming, `portforward`).

use std::collections::HashMap;
use std::time::Instant;

use crate::limits::{MAX_FORWARDED_PORTS, STREAM_CREATION_TIMEOUT};
use crate::negotiate::Forward;
use crate::protocol::Protocol;
use crate::spdy::frame::StreamId;
use crate::spdy::headers::Headers;
use crate::spdy::{self, Connection, FlowControl};
use crate::websocket::{Channels, Direction, Encoding, Role, Tunnel};

/// Which of the two a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Carries the bytes of the connection.
    Data,
    /// Carries one text, when the connection could not be made or broke.
    Error,
}

/// What the headers of a SPDY stream ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which stream of the pair this is.
    pub kind: Kind,
    /// The port inside of the pod, never 0.
    pub port: u16,
    /// What the two streams of a pair have in common.
    pub id: String,
}

/// Headers that ask for nothing that could be forwarded. The stream is reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// No port from 1 to 65535.
    #[error("header port: {0:?} is no port from 1 to 65535")]
    Port(String),
    /// Neither `data` nor `error`.
    #[error("header streamType: {0:?} is neither data nor error")]
    Kind(String),
}

impl Request {
    /// Reads the headers of a stream that the client opened. Clients before Kubernetes 1.3
    /// send no request id; theirs is guessed from the stream's number, which is right as
    /// long as pairs are opened one after the other, error stream first.
    ///
    /// # Errors
    /// When port or type are missing or wrong.
    pub fn from_headers(stream: StreamId, headers: &Headers) -> Result<Self, BadRequest> {
        let text = headers.get("port").unwrap_or_default();
        let port = port(text).ok_or_else(|| BadRequest::Port(text.into()))?;
        let kind = match headers.get("streamType").unwrap_or_default() {
            "data" => Kind::Data,
            "error" => Kind::Error,
            other => return Err(BadRequest::Kind(other.into())),
        };
        let id = match (headers.get("requestID").filter(|id| !id.is_empty()), kind) {
            (Some(id), _) => id.to_owned(),
            (None, Kind::Error) => stream.to_string(),
            (None, Kind::Data) => stream.0.saturating_sub(2).to_string(),
        };
        Ok(Self { kind, port, id })
    }
}

fn port(text: &str) -> Option<u16> {
    // `parse` takes a sign, which is no port.
    text.parse()
        .ok()
        .filter(|port| *port > 0 && !text.starts_with('+'))
}

/// Two streams that belong together.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair<S> {
    /// The port inside of the pod: the data stream's.
    pub port: u16,
    /// The data stream.
    pub data: S,
    /// The error stream.
    pub error: S,
}

/// One stream whose other one did not come in time.
#[derive(Debug, PartialEq, Eq)]
pub struct Alone<S> {
    /// Which one is there.
    pub kind: Kind,
    /// Its request.
    pub id: String,
    /// The stream.
    pub stream: S,
}

/// Puts streams together that belong together. Holds no more than there are streams,
/// which the connection bounds.
#[derive(Debug)]
pub struct Pairs<S> {
    waiting: HashMap<String, Waiting<S>>,
}

#[derive(Debug)]
struct Waiting<S> {
    kind: Kind,
    port: u16,
    stream: S,
    until: Instant,
}

impl<S> Default for Pairs<S> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
        }
    }
}

impl<S> Pairs<S> {
    /// Takes a stream; returns the pair if it is whole now.
    ///
    /// # Errors
    /// Gives the stream back when its place is taken.
    pub fn add(&mut self, request: Request, stream: S, now: Instant) -> Result<Option<Pair<S>>, S> {
        let Request { kind, port, id } = request;
        let Some(first) = self.waiting.remove(&id) else {
            let until = now + STREAM_CREATION_TIMEOUT;
            self.waiting.insert(
                id,
                Waiting {
                    kind,
                    port,
                    stream,
                    until,
                },
            );
            return Ok(None);
        };
        match (kind, first.kind) {
            (Kind::Data, Kind::Error) => Ok(Some(Pair {
                port,
                data: stream,
                error: first.stream,
            })),
            (Kind::Error, Kind::Data) => Ok(Some(Pair {
                port: first.port,
                data: first.stream,
                error: stream,
            })),
            (Kind::Data, Kind::Data) | (Kind::Error, Kind::Error) => {
                self.waiting.insert(id, first);
                Err(stream)
            }
        }
    }

    /// When the first stream will have waited too long.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }

    /// Takes out the streams that have waited for [`STREAM_CREATION_TIMEOUT`].
    pub fn expired(&mut self, now: Instant) -> Vec<Alone<S>> {
        let gone = self.waiting.extract_if(|_, waiting| waiting.until <= now);
        gone.map(|(id, Waiting { kind, stream, .. })| Alone { kind, id, stream })
            .collect()
    }
}

/// The query of a legacy request names no ports that could be forwarded: status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPorts {
    /// None given.
    #[error("query parameter port is required")]
    Missing,
    /// No port from 1 to 65535.
    #[error("query parameter port: {0:?} is no port from 1 to 65535")]
    Port(String),
    /// Over [`MAX_FORWARDED_PORTS`].
    #[error(
        "query parameter port: {0} ports, at most {MAX_FORWARDED_PORTS} can be forwarded at once"
    )]
    TooMany(usize),
}

/// Reads the ports of a legacy request: the (decoded) values of the query parameter
/// `port`, which may be repeated and hold several, by commas. The API server turns its own
/// `ports` into it.
///
/// # Errors
/// When there is none, too many, or one that is no port.
pub fn ports<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<u16>, BadPorts> {
    let parse = |text: &str| port(text).ok_or_else(|| BadPorts::Port(text.into()));
    let ports: Vec<u16> = values
        .into_iter()
        .flat_map(|value| value.split(','))
        .map(parse)
        .collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err(BadPorts::Missing),
        1..=MAX_FORWARDED_PORTS => Ok(ports),
        many => Err(BadPorts::TooMany(many)),
    }
}

/// The connection right behind the upgrade. `ports` matter to the legacy form alone.
#[must_use]
pub fn connection(protocol: Forward, ports: &[u16]) -> Box<dyn Protocol> {
    match protocol {
        Forward::Spdy => Box::new(Connection::new(spdy::Role::Server, FlowControl::Ignored)),
        Forward::Tunnel => Box::new(Tunnel::new(Role::Server, FlowControl::Ignored)),
        Forward::WebSocket(encoding) => Box::new(channels(ports, encoding)),
    }
}

/// The channels of a legacy server: for the port at index `i`, channel `2i` carries data
/// and channel `2i + 1` the error. Each begins with the port, two bytes, the low one first.
#[must_use]
pub fn channels(ports: &[u16], encoding: Encoding) -> Channels {
    let directions = [Direction::Both, Direction::Write].repeat(ports.len());
    let mut channels = Channels::new(Role::Server, encoding, false, &directions);
    for (i, port) in ports.iter().enumerate() {
        for channel in pair_channels(i) {
            // Fails for channels that cannot be addressed, which `ports` keeps out.
            let _ = channels.send(channel, &port.to_le_bytes());
        }
    }
    channels
}

/// The data and the error channel of the port at an index.
#[must_use]
pub fn pair_channels(index: usize) -> [StreamId; 2] {
    let data = u32::try_from(index).unwrap_or(u32::MAX / 4) * 2;
    [StreamId(data), StreamId(data + 1)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(stream: u32, headers: &[(&str, &str)]) -> Result<Request, BadRequest> {
        Request::from_headers(StreamId(stream), &headers.iter().copied().collect())
    }

    #[test]
    fn headers_name_port_type_and_request() {
        let got = request(
            1,
            &[("streamtype", "data"), ("port", "8080"), ("requestid", "7")],
        );
        assert_eq!(
            got,
            Ok(Request {
                kind: Kind::Data,
                port: 8080,
                id: "7".into()
            })
        );
    }

    #[test]
    fn without_a_request_id_neighbouring_streams_belong_together() {
        let error = request(5, &[("streamtype", "error"), ("port", "80")]).unwrap();
        let data = request(7, &[("streamtype", "data"), ("port", "80")]).unwrap();
        assert_eq!(error.id, data.id);
    }

    #[test]
    fn headers_that_name_no_port_or_type_are_refused() {
        for port in ["", "0", "65536", "-1", "+80", "http", " 80"] {
            let got = request(1, &[("streamtype", "data"), ("port", port)]);
            assert_eq!(got, Err(BadRequest::Port(port.into())));
        }
        assert_eq!(
            request(1, &[("port", "80")]),
            Err(BadRequest::Kind(String::new()))
        );
    }

    #[test]
    fn a_pair_is_whole_whichever_stream_comes_first() {
        let now = Instant::now();
        for first in [Kind::Data, Kind::Error] {
            let mut pairs = Pairs::default();
            let (data, error) = ((Kind::Data, 80), (Kind::Error, 81));
            let order = if first == Kind::Data {
                [data, error]
            } else {
                [error, data]
            };
            let mut add = |(kind, port)| {
                pairs.add(
                    Request {
                        kind,
                        port,
                        id: "1".into(),
                    },
                    kind,
                    now,
                )
            };
            assert_eq!(add(order[0]), Ok(None));
            let whole = Pair {
                port: 80,
                data: Kind::Data,
                error: Kind::Error,
            };
            assert_eq!(
                add(order[1]),
                Ok(Some(whole)),
                "the data stream's port counts"
            );
            assert_eq!(pairs.next_expiry(), None);
        }
    }

    #[test]
    fn a_place_that_is_taken_stays_taken() {
        let (mut pairs, now) = (Pairs::default(), Instant::now());
        let mut add = |kind, name| {
            pairs.add(
                Request {
                    kind,
                    port: 80,
                    id: "1".into(),
                },
                name,
                now,
            )
        };
        assert_eq!(add(Kind::Error, "first"), Ok(None));
        assert_eq!(add(Kind::Error, "second"), Err("second"));
        assert_eq!(
            add(Kind::Data, "data"),
            Ok(Some(Pair {
                port: 80,
                data: "data",
                error: "first"
            }))
        );
    }

    #[test]
    fn a_stream_waits_for_the_other_one_for_a_while() {
        let (mut pairs, now) = (Pairs::default(), Instant::now());
        pairs
            .add(
                Request {
                    kind: Kind::Error,
                    port: 80,
                    id: "1".into(),
                },
                "e",
                now,
            )
            .unwrap();
        let end = now + STREAM_CREATION_TIMEOUT;
        assert_eq!(pairs.next_expiry(), Some(end));
        assert_eq!(pairs.expired(end - Duration::from_millis(1)), []);
        assert_eq!(
            pairs.expired(end),
            [Alone {
                kind: Kind::Error,
                id: "1".into(),
                stream: "e"
            }]
        );
        assert_eq!(pairs.expired(end), []);
    }

    #[test]
    fn legacy_ports_come_repeated_or_by_commas() {
        assert_eq!(ports(["80,443", "8080"]), Ok(vec![80, 443, 8080]));
        assert_eq!(ports([]), Err(BadPorts::Missing));
        for bad in ["", "0", "80,", "http"] {
            assert!(matches!(ports([bad]), Err(BadPorts::Port(_))), "{bad}");
        }
        let many = vec!["1"; MAX_FORWARDED_PORTS + 1];
        assert_eq!(ports(many), Err(BadPorts::TooMany(MAX_FORWARDED_PORTS + 1)));
    }

    #[test]
    fn both_channels_of_a_legacy_pair_begin_with_the_port_low_byte_first() {
        let mut channels = channels(&[0x1f90, 80], Encoding::Binary);
        let expected = [
            b"\x82\x03\x00\x90\x1f".as_slice(),
            b"\x82\x03\x01\x90\x1f",
            b"\x82\x03\x02\x50\x00",
            b"\x82\x03\x03\x50\x00",
        ];
        assert_eq!(channels.output()[..], expected.concat());
    }
}
