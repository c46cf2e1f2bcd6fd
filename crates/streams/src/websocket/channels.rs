//! Channels over one WebSocket: each message begins with the number of its channel
//! (k8s.io/streaming, `httpstream/wsstream`).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use tungstenite::Message;

use super::socket::{Incoming, PIECE, Role, Socket, SocketError};
use crate::limits::{MAX_DATA_SENT, OUTPUT_HIGH_WATER};
use crate::protocol::{Event, NotOpen, Protocol, ProtocolError};
use crate::spdy::frame::{ResetStatus, StreamId};

/// How the bytes of a channel lie in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary messages: the channel's number as a byte, then the bytes.
    Binary,
    /// Text messages: the channel's number as a digit counted from `'0'`, then base64.
    Base64,
}

/// Which way a channel carries bytes, seen from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Neither way: what comes is dropped. The client did not ask for this channel.
    Ignored,
    /// From the peer.
    Read,
    /// To the peer.
    Write,
    /// Both.
    Both,
}

/// First byte of the message by which a v5 client says that it is done with a channel.
const CLOSE: u8 = 255;

/// Channels of one WebSocket connection. All are open from the start; there is no reset.
/// See [`Protocol`] for how it is run.
pub struct Channels {
    socket: Socket,
    /// What is still to be told of the last message.
    message: Option<(StreamId, Bytes)>,
    /// The peer said goodbye; it was told.
    closed: bool,
    closed_told: bool,
    encoding: Encoding,
    close_signal: bool,
    channels: Vec<Channel>,
}

#[derive(Debug)]
struct Channel {
    read: bool,
    write: bool,
}

impl Channels {
    /// Channels right behind the HTTP upgrade, numbered from 0 as in `directions`; those
    /// past 254 cannot be addressed and are left out. `close_signal` is that of
    /// `v5.channel.k8s.io`: a client ends its side of one channel. Servers send none.
    #[must_use]
    pub fn new(
        role: Role,
        encoding: Encoding,
        close_signal: bool,
        directions: &[Direction],
    ) -> Self {
        let channel = |direction: &Direction| Channel {
            read: matches!(direction, Direction::Read | Direction::Both),
            write: matches!(direction, Direction::Write | Direction::Both),
        };
        let channels = directions
            .iter()
            .take(usize::from(CLOSE))
            .map(channel)
            .collect();
        Self {
            socket: Socket::new(role),
            message: None,
            closed: false,
            closed_told: false,
            encoding,
            close_signal,
            channels,
        }
    }

    /// Sends an empty message on a channel, by which clients see that the connection is
    /// served.
    pub fn announce(&mut self, channel: u8) {
        self.write(channel, &[]);
    }

    /// One message as it is, as large as it is.
    #[cfg(test)]
    pub(super) fn send_whole(&mut self, message: &[u8]) {
        self.socket.write(Message::binary(message.to_vec()));
    }

    fn write(&mut self, channel: u8, data: &[u8]) {
        match self.encoding {
            Encoding::Binary => self.socket.write_binary([&[channel], data]),
            Encoding::Base64 => {
                let mut text = String::from(char::from(b'0'.saturating_add(channel)));
                STANDARD.encode_string(data, &mut text);
                self.socket.write(Message::text(text));
            }
        }
    }

    fn channel(&mut self, stream: StreamId) -> Option<(u8, &mut Channel)> {
        let number = u8::try_from(stream.0).ok()?;
        Some((number, self.channels.get_mut(usize::from(number))?))
    }

