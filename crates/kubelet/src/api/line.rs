//! The bytes of a connection: when some came in, what came before an upgrade, and
//! whether there is still another end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::pulse::Pulse;

pub(super) struct Line {
    stream: TlsStream<TcpStream>,
    heard: Option<Arc<Pulse>>,
    /// Read already, with the request.
    before: Bytes,
}

impl Line {
    /// `heard` is told whenever something comes in.
    pub(super) fn new(stream: TlsStream<TcpStream>, heard: Option<Arc<Pulse>>) -> Self {
        Self {
            stream,
            heard,
            before: Bytes::new(),
        }
    }

    /// The line behind an upgrade; `None` when it is another's.
    pub(super) fn of(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<TokioIo<Self>>().ok()?;
        let line = parts.io.into_inner();
        Some(Self {
            before: parts.read_buf,
            ..line
        })
    }

    /// What ends when the system has given the connection up, because it was reset or
    /// the other end answers no more: also while nobody reads or writes, and not
    /// because the other end has said all. Has a file of its own.
    pub(super) fn lost(&self) -> io::Result<impl Future<Output = ()> + use<>> {
        let (socket, _) = self.stream.get_ref();
        let socket = TcpStream::from_std(SockRef::from(socket).try_clone()?.into())?;
        Ok(async move {
            let _ = socket.ready(Interest::ERROR).await;
        })
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let length = self.before.len().min(buffer.remaining());
            buffer.put_slice(&self.before[..length]);
            self.before.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before
            && let Some(pulse) = &self.heard
        {
            pulse.heard();
        }
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
