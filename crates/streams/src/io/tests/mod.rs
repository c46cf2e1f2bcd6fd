//! A client, step by step, against the driver; what it does by topic.

mod ends;
mod forward;
mod hostile;
mod pressure;
mod session;

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{AcceptError, Forwards, Handle, Session, connect};
use crate::limits::{
    CLOSE_TIMEOUT, IDLE_TIMEOUT, OUTPUT_HIGH_WATER, STREAM_BUFFER, STREAM_CREATION_TIMEOUT,
};
use crate::negotiate::{Forward, Remote, Version};
use crate::protocol::{Event, Protocol};
use crate::remote::{Options, Outcome, TerminalSize};
use crate::spdy::frame::{ResetStatus, StreamId};
use crate::spdy::headers::Headers;
use crate::spdy::{self, Connection, FlowControl};
use crate::websocket::{Channels, Direction, Encoding, Role, Tunnel};
use crate::{portforward, remote::Kind};

const SPDY: Remote = Remote::Spdy(Version::V4);
const V5: Remote = Remote::WebSocket(Version::V5, Encoding::Binary);
const ALL: Options = Options {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// The other end, step by step.
struct Client<P> {
    protocol: P,
    io: DuplexStream,
    input: BytesMut,
}

impl<P: Protocol> Client<P> {
    async fn flush(&mut self) {
        let output = self.protocol.output().split();
        self.io.write_all(&output).await.unwrap();
    }

    /// The next event; `None` when the server has hung up.
    async fn event(&mut self) -> Option<Event> {
        self.flush().await;
        loop {
            if let Some(event) = self.protocol.next(&mut self.input).unwrap() {
                return Some(event);
            }
            if self.io.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn send(&mut self, stream: StreamId, data: &[u8]) {
        assert_eq!(self.protocol.send(stream, data), Ok(data.len()));
        self.flush().await;
    }

    /// All that comes until the server hangs up: the bytes by stream, and the rest.
    async fn drain(&mut self) -> (Vec<(StreamId, Vec<u8>)>, Vec<Event>) {
        self.gather(usize::MAX).await
    }

    /// The same until so many other events than data have come.
    async fn gather(&mut self, events: usize) -> (Vec<(StreamId, Vec<u8>)>, Vec<Event>) {
        let (mut data, mut rest): (Vec<(StreamId, Vec<u8>)>, Vec<_>) = (Vec::new(), Vec::new());
        while rest.len() < events
            && let Some(event) = self.event().await
        {
            match event {
                Event::Data {
                    stream,
                    data: bytes,
                } => match data.iter_mut().find(|(id, _)| *id == stream) {
                    Some((_, all)) => all.extend_from_slice(&bytes),
                    None => data.push((stream, bytes.to_vec())),
                },
                event => rest.push(event),
            }
        }
        (data, rest)
    }
}

impl Client<Connection> {
    async fn open(&mut self, headers: &[(&str, &str)]) -> StreamId {
        let stream = self
            .protocol
            .open(&headers.iter().copied().collect())
            .unwrap();
        self.flush().await;
        stream
    }

    async fn open_accepted(&mut self, headers: &[(&str, &str)]) -> StreamId {
        let stream = self.open(headers).await;
        assert_eq!(self.event().await, Some(Event::Accepted { stream }));
        stream
    }

    async fn open_kinds<const N: usize>(&mut self, kinds: [Kind; N]) -> [StreamId; N] {
        let mut streams = [StreamId(0); N];
        for (stream, kind) in streams.iter_mut().zip(kinds) {
            *stream = self.open_accepted(&[(Kind::HEADER, kind.name())]).await;
        }
        streams
    }
}

type Running = JoinHandle<std::io::Result<()>>;

/// A server and its client, with this much room in the socket between them.
fn start<P: Protocol>(
    room: usize,
    server: Box<dyn Protocol>,
    client: P,
) -> (Handle, Running, Client<P>) {
    let (ours, theirs) = duplex(room);
    let (handle, driver) = connect(server, ours);
    (
        handle,
        tokio::spawn(driver),
        Client {
            protocol: client,
            io: theirs,
            input: BytesMut::new(),
        },
    )
}

fn start_spdy(options: Options) -> (Handle, Running, Client<Connection>) {
    start(
        4096,
        options.connection(SPDY),
        Connection::new(spdy::Role::Client, FlowControl::Ignored),
    )
}

/// A session with all its streams: the error stream, input, output, error output.
async fn whole_session() -> (Session, Running, Client<Connection>, [StreamId; 4]) {
    let (handle, running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let streams = client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    (session.await.unwrap().unwrap(), running, client, streams)
}

fn websocket_client(remote: Remote) -> Channels {
    use Direction::{Read, Write};
    let Remote::WebSocket(version, encoding) = remote else {
        panic!("{remote:?}")
    };
    Channels::new(
        Role::Client,
        encoding,
        version == Version::V5,
        &[Write, Read, Read, Read, Write],
    )
}

fn start_websocket(options: Options, remote: Remote) -> (Handle, Running, Client<Channels>) {
    start(4096, options.connection(remote), websocket_client(remote))
}
