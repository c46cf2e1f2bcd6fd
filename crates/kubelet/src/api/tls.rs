//! TLS of a node's listener.
//!
//! A client's certificate is taken whoever issued it, as Go's kubelet does: the
//! handshake proves that the client has its key, and each request asks anew
//! whether the certificate counts (`auth`), by the authorities of that moment.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

/// Speaks HTTP/2.
pub(super) const H2: &[u8] = b"h2";

/// Named wherever it is used: two providers may be linked, and then none is the
/// default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate that a listener shows; without one handshakes fail.
#[derive(Debug, Default)]
pub(super) struct Shown(ArcSwapOption<CertifiedKey>);

impl Shown {
    pub(super) fn set(&self, certificate: CertifiedKey) {
        self.0.store(Some(Arc::new(certificate)));
    }

    /// The present one, and those of its issuers.
    #[cfg(test)]
    pub(super) fn certificate(&self) -> Option<Vec<rustls::pki_types::CertificateDer<'static>>> {
        Some(self.0.load_full()?.cert.clone())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// What connections are accepted with.
///
/// # Errors
/// The TLS library has not the versions it is asked for.
pub(super) fn config(shown: Arc<Shown>) -> Result<ServerConfig, Error> {
    let provider = provider();
    let taken = AnyCertificate(provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(taken))
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client then shows what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
