//! WebSocket frames by hand (RFC 6455), so that messages are seen as they are cut.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::dial::begin;
use crate::wire::Line;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Any will do.
const MASK: [u8; 4] = [7, 11, 13, 17];
const LAST: u8 = 0x80;
const MASKED: u8 = 0x80;

pub struct Frames {
    line: Line,
    input: BytesMut,
}

pub struct Frame {
    pub last: bool,
    pub kind: u8,
    pub payload: Bytes,
}

impl Frames {
    pub async fn upgrade(mut line: Line, text: &str) -> Self {
        let (head, input) = begin(&mut line, text).await;
        let rest = String::from_utf8_lossy(&input);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}\n{rest}");
        Self { line, input }
    }

    /// One message, in so many frames.
    pub async fn send(&mut self, kind: u8, parts: &[&[u8]]) {
        let mut wire = BytesMut::new();
        for (place, part) in parts.iter().enumerate() {
            let kind = if place == 0 { kind } else { CONTINUATION };
            let last = if place + 1 == parts.len() { LAST } else { 0 };
            wire.put_u8(last | kind);
            match u16::try_from(part.len()).unwrap() {
                length @ 0..126 => wire.put_u8(MASKED | u8::try_from(length).unwrap()),
                length => {
                    wire.put_u8(MASKED | 126);
                    wire.put_u16(length);
                }
            }
            wire.put_slice(&MASK);
            wire.extend(
                part.iter()
                    .zip(MASK.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask),
            );
        }
        // The other side may have hung up already; reading tells.
        let _ = self.line.write_all(&wire).await;
        let _ = self.line.flush().await;
    }

    /// The next frame; `None` when the server has hung up. Cancel-safe.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if !matches!(self.line.read_buf(&mut self.input).await, Ok(1..)) {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let mut input = &self.input[..];
        let (first, second) = (input.try_get_u8().ok()?, input.try_get_u8().ok()?);
        assert_eq!(second & MASKED, 0, "a server masks nothing");
        let length = match second {
            126 => u64::from(input.try_get_u16().ok()?),
            127 => input.try_get_u64().ok()?,
            length => u64::from(length),
        };
        let length = usize::try_from(length).unwrap();
        if input.len() < length {
            return None;
        }
        let header = self.input.len() - input.len();
        self.input.advance(header);
        Some(Frame {
            last: first & LAST != 0,
            kind: first & 0x0f,
            payload: self.input.split_to(length).freeze(),
        })
    }
}
