//! A SPDY connection to a node with its streams, which are all opened at its
//! start.

use std::collections::HashSet;

use bytes::BytesMut;
use kubelet_streams::spdy::frame::{ResetStatus, StreamId};
use kubelet_streams::spdy::headers::Headers;
use kubelet_streams::spdy::{Connection, FlowControl, OpenError, Role};
use kubelet_streams::{Event, NotOpen, Protocol, ProtocolError};

/// The client's end.
pub(super) struct Client {
    connection: Connection,
    streams: Vec<StreamId>,
    /// Not accepted yet: what is sent on these would be dropped by a node in Go.
    waiting: HashSet<StreamId>,
}

impl Client {
    /// Right behind the HTTP upgrade; the streams are in the order of their headers.
    pub(super) fn new(headers: impl IntoIterator<Item = Headers>) -> Result<Self, OpenError> {
        let mut connection = Connection::new(Role::Client, FlowControl::Ignored);
        let open = |headers| connection.open(&headers);
        let streams: Vec<StreamId> = headers.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self {
            connection,
            waiting: streams.iter().copied().collect(),
            streams,
        })
    }

    /// What they are called.
    pub(super) fn streams(&self) -> Vec<StreamId> {
        self.streams.clone()
    }
}

impl Protocol for Client {
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        let event = self.connection.next(input)?;
        Ok(match event {
            // Wakes whoever waits to send.
            Some(Event::Accepted { stream }) => {
                self.waiting.remove(&stream);
                let stream = Some(stream);
                Some(Event::Credit { stream })
            }
            Some(Event::Reset { stream, .. }) => {
                self.waiting.remove(&stream);
                event
            }
            event => event,
        })
    }

    fn initial(&self) -> Vec<StreamId> {
        self.streams()
    }

    fn output(&mut self) -> &mut BytesMut {
        self.connection.output()
    }

    fn accept(&mut self, stream: StreamId) {
        self.connection.accept(stream);
    }

    fn send(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, NotOpen> {
        if self.waiting.contains(&stream) {
            return Ok(0);
        }
        self.connection.send(stream, data)
    }

    fn finish(&mut self, stream: StreamId) {
        self.connection.finish(stream);
    }

    fn reset(&mut self, stream: StreamId, status: ResetStatus) {
        self.waiting.remove(&stream);
        self.connection.reset(stream, status);
    }

    fn consumed(&mut self, stream: StreamId, bytes: usize) {
        self.connection.consumed(stream, bytes);
    }

    fn close(&mut self) {
        self.connection.close();
    }
}
