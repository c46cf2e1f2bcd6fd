//! A node of the test's own: TLS that wants the API server's certificate, and the
//! streaming protocols as a kubelet serves them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kubelet_streams::io::{Forwards, Session, connect};
use kubelet_streams::negotiate;
use kubelet_streams::portforward;
use kubelet_streams::remote::{Options, Outcome};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    /// The name in the client's certificate is somewhere in these bytes.
    pub certificate: Vec<u8>,
}

#[derive(Clone)]
pub struct Node {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Node {
    /// Listens; clients show a certificate of this authority.
    pub async fn start(client_ca: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let acceptor = acceptor(client_ca);
        let serving = node.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(acceptor.clone(), socket));
            }
        });
        node
    }

    /// The last request.
    pub fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    async fn serve(self, acceptor: TlsAcceptor, socket: TcpStream) {
        let Ok(io) = acceptor.accept(socket).await else {
            return;
        };
        let shown = io.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (node, shown) = (self.clone(), shown.clone());
            async move {
                let target = request.uri().path_and_query().unwrap().to_string();
                node.asked.lock().unwrap().push(Asked {
                    method: request.method().clone(),
                    target,
                    headers: request.headers().clone(),
                    certificate: shown,
                });
                Ok::<_, std::convert::Infallible>(answer(request))
            }
        });
        let http = hyper::server::conn::http1::Builder::new();
        let _ = http
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
            .await;
    }
}

fn acceptor(client_ca: &str) -> TlsAcceptor {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(client_ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring.clone());
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["somewhere.else".into()]).unwrap();
    let own = own.self_signed(&key).unwrap();
    let config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        );
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

fn answer(request: Request<hyper::body::Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let say = |status: u16, text: &str| {
        let mut response = Response::new(Body::from(text.to_owned()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    match parts[..] {
        ["containerLogs", _, _, "silent"] => say(400, "the device is away"),
        ["containerLogs", ..] => say(200, "one\ntwo\n"),
        [_, _, _, "silent"] => say(501, "no exec here\n"),
        ["exec" | "attach", ..] => remote(request),
        ["portForward", ..] => forward(request),
        ["stats", "summary"] => say(200, "numbers"),
        _ => say(404, "not here"),
    }
}

/// Echoes its input on its output, says `done` on its error output, and exits
/// with the number that is its command; an `exec` without one hangs up.
fn remote(mut request: Request<hyper::body::Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let pairs: Vec<_> = query.split('&').filter_map(|p| p.split_once('=')).collect();
    let options = Options::from_query(pairs.iter().copied()).unwrap();
    let code = pairs.iter().find(|(name, _)| *name == "command");
    let code = code.map(|(_, code)| code.parse().unwrap());
    let code = code.or(request.uri().path().starts_with("/attach").then_some(0));
    let accepted = match negotiate::remote(request.headers()) {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.response().map(Body::from),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let (handle, driver) = connect(options.connection(accepted.protocol), io);
        let driver = tokio::spawn(driver);
        let session = Session::accept(handle, accepted.protocol, options).await;
        let mut session = session.unwrap();
        if let Some(mut sizes) = session.sizes {
            let size = sizes.next().await.unwrap().unwrap();
            let text = format!("{}x{} ", size.width, size.height);
            let stdout = session.stdout.as_mut().unwrap();
            stdout.write_all(text.as_bytes()).await.unwrap();
        }
        if let (Some(stdin), Some(stdout)) = (&mut session.stdin, &mut session.stdout) {
            tokio::io::copy(stdin, stdout).await.unwrap();
        }
        if let Some(mut stderr) = session.stderr {
            stderr.write_all(b"done").await.unwrap();
        }
        match code {
            Some(code) => session.ending.finish(&Outcome::Exited(code)).await.unwrap(),
            None => {
                driver.abort();
                let _ = driver.await;
            }
        }
    });
    accepted.response.map(|()| Body::empty())
}

/// Answers each connection with its port and what it sent.
fn forward(mut request: Request<hyper::body::Incoming>) -> Response<Body> {
    let accepted = match negotiate::port_forward(request.headers()) {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.response().map(Body::from),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let (handle, driver) = connect(portforward::connection(accepted.protocol, &[]), io);
        tokio::spawn(driver);
        let mut forwards = Forwards::new(handle, accepted.protocol, &[]);
        while let Some(mut forwarded) = forwards.next().await {
            let mut text = format!("{}: ", forwarded.port).into_bytes();
            forwarded.data.read_to_end(&mut text).await.unwrap();
            forwarded.data.write_all(&text).await.unwrap();
        }
    });
    accepted.response.map(|()| Body::empty())
}
