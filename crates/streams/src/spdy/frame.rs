//! Frames (SPDY draft 3.1, section 2.2): bytes to [`Frame`]s and back.
//!
//! Header blocks stay compressed here. They share one state for the life of the
//! connection, so whoever decodes them must see every one, in order.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::MAX_CONTROL_FRAME;

/// A stream's number. In SPDY odd from the client, even from the server, never 0, 31
/// bits; over WebSocket the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The highest number that fits into 31 bits.
    pub const MAX: StreamId = StreamId(0x7fff_ffff);
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes of a stream. They are the users' own: `Debug` tells how many there are.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl std::ops::Deref for Payload {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Why a stream is reset (RST_STREAM, section 2.6.3). Any other number is kept as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetStatus(pub u32);

impl ResetStatus {
    /// The peer broke the protocol on this stream.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The frame was for a stream that is not open.
    pub const INVALID_STREAM: Self = Self(2);
    /// The stream was refused before anything was done for it.
    pub const REFUSED_STREAM: Self = Self(3);
    /// Whoever opened the stream wants it no more. What Go sends for every reset.
    pub const CANCEL: Self = Self(5);
    /// The sender is at fault.
    pub const INTERNAL_ERROR: Self = Self(6);
    /// More was sent than the window allowed.
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
    /// A stream of this number is open already.
    pub const STREAM_IN_USE: Self = Self(8);
}

/// Why a connection ends (GOAWAY, section 2.6.6). Any other number is kept as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoAwayStatus(pub u32);

impl GoAwayStatus {
    /// An orderly end.
    pub const OK: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The sender is at fault.
    pub const INTERNAL_ERROR: Self = Self(2);
}

/// One setting (section 2.6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Persistence flags; meaningless here, kept for the round trip.
    pub flags: u8,
    /// Which setting, 24 bits.
    pub id: u32,
    /// Its value.
    pub value: u32,
}

impl Setting {
    /// The credit each new stream starts with, in bytes.
    pub const INITIAL_WINDOW_SIZE: u32 = 7;
}

/// One frame. `block` is a compressed header block (see [`super::headers`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// The new stream.
        stream: StreamId,
        /// The stream it belongs to, 0 for none.
        associated: u32,
        /// 0 (highest) to 7.
        priority: u8,
        /// The sender is done sending on it.
        fin: bool,
        /// The receiver may not send on it.
        unidirectional: bool,
        /// Its headers.
        block: Bytes,
    },
    /// Accepts a stream.
    SynReply {
        /// The accepted stream.
        stream: StreamId,
        /// The sender is done sending on it.
        fin: bool,
        /// Headers of the answer.
        block: Bytes,
    },
    /// Ends a stream in both directions.
    RstStream {
        /// The stream that ends.
        stream: StreamId,
        /// Why.
        status: ResetStatus,
    },
    /// Settings of the connection.
    Settings(Vec<Setting>),
    /// To be sent back, if the other side started it.
    Ping(u32),
    /// No new streams are taken.
    GoAway {
        /// The last stream of the receiver that was taken, 0 for none.
        last_good: u32,
        /// Why.
        status: GoAwayStatus,
    },
    /// More headers of a stream.
    Headers {
        /// The stream.
        stream: StreamId,
        /// The sender is done sending on it.
        fin: bool,
        /// The headers.
        block: Bytes,
    },
    /// Credit to send more.
    WindowUpdate {
        /// The stream, 0 for the whole connection.
        stream: u32,
        /// How many bytes more.
        delta: u32,
    },
    /// Bytes of a stream. The decoder cuts one frame of the wire into as many of
    /// these as come in; only the last carries `fin`.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        data: Payload,
        /// The sender is done sending on it.
        fin: bool,
    },
    /// A control frame of a type that this crate does not know, to be passed over.
    Unknown(u16),
}

/// Why bytes are no frame. None of these can be recovered from: the end of the bad
/// frame, or the compression state behind it, is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not SPDY/3.
    #[error("control frame of SPDY version {0}, only version 3 is spoken here")]
    Version(u16),
    /// Over [`MAX_CONTROL_FRAME`].
    #[error("control frame of type {kind} with {len} bytes, at most {MAX_CONTROL_FRAME} are taken")]
    TooLarge {
        /// The frame type.
        kind: u16,
        /// Its length.
        len: usize,
    },
    /// A length that its type does not allow.
    #[error("control frame of type {kind} with a wrong length of {len} bytes")]
    Length {
        /// The frame type.
        kind: u16,
        /// Its length.
        len: usize,
    },
    /// Stream or ping number 0.
    #[error("frame for stream or ping 0")]
    Zero,
}

