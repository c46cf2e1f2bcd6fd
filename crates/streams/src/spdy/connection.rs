//! The state of one connection: which streams are open, and what each frame means.

use std::collections::HashMap;
use std::fmt;

use bytes::BytesMut;

use super::frame::{
    Decoder, Frame, GoAwayStatus, Payload, ResetStatus, Setting, StreamId, encode_data,
};
use super::headers::{Compressor, Decompressor, Headers};
use super::window::{ReceiveWindow, SendWindow};
use super::{ConnectionError, FlowControl, OpenError, Role};
use crate::limits::{
    ANSWERS_HIGH_WATER, INITIAL_WINDOW, MAX_DATA_SENT, MAX_STREAMS, OUTPUT_HIGH_WATER,
};
use crate::protocol::{Event, NotOpen, Protocol, ProtocolError};

/// One SPDY/3.1 connection. See [`Protocol`] for how it is run.
pub struct Connection {
    role: Role,
    flow: FlowControl,
    decoder: Decoder,
    decompressor: Decompressor,
    compressor: Compressor,
    streams: HashMap<StreamId, Stream>,
    /// Streams in `streams` that the peer opened.
    peers: usize,
    /// The peer's highest stream number yet, 0 for none.
    last_peer: u32,
    /// Our next stream and ping numbers; beyond 31 bits when they are used up.
    next_stream: u32,
    next_ping: u32,
    peer_window: u32,
    send: SendWindow,
    receive: ReceiveWindow,
    output: BytesMut,
    /// The second event of a frame that has two.
    pending: Option<Event>,
    we_left: bool,
    peer_left: bool,
    failed: Option<ConnectionError>,
}

#[derive(Debug)]
struct Stream {
    accepted: bool,
    /// This side, the peer is done sending.
    finished: bool,
    peer_finished: bool,
    send: SendWindow,
    receive: ReceiveWindow,
}

impl Connection {
    /// A fresh connection, right behind the HTTP upgrade.
    #[must_use]
    pub fn new(role: Role, flow: FlowControl) -> Self {
        let first = match role {
            Role::Client => 1,
            Role::Server => 2,
        };
        Self {
            role,
            flow,
            decoder: Decoder::default(),
            decompressor: Decompressor::default(),
            compressor: Compressor::default(),
            streams: HashMap::new(),
            peers: 0,
            last_peer: 0,
            next_stream: first,
            next_ping: first,
            peer_window: INITIAL_WINDOW,
            send: SendWindow::new(INITIAL_WINDOW),
            receive: ReceiveWindow::default(),
            output: BytesMut::new(),
            pending: None,
            we_left: false,
            peer_left: false,
            failed: None,
        }
    }

