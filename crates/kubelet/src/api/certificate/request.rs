//! A certificate of the cluster's own: asked for, approved by someone, renewed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec, CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use rcgen::KeyPair;
use rustls::sign::CertifiedKey;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use vk_provider::Clock;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::names::{Named, Names};
use super::pair;
use crate::api::limits::{APPROVAL, APPROVAL_WAIT, LOOK, REVIEW};
use crate::api::tls::Shown;

const SIGNER: &str = "kubernetes.io/kubelet-serving";

/// Keeps a certificate shown; ends never.
pub(super) async fn keep(
    client: &Client,
    clock: &Clock,
    node: &str,
    named: &mut Named,
    shown: &Shown,
) {
    let mut held: Option<(Names, Timestamp)> = None;
    loop {
        let names = named.names();
        let good = held
            .as_ref()
            .is_some_and(|(of, renew)| *of == names && clock.now() < *renew);
        if good || names.is_empty() {
            tokio::select! {
                () = named.change(&names) => {}
                // By the wall clock, which may be set: never slept through.
                () = sleep(LOOK) => {}
            }
            continue;
        }
        let asked = tokio::select! {
            () = named.change(&names) => continue,
            asked = ask(client, node, &names) => asked,
        };
        let pause = match asked {
            Ok((pair, renew)) => {
                info!(node, until_renewal = %renew, "the node has its serving certificate");
                shown.set(pair);
                held = Some((names.clone(), renew));
                continue;
            }
            Err(Failed::Denied(why)) => {
                warn!(node, why, "the node's serving certificate was refused");
                APPROVAL_WAIT
            }
            Err(Failed::Now(why)) => {
                warn!(
                    node,
                    why, "the node has no new serving certificate, trying again"
                );
                LOOK
            }
        };
        tokio::select! {
            () = named.change(&names) => {}
            () = sleep(pause) => {}
        }
    }
}

enum Failed {
    Denied(String),
    Now(String),
}

/// Asks for one and waits for it: up to [`APPROVAL_WAIT`].
async fn ask(
    client: &Client,
    node: &str,
    names: &Names,
) -> Result<(CertifiedKey, Timestamp), Failed> {
    let key = KeyPair::generate().map_err(|error| Failed::Now(error.to_string()))?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let request = request(node, names, &key).map_err(|error| Failed::Now(error.to_string()))?;
    let created = call(api.create(&PostParams::default(), &request)).await?;
    let name = created.metadata.name.unwrap_or_default();
    info!(
        node,
        request = name,
        "asked for a serving certificate; approve it: kubectl certificate approve {name}"
    );
    let begun = Instant::now();
    while begun.elapsed() < APPROVAL_WAIT {
        // What is not heard now is asked again.
        if let Ok(request) = call(api.get(&name)).await
            && let Some(pem) = issued(request.status)?
        {
            return taken(&pem, &key, node);
        }
        sleep(APPROVAL).await;
    }
    let minutes = APPROVAL_WAIT.as_secs() / 60;
    Err(Failed::Now(format!(
        "nobody approved {name} within {minutes} minutes"
    )))
}

async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match timeout(REVIEW, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failed::Now(error.to_string())),
        Err(_) => Err(Failed::Now("no answer from the API server".into())),
    }
}

