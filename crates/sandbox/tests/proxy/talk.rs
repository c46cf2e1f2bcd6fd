//! A client that asks for an upgrade and speaks what was agreed on.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kubelet_streams::negotiate::Version;
use kubelet_streams::portforward;
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::spdy::headers::Headers;
use kubelet_streams::spdy::{Connection, FlowControl, Role};
use kubelet_streams::websocket::{self, Channels, Direction, Encoding, Tunnel};
use kubelet_streams::{Event, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::Service;
use vk_sandbox::kubernetes::Cluster;

/// What comes comes at once; a busy machine takes a moment.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub upgraded: Option<Upgraded>,
}

pub async fn ask(cluster: &Cluster, request: Request<Body>) -> Answer {
    let mut connector = cluster.endpoint().connector();
    let io = connector.call("http://x".parse().unwrap()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut answer = sender.send_request(request).await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = hyper::upgrade::on(&mut answer).await.unwrap();
        return Answer {
            status,
            headers,
            text: String::new(),
            upgraded: Some(upgraded),
        };
    }
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    Answer {
        status,
        headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
        upgraded: None,
    }
}

pub fn websocket(target: &str, protocols: &str) -> Request<Body> {
    Request::get(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", protocols)
        .header("Authorization", "Bearer secret")
        .body(Body::empty())
        .unwrap()
}

pub fn spdy(target: &str, protocol: &str) -> Request<Body> {
    Request::post(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "SPDY/3.1")
        .header("X-Stream-Protocol-Version", protocol)
        .header("Authorization", "Bearer secret")
        .body(Body::empty())
        .unwrap()
}

/// The channels of `exec`; the first is open for input.
pub fn channels(version: Version) -> Channels {
    use Direction::{Read, Write};
    let directions = [Write, Read, Read, Read, Write];
    let role = websocket::Role::Client;
    Channels::new(role, Encoding::Binary, version == Version::V5, &directions)
}

/// A SPDY client that opens these streams.
pub fn streams(types: &[&str]) -> (Connection, Vec<StreamId>) {
    let mut connection = Connection::new(Role::Client, FlowControl::Ignored);
    let open = |kind: &&str| connection.open(&Headers::from_iter([("streamtype", *kind)]));
    let ids = types.iter().map(open).collect::<Result<_, _>>().unwrap();
    (connection, ids)
}

/// The two headers of a connection to port 80.
pub fn pair() -> [Headers; 2] {
    let headers = |kind| [("streamtype", kind), ("port", "80"), ("requestid", "0")];
    [portforward::Kind::Error, portforward::Kind::Data].map(|kind| {
        let kind = match kind {
            portforward::Kind::Error => "error",
            portforward::Kind::Data => "data",
        };
        headers(kind).into_iter().collect()
    })
}

pub fn tunnel() -> Tunnel {
    Tunnel::new(websocket::Role::Client, FlowControl::Ignored)
}

/// Sends what is said once the streams are there, and collects what comes until
/// the other side hangs up or `enough`.
pub async fn talk(
    io: Upgraded,
    mut protocol: impl Protocol,
    say: &[(StreamId, &[u8])],
    enough: impl Fn(&BTreeMap<u32, String>) -> bool,
) -> BTreeMap<u32, String> {
    let mut io = TokioIo::new(io);
    let (mut input, mut heard) = (BytesMut::new(), BTreeMap::<u32, Vec<u8>>::new());
    let mut waiting: Vec<StreamId> = say.iter().map(|(id, _)| *id).collect();
    if !protocol.initial().is_empty() {
        speak(&mut protocol, say);
        waiting.clear();
    }
    let text = |heard: &BTreeMap<u32, Vec<u8>>| {
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        heard.iter().map(|(id, bytes)| (*id, text(bytes))).collect()
    };
    loop {
        while let Ok(Some(event)) = protocol.next(&mut input) {
            match event {
                Event::Accepted { stream } => {
                    let before = waiting.len();
                    waiting.retain(|id| *id != stream);
                    if before > 0 && waiting.is_empty() {
                        speak(&mut protocol, say);
                    }
                }
                Event::Data { stream, data } => {
                    heard.entry(stream.0).or_default().extend_from_slice(&data);
                }
                Event::Closed => return text(&heard),
                _ => {}
            }
        }
        if enough(&text(&heard)) {
            return text(&heard);
        }
        let output = protocol.output().split();
        io.write_all(&output).await.unwrap();
        let read = tokio::time::timeout(PATIENCE, io.read_buf(&mut input)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing more came after {heard:?}"));
        if read.unwrap_or(0) == 0 {
            return text(&heard);
        }
    }
}

fn speak(protocol: &mut impl Protocol, say: &[(StreamId, &[u8])]) {
    for (id, words) in say {
        protocol.send(*id, words).unwrap();
        protocol.finish(*id);
    }
}
