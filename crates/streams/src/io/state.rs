//! What driver, handle and streams share.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use tokio_util::sync::CancellationToken;

use crate::limits::{
    ANSWERS_HIGH_WATER, CONNECTION_BUFFER, MAX_STREAMS, OUTPUT_HIGH_WATER, STREAM_BUFFER,
};
use crate::protocol::{Event, Protocol, ProtocolError};
use crate::spdy::frame::{ResetStatus, StreamId};
use crate::spdy::headers::Headers;

pub(super) struct Shared {
    state: Mutex<State>,
    /// Nothing more comes from the peer.
    pub(super) gone: CancellationToken,
    /// The driver has ended.
    pub(super) over: CancellationToken,
}

pub(super) struct State {
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) streams: HashMap<StreamId, Slot>,
    /// Opened by the peer, not yet taken by the handle.
    pub(super) incoming: VecDeque<(StreamId, Headers)>,
    pub(super) acceptor: Option<Waker>,
    /// Open from the start, not yet taken by the handle.
    pub(super) channels: Vec<StreamId>,
    pub(super) refuse: bool,
    peer_left: bool,
    pub(super) driver: Option<Waker>,
    /// Goodbye was said: send what is left, and end.
    pub(super) closing: bool,
    /// Streams that hold more than [`STREAM_BUFFER`].
    full: usize,
    /// Bytes that all streams hold.
    held: usize,
    /// Why the connection is over.
    pub(super) end: Option<End>,
    flushed: bool,
    /// Output taken out of the connection to make room for a last word.
    spill: BytesMut,
}

/// One stream, as long as one of its halves is held.
#[derive(Default)]
pub(super) struct Slot {
    /// Copied out of the input: a few bytes of it must not hold all of it.
    pub(super) inbound: BytesMut,
    pub(super) ended: Option<Ended>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) reader_gone: bool,
    pub(super) writer_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Finished,
    Reset,
}

#[derive(Debug, Clone)]
pub(super) struct End {
    kind: io::ErrorKind,
    message: String,
}

impl End {
    pub(super) fn new(kind: io::ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.message.clone())
    }
}

impl From<&ProtocolError> for End {
    fn from(error: &ProtocolError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error.to_string())
    }
}

/// What is to be done after the input was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes are needed.
    Read,
    /// A reader or the socket has to move first.
    Wait,
    /// The connection ends.
    Close,
}

impl Shared {
    pub(super) fn new(protocol: Box<dyn Protocol>) -> Self {
        let channels = protocol.initial();
        let state = State {
            protocol,
            streams: channels.iter().map(|id| (*id, Slot::default())).collect(),
            channels,
            incoming: VecDeque::new(),
            acceptor: None,
            refuse: false,
            peer_left: false,
            driver: None,
            closing: false,
            full: 0,
            held: 0,
            end: None,
            flushed: false,
            spill: BytesMut::new(),
        };
        Self {
            state: Mutex::new(state),
            gone: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and has the driver look at it.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let driver = state.driver.take();
        drop(state);
        wake(driver);
        result
    }

    /// Says goodbye, after ending every stream in this way.
    pub(super) fn close(&self, how: Ended) {
        self.with(|state| {
            if std::mem::replace(&mut state.closing, true) {
                return;
            }
            for id in state.streams.keys() {
                match how {
                    Ended::Finished => state.protocol.finish(*id),
                    Ended::Reset => state.protocol.reset(*id, ResetStatus::CANCEL),
                }
            }
            state.protocol.close();
        });
    }

    /// The connection is over: everyone who waits is told. The first reason stays.
    pub(super) fn end(&self, end: End) {
        self.lock().ended(end);
        self.gone.cancel();
    }

    /// Reads events out of `input` as long as there is room for them.
    pub(super) fn events(&self, input: &mut BytesMut) -> Next {
        let mut state = self.lock();
        loop {
            if state.closing {
                return Next::Close;
            }
            if state.is_held_up() {
                return Next::Wait;
            }
            match state.protocol.next(input) {
                Ok(Some(Event::Closed)) => {
                    state.closing = true;
                    state.ended(End::new(
                        io::ErrorKind::ConnectionAborted,
                        "the peer closed the connection",
                    ));
                    drop(state);
                    self.gone.cancel();
                    return Next::Close;
                }
                Ok(Some(event)) => state.event(event),
                Ok(None) if state.waiting() >= ANSWERS_HIGH_WATER => return Next::Wait,
                Ok(None) => return Next::Read,
                Err(error) => {
                    state.closing = true;
                    state.ended(End::from(&error));
                    drop(state);
                    self.gone.cancel();
                    return Next::Close;
                }
            }
        }
    }
}

impl State {
    /// Forgets a stream and what was not read of it.
    pub(super) fn remove(&mut self, id: StreamId) {
        self.drop_unread(id);
        self.streams.remove(&id);
    }

    /// Lets go of what was not read of a stream.
    pub(super) fn drop_unread(&mut self, id: StreamId) {
        let Some(slot) = self.streams.get_mut(&id) else {
            return;
        };
        self.full -= usize::from(slot.is_full());
        let unread = std::mem::take(&mut slot.inbound).len();
        self.held -= unread;
        self.protocol.consumed(id, unread);
    }

