//! Whose certificates clients may show.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::limits::{LOOK, LOOK_AGAIN, REVIEW};
use crate::api::settings::ClientCa;
use crate::api::tls;

const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const ENTRY: &str = "client-ca-file";

/// The authorities of this moment; none, until they are read.
#[derive(Default)]
pub(super) struct Authorities {
    verifier: ArcSwapOption<Vouched>,
}

struct Vouched {
    pem: Vec<u8>,
    by: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    /// Whether one of them vouches for the first of these certificates, at this
    /// time, as a client's.
    pub(super) fn vouch(&self, shown: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let (Some((first, others)), Some(known)) = (shown.split_first(), &*self.verifier.load())
        else {
            return false;
        };
        let since = u64::try_from(now.as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(since));
        known.by.verify_client_cert(first, others, now).is_ok()
    }

    /// Takes the authorities of this PEM.
    pub(super) fn set(&self, pem: Vec<u8>) -> Result<(), String> {
        if self.verifier.load().as_ref().is_some_and(|v| v.pem == pem) {
            return Ok(());
        }
        let by = verifier(&pem)?;
        let again = self
            .verifier
            .swap(Some(Arc::new(Vouched { pem, by })))
            .is_some();
        info!(again, "the authorities of client certificates were read");
        Ok(())
    }

    /// Reads them again and again until `stop`. What cannot be read leaves those
    /// of before.
    pub(super) async fn keep(&self, client: &Client, from: &ClientCa, stop: &CancellationToken) {
        let mut told = String::new();
        loop {
            let problem = match read(client, from).await {
                Ok(None) => return,
                Ok(Some(pem)) => self.set(pem).err(),
                Err(error) => Some(error),
            };
            if let Some(problem) = problem {
                if problem != told {
                    warn!(
                        %problem,
                        "the authorities of client certificates cannot be read: clients need \
                         tokens, or those of before count"
                    );
                    told = problem;
                }
            } else {
                told.clear();
            }
            let pause = if self.verifier.load().is_some() {
                LOOK
            } else {
                LOOK_AGAIN
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

async fn read(client: &Client, from: &ClientCa) -> Result<Option<Vec<u8>>, String> {
    match from {
        ClientCa::Nobody => Ok(None),
        ClientCa::File(path) => match tokio::fs::read(path).await {
            Ok(pem) => Ok(Some(pem)),
            Err(error) => Err(format!("{}: {error}", path.display())),
        },
        ClientCa::Cluster => {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
            let place = format!("ConfigMap {NAMESPACE}/{CONFIG_MAP}");
            let read = timeout(REVIEW, api.get(CONFIG_MAP)).await;
            let map = read
                .map_err(|_| format!("{place}: no answer from the API server"))?
                .map_err(|error| format!("{place}: {error}"))?;
            let pem = map.data.unwrap_or_default().remove(ENTRY);
            let missing = || format!("{place} has no {ENTRY}: give the client CA as a file");
            Ok(Some(pem.ok_or_else(missing)?.into_bytes()))
        }
    }
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("not an authority: {error}"))?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
    let built: Arc<dyn ClientCertVerifier> = built.build().map_err(|error| error.to_string())?;
    Ok(built)
}
