//! One connection, from its acceptance to its end.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::limits::{ENDING, HANDSHAKE, HEADER_BYTES, HEADER_LINES, STREAMS};
use super::line::Line;
use super::node::NodeApi;
use super::pulse::Place;
use super::telling::telling;
use super::tls;

/// Serves a connection until it ends, is quiet for too long, has to make room, or
/// `stop`: then requests under way have [`ENDING`]. Behind an upgrade the same
/// place and the same task serve the session, which is never quiet.
pub(super) async fn serve(
    api: Arc<NodeApi>,
    socket: TcpStream,
    acceptor: TlsAcceptor,
    place: Place,
    stop: CancellationToken,
) {
    let evicted = place.pulse.evicted.clone();
    let life = async {
        let shaken = tokio::select! {
            shaken = timeout(HANDSHAKE, acceptor.accept(socket)) => shaken,
            () = stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => answer(api, stream, &place, stop).await,
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake was not finished in time"),
        }
    };
    tokio::select! {
        () = life => {}
        () = evicted.cancelled() => debug!("a quiet connection made room"),
    }
}

async fn answer(
    api: Arc<NodeApi>,
    stream: TlsStream<TcpStream>,
    place: &Place,
    stop: CancellationToken,
) {
    let (_, session) = stream.get_ref();
    let several = session.alpn_protocol() == Some(tls::H2);
    let shown: Arc<[CertificateDer<'static>]> =
        session.peer_certificates().unwrap_or_default().into();
    let pulse = place.pulse.clone();
    let (upgraded, mut session) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, shown, busy) = (api.clone(), shown.clone(), pulse.request());
        let upgraded = upgraded.clone();
        async move {
            let Some(busy) = busy else {
                // The connection has just made room, and ends.
                return pending().await;
            };
            let reply = super::request::answer(&api, &shown, request).await;
            let held = (busy, reply.under_way);
            Ok::<_, Infallible>(match reply.session {
                None => reply.answer.map(|body| telling(body, held)),
                Some(session) => {
                    // There is room: nothing is read as HTTP behind an upgrade.
                    let _ = upgraded.try_send((session, held));
                    reply.answer
                }
            })
        }
    });
    // What comes in between two requests on HTTP/2 need not be a third.
    let heard = (!several).then(|| place.pulse.clone());
    let io = TokioIo::new(Line::new(stream, heard));
    let ended = if several {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_BYTES);
        let serving = std::pin::pin!(http.serve_connection(io, service));
        finish(serving, place, &stop, |serving| serving.graceful_shutdown()).await
    } else {
        let mut http = http1::Builder::new();
        http.max_buf_size(HEADER_BYTES as usize)
            .max_header_size(HEADER_BYTES as usize)
            .max_headers(HEADER_LINES)
            .header_read_timeout(None);
        let serving = http.serve_connection(io, service).with_upgrades();
        let serving = std::pin::pin!(serving);
        finish(serving, place, &stop, |serving| serving.graceful_shutdown()).await
    };
    if let Err(error) = ended {
        debug!(%error, "a connection failed");
    }
    if let Ok((session, _held)) = session.try_recv() {
        // Apart: connections that never become a session would carry its size.
        Box::pin(session.run(&stop)).await;
    }
}

/// Drives a connection to its end.
async fn finish<F: Future<Output = hyper::Result<()>>>(
    mut serving: Pin<&mut F>,
    place: &Place,
    stop: &CancellationToken,
    shut_down: impl FnOnce(Pin<&mut F>),
) -> hyper::Result<()> {
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = place.pulse.ends() => return Ok(()),
        () = stop.cancelled() => {}
    }
    shut_down(serving.as_mut());
    timeout(ENDING, serving).await.unwrap_or(Ok(()))
}