const CONTROL: u16 = 0x8000;
const VERSION: u16 = 3;
const HEADER: usize = 8;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const U24: u32 = 0x00ff_ffff;
const U31: u32 = 0x7fff_ffff;

mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const SETTINGS: u16 = 4;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
    pub(super) const HEADERS: u16 = 8;
    pub(super) const WINDOW_UPDATE: u16 = 9;
}

/// Cuts bytes into frames. Holds no bytes itself: what is incomplete stays in the
/// caller's buffer, [`MAX_CONTROL_FRAME`] and a header at most.
#[derive(Debug, Default)]
pub struct Decoder {
    data: Option<Unfinished>,
}

/// What is still to come of a DATA frame.
#[derive(Debug)]
struct Unfinished {
    stream: StreamId,
    fin: bool,
    left: usize,
}

impl Decoder {
    /// Takes the next frame off the front of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are no frame. The decoder is of no use afterwards.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(payload) = self.data.take() {
            return Ok(self.piece(payload, input));
        }
        let Some(mut header) = input.get(..HEADER) else {
            return Ok(None);
        };
        let first = header.get_u32();
        let flags_and_len = header.get_u32();
        let flags = (flags_and_len >> 24) as u8;
        let len = (flags_and_len & U24) as usize;
        if first & !U31 == 0 {
            let stream = stream_id(first)?;
            input.advance(HEADER);
            let payload = Unfinished {
                stream,
                fin: flags & FIN != 0,
                left: len,
            };
            return Ok(self.piece(payload, input));
        }
        let version = (first >> 16) as u16 & !CONTROL;
        let kind = first as u16;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if len > MAX_CONTROL_FRAME {
            return Err(FrameError::TooLarge { kind, len });
        }
        if input.len() < HEADER + len {
            return Ok(None);
        }
        input.advance(HEADER);
        control(kind, flags, input.split_to(len).freeze()).map(Some)
    }

    fn piece(&mut self, mut payload: Unfinished, input: &mut BytesMut) -> Option<Frame> {
        if payload.left > 0 && input.is_empty() {
            self.data = Some(payload);
            return None;
        }
        let data = input.split_to(payload.left.min(input.len())).freeze();
        payload.left -= data.len();
        let (stream, last) = (payload.stream, payload.left == 0);
        let fin = last && payload.fin;
        if !last {
            self.data = Some(payload);
        }
        Some(Frame::Data {
            stream,
            data: Payload(data),
            fin,
        })
    }
}

fn control(kind: u16, flags: u8, mut payload: Bytes) -> Result<Frame, FrameError> {
    let len = payload.len();
    let wrong = Err(FrameError::Length { kind, len });
    let fin = flags & FIN != 0;
    Ok(match (kind, len) {
        (kind::SYN_STREAM, 10..) => Frame::SynStream {
            stream: stream_id(payload.get_u32())?,
            associated: payload.get_u32() & U31,
            // The byte after it is the slot of a client certificate: SPDY/3, unused.
            priority: (payload.get_u16() >> 13) as u8,
            fin,
            unidirectional: flags & UNIDIRECTIONAL != 0,
            block: payload,
        },
        (kind::SYN_REPLY, 4..) => Frame::SynReply {
            stream: stream_id(payload.get_u32())?,
            fin,
            block: payload,
        },
        (kind::HEADERS, 4..) => Frame::Headers {
            stream: stream_id(payload.get_u32())?,
            fin,
            block: payload,
        },
        (kind::RST_STREAM, 8) => Frame::RstStream {
            stream: stream_id(payload.get_u32())?,
            status: ResetStatus(payload.get_u32()),
        },
        (kind::SETTINGS, 4..) => {
            let count = payload.get_u32() as usize;
            if count.checked_mul(8) != Some(payload.len()) {
                return wrong;
            }
            let setting = |_| {
                let id = payload.get_u32();
                Setting {
                    flags: (id >> 24) as u8,
                    id: id & U24,
                    value: payload.get_u32(),
                }
            };
            Frame::Settings((0..count).map(setting).collect())
        }
        (kind::PING, 4) => match payload.get_u32() {
            0 => return Err(FrameError::Zero),
            id => Frame::Ping(id),
        },
        (kind::GOAWAY, 8) => Frame::GoAway {
            last_good: payload.get_u32() & U31,
            status: GoAwayStatus(payload.get_u32()),
        },
        (kind::WINDOW_UPDATE, 8) => Frame::WindowUpdate {
            stream: payload.get_u32() & U31,
            delta: payload.get_u32() & U31,
        },
        (
            kind::SYN_STREAM
            | kind::SYN_REPLY
            | kind::HEADERS
            | kind::RST_STREAM
            | kind::SETTINGS
            | kind::PING
            | kind::GOAWAY
            | kind::WINDOW_UPDATE,
            _,
        ) => return wrong,
        (unknown, _) => Frame::Unknown(unknown),
    })
}

