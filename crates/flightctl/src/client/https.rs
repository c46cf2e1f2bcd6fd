//! The production connection: hyper over rustls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Client, TokenSource, Transport};

/// Deadline of a TCP connection; the rest is in the request's deadline.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A console may be silent for hours: a service that vanished is noticed after this
/// silence and three probes that far apart.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBES: (Duration, u32) = (Duration::from_secs(20), 3);

/// What the server's certificate is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Certificate authorities in PEM.
    Authorities(Vec<u8>),
    /// The system's certificate authorities; Mozilla's, as of the build, where it has none.
    System,
    /// Nothing: for tests only.
    Insecure,
    /// As `trust` says, under this name instead of the URL's host.
    Named {
        /// What stands in the certificate.
        server_name: String,
        /// Who signed it.
        trust: Box<Tls>,
    },
}

/// The connection cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The CA has no certificate.
    #[error(
        "the CA has no certificate in PEM form; give the file that signed the server's certificate"
    )]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("the CA cannot be read: {0}")]
    BadCertificate(String),
    /// The system's cannot be read.
    #[error(
        "the system's certificate authorities cannot be read ({0}); correct SSL_CERT_FILE, or set caFile (flightctl.caFile, flightctl.oidc.caFile) to the file that signed the server's certificate"
    )]
    NoSystemAuthorities(String),
    /// The name cannot stand in a certificate.
    #[error("the TLS server name {0:?} is neither a host name nor an address")]
    ServerName(String),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Client {
    /// A client for a service at `base`, with its own connections.
    ///
    /// # Errors
    /// The certificate authorities cannot be used.
    pub fn https(base: &http::Uri, tls: &Tls, token: TokenSource) -> Result<Self, ConnectError> {
        Ok(Self::through(Transport::https(tls)?, base, token))
    }
}

impl Transport {
    /// Over TLS, with connections of its own.
    ///
    /// # Errors
    /// The certificate authorities cannot be used.
    pub fn https(tls: &Tls) -> Result<Self, ConnectError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(PROBE_AFTER));
        tcp.set_keepalive_interval(Some(PROBES.0));
        tcp.set_keepalive_retries(Some(PROBES.1));
        let (name, trust) = match tls {
            Tls::Named { server_name, trust } => (Some(server_name), &**trust),
            trust => (None, trust),
        };
        let mut builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(trust)?)
            .https_or_http();
        if let Some(name) = name {
            let name = ServerName::try_from(name.clone())
                .map_err(|_| ConnectError::ServerName(name.clone()))?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let connector = builder.enable_http1().wrap_connector(tcp);
        let hyper: Hyper<_, Full<Bytes>> = Hyper::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self::over(hyper))
    }
}

/// Mozilla's certificate authorities, as of the build, where the system names none: in
/// an image of one program. None where there are some, be it that they cannot be read.
pub fn fallback_authorities() -> &'static [CertificateDer<'static>] {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() && found.errors.is_empty() {
        webpki_root_certs::TLS_SERVER_ROOT_CERTS
    } else {
        &[]
    }
}

fn tls_config(tls: &Tls) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match tls {
        Tls::Authorities(pem) => builder.with_root_certificates(authorities(pem)?),
        Tls::System => {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            roots.add_parsable_certificates(fallback_authorities().iter().cloned());
            if roots.is_empty() {
                let why = found.errors.first().map(ToString::to_string);
                return Err(ConnectError::NoSystemAuthorities(why.unwrap_or_default()));
            }
            builder.with_root_certificates(roots)
        }
        Tls::Named { trust, .. } => return tls_config(trust),
        Tls::Insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything(provider))),
    };
    Ok(builder.with_no_client_auth())
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| ConnectError::BadCertificate(e.to_string()))?;
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(ConnectError::NoCertificate);
    }
    Ok(roots)
}

/// Takes any certificate; signatures are still checked, so that the peer holds
/// the key of the certificate it shows.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl Anything {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.0.signature_verification_algorithms
    }
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}