    /// Opens a stream. [`Event::Accepted`] or [`Event::Reset`] will tell what came of it;
    /// `moby/spdystream` drops what is sent before it accepted.
    ///
    /// # Errors
    /// When the connection takes no new streams.
    pub fn open(&mut self, headers: &Headers) -> Result<StreamId, OpenError> {
        if self.we_left || self.peer_left || self.failed.is_some() {
            return Err(OpenError::GoneAway);
        }
        let stream = StreamId(self.next_stream);
        if stream > StreamId::MAX {
            return Err(OpenError::Exhausted);
        }
        self.next_stream += 2;
        let block = self.compressor.write(headers);
        let frame = Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            block,
        };
        frame.encode(&mut self.output);
        self.streams.insert(stream, Stream::new(self.peer_window));
        Ok(stream)
    }

    /// Sends a ping and returns its number, which [`Event::Pong`] brings back.
    pub fn ping(&mut self) -> u32 {
        let id = self.next_ping;
        // Pings need no order: start over when the numbers are used up.
        self.next_ping = id.checked_add(2).unwrap_or(2 - id % 2);
        Frame::Ping(id).encode(&mut self.output);
        id
    }

    /// Streams that are open now, in either direction.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    fn is_peers(&self, number: u32) -> bool {
        (number % 2 == 1) == (self.role == Role::Server)
    }

    fn handle(&mut self, frame: Frame) -> Result<Option<Event>, ConnectionError> {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                block,
                ..
            } => {
                let headers = self.decompressor.read(&block)?;
                self.opened(stream, headers.ok(), fin, unidirectional)
            }
            Frame::SynReply { stream, fin, block } => {
                let headers = self.decompressor.read(&block)?;
                let ours = !self.is_peers(stream.0);
                let Some(state) = self.streams.get_mut(&stream).filter(|_| ours) else {
                    return Ok(None);
                };
                if state.accepted {
                    return Ok(self.fail(stream, ResetStatus::STREAM_IN_USE));
                }
                state.accepted = true;
                if headers.is_err() {
                    return Ok(self.fail(stream, ResetStatus::PROTOCOL_ERROR));
                }
                Ok(self.with_end(Event::Accepted { stream }, stream, fin))
            }
            Frame::Headers { stream, fin, block } => {
                let headers = self.decompressor.read(&block)?;
                match (self.streams.get(&stream), headers) {
                    (None, _) => Ok(None),
                    (Some(state), Ok(headers)) if !state.peer_finished => {
                        Ok(self.with_end(Event::Headers { stream, headers }, stream, fin))
                    }
                    (Some(_), _) => Ok(self.fail(stream, ResetStatus::PROTOCOL_ERROR)),
                }
            }
            Frame::RstStream { stream, status } => Ok(self
                .forget(stream)
                .then_some(Event::Reset { stream, status })),
            Frame::Data { stream, data, fin } => self.data(stream, data, fin),
            Frame::Ping(id) if self.is_peers(id) => {
                Frame::Ping(id).encode(&mut self.output);
                Ok(None)
            }
            Frame::Ping(id) => Ok(Some(Event::Pong { id })),
            Frame::GoAway { .. } => {
                self.peer_left = true;
                Ok(Some(Event::GoAway))
            }
            Frame::Settings(settings) if self.flow == FlowControl::Kept => self.settings(&settings),
            Frame::WindowUpdate { stream, delta } if self.flow == FlowControl::Kept => {
                self.credit(stream, delta)
            }
            Frame::Settings(_) | Frame::WindowUpdate { .. } | Frame::Unknown(_) => Ok(None),
        }
    }

    fn opened(
        &mut self,
        stream: StreamId,
        headers: Option<Headers>,
        fin: bool,
        unidirectional: bool,
    ) -> Result<Option<Event>, ConnectionError> {
        if !self.is_peers(stream.0) || stream.0 <= self.last_peer {
            return Err(ConnectionError::StreamOrder {
                stream,
                last: self.last_peer,
            });
        }
        self.last_peer = stream.0;
        if self.we_left {
            // The peer learns from the GOAWAY that this one was not taken.
            return Ok(None);
        }
        let Some(headers) = headers else {
            self.rst(stream, ResetStatus::PROTOCOL_ERROR);
            return Ok(None);
        };
        if self.peers >= MAX_STREAMS {
            self.rst(stream, ResetStatus::REFUSED_STREAM);
            return Ok(None);
        }
        self.peers += 1;
        self.streams.insert(
            stream,
            Stream {
                finished: unidirectional,
                ..Stream::new(self.peer_window)
            },
        );
        Ok(self.with_end(Event::Opened { stream, headers }, stream, fin))
    }

    fn data(
        &mut self,
        stream: StreamId,
        data: Payload,
        fin: bool,
    ) -> Result<Option<Event>, ConnectionError> {
        let kept = self.flow == FlowControl::Kept;
        if kept {
            self.receive
                .received(data.len())
                .map_err(|_| ConnectionError::FlowControl)?;
        }
        let Some(state) = self.streams.get_mut(&stream) else {
            self.consumed(stream, data.len());
            let never = if self.is_peers(stream.0) {
                stream.0 > self.last_peer
            } else {
                stream.0 >= self.next_stream
            };
            // What was under way when a stream ended here is no fault of the peer's.
            if never {
                self.rst(stream, ResetStatus::INVALID_STREAM);
            }
            return Ok(None);
        };
        if state.peer_finished {
            self.consumed(stream, data.len());
            return Ok(self.fail(stream, ResetStatus::PROTOCOL_ERROR));
        }
        if kept && state.receive.received(data.len()).is_err() {
            self.consumed(stream, data.len());
            return Ok(self.fail(stream, ResetStatus::FLOW_CONTROL_ERROR));
        }
        if data.is_empty() {
            return Ok(fin.then(|| self.ended(stream)));
        }
        Ok(self.with_end(Event::Data { stream, data }, stream, fin))
    }

    fn settings(&mut self, settings: &[Setting]) -> Result<Option<Event>, ConnectionError> {
        let Some(window) = settings
            .iter()
            .rfind(|s| s.id == Setting::INITIAL_WINDOW_SIZE)
        else {
            return Ok(None);
        };
        if window.value > StreamId::MAX.0 {
            return Err(ConnectionError::FlowControl);
        }
        let delta = i64::from(window.value) - i64::from(self.peer_window);
        self.peer_window = window.value;
        for stream in self.streams.values_mut() {
            stream
                .send
                .add(delta)
                .map_err(|_| ConnectionError::FlowControl)?;
        }
        Ok(Some(Event::Credit { stream: None }))
    }

    fn credit(&mut self, stream: u32, delta: u32) -> Result<Option<Event>, ConnectionError> {
        let delta = i64::from(delta);
        if stream == 0 {
            self.send
                .add(delta)
                .map_err(|_| ConnectionError::FlowControl)?;
            return Ok(Some(Event::Credit { stream: None }));
        }
        let stream = StreamId(stream);
        let Some(state) = self.streams.get_mut(&stream) else {
            return Ok(None);
        };
        match state.send.add(delta) {
            Ok(()) => Ok(Some(Event::Credit {
                stream: Some(stream),
            })),
            Err(_) => Ok(self.fail(stream, ResetStatus::FLOW_CONTROL_ERROR)),
        }
    }

    /// `event`, and behind it the end of the stream if this was the last of it.
    fn with_end(&mut self, event: Event, stream: StreamId, fin: bool) -> Option<Event> {
        if fin {
            self.pending = Some(self.ended(stream));
        }
        Some(event)
    }

    fn ended(&mut self, stream: StreamId) -> Event {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.peer_finished = true;
        }
        self.forget_if_done(stream);
        Event::Finished { stream }
    }

    /// The peer broke the protocol on a stream: both sides are told.
    fn fail(&mut self, stream: StreamId, status: ResetStatus) -> Option<Event> {
        self.forget(stream);
        self.rst(stream, status);
        Some(Event::Reset { stream, status })
    }

    fn rst(&mut self, stream: StreamId, status: ResetStatus) {
        Frame::RstStream { stream, status }.encode(&mut self.output);
    }

    fn forget(&mut self, stream: StreamId) -> bool {
        let known = self.streams.remove(&stream).is_some();
        if known && self.is_peers(stream.0) {
            self.peers -= 1;
        }
        known
    }

    fn forget_if_done(&mut self, stream: StreamId) {
        if self
            .streams
            .get(&stream)
            .is_some_and(|s| s.finished && s.peer_finished)
        {
            self.forget(stream);
        }
    }

    fn go_away(&mut self, status: GoAwayStatus) {
        if !std::mem::replace(&mut self.we_left, true) {
            Frame::GoAway {
                last_good: self.last_peer,
                status,
            }
            .encode(&mut self.output);
        }
    }
}