fn stream_id(word: u32) -> Result<StreamId, FrameError> {
    match word & U31 {
        0 => Err(FrameError::Zero),
        id => Ok(StreamId(id)),
    }
}

impl Frame {
    /// Appends the frame to `out`. Numbers are cut to the bits the wire has for them;
    /// payloads longer than 24 bits can tell are a fault of the caller and are cut too.
    /// [`Frame::Unknown`] stands for nothing that could be sent and writes nothing.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                block,
            } => {
                let unidirectional = if *unidirectional { UNIDIRECTIONAL } else { 0 };
                let block = header(
                    out,
                    kind::SYN_STREAM,
                    flag(*fin) | unidirectional,
                    10,
                    block,
                );
                out.put_u32(stream.0 & U31);
                out.put_u32(associated & U31);
                out.put_u16(u16::from(*priority & 7) << 13);
                out.put_slice(block);
            }
            Self::SynReply { stream, fin, block } => {
                let block = header(out, kind::SYN_REPLY, flag(*fin), 4, block);
                out.put_u32(stream.0 & U31);
                out.put_slice(block);
            }
            Self::Headers { stream, fin, block } => {
                let block = header(out, kind::HEADERS, flag(*fin), 4, block);
                out.put_u32(stream.0 & U31);
                out.put_slice(block);
            }
            Self::RstStream { stream, status } => {
                header(out, kind::RST_STREAM, 0, 8, &[]);
                out.put_u32(stream.0 & U31);
                out.put_u32(status.0);
            }
            Self::Settings(settings) => {
                header(out, kind::SETTINGS, 0, 4 + 8 * settings.len(), &[]);
                out.put_u32(settings.len() as u32);
                for setting in settings {
                    out.put_u32(u32::from(setting.flags) << 24 | setting.id & U24);
                    out.put_u32(setting.value);
                }
            }
            Self::Ping(id) => {
                header(out, kind::PING, 0, 4, &[]);
                out.put_u32(*id);
            }
            Self::GoAway { last_good, status } => {
                header(out, kind::GOAWAY, 0, 8, &[]);
                out.put_u32(last_good & U31);
                out.put_u32(status.0);
            }
            Self::WindowUpdate { stream, delta } => {
                header(out, kind::WINDOW_UPDATE, 0, 8, &[]);
                out.put_u32(stream & U31);
                out.put_u32(delta & U31);
            }
            Self::Data { stream, data, fin } => encode_data(*stream, data, *fin, out),
            Self::Unknown(_) => {}
        }
    }
}

/// Appends a DATA frame to `out`, without an owned copy of the payload. Callers keep
/// to [`crate::limits::MAX_DATA_SENT`]; 24 bits is what the wire has for the length.
pub fn encode_data(stream: StreamId, data: &[u8], fin: bool, out: &mut BytesMut) {
    let data = &data[..data.len().min(U24 as usize)];
    out.put_u32(stream.0 & U31);
    out.put_u32(u32::from(flag(fin)) << 24 | data.len() as u32);
    out.put_slice(data);
}

/// Writes a control frame's header and returns what of `block` fits behind `fixed` bytes.
fn header<'a>(out: &mut BytesMut, kind: u16, flags: u8, fixed: usize, block: &'a [u8]) -> &'a [u8] {
    let block = &block[..block.len().min(U24 as usize - fixed.min(U24 as usize))];
    out.put_u16(CONTROL | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | (fixed + block.len()) as u32 & U24);
    block
}

fn flag(fin: bool) -> u8 {
    if fin { FIN } else { 0 }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
