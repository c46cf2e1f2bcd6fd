//! JSON over HTTPS to a server under a given authority, as a client with or
//! without a certificate.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

/// A client; clones share its connections.
#[derive(Clone)]
pub struct Https {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    token: Option<String>,
}

/// A certificate and its key, as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Https {
    /// A client of `base` (scheme and authority) that trusts `ca`.
    pub fn new(base: &str, ca: &str, identity: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots
                .add(certificate.expect("the CA is PEM"))
                .expect("the CA is a certificate");
        }
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                    .collect::<Result<_, _>>()
                    .expect("the certificate is PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("the key is PEM");
                config
                    .with_client_auth_cert(chain, key)
                    .expect("certificate and key fit")
            }
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base: base.into(),
            token: None,
        }
    }

    /// With a bearer token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Status and body; a body that is not JSON reads null, or says why there
    /// is no answer at all.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), String> {
        let kind = match method {
            Method::PATCH => "application/json-patch+json",
            _ => "application/json",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(Full::from(bytes))
            .map_err(|error| error.to_string())?;
        let (parts, bytes) = self.send(request).await?.into_parts();
        let value = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok((parts.status, value))
    }

    /// The whole answer to a request as it is.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        let response = self.client.request(request).await;
        let (parts, body) = response.map_err(|error| format!("{error:?}"))?.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}
