//! The two halves of a stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::state::{Ended, Shared};
use crate::spdy::frame::{ResetStatus, StreamId};

/// What the peer sends on a stream. Ends cleanly when the peer says it is done; a reset is
/// [`io::ErrorKind::ConnectionReset`], a lost connection an error too. Dropping it drops
/// what comes.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    id: StreamId,
}

/// What is sent to the peer on a stream. Writing hands bytes to the driver, which sends
/// them without further ado: there is nothing to flush. Shutting it down, or dropping it,
/// tells the peer that this was all.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    id: StreamId,
}

/// Both halves. When both are dropped before the peer is done, the stream is reset.
#[derive(Debug)]
pub struct Stream {
    reader: Reader,
    writer: Writer,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self {
            reader: Reader {
                shared: Arc::clone(&shared),
                id,
            },
            writer: Writer { shared, id },
        }
    }

    pub(super) fn accept(&self) {
        self.reader
            .shared
            .with(|state| state.protocol.accept(self.reader.id));
    }

    /// Ends both directions at once: the peer learns that something went wrong.
    pub fn reset(self, status: ResetStatus) {
        self.reader
            .shared
            .with(|state| state.protocol.reset(self.reader.id, status));
    }

    /// The halves, each on its own.
    #[must_use]
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

impl Writer {
    /// Sends without waiting, for those who cannot wait.
    pub(super) fn send_now(&self, data: &[u8]) {
        self.shared.with(|state| state.send_now(self.id, data));
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Some(slot) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if slot.inbound.is_empty() {
            return match (slot.ended, &state.end) {
                (Some(Ended::Finished), _) => Poll::Ready(Ok(())),
                (Some(Ended::Reset), _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                (None, Some(end)) => Poll::Ready(Err(end.error())),
                (None, None) => {
                    slot.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let was_held_up = state.is_held_up();
        state.read(self.id, buf);
        let driver = state
            .driver
            .take_if(|_| was_held_up || !state.protocol.output().is_empty());
        drop(guard);
        super::state::wake(driver);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.error()));
        }
        if state.closing {
            // It would not go out any more.
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match state.protocol.send(self.id, data) {
            Ok(0) if !data.is_empty() => {
                if let Some(slot) = state.streams.get_mut(&self.id) {
                    slot.writer = Some(cx.waker().clone());
                }
                // The driver has nothing new to do. Woken for that, it would go round
                // for ever where it shares a task with the writer.
                Poll::Pending
            }
            Ok(len) => {
                let driver = state.driver.take();
                drop(guard);
                super::state::wake(driver);
                Poll::Ready(Ok(len))
            }
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state| state.protocol.finish(self.id));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.with(|state| {
            let Some(slot) = state.streams.get_mut(&self.id) else {
                return;
            };
            slot.reader_gone = true;
            state.drop_unread(self.id);
            state.half_dropped(self.id);
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.protocol.finish(self.id);
            if let Some(slot) = state.streams.get_mut(&self.id) {
                slot.writer_gone = true;
            }
            state.half_dropped(self.id);
        });
    }
}

impl super::state::State {
    /// With both halves gone nobody here wants to know of the stream any more.
    fn half_dropped(&mut self, id: StreamId) {
        if self
            .streams
            .get(&id)
            .is_some_and(|slot| slot.reader_gone && slot.writer_gone)
        {
            self.remove(id);
            // Nothing comes behind a goodbye.
            if !self.closing {
                self.protocol.reset(id, ResetStatus::CANCEL);
            }
        }
    }
}
