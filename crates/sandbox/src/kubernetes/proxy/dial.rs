//! Connections to nodes: TLS with the API server's client certificate. The
//! node's own certificate is not looked at, as without
//! `--kubelet-certificate-authority`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::location::Place;
use crate::tls::{Authority, TlsError};

/// Whom the API server's certificate names, as kubeadm's does.
const USER: &str = "kube-apiserver-kubelet-client";

/// For a connection and its handshake; loopback answers at once or not at all.
const CONNECT: Duration = Duration::from_secs(10);

/// For the head of an answer. A node that asks Kubernetes about its client first
/// takes a moment.
const ANSWER: Duration = Duration::from_secs(30);

/// Dials nodes; clones share the certificate.
#[derive(Clone)]
pub(crate) struct Dialer {
    tls: TlsConnector,
    ca_pem: Arc<str>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dialer {
    /// One with a certificate of a fresh authority for clients.
    pub(crate) fn new() -> Result<Self, TlsError> {
        let authority = Authority::new()?;
        let config = authority.client(USER)?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            ca_pem: authority.pem().into(),
        })
    }

    /// The authority for clients, which nodes may trust.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Sends a request and brings the head of the answer. Errors are texts, as
    /// Go's have them.
    pub(super) async fn send(
        &self,
        to: &Place,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let address = resolved(to)?;
        if let Ok(host) = HeaderValue::from_str(&to.authority()) {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        let dialled = timeout(CONNECT, self.dial(address)).await;
        let io = dialled.unwrap_or_else(|_| Err("i/o timeout".into()));
        let io = io.map_err(|why| format!("dial tcp {address}: {why}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .map_err(|error| error.to_string())?;
        // It ends with its answer, or with what is upgraded.
        tokio::spawn(connection.with_upgrades());
        let answered = timeout(ANSWER, sender.send_request(request)).await;
        match answered {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        }
    }

    async fn dial(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>, String> {
        let socket = TcpStream::connect(address)
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
                _ => format!("connect: {error}"),
            })?;
        // Otherwise a keystroke waits for the answer to the one before.
        let _ = socket.set_nodelay(true);
        let name = ServerName::IpAddress(address.ip().into());
        let connected = self.tls.connect(name, socket).await;
        connected.map_err(|error| format!("tls: {error}"))
    }
}

/// Only what is on this machine.
fn resolved(to: &Place) -> Result<SocketAddr, String> {
    let port = to.port.parse::<u16>();
    let port = port.map_err(|_| format!("dial tcp: address {}: invalid port", to.port))?;
    let ip = match (to.host.parse::<IpAddr>(), &*to.host) {
        (Ok(ip), _) => ip,
        (Err(_), "localhost") => Ipv4Addr::LOCALHOST.into(),
        (Err(_), name) => return Err(format!("dial tcp: lookup {name}: no such host")),
    };
    let address = SocketAddr::new(ip, port);
    if ip.is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "dial tcp {address}: the sandbox dials loopback addresses only"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beyond_this_machine_is_dialled() {
        let at = |host: &str, port: &str| {
            let (host, port) = (host.to_owned(), port.to_owned());
            resolved(&Place {
                host,
                port,
                target: "/".into(),
                extends_websockets: false,
            })
        };
        assert_eq!(
            at("localhost", "1").unwrap(),
            "127.0.0.1:1".parse().unwrap()
        );
        assert_eq!(at("::1", "1").unwrap(), "[::1]:1".parse().unwrap());
        assert!(at("192.0.2.1", "1").unwrap_err().contains("loopback"));
        assert!(at("edge", "1").unwrap_err().contains("no such host"));
        assert!(at("127.0.0.1", "70000").unwrap_err().contains("port"));
    }
}