fn request(
    node: &str,
    names: &Names,
    key: &KeyPair,
) -> Result<CertificateSigningRequest, rcgen::Error> {
    let request = names.params(node)?.serialize_request(key)?.pem()?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("csr-".into()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: SIGNER.into(),
            // The key is of an elliptic curve: nothing is enciphered with it.
            usages: Some(vec!["digital signature".into(), "server auth".into()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}

/// The certificate, once it is there.
fn issued(status: Option<CertificateSigningRequestStatus>) -> Result<Option<Vec<u8>>, Failed> {
    let status = status.unwrap_or_default();
    for condition in status.conditions.unwrap_or_default() {
        if matches!(condition.type_.as_str(), "Denied" | "Failed") {
            let message = condition.message.unwrap_or_default();
            return Err(Failed::Denied(format!("{}: {message}", condition.type_)));
        }
    }
    Ok(status
        .certificate
        .map(|pem| pem.0)
        .filter(|pem| !pem.is_empty()))
}

fn taken(pem: &[u8], key: &KeyPair, node: &str) -> Result<(CertifiedKey, Timestamp), Failed> {
    let pair = pair::of_pem(pem, key.serialize_pem().as_bytes()).map_err(Failed::Now)?;
    let renew = pair.cert.first().and_then(|leaf| {
        let (_, read) = X509Certificate::from_der(leaf).ok()?;
        let validity = read.validity();
        let (from, to) = (validity.not_before, validity.not_after);
        Some(renewal(from.timestamp(), to.timestamp(), node))
    });
    let unreadable = || Failed::Now("the issued certificate cannot be read".into());
    Ok((pair, renew.ok_or_else(unreadable)?))
}

/// At seven to nine tenths of its life, as the kubelet, and each node at another
/// time. Seconds since 1970.
fn renewal(from: i64, to: i64, node: &str) -> Timestamp {
    let spread = node.bytes().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let life = Duration::from_secs(u64::try_from(to.saturating_sub(from)).unwrap_or_default());
    #[allow(clippy::cast_precision_loss, reason = "below 1000")]
    let part = 0.7 + 0.2 * ((spread % 1000) as f64 / 1000.0);
    let after = i64::try_from(life.mul_f64(part).as_secs()).unwrap_or_default();
    Timestamp::from_second(from.saturating_add(after)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition;

    #[test]
    fn a_certificate_is_renewed_between_seven_and_nine_tenths_of_its_life() {
        let mut moments = std::collections::BTreeSet::new();
        for number in 0..200 {
            let at = renewal(1000, 2000, &format!("vk-{number}")).as_second();
            assert!((1700..=1900).contains(&at), "{at}");
            moments.insert(at);
        }
        assert!(moments.len() > 20, "not all at once: {moments:?}");
        assert_eq!(renewal(2000, 1000, "vk").as_second(), 2000, "at once");
    }

    #[test]
    fn a_request_names_the_node_and_its_addresses_to_the_right_signer() {
        let names = Names {
            dns: ["vk.example.com".to_owned()].into(),
            ips: [[10, 0, 0, 1].into()].into(),
        };
        let key = KeyPair::generate().unwrap();
        let asked = request("vk-1", &names, &key).unwrap();
        assert_eq!(asked.spec.signer_name, SIGNER);
        let (_, pem) = x509_parser::pem::parse_x509_pem(&asked.spec.request.0).unwrap();
        let (_, read) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents)
                .unwrap();
        let subject = read.certification_request_info.subject.to_string();
        assert_eq!(subject, "O=system:nodes, CN=system:node:vk-1");
        let shown = format!(
            "{:?}",
            read.requested_extensions().unwrap().collect::<Vec<_>>()
        );
        assert!(shown.contains("vk.example.com"), "{shown}");
        assert!(shown.contains("[10, 0, 0, 1]"), "{shown}");
    }

    #[test]
    fn a_request_waits_until_it_is_issued_or_refused() {
        let condition = |kind: &str| CertificateSigningRequestCondition {
            type_: kind.into(),
            status: "True".into(),
            message: Some("no".into()),
            ..CertificateSigningRequestCondition::default()
        };
        let status = |kind: &str, pem: &[u8]| {
            let status = CertificateSigningRequestStatus {
                conditions: Some(vec![condition(kind)]),
                certificate: Some(ByteString(pem.to_vec())),
            };
            issued(Some(status))
        };
        assert!(matches!(issued(None), Ok(None)));
        assert!(matches!(status("Approved", b""), Ok(None)));
        assert!(matches!(status("Approved", b"pem"), Ok(Some(pem)) if pem == b"pem"));
        for kind in ["Denied", "Failed"] {
            assert!(matches!(status(kind, b""), Err(Failed::Denied(why)) if why.contains("no")));
        }
    }
}
