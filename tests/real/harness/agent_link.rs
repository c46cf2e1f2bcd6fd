//! Enrolment, and the agent API as the link of a simulated device: what the
//! real agent says, over mutual TLS.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use vk_sandbox::flightctl::{Link, LinkError};

use crate::flightctl_service::FlightControlService;
use crate::https::{Https, Identity};

/// A device's way to its service.
pub struct AgentLink {
    https: Https,
    name: String,
}

impl AgentLink {
    /// Asks for enrolment as an agent, approves it as a user with these
    /// labels, and answers the link under the certificate that comes of it.
    pub async fn enroll(service: &FlightControlService, labels: &BTreeMap<String, String>) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let name = device_name(key.public_key_raw());
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, name.clone());
        let csr = params
            .serialize_request(&key)
            .and_then(|csr| csr.pem())
            .expect("a request can be made");
        let request = json!({
            "apiVersion": "flightctl.io/v1beta1",
            "kind": "EnrollmentRequest",
            "metadata": {"name": name},
            "spec": {"csr": csr, "osMode": "package"},
        });
        let path = "/api/v1/enrollmentrequests";
        let agent = service.agent(&service.enrollment());
        expect(&agent, Method::POST, path, Some(&request)).await;
        let path = format!("{path}/{name}");
        let user = service.user();
        let approval = json!({"approved": true, "labels": labels});
        let approve = format!("{path}/approval");
        expect(&user, Method::PUT, &approve, Some(&approval)).await;
        let approved = expect(&agent, Method::GET, &path, None).await;
        let certificate = approved["status"]["certificate"]
            .as_str()
            .expect("an approved request has a certificate")
            .to_owned();
        let identity = Identity {
            certificate,
            key: key.serialize_pem(),
        };
        Self {
            https: service.agent(&identity),
            name,
        }
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Link for AgentLink {
    async fn rendered(&self, known: &str) -> Result<Option<Value>, LinkError> {
        let path = format!(
            "/api/v1/devices/{}/rendered?knownRenderedVersion={known}",
            self.name
        );
        match self.https.call(Method::GET, &path, None).await {
            Ok((StatusCode::OK, device)) => Ok(Some(device)),
            // Conflict is "no rendered version for device": enrolled a moment
            // ago. To the real agent too it is nothing new.
            Ok((StatusCode::NO_CONTENT | StatusCode::CONFLICT, _)) => Ok(None),
            other => Err(trouble(&path, &other)),
        }
    }

    async fn put_status(&self, device: Value) -> Result<(), LinkError> {
        let path = format!("/api/v1/devices/{}/status", self.name);
        match self.https.call(Method::PUT, &path, Some(&device)).await {
            Ok((StatusCode::OK, _)) => Ok(()),
            other => Err(trouble(&path, &other)),
        }
    }

    async fn reachable(&self) {}
}

fn trouble(path: &str, answer: &Result<(StatusCode, Value), String>) -> LinkError {
    println!("agent API: {path}: {answer:?}");
    match answer {
        Ok((StatusCode::NOT_FOUND, _)) => LinkError::Gone,
        _ => LinkError::Away,
    }
}

async fn expect(https: &Https, method: Method, path: &str, body: Option<&Value>) -> Value {
    match https.call(method.clone(), path, body).await {
        Ok((status, answer)) if status.is_success() => answer,
        other => panic!("{method} {path}: {other:?}"),
    }
}

/// As the real agent names its device: the lower case base32hex of the hash of
/// its public point, without padding.
fn device_name(point: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    // 4, then the coordinates of 32 bytes each, hashed as numbers: without
    // leading zeros.
    let mut hash = Sha256::new();
    for coordinate in point[1..].chunks(32) {
        let zeros = coordinate.iter().take_while(|byte| **byte == 0).count();
        hash.update(&coordinate[zeros..]);
    }
    let hash = hash.finalize();
    let bit = |at: usize| (hash.get(at / 8).copied().unwrap_or_default() >> (7 - at % 8)) & 1;
    (0..(hash.len() * 8).div_ceil(5))
        .map(|digit| (0..5).fold(0, |value, n| value << 1 | bit(digit * 5 + n)))
        .map(|value| char::from(DIGITS[usize::from(value)]))
        .collect()
}