    /// Takes as much of a stream's bytes as there is room for in `buf`.
    pub(super) fn read(&mut self, id: StreamId, buf: &mut ReadBuf<'_>) {
        let Some(slot) = self.streams.get_mut(&id) else {
            return;
        };
        let was_full = slot.is_full();
        let len = slot.inbound.len().min(buf.remaining());
        buf.put_slice(&slot.inbound[..len]);
        slot.inbound.advance(len);
        self.full -= usize::from(was_full && !slot.is_full());
        self.held -= len;
        self.protocol.consumed(id, len);
    }

    /// Whether a reader has to move before more is read.
    pub(super) fn is_held_up(&self) -> bool {
        self.full > 0 || self.held > CONNECTION_BUFFER
    }

    /// Bytes that wait to be taken.
    fn waiting(&mut self) -> usize {
        self.spill.len() + self.protocol.output().len()
    }

    pub(super) fn expects_streams(&self) -> bool {
        !(self.refuse || self.closing || self.peer_left || self.end.is_some())
    }

    /// Takes all output, which makes room for writers.
    pub(super) fn take_output(&mut self) -> BytesMut {
        if !self.spill.is_empty() {
            return self.spill.split();
        }
        let output = self.protocol.output().split();
        if output.len() >= OUTPUT_HIGH_WATER {
            self.wake_writers();
        }
        output
    }

    /// Sends without waiting for room. For the last word on a stream, which is short.
    pub(super) fn send_now(&mut self, stream: StreamId, mut data: &[u8]) {
        self.spill.unsplit(self.protocol.output().split());
        // It took what they wait for to go, and nobody else will tell them.
        self.wake_writers();
        while let Ok(len @ 1..) = self.protocol.send(stream, data) {
            data = &data[len..];
        }
    }

    pub(super) fn all_flushed(&mut self) {
        self.flushed = true;
    }

    /// The peer hung up, after a goodbye or without.
    pub(super) fn hung_up(&self) -> io::Result<()> {
        if self.peer_left {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// What the driver ends with: `result`, unless the peer broke the protocol or was
    /// idle before.
    pub(super) fn result(&self, result: io::Result<()>) -> io::Result<()> {
        match &self.end {
            Some(
                end @ End {
                    kind: io::ErrorKind::InvalidData | io::ErrorKind::TimedOut,
                    ..
                },
            ) => Err(end.error()),
            _ => result,
        }
    }

    pub(super) fn sent_all(&self) -> io::Result<()> {
        match &self.end {
            Some(end) if !self.flushed => Err(end.error()),
            _ => Ok(()),
        }
    }

    fn wake_writers(&mut self) {
        for slot in self.streams.values_mut() {
            wake(slot.writer.take());
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            // A stream that the peer took back counts until it is let go here: else
            // opening and resetting would have no bound.
            Event::Opened { stream, .. } if self.refuse || self.streams.len() >= MAX_STREAMS => {
                self.protocol.reset(stream, ResetStatus::REFUSED_STREAM);
            }
            Event::Opened { stream, headers } => {
                self.streams.insert(stream, Slot::default());
                self.incoming.push_back((stream, headers));
                wake(self.acceptor.take());
            }
            Event::Data { stream, data } => match self.streams.get_mut(&stream) {
                Some(slot) if !slot.reader_gone => {
                    let was_full = slot.is_full();
                    slot.inbound.extend_from_slice(&data);
                    self.full += usize::from(!was_full && slot.is_full());
                    self.held += data.len();
                    wake(slot.reader.take());
                }
                _ => self.protocol.consumed(stream, data.len()),
            },
            Event::Finished { stream } => self.stream_ended(stream, Ended::Finished),
            Event::Reset { stream, .. } => {
                let waiting = self.incoming.len();
                self.incoming.retain(|(id, _)| *id != stream);
                if self.incoming.len() < waiting {
                    self.remove(stream);
                }
                self.stream_ended(stream, Ended::Reset);
            }
            Event::Credit {
                stream: Some(stream),
            } => {
                wake(
                    self.streams
                        .get_mut(&stream)
                        .and_then(|slot| slot.writer.take()),
                );
            }
            Event::Credit { stream: None } => self.wake_writers(),
            Event::GoAway => {
                self.peer_left = true;
                wake(self.acceptor.take());
            }
            Event::Accepted { .. } | Event::Headers { .. } | Event::Pong { .. } | Event::Closed => {
            }
        }
    }

    fn stream_ended(&mut self, stream: StreamId, how: Ended) {
        if let Some(slot) = self.streams.get_mut(&stream) {
            slot.ended.get_or_insert(how);
            wake(slot.reader.take());
            wake(slot.writer.take());
        }
    }

    fn ended(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake_all();
    }

    fn wake_all(&mut self) {
        self.wake_writers();
        for slot in self.streams.values_mut() {
            wake(slot.reader.take());
        }
        wake(self.acceptor.take());
    }
}

impl Slot {
    fn is_full(&self) -> bool {
        self.inbound.len() > STREAM_BUFFER
    }
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl fmt::Debug for Shared {
    // Without the bytes of the streams: they are the users'.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("gone", &self.gone.is_cancelled())
            .finish_non_exhaustive()
    }
}
