//! SPDY inside of WebSocket messages: `SPDY/3.1+portforward.k8s.io`. The messages are one
//! stream of bytes; where one ends and the next begins means nothing.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::socket::{Incoming, PIECE, Role, Socket, SocketError};
use crate::limits::{ANSWERS_HIGH_WATER, MAX_DATA_SENT, OUTPUT_HIGH_WATER};
use crate::protocol::{Event, NotOpen, Protocol, ProtocolError};
use crate::spdy::frame::{ResetStatus, StreamId};
use crate::spdy::{self, Connection, FlowControl, OpenError, headers::Headers};

/// A SPDY connection in a WebSocket. See [`Protocol`] for how it is run.
pub struct Tunnel {
    socket: Socket,
    connection: Connection,
    /// What is still to be read of the last message.
    message: Bytes,
    /// SPDY that has come out of messages.
    input: BytesMut,
}

impl Tunnel {
    /// A fresh tunnel, right behind the HTTP upgrade.
    #[must_use]
    pub fn new(role: Role, flow: FlowControl) -> Self {
        let spdy_role = match role {
            Role::Client => spdy::Role::Client,
            Role::Server => spdy::Role::Server,
        };
        Self {
            socket: Socket::new(role),
            connection: Connection::new(spdy_role, flow),
            message: Bytes::new(),
            input: BytesMut::new(),
        }
    }

    /// Opens a stream: [`Connection::open`].
    ///
    /// # Errors
    /// When the connection takes no new streams.
    pub fn open(&mut self, headers: &Headers) -> Result<StreamId, OpenError> {
        self.connection.open(headers)
    }

    /// Moves what the connection wants to send into messages.
    fn wrap(&mut self) {
        let output = self.connection.output();
        while !output.is_empty() {
            let len = output.len().min(MAX_DATA_SENT);
            self.socket.write_binary([&output[..len], &[]]);
            output.advance(len);
        }
    }
}

impl fmt::Debug for Tunnel {
    // Without the buffers: they hold users' bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Protocol for Tunnel {
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        loop {
            let event = self.connection.next(&mut self.input);
            self.wrap();
            match event {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(error) => {
                    self.socket.close();
                    return Err(error);
                }
            }
            if self.socket.output.len() >= ANSWERS_HIGH_WATER {
                return Ok(None);
            }
            if !self.message.is_empty() {
                let piece = self.message.split_to(self.message.len().min(PIECE));
                self.input.extend_from_slice(&piece);
                continue;
            }
            match self.socket.read(input)? {
                None => return Ok(None),
                Some(Incoming::Closed { .. }) => return Ok(Some(Event::Closed)),
                Some(Incoming::Message { text: true, .. }) => {
                    return Err(self.socket.fail(SocketError::Text).into());
                }
                Some(Incoming::Message { data, text: false }) => self.message = data,
            }
        }
    }

    fn output(&mut self) -> &mut BytesMut {
        self.wrap();
        &mut self.socket.output
    }

    fn accept(&mut self, stream: StreamId) {
        self.connection.accept(stream);
    }

    fn send(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, NotOpen> {
        self.wrap();
        if self.socket.output.len() >= OUTPUT_HIGH_WATER {
            // Asks all the same, for the error.
            return self.connection.send(stream, &[]);
        }
        self.connection.send(stream, data)
    }

    fn finish(&mut self, stream: StreamId) {
        self.connection.finish(stream);
    }

    fn reset(&mut self, stream: StreamId, status: ResetStatus) {
        self.connection.reset(stream, status);
    }

    fn consumed(&mut self, stream: StreamId, bytes: usize) {
        self.connection.consumed(stream, bytes);
    }

    fn close(&mut self) {
        self.connection.close();
        self.wrap();
        self.socket.close();
    }
}
