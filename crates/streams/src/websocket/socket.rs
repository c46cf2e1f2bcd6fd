//! WebSocket messages in and out of memory.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

pub use tungstenite::protocol::Role;

use crate::limits::{ANSWERS_HIGH_WATER, MAX_WEBSOCKET_MESSAGE};

/// Why a WebSocket connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// Not what RFC 6455 allows, or over [`MAX_WEBSOCKET_MESSAGE`]. The text is
    /// tungstenite's.
    #[error("{0}")]
    Framing(String),
    /// A CLOSE signal that does not name one channel.
    #[error("CLOSE signal with {0} bytes behind it, one is needed: the channel")]
    CloseLength(usize),
    /// A CLOSE signal for a channel that there is not.
    #[error("CLOSE signal for channel {0}, which there is not")]
    CloseChannel(u8),
    /// Not base64 where the sub-protocol says so.
    #[error("message on channel {0} is not base64")]
    Base64(u8),
    /// A text message in the tunnel.
    #[error("text message in a tunnel, which takes binary ones")]
    Text,
}

/// What came.
pub(super) enum Incoming {
    Message {
        data: Bytes,
        text: bool,
    },
    /// The last. `normal` when the peer had nothing left to send.
    Closed {
        normal: bool,
    },
}

/// Reads and writes messages; pings are answered.
pub(super) struct Socket {
    context: WebSocketContext,
    pub(super) output: BytesMut,
    pub(super) role: Role,
    closed: bool,
    failed: Option<SocketError>,
}

/// Bytes of a message that are told at once: it may be far larger than what anyone wants
/// to hold.
pub(super) const PIECE: usize = 32 * 1024;

/// Buffer of tungstenite beside the caller's own, in bytes.
const READ_BUFFER: usize = 8 * 1024;
/// Longest header of a frame that is not masked, in bytes.
const HEADER: usize = 10;

impl Socket {
    pub(super) fn new(role: Role) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(Some(MAX_WEBSOCKET_MESSAGE))
            .max_message_size(Some(MAX_WEBSOCKET_MESSAGE));
        Self {
            context: WebSocketContext::new(role, Some(config)),
            output: BytesMut::new(),
            role,
            closed: false,
            failed: None,
        }
    }

    /// The next message; `None` when more bytes are needed, after the end, and while too
    /// much output waits.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, SocketError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            if self.closed || self.output.len() >= ANSWERS_HIGH_WATER {
                return Ok(None);
            }
            let mut memory = Memory {
                input,
                output: &mut self.output,
            };
            match self.context.read(&mut memory) {
                Ok(Message::Binary(data)) => {
                    return Ok(Some(Incoming::Message { data, text: false }));
                }
                Ok(Message::Text(text)) => {
                    return Ok(Some(Incoming::Message {
                        data: text.into(),
                        text: true,
                    }));
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(frame)) => {
                    // Writes the answer; that it is the last thing comes as an error.
                    let _ = self.context.flush(&mut memory);
                    self.closed = true;
                    let normal = frame.is_none_or(|frame| frame.code == CloseCode::Normal);
                    return Ok(Some(Incoming::Closed { normal }));
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(None);
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    self.closed = true;
                    return Ok(Some(Incoming::Closed { normal: false }));
                }
                Err(error) => return Err(self.fail(SocketError::Framing(error.to_string()))),
            }
        }
    }

    /// Ends the connection for the peer's fault, and tells the peer.
    pub(super) fn fail(&mut self, error: SocketError) -> SocketError {
        if self.failed.is_none() {
            self.failed = Some(error.clone());
            self.close_with(CloseCode::Protocol);
        }
        error
    }

    /// Writes a message, whether or not much waits already; nothing after the goodbye.
    pub(super) fn write(&mut self, message: Message) {
        let mut memory = Memory {
            input: &mut BytesMut::new(),
            output: &mut self.output,
        };
        // Memory takes everything, so that the only error is to be past the goodbye.
        let _ = self.context.write(&mut memory, message);
        let _ = self.context.flush(&mut memory);
    }

    /// The same with a binary message of these bytes in a row.
    pub(super) fn write_binary(&mut self, parts: [&[u8]; 2]) {
        if self.role == Role::Client {
            return self.write(Message::binary(parts.concat()));
        }
        if !self.can_write() {
            return;
        }
        // A server's bytes go out as they are: copied once, not three times. Nothing of
        // tungstenite's is overtaken, because memory takes all of it at once.
        let length = parts[0].len() + parts[1].len();
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            ..FrameHeader::default()
        };
        self.output.reserve(HEADER + length);
        // Memory takes everything here too.
        let _ = header.format(length as u64, &mut (&mut self.output).writer());
        for part in parts {
            self.output.extend_from_slice(part);
        }
    }

    pub(super) fn can_write(&self) -> bool {
        self.context.can_write()
    }

    pub(super) fn close(&mut self) {
        self.close_with(CloseCode::Normal);
    }

    fn close_with(&mut self, code: CloseCode) {
        let mut memory = Memory {
            input: &mut BytesMut::new(),
            output: &mut self.output,
        };
        let _ = self.context.close(
            &mut memory,
            Some(CloseFrame {
                code,
                reason: "".into(),
            }),
        );
    }
}

/// What tungstenite takes for its stream.
struct Memory<'a> {
    input: &'a mut BytesMut,
    output: &'a mut BytesMut,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = buffer.len().min(self.input.len());
        self.input.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
