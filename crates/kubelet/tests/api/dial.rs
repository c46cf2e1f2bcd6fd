//! A client of exec, attach and port-forward, step by step, over TLS.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};
use kubelet_streams::negotiate::{Remote, Version};
use kubelet_streams::remote::Kind;
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::spdy::headers::Headers;
use kubelet_streams::spdy::{self, Connection, FlowControl};
use kubelet_streams::websocket::{Channels, Direction, Encoding, Role, Tunnel};
use kubelet_streams::{Event, Protocol};
use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::error::Elapsed;
use tokio::time::{Duration, timeout};

use crate::rig::{Rig, TOKEN};
use crate::wire::{Answer, Line, say};

/// For whatever is awaited; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub const SPDY: Remote = Remote::Spdy(Version::V4);
pub const V5: Remote = Remote::WebSocket(Version::V5, Encoding::Binary);

/// Lines of a request's head that ask for a WebSocket.
pub fn websocket(protocol: &str) -> String {
    let protocol = match protocol {
        "" => String::new(),
        protocol => format!("Sec-WebSocket-Protocol: {protocol}\r\n"),
    };
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}"
    )
}

/// The same for SPDY.
pub fn spdy(version: &str) -> String {
    format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {version}\r\n")
}

pub fn head(method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{lines}\r\n")
}

/// What is answered to a request that is not to be upgraded.
pub async fn refused(rig: &Rig, method: &str, path: &str, lines: &str) -> Answer {
    let mut line = rig.line().await;
    let asked = say_once(&mut line, &head(method, path, lines)).await;
    assert_ne!(asked.status, 101, "{method} {path}");
    asked
}

/// The status alone; a session that begins ends at once.
pub async fn status(rig: &Rig, method: &str, path: &str, lines: &str) -> u16 {
    let mut line = rig.line().await;
    let (head, _) = begin(&mut line, &head(method, path, lines)).await;
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// One answer on a connection that may stay.
async fn say_once(line: &mut Line, text: &str) -> Answer {
    let (head, mut body) = begin(line, text).await;
    let length = head.to_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while body.len() < length {
        assert_ne!(line.read_buf(&mut body).await.unwrap(), 0, "cut off");
    }
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: body.to_vec(),
    }
}

/// Asks, and reads the head of the answer; what came behind it too.
pub async fn begin(line: &mut Line, text: &str) -> (String, BytesMut) {
    line.write_all(text.as_bytes()).await.unwrap();
    let mut all = BytesMut::new();
    loop {
        if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(all[..end].to_vec()).unwrap();
            all.advance(end + 4);
            return (head, all);
        }
        let read = timeout(PATIENCE, line.read_buf(&mut all)).await;
        assert_ne!(read.expect("answers").unwrap(), 0, "hung up: {all:?}");
    }
}

/// The other end of an upgraded connection.
pub struct Client<P: ?Sized> {
    pub protocol: Box<P>,
    line: Line,
    input: BytesMut,
}

/// All that came: bytes by stream, and what else happened.
#[derive(Debug, Default)]
pub struct Came {
    pub data: BTreeMap<u32, Vec<u8>>,
    pub rest: Vec<Event>,
}

impl Came {
    pub fn of(&self, stream: StreamId) -> &[u8] {
        self.data.get(&stream.0).map_or(&[], Vec::as_slice)
    }
}

impl<P: Protocol + ?Sized> Client<P> {
    pub async fn upgrade(rig: &Rig, text: &str, protocol: Box<P>) -> Self {
        Self::over(rig.line().await, text, protocol).await
    }

