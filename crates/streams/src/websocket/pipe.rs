//! One stream of bytes in WebSocket messages, for those who pass a tunnel on without
//! looking into it; where one message ends and the next begins means nothing.

use std::fmt;

use bytes::BytesMut;

use super::socket::{Incoming, Role, Socket, SocketError};
use crate::limits::{MAX_DATA_SENT, OUTPUT_HIGH_WATER};
use crate::protocol::{Event, NotOpen, Protocol, ProtocolError};
use crate::spdy::frame::{ResetStatus, StreamId};

/// A WebSocket as a pipe. It has the one stream [`Pipe::STREAM`], open from the start; a
/// half of it cannot end alone. See [`Protocol`] for how it is run.
pub struct Pipe {
    socket: Socket,
    /// What is still to be told of the peer's goodbye.
    pending: Option<Event>,
}

impl Pipe {
    /// The stream.
    pub const STREAM: StreamId = StreamId(0);

    /// A fresh pipe, right behind the HTTP upgrade.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            socket: Socket::new(role),
            pending: None,
        }
    }
}

impl fmt::Debug for Pipe {
    // Without the buffers: they hold users' bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

impl Protocol for Pipe {
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        while let Some(incoming) = self.socket.read(input)? {
            match incoming {
                Incoming::Closed { .. } => {
                    self.pending = Some(Event::Closed);
                    return Ok(Some(Event::Finished {
                        stream: Self::STREAM,
                    }));
                }
                Incoming::Message { text: true, .. } => {
                    return Err(self.socket.fail(SocketError::Text).into());
                }
                Incoming::Message { data, .. } if data.is_empty() => {}
                Incoming::Message { data, .. } => {
                    return Ok(Some(Event::Data {
                        stream: Self::STREAM,
                        data: data.into(),
                    }));
                }
            }
        }
        Ok(None)
    }

    fn initial(&self) -> Vec<StreamId> {
        vec![Self::STREAM]
    }

    fn output(&mut self) -> &mut BytesMut {
        &mut self.socket.output
    }

    fn accept(&mut self, _: StreamId) {}

    fn send(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, NotOpen> {
        if stream != Self::STREAM || !self.socket.can_write() {
            return Err(NotOpen(stream));
        }
        let data = &data[..data.len().min(MAX_DATA_SENT)];
        if self.socket.output.len() >= OUTPUT_HIGH_WATER || data.is_empty() {
            return Ok(0);
        }
        self.socket.write_binary([data, &[]]);
        Ok(data.len())
    }

    /// There is no such thing on the wire: [`Protocol::close`] ends it.
    fn finish(&mut self, _: StreamId) {}

    fn reset(&mut self, _: StreamId, _: ResetStatus) {}

    fn consumed(&mut self, _: StreamId, _: usize) {}

    fn close(&mut self) {
        self.socket.close();
    }
}
