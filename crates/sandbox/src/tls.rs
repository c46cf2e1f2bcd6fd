//! A certificate authority of the sandbox's own, and servers of loopback under it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;

/// The names a loopback server answers to.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Making the CA or the server's certificate failed.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS stack refuses the certificate.
    #[error("cannot use the certificate")]
    Config(#[from] rustls::Error),
}

/// A loopback server's TLS.
#[derive(Clone)]
pub struct Tls {
    /// The CA that clients must trust.
    pub ca_pem: String,
    /// Accepts connections.
    pub acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("ca_pem", &self.ca_pem)
            .finish_non_exhaustive()
    }
}

/// A certificate authority; clients that trust it trust all it issues.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("pem", &self.pem)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A fresh one.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn new() -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name
            .push(DnType::CommonName, "vk-sandbox CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let pem = ca.self_signed(&key)?.pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(ca, key),
        })
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS of a client that shows a fresh certificate in this name, and takes
    /// any server for what it says it is.
    ///
    /// # Errors
    /// The certificate cannot be made or used.
    pub fn client(&self, name: &str) -> Result<ClientConfig, TlsError> {
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, name);
        client.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (chain, key) = self.sign(&client)?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A fresh server certificate for loopback.
    ///
    /// # Errors
    /// The certificate cannot be made or used.
    pub fn issue(&self) -> Result<Tls, TlsError> {
        let mut server = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
        server
            .distinguished_name
            .push(DnType::CommonName, "vk-sandbox");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (chain, key) = self.sign(&server)?;

        // Named, because two providers may be linked and then none is the default.
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls {
            ca_pem: self.pem.clone(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// A certificate of this authority, and its fresh key.
    fn sign(&self, subject: &CertificateParams) -> Result<Shown, TlsError> {
        let key = KeyPair::generate()?;
        let certificate = subject.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((vec![certificate.der().clone()], key))
    }
}

/// What one side of a connection shows, and proves that it holds.
type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Whoever holds the key of the certificate that is shown.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
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
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A fresh CA and a server certificate for loopback under it.
///
/// # Errors
/// The certificate cannot be made or used.
pub fn loopback() -> Result<Tls, TlsError> {
    Authority::new()?.issue()
}
