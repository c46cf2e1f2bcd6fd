//! Moves bytes between a socket and a connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::state::{End, Next, Shared};
use crate::limits::{CLOSE_TIMEOUT, IDLE_TIMEOUT};

/// Bytes read from the socket at once: Go sends frames of up to 32 KiB.
const READ: usize = 32 * 1024;

/// The future that runs a connection until it is over. Dropping it cuts the connection.
///
/// # Errors
/// When the connection broke, the peer broke the protocol, or hung up without a goodbye.
#[must_use = "nothing moves until it is polled"]
pub struct Driver<T> {
    shared: Arc<Shared>,
    io: T,
    input: BytesMut,
    /// Taken from the connection, not yet sent.
    output: BytesMut,
    unflushed: bool,
    last_moved: Instant,
    timer: Pin<Box<Sleep>>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing moved for too long: whoever is at work is told, and has a while to tell
    /// the client, which would take silence for success.
    Idle,
    /// All is sent but the end of our side.
    ShuttingDown,
    /// Reads until the peer hangs up too.
    Lingering,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(super) fn new(shared: Arc<Shared>, io: T) -> Self {
        let now = Instant::now();
        Self {
            shared,
            io,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            last_moved: now,
            timer: Box::pin(sleep_until(now + IDLE_TIMEOUT)),
            phase: Phase::Open,
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // First, so that nothing that happens from here on is missed.
        self.shared.lock().driver = Some(cx.waker().clone());
        loop {
            let sent = self.send(cx)?;
            match self.phase {
                Phase::Open | Phase::Idle => match self.shared.events(&mut self.input) {
                    // Answers of the events just read go out before the next bytes come in.
                    _ if self.output_waits() && sent.is_ready() => {}
                    Next::Read => match self.read(cx)? {
                        Poll::Ready(0) => return Poll::Ready(self.shared.lock().hung_up()),
                        Poll::Ready(_) => {}
                        Poll::Pending => break,
                    },
                    Next::Wait => break,
                    Next::Close if sent.is_ready() => {
                        self.shared.lock().all_flushed();
                        self.phase = Phase::ShuttingDown;
                        self.timer.as_mut().reset(Instant::now() + CLOSE_TIMEOUT);
                    }
                    Next::Close => break,
                },
                Phase::ShuttingDown => match Pin::new(&mut self.io).poll_shutdown(cx) {
                    Poll::Ready(_) => self.phase = Phase::Lingering,
                    Poll::Pending => break,
                },
                Phase::Lingering => match self.read(cx) {
                    Ok(Poll::Ready(1..)) => self.input.clear(),
                    Ok(Poll::Pending) => break,
                    Ok(Poll::Ready(0)) | Err(_) => return Poll::Ready(Ok(())),
                },
            }
        }
        self.timed_out(cx)
    }

    fn output_waits(&self) -> bool {
        !self.shared.lock().protocol.output().is_empty()
    }

    /// Sends as much as goes; ready when nothing is left.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        loop {
            if self.output.is_empty() {
                self.output = self.shared.lock().take_output();
            }
            if self.output.is_empty() {
                if self.unflushed && Pin::new(&mut self.io).poll_flush(cx)?.is_pending() {
                    return Ok(Poll::Pending);
                }
                self.unflushed = false;
                return Ok(Poll::Ready(()));
            }
            match Pin::new(&mut self.io).poll_write(cx, &self.output)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => {
                    self.output.advance(n);
                    self.unflushed = true;
                    self.last_moved = Instant::now();
                }
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
    }

    /// Adds to the input what is there.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<usize>> {
        self.input.reserve(READ);
        let read = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input)?;
        if read.is_ready() {
            self.last_moved = Instant::now();
        }
        Ok(read)
    }

    fn timed_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match self.phase {
                Phase::Open if self.last_moved + IDLE_TIMEOUT > now => {
                    self.timer.as_mut().reset(self.last_moved + IDLE_TIMEOUT);
                }
                Phase::Open => {
                    self.phase = Phase::Idle;
                    self.timer.as_mut().reset(now + CLOSE_TIMEOUT);
                    let idle = format!("nothing moved for {} s", IDLE_TIMEOUT.as_secs());
                    self.shared.end(End::new(io::ErrorKind::TimedOut, idle));
                }
                Phase::Idle => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                // It had its time; all that was to be sent was sent.
                Phase::ShuttingDown | Phase::Lingering => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Poll::Ready(result) = self.run(cx) else {
            return Poll::Pending;
        };
        let end = match &result {
            Ok(()) => End::new(io::ErrorKind::BrokenPipe, "the connection is closed"),
            Err(error) => End::new(error.kind(), format!("the connection broke: {error}")),
        };
        self.shared.end(end);
        self.shared.over.cancel();
        // A broken protocol, or idleness, was noted when it was seen, and outlasts the orderly end.
        Poll::Ready(self.shared.lock().result(result))
    }
}

impl<T> fmt::Debug for Driver<T> {
    // Without the buffers: they hold users' bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.shared.end(End::new(
            io::ErrorKind::ConnectionAborted,
            "the connection was dropped",
        ));
        self.shared.over.cancel();
    }
}
