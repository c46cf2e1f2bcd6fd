//! A TLS server that upgrades connections: the API server, or a node itself.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use kubelet_streams::io::{Handle, Reader, Writer, connect};
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::websocket::{Channels, Direction, Encoding, Role};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::transfer::Ends;

/// Where to knock, and as whom.
#[derive(Clone)]
pub struct Door {
    at: SocketAddr,
    tls: TlsConnector,
    /// What its execs are asked for with.
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ApiServer,
    /// As the API server would ask. With version 4: the library has not 5.
    Node,
}

/// A process in a pod, seen by a client. Dropping it hangs up.
pub struct Exec {
    pub stdin: Writer,
    pub stdout: Reader,
    handle: Handle,
}

impl Exec {
    /// Its ends, which work as long as the handle is held.
    pub fn into_ends(self) -> (Ends, Handle) {
        let ends = Ends {
            to: Box::pin(self.stdin),
            from: Box::pin(self.stdout),
        };
        (ends, self.handle)
    }
}

impl Door {
    /// With the certificate `user` of the control plane's `folder`.
    pub fn new(at: SocketAddr, kind: Kind, folder: &Path, user: &str) -> Self {
        let read = |file: &str| fs::read(folder.join(file)).unwrap();
        let certificate = |file: &str| CertificateDer::from_pem_slice(&read(file)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate("ca.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&read(&format!("{user}.key"))).unwrap();
        let shown = vec![certificate(&format!("{user}.crt"))];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(shown, key)
            .unwrap();
        Self {
            at,
            tls: TlsConnector::from(Arc::new(config)),
            kind,
        }
    }

    /// A connection of its own, upgraded.
    async fn upgrade(&self, path: &str, lines: &str) -> Ends {
        let socket = TcpStream::connect(self.at).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::from(self.at.ip());
        let mut stream = self.tls.connect(name, socket).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut rest = BytesMut::new();
        let end = loop {
            let length = stream.read_buf(&mut rest).await.unwrap();
            assert_ne!(length, 0, "{path}: hung up: {rest:?}");
            if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        assert!(rest.starts_with(b"HTTP/1.1 101 "), "{path}: {rest:?}");
        rest.advance(end + 4);
        let (from, to) = tokio::io::split(stream);
        Ends {
            to: Box::pin(to),
            from: Box::pin(AsyncReadExt::chain(std::io::Cursor::new(rest), from)),
        }
    }

    /// Runs a command.
    pub async fn exec(&self, pod: &str, stdin: bool, command: &str) -> Exec {
        let namespace = crate::stage::NAMESPACE;
        let (path, version) = match self.kind {
            Kind::ApiServer => (
                format!(
                    "/api/v1/namespaces/{namespace}/pods/{pod}/exec\
                     ?container=main&stdout=true&stdin={stdin}&command={command}"
                ),
                "v5.channel.k8s.io",
            ),
            Kind::Node => (
                format!(
                    "/exec/{namespace}/{pod}/main?output=1&input={}&command={command}",
                    u8::from(stdin)
                ),
                "v4.channel.k8s.io",
            ),
        };
        let ends = self
            .upgrade(
                &path,
                &format!(
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: {version}\r\n"
                ),
            )
            .await;
        let directions = [
            Direction::Write,
            Direction::Read,
            Direction::Ignored,
            Direction::Ignored,
            Direction::Ignored,
        ];
        let close_signal = self.kind == Kind::ApiServer;
        let channels = Channels::new(Role::Client, Encoding::Binary, close_signal, &directions);
        let (handle, driver) = connect(Box::new(channels), tokio::io::join(ends.from, ends.to));
        // How it ends is seen by who reads.
        tokio::spawn(async move { driver.await.ok() });
        let channel = |number| handle.channel(StreamId(number)).unwrap().split();
        Exec {
            stdin: channel(0).1,
            stdout: channel(1).0,
            handle,
        }
    }

    /// A plain echo behind the API server.
    pub async fn echo(&self, pod: &str, port: u16) -> Ends {
        let namespace = crate::stage::NAMESPACE;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/");
        self.upgrade(&path, "Upgrade: echo\r\n").await
    }
}