impl Protocol for Connection {
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        loop {
            if let Some(event) = self.pending.take() {
                return Ok(Some(event));
            }
            if self.output.len() >= ANSWERS_HIGH_WATER {
                return Ok(None);
            }
            let frame = self.decoder.next(input).map_err(ConnectionError::from);
            let event = match frame {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => self.handle(frame),
                Err(error) => Err(error),
            };
            match event {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(error) => {
                    self.failed = Some(error);
                    self.go_away(GoAwayStatus::PROTOCOL_ERROR);
                    return Err(error.into());
                }
            }
        }
    }

    fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    fn accept(&mut self, stream: StreamId) {
        if !self.is_peers(stream.0) {
            return;
        }
        if let Some(state) = self.streams.get_mut(&stream)
            && !std::mem::replace(&mut state.accepted, true)
        {
            let block = self.compressor.write(&Headers::default());
            Frame::SynReply {
                stream,
                fin: false,
                block,
            }
            .encode(&mut self.output);
        }
    }

    fn send(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, NotOpen> {
        let waiting = self.is_peers(stream.0);
        let Some(state) = self.streams.get_mut(&stream) else {
            return Err(NotOpen(stream));
        };
        if state.finished || waiting && !state.accepted {
            return Err(NotOpen(stream));
        }
        if self.output.len() >= OUTPUT_HIGH_WATER {
            return Ok(0);
        }
        let mut len = data.len().min(MAX_DATA_SENT);
        if self.flow == FlowControl::Kept {
            len = len.min(state.send.available()).min(self.send.available());
            state.send.sent(len);
            self.send.sent(len);
        }
        if len > 0 {
            encode_data(stream, &data[..len], false, &mut self.output);
        }
        Ok(len)
    }

    fn finish(&mut self, stream: StreamId) {
        let waiting = self.is_peers(stream.0);
        if let Some(state) = self.streams.get_mut(&stream)
            && (state.accepted || !waiting)
            && !std::mem::replace(&mut state.finished, true)
        {
            encode_data(stream, &[], true, &mut self.output);
            self.forget_if_done(stream);
        }
    }

    fn reset(&mut self, stream: StreamId, status: ResetStatus) {
        if self.forget(stream) {
            self.rst(stream, status);
        }
    }

    fn consumed(&mut self, stream: StreamId, bytes: usize) {
        if self.flow == FlowControl::Ignored {
            return;
        }
        let state = self.streams.get_mut(&stream).filter(|s| !s.peer_finished);
        if let Some(delta) = state.and_then(|s| s.receive.consumed(bytes)) {
            Frame::WindowUpdate {
                stream: stream.0,
                delta,
            }
            .encode(&mut self.output);
        }
        if let Some(delta) = self.receive.consumed(bytes) {
            Frame::WindowUpdate { stream: 0, delta }.encode(&mut self.output);
        }
    }

    fn close(&mut self) {
        self.go_away(GoAwayStatus::OK);
    }
}

impl fmt::Debug for Connection {
    // Without the output: it holds users' bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role)
            .field("flow", &self.flow)
            .field("streams", &self.streams)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Stream {
    fn new(send_window: u32) -> Self {
        Self {
            accepted: false,
            finished: false,
            peer_finished: false,
            send: SendWindow::new(send_window),
            receive: ReceiveWindow::default(),
        }
    }
}