    pub async fn over(mut line: Line, text: &str, protocol: Box<P>) -> Self {
        let (head, input) = begin(&mut line, text).await;
        let rest = String::from_utf8_lossy(&input);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}\n{rest}");
        Self {
            protocol,
            line,
            input,
        }
    }

    pub async fn flush(&mut self) {
        let output = self.protocol.output().split();
        // The other side may have hung up already; reading tells.
        let _ = self.line.write_all(&output).await;
        let _ = self.line.flush().await;
    }

    /// The next event; `None` when the server has hung up.
    pub async fn event(&mut self) -> Option<Event> {
        let event = self.event_within(PATIENCE).await;
        event.expect("something happens")
    }

    /// The same, unless nothing happens for so long.
    pub async fn event_within(&mut self, patience: Duration) -> Result<Option<Event>, Elapsed> {
        let next = async {
            loop {
                self.flush().await;
                if let Some(event) = self.protocol.next(&mut self.input).unwrap() {
                    return Some(event);
                }
                if !matches!(self.line.read_buf(&mut self.input).await, Ok(1..)) {
                    return None;
                }
            }
        };
        timeout(patience, next).await
    }

    pub async fn send(&mut self, stream: StreamId, mut data: &[u8]) {
        while !data.is_empty() {
            let sent = self.protocol.send(stream, data).unwrap();
            data = &data[sent..];
            self.flush().await;
        }
    }

    pub async fn finish(&mut self, stream: StreamId) {
        self.protocol.finish(stream);
        self.flush().await;
    }

    /// All that comes until the server hangs up.
    pub async fn drain(&mut self) -> Came {
        self.until(|_, _| false).await
    }

    /// All that comes until enough has.
    pub async fn until(&mut self, enough: impl Fn(&Came, &Event) -> bool) -> Came {
        let mut came = Came::default();
        while let Some(event) = self.event().await {
            if let Event::Data { stream, data } = &event {
                came.data
                    .entry(stream.0)
                    .or_default()
                    .extend_from_slice(data);
                self.protocol.consumed(*stream, data.len());
            } else {
                came.rest.push(event.clone());
            }
            let enough = enough(&came, &event);
            if enough {
                break;
            }
        }
        came
    }

    /// Bytes of one stream, so many of them.
    pub async fn read(&mut self, stream: StreamId, length: usize) -> Vec<u8> {
        let came = self.until(|came, _| came.of(stream).len() >= length).await;
        came.of(stream).to_vec()
    }
}

/// What opens streams.
pub trait Opens: Protocol {
    fn open_stream(&mut self, headers: &Headers) -> StreamId;
}

impl Opens for Connection {
    fn open_stream(&mut self, headers: &Headers) -> StreamId {
        self.open(headers).unwrap()
    }
}

impl Opens for Tunnel {
    fn open_stream(&mut self, headers: &Headers) -> StreamId {
        self.open(headers).unwrap()
    }
}

impl<P: Opens> Client<P> {
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> StreamId {
        let stream = self
            .protocol
            .open_stream(&headers.iter().copied().collect());
        let accepted = |_: &Came, event: &Event| *event == Event::Accepted { stream };
        self.until(accepted).await;
        stream
    }
}

/// A session of exec or attach.
pub struct Session {
    client: Client<dyn Protocol>,
    streams: [Option<StreamId>; 5],
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub error: Vec<u8>,
}

impl Ended {
    /// From version 4 on.
    pub fn status(&self) -> Value {
        let text = String::from_utf8_lossy(&self.error);
        serde_json::from_slice(&self.error).unwrap_or_else(|_| panic!("no status: {text:?}"))
    }

    /// The exit code, as kubectl reads it; or why there is none.
    pub fn code(&self) -> Result<i32, String> {
        let status = self.status();
        let cause = &status["details"]["causes"][0];
        match (status["status"].as_str(), status["reason"].as_str()) {
            (Some("Success"), _) => Ok(0),
            (_, Some("NonZeroExitCode")) if cause["reason"] == "ExitCode" => {
                Ok(cause["message"].as_str().unwrap().parse().unwrap())
            }
            _ => Err(status["message"].as_str().unwrap().to_owned()),
        }
    }
}

/// The streams that a query asks for, by kind.
fn asked(query: &str, remote: Remote) -> [bool; 5] {
    let has = |text: &str| query.split('&').any(|part| part == text);
    let tty = has("tty=1");
    let resize = tty && remote.version() >= Version::V3;
    [
        has("input=1"),
        has("output=1"),
        has("error=1") && !tty,
        true,
        resize,
    ]
}

