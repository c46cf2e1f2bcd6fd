//! Connections without I/O, by topic.

mod cuts;
mod flow;
mod streams;

use bytes::BytesMut;

use crate::limits::{ANSWERS_HIGH_WATER, INITIAL_WINDOW, MAX_STREAMS};
use crate::protocol::{Event, NotOpen, Protocol, ProtocolError};
use crate::spdy::frame::{Frame, ResetStatus, StreamId, encode_data};
use crate::spdy::headers::{Compressor, Headers};
use crate::spdy::{Connection, ConnectionError, FlowControl, Role};

fn stdin() -> Headers {
    [("streamtype", "stdin")].into_iter().collect()
}

fn server() -> Connection {
    Connection::new(Role::Server, FlowControl::Ignored)
}

/// Everything the bytes have to tell.
fn feed(connection: &mut Connection, bytes: &[u8]) -> Vec<Event> {
    let mut input = BytesMut::from(bytes);
    let mut events = Vec::new();
    while let Some(event) = connection.next(&mut input).unwrap() {
        events.push(event);
    }
    events
}

fn pass(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    let bytes = from.output().split();
    feed(to, &bytes)
}

/// Client and server with one stream between them, accepted.
fn pair(flow: FlowControl) -> (Connection, Connection, StreamId) {
    let mut client = Connection::new(Role::Client, flow);
    let mut server = Connection::new(Role::Server, flow);
    let stream = client.open(&stdin()).unwrap();
    assert_eq!(
        pass(&mut client, &mut server),
        [Event::Opened {
            stream,
            headers: stdin()
        }]
    );
    server.accept(stream);
    assert_eq!(pass(&mut server, &mut client), [Event::Accepted { stream }]);
    (client, server, stream)
}

fn frames(connection: &mut Connection) -> Vec<Frame> {
    let (mut decoder, mut bytes) = (
        crate::spdy::frame::Decoder::default(),
        connection.output().split(),
    );
    std::iter::from_fn(|| decoder.next(&mut bytes).unwrap()).collect()
}

fn wire(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out
}

fn syn(compressor: &mut Compressor, stream: u32) -> Frame {
    let block = compressor.write(&stdin());
    Frame::SynStream {
        stream: StreamId(stream),
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        block,
    }
}