    fn message(&mut self, mut data: Bytes) -> Result<Option<Event>, SocketError> {
        let Some(&first) = data.first() else {
            return Ok(None);
        };
        data.advance(1);
        if self.close_signal && first == CLOSE {
            let &[channel] = &data[..] else {
                return Err(SocketError::CloseLength(data.len()));
            };
            let stream = StreamId(u32::from(channel));
            let Some((_, state)) = self.channel(stream) else {
                return Err(SocketError::CloseChannel(channel));
            };
            return Ok(std::mem::take(&mut state.read).then_some(Event::Finished { stream }));
        }
        let channel = match self.encoding {
            Encoding::Binary => first,
            Encoding::Base64 => first.wrapping_sub(b'0'),
        };
        let stream = StreamId(u32::from(channel));
        // As the kubelet does: what nobody asked for is no fault.
        if !self.channel(stream).is_some_and(|(_, state)| state.read) {
            return Ok(None);
        }
        if self.encoding == Encoding::Base64 {
            data = STANDARD
                .decode(&data)
                .map_err(|_| SocketError::Base64(channel))?
                .into();
        }
        self.message = Some((stream, data));
        Ok(self.piece())
    }

    /// After the peer's goodbye: the end of each channel, then that of all.
    fn end(&mut self) -> Option<Event> {
        if !self.closed {
            return None;
        }
        let mut channels = self.channels.iter_mut().zip(0..);
        if let Some((channel, number)) = channels.find(|(channel, _)| channel.read) {
            channel.read = false;
            return Some(Event::Finished {
                stream: StreamId(number),
            });
        }
        let told = std::mem::replace(&mut self.closed_told, true);
        (!told).then_some(Event::Closed)
    }

    /// The next piece of a message.
    fn piece(&mut self) -> Option<Event> {
        let (stream, mut rest) = self.message.take()?;
        let data = rest.split_to(rest.len().min(PIECE));
        if !rest.is_empty() {
            self.message = Some((stream, rest));
        }
        (!data.is_empty()).then_some(Event::Data {
            stream,
            data: data.into(),
        })
    }
}

impl fmt::Debug for Channels {
    // Without the buffers: they hold users' bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("encoding", &self.encoding)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl Protocol for Channels {
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        if let Some(event) = self.piece().or_else(|| self.end()) {
            return Ok(Some(event));
        }
        while let Some(incoming) = self.socket.read(input)? {
            match incoming {
                Incoming::Closed { normal } => {
                    // Before v5 this is the only way to say that stdin is at its end.
                    self.closed = true;
                    self.channels
                        .iter_mut()
                        .for_each(|channel| channel.read &= normal);
                    return Ok(self.end());
                }
                Incoming::Message { data, .. } => match self.message(data) {
                    Ok(None) => {}
                    Ok(event) => return Ok(event),
                    Err(error) => return Err(self.socket.fail(error).into()),
                },
            }
        }
        Ok(None)
    }

    fn initial(&self) -> Vec<StreamId> {
        let used = self
            .channels
            .iter()
            .zip(0..)
            .filter(|(channel, _)| channel.read || channel.write);
        used.map(|(_, number)| StreamId(number)).collect()
    }

    fn output(&mut self) -> &mut BytesMut {
        &mut self.socket.output
    }

    fn accept(&mut self, _: StreamId) {}

    fn send(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, NotOpen> {
        let full = self.socket.output.len() >= OUTPUT_HIGH_WATER;
        let open = self.socket.can_write();
        let (channel, _) = self
            .channel(stream)
            .filter(|(_, c)| c.write && open)
            .ok_or(NotOpen(stream))?;
        let data = &data[..data.len().min(MAX_DATA_SENT)];
        if full || data.is_empty() {
            return Ok(0);
        }
        self.write(channel, data);
        Ok(data.len())
    }

    fn finish(&mut self, stream: StreamId) {
        let Some((channel, state)) = self.channel(stream) else {
            return;
        };
        let was_open = std::mem::take(&mut state.write);
        if was_open && self.close_signal && self.socket.role == Role::Client {
            self.socket.write(Message::binary(vec![CLOSE, channel]));
        }
    }

    /// There is none on the wire: the channel is silent from now on.
    fn reset(&mut self, stream: StreamId, _: ResetStatus) {
        if let Some((_, state)) = self.channel(stream) {
            *state = Channel {
                read: false,
                write: false,
            };
        }
    }

    fn consumed(&mut self, _: StreamId, _: usize) {}

    fn close(&mut self) {
        self.socket.close();
    }
}