fn name(remote: Remote) -> &'static str {
    match remote {
        Remote::WebSocket(Version::V5, _) => "v5.channel.k8s.io",
        Remote::Spdy(Version::V4) | Remote::WebSocket(Version::V4, Encoding::Binary) => {
            "v4.channel.k8s.io"
        }
        Remote::WebSocket(Version::V4, Encoding::Base64) => "v4.base64.channel.k8s.io",
        Remote::WebSocket(_, Encoding::Base64) => "base64.channel.k8s.io",
        Remote::Spdy(Version::V3) => "v3.channel.k8s.io",
        Remote::Spdy(Version::V2) => "v2.channel.k8s.io",
        _ => "channel.k8s.io",
    }
}

impl Session {
    /// `path` with its query.
    pub async fn begin(rig: &Rig, remote: Remote, path: &str) -> Self {
        let asked = asked(path.split_once('?').unwrap().1, remote);
        match remote {
            Remote::WebSocket(version, encoding) => {
                use Direction::{Ignored, Read, Write};
                let of = |place: usize, way| if asked[place] { way } else { Ignored };
                let ways = [of(0, Write), of(1, Read), of(2, Read), Read, of(4, Write)];
                let closes = version == Version::V5;
                let channels = Channels::new(Role::Client, encoding, closes, &ways);
                let text = head("GET", path, &websocket(name(remote)));
                Self {
                    client: Client::upgrade(rig, &text, Box::new(channels) as Box<dyn Protocol>)
                        .await,
                    streams: [0, 1, 2, 3, 4].map(|n| asked[n as usize].then_some(StreamId(n))),
                }
            }
            Remote::Spdy(_) => {
                let connection = Connection::new(spdy::Role::Client, FlowControl::Ignored);
                let text = head("POST", path, &spdy(name(remote)));
                let mut client = Client::upgrade(rig, &text, Box::new(connection)).await;
                let mut streams = [None; 5];
                for kind in [
                    Kind::Error,
                    Kind::Stdin,
                    Kind::Stdout,
                    Kind::Stderr,
                    Kind::Resize,
                ] {
                    if asked[kind as usize] {
                        let stream = client.open(&[(Kind::HEADER, kind.name())]).await;
                        streams[kind as usize] = Some(stream);
                    }
                }
                let Client {
                    protocol,
                    line,
                    input,
                } = client;
                Self {
                    client: Client {
                        protocol,
                        line,
                        input,
                    },
                    streams,
                }
            }
        }
    }

    fn stream(&self, kind: Kind) -> StreamId {
        self.streams[kind as usize].expect("was asked for")
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stream(Kind::Stdin);
        self.client.send(stdin, bytes).await;
    }

    /// Types until nothing more goes, and vanishes in the middle.
    pub async fn type_until_it_stalls(mut self) {
        let endless = async {
            loop {
                self.write(&[b'x'; 32 << 10]).await;
            }
        };
        let stalled: Result<(), _> = timeout(Duration::from_secs(2), endless).await;
        assert!(stalled.is_err());
        let (socket, _) = self.client.line.get_ref();
        // Reset: what is still to be sent would hold the end back for minutes.
        SockRef::from(socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    pub async fn finish_stdin(&mut self) {
        let stdin = self.stream(Kind::Stdin);
        self.client.finish(stdin).await;
    }

    pub async fn resize(&mut self, text: &str) {
        let resize = self.stream(Kind::Resize);
        self.client.send(resize, text.as_bytes()).await;
    }

    /// So many bytes of standard output.
    pub async fn read(&mut self, length: usize) -> Vec<u8> {
        let stdout = self.stream(Kind::Stdout);
        self.client.read(stdout, length).await
    }

    /// Everything until the server hangs up.
    pub async fn end(mut self) -> Ended {
        let came = self.client.drain().await;
        let of = |kind: Kind| {
            let stream = self.streams[kind as usize];
            stream.map_or(Vec::new(), |stream| came.of(stream).to_vec())
        };
        Ended {
            stdout: of(Kind::Stdout),
            stderr: of(Kind::Stderr),
            error: of(Kind::Error),
        }
    }
}

/// A request without an upgrade; the connection ends behind it.
pub async fn plain(rig: &Rig, method: &str, path: &str) -> Answer {
    Answer::parse(&say(&mut rig.line().await, &crate::rig::request(method, path)).await)
}
