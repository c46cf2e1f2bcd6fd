//! Serving a router over in-memory connections or on loopback with TLS, with
//! faults applied where a network would apply them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use crate::faults::{Effect, Faults, latency};

/// Bytes a peer may send ahead on an in-memory connection, about a socket's.
const DUPLEX_BUFFER: usize = 64 * 1024;

/// How a service words 429 and fault statuses.
pub type ErrorBody = fn(StatusCode, Option<u64>) -> Response;

/// A service that can be connected to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    router: Router,
    faults: Faults,
    error_body: ErrorBody,
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection dropped by a fault rule")]
struct Dropped;

impl Endpoint {
    /// An endpoint for a router.
    pub fn new(router: Router, faults: Faults, error_body: ErrorBody) -> Self {
        Self {
            router,
            faults,
            error_body,
        }
    }

    /// A connector for hyper-util's legacy client. Any `http://` URI reaches
    /// this endpoint.
    pub fn connector(&self) -> MemoryConnector {
        MemoryConnector {
            endpoint: self.clone(),
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response, Dropped> {
        let path = request
            .uri()
            .path_and_query()
            .map_or_else(String::new, ToString::to_string);
        let mut lose_answer = false;
        if !path.starts_with("/_sandbox") {
            match self.faults.on_request(request.method().as_str(), &path) {
                Some(Effect::Latency(millis)) => tokio::time::sleep(latency(millis)).await,
                Some(Effect::TooManyRequests(after)) => {
                    return Ok((self.error_body)(
                        StatusCode::TOO_MANY_REQUESTS,
                        Some(after),
                    ));
                }
                Some(Effect::PlainTooManyRequests(after)) => {
                    let after = [(http::header::RETRY_AFTER, after.to_string())];
                    let text = "Too many requests, please try again later.\n";
                    return Ok((StatusCode::TOO_MANY_REQUESTS, after, text).into_response());
                }
                Some(Effect::Status(code)) => {
                    let code =
                        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    return Ok((self.error_body)(code, None));
                }
                Some(Effect::DropConnection) => return Err(Dropped),
                Some(Effect::LoseAnswer) => lose_answer = true,
                _ => {}
            }
        }
        let answer = self.router.oneshot(request.map(Body::new)).await;
        match answer {
            Ok(_) if lose_answer => Err(Dropped),
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }

    /// Serves one connection until it closes.
    pub async fn serve<I>(self, io: I)
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| self.clone().answer(request));
        // An error here is the peer going away or a fault rule; both are meant.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .with_upgrades()
            .await;
    }

    /// Accepts on `listener` until `stop`; with `tls`, behind TLS. A handshake
    /// that hangs holds nobody else up.
    pub async fn listen(
        self,
        listener: tokio::net::TcpListener,
        tls: Option<tokio_rustls::TlsAcceptor>,
        stop: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, _peer)) = accepted else {
                continue;
            };
            let (endpoint, tls, stop) = (self.clone(), tls.clone(), stop.clone());
            tokio::spawn(async move {
                let serve = async {
                    match tls {
                        None => endpoint.serve(TokioIo::new(socket)).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(socket).await {
                                endpoint.serve(TokioIo::new(stream)).await;
                            }
                        }
                    }
                };
                tokio::select! { () = stop.cancelled() => {}, () = serve => {} }
            });
        }
    }
}

/// Connects a client to an [`Endpoint`] through memory.
#[derive(Clone, Debug)]
pub struct MemoryConnector {
    endpoint: Endpoint,
}

impl Service<Uri> for MemoryConnector {
    type Response = MemoryIo;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<MemoryIo, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (near, far) = tokio::io::duplex(DUPLEX_BUFFER);
        tokio::spawn(self.endpoint.clone().serve(TokioIo::new(far)));
        Box::pin(async move { Ok(MemoryIo(TokioIo::new(near))) })
    }
}

/// The client's end of an in-memory connection.
#[derive(Debug)]
pub struct MemoryIo(TokioIo<DuplexStream>);

impl Connection for MemoryIo {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for MemoryIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for MemoryIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A loopback listener on a free port, or on the given one.
///
/// # Errors
/// The address is taken or not loopback.
pub async fn loopback(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    if !address.ip().is_loopback() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            format!(
                "{address} is not a loopback address; the sandbox listens on 127.0.0.1 or [::1] only"
            ),
        ));
    }
    tokio::net::TcpListener::bind(address).await
}
