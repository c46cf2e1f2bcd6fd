//! Connections over tokio's sockets: a [`Driver`] that moves bytes, a [`Handle`] for the
//! connection, [`Reader`]s and [`Writer`]s for its streams.
//!
//! Back-pressure: a writer waits while too much is waiting to be sent. A reader that does
//! not read holds up its whole connection once
//! [`STREAM_BUFFER`](crate::limits::STREAM_BUFFER) bytes wait for it, or
//! [`CONNECTION_BUFFER`](crate::limits::CONNECTION_BUFFER) for all readers, because no
//! Kubernetes client lets itself be stopped on one stream
//! ([`FlowControl`](crate::spdy::FlowControl)); as long as it is held up, nobody notices
//! that the peer is gone. A reader that is dropped takes everything.

mod driver;
mod forward;
mod session;
mod state;
mod stream;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub use driver::Driver;
pub use forward::{Forwarded, Forwards};
pub use session::{AcceptError, Ending, Session, Sizes};
pub use stream::{Reader, Stream, Writer};

use crate::protocol::Protocol;
use crate::spdy::frame::{ResetStatus, StreamId};
use crate::spdy::headers::Headers;
use state::{Ended, Shared};

/// Runs `protocol` over `io`. Nothing moves until the driver is polled: spawn it.
///
/// # Panics
/// Outside of a tokio runtime with its timers on.
pub fn connect<T: AsyncRead + AsyncWrite + Unpin>(
    protocol: Box<dyn Protocol>,
    io: T,
) -> (Handle, Driver<T>) {
    let shared = Arc::new(Shared::new(protocol));
    (
        Handle {
            shared: Arc::clone(&shared),
        },
        Driver::new(shared, io),
    )
}

/// One connection. Dropping it resets every stream and says goodbye; what was sent before
/// still goes out.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// The next stream that the peer opens; `None` once none will come any more.
    /// Cancel-safe.
    pub async fn incoming(&mut self) -> Option<Incoming> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if let Some((id, headers)) = state.incoming.pop_front() {
                let shared = Arc::clone(&self.shared);
                return Poll::Ready(Some(Incoming {
                    id,
                    headers,
                    stream: Stream::new(shared, id),
                }));
            }
            if !state.expects_streams() {
                return Poll::Ready(None);
            }
            state.acceptor = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Refuses every stream that waits or is opened from now on.
    pub fn refuse_incoming(&self) {
        self.shared.with(|state| {
            state.refuse = true;
            for (id, _) in std::mem::take(&mut state.incoming) {
                state.remove(id);
                state.protocol.reset(id, ResetStatus::REFUSED_STREAM);
            }
        });
    }

    /// A WebSocket channel, open from the start; `None` where there is none, or the second
    /// time.
    #[must_use]
    pub fn channel(&self, id: StreamId) -> Option<Stream> {
        let mut state = self.shared.lock();
        let place = state.channels.iter().position(|channel| *channel == id)?;
        state.channels.swap_remove(place);
        Some(Stream::new(Arc::clone(&self.shared), id))
    }

    /// Cancelled when nothing more will come from the peer: it said goodbye, hung up or
    /// broke the protocol, or the connection was idle for too long.
    #[must_use]
    pub fn gone(&self) -> CancellationToken {
        self.shared.gone.clone()
    }

    fn close_now(&self) {
        self.shared.close(Ended::Finished);
    }

    /// Ends every stream, says goodbye and waits until all that was sent has gone out.
    ///
    /// # Errors
    /// When it could not be sent.
    pub async fn close(self) -> std::io::Result<()> {
        self.close_now();
        self.shared.over.cancelled().await;
        self.shared.lock().sent_all()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(Ended::Reset);
    }
}

/// A stream that the peer opened. Dropping it refuses it.
#[derive(Debug)]
pub struct Incoming {
    id: StreamId,
    headers: Headers,
    stream: Stream,
}

impl Incoming {
    /// The stream's number.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// What it is for.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Accepts it.
    #[must_use]
    pub fn accept(self) -> Stream {
        self.stream.accept();
        self.stream
    }
}
